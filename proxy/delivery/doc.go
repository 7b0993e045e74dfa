// Package delivery carries whole ILP records from sessions to authenticated
// upstream connections.
//
// A Dispatcher owns a fixed number of lanes. Each lane has one upstream
// connection at a time and a journal: a queue of blocks of whole records that
// are pending (not yet written), or written and not yet settled. A session
// gets a Writer, stays on that Writer's lane for its life, and so keeps the
// order of its records.
//
// All memory comes out of one Budget. When it is used up, Writer.Buffer waits,
// the session stops reading, and TCP tells the writer to slow down: nothing is
// dropped.
//
// The hot path makes no allocation and takes no goroutine switch: a session
// reads into a block, finds the whole records in it, puts them into the
// journal and, when nobody else is writing on that lane, writes them upstream
// itself without blocking. Only what the socket does not take at once is left
// to the lane's own goroutine.
package delivery
