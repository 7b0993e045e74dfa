// Package check finds out whether the proxy would deliver with a configuration, and
// what would be in the way: it authenticates at every address of QuestDB, looks
// whether refused records show on the way there, and asks QuestDB by HTTP, if it is told
// where, about tables and settings that the delivery promise depends on.
//
// It sends no record but the malformed one of the path check, which QuestDB refuses and
// has a line in its log about.
package check
