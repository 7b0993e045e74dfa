// Package e2e is where the proxy is watched as a whole: the real binary before a
// real QuestDB. It has tests only.
package e2e
