// Package socket makes single reads and writes of sockets that do not block, without telling Go's scheduler: that takes longer
// than they do. Only few in a row, or short ones, are for that: while one runs, no other goroutine gets its processor.
package socket
