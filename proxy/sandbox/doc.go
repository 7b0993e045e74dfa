// Package sandbox takes from the process what it does not need any more once it
// listens: by Landlock, files but those that it will read and write again, TCP
// ports but those that it connects to; and the way to new privileges.
//
// Nothing takes that back, for the process or for whatever it might start.
//
// Landlock's rules are about files and folders themselves, not about names. What
// is replaced while the proxy runs, as a rotated key is, has to lie in a folder
// that was allowed.
package sandbox
