// Package standin is a server that behaves, for one process and on purpose badly
// where told so, as QuestDB does on its ILP/TCP port: it does the real handshake
// with real signatures, and collects what it gets. With [Behaviour.Records] it also
// parses records, refuses some, and commits the others late, as QuestDB does.
//
// It is for unit and fault tests. Where a real QuestDB can do, package questdb
// beside this one starts one.
package standin
