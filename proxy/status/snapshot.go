// Package status tells whoever operates the proxy how it is: a page for people, and the same as JSON for programs.
//
// It counts nothing itself. Once a second, and when somebody asks, it looks at what the others count anyway; so the way of the
// records does not know of it. What it remembers is bounded: a minute of figures, the last log lines, the last rejected records.
// It imports none of them: a [Page] is given functions that look.
package status

import "time"

// Counts are totals since the start, of which the page makes rates.
type Counts struct {
	Received, ReceivedBytes float64 // read from writers
	Written, WrittenBytes   float64 // written to QuestDB, those written again included
	Settled, SettledBytes   float64 // known to be in QuestDB
	Replayed, Uncertain     float64
	Rejected                float64
}

// Snapshot is how the proxy is at a moment.
type Snapshot struct {
	// Problem says why records can't be delivered, in words for whoever operates the proxy; empty if they can.
	Problem string
	// Ending is set once the proxy was told to end.
	Ending bool

	// Unsettled is how many records are accepted and not settled, and Oldest when the first of them was accepted.
	Unsettled int64
	Oldest    time.Time
	// Memory is what the journals hold, and may hold, in bytes.
	Memory, MemoryLimit int64
	// HeldBack is how many writers are not read from because the memory is full.
	HeldBack int
	// Unsaved is how many rejected records could not be saved yet.
	Unsaved int64

	Lanes []Lane
	// Writers are the fastest ones, of so many Connected and Waiting for a place.
	Writers            []Writer
	Connected, Waiting int
	Servers            []Server
	// Idle, InUse and Connecting are upstream connections.
	Idle, InUse, Connecting int
}

// Lane is one upstream connection at a time.
type Lane struct {
	ID      int
	Apart   bool
	State   string
	Addr    string
	Writers int
	Records int64
	Bytes   int64
	Oldest  time.Time
}

// Writer is one connected writer.
type Writer struct {
	Remote         string
	Since          time.Time
	Bytes          int64
	BytesPerSecond float64 // less than 0: not known
}

// Server is one address of QuestDB, and how the last handshake with it went.
type Server struct {
	Addr       string
	At         time.Time // of the last handshake; zero if there was none
	Result     string
	Reason     string
	Took       time.Duration
	OK, Failed int64
	LastOK     time.Time
}
