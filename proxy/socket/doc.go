// Package socket makes single reads and writes of sockets that do not block, without telling Go's scheduler. What that does takes
// longer than a short one, and costs threads that wake and stop where many long ones follow each other. While one runs, no other
// goroutine gets its processor: who makes many in a row gives others their turn now and then.
package socket
