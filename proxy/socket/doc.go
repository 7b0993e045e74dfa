// Package socket makes single reads and writes of sockets that do not block, without telling Go's scheduler. The scheduler's part takes
// longer than a short one, and where many long ones follow each other it wakes and stops threads all the time. While one runs, no other
// goroutine gets its processor; between two of them Go takes it away after 10 ms, as from any goroutine.
package socket
