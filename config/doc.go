// Package config reads the proxy's configuration from environment variables,
// QuestDB's client configuration string among them, and reports everything
// that is wrong with it at once. It opens no socket.
//
// White space around a value is cut off, and a variable that is set to nothing
// is taken as not set: that is what a manifest with an empty value means.
package config
