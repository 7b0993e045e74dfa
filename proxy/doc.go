// Package proxy is the side that faces the writers: it listens, makes a session
// of each writer's connection, finds the whole records in what it reads, and
// puts them on a lane.
//
// Nothing is ever sent to a writer. A writer that sends faster than QuestDB
// takes is slowed down by TCP, since its session stops reading.
package proxy
