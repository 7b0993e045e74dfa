package delivery

import (
	"sync"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

const (
	// maxBlockSize is the size of a block where the budget is large enough.
	// Measured on loopback, larger reads and writes gain nothing.
	maxBlockSize = 128 << 10
	minBlockSize = 1 << 10
	// spanCost is what one span is charged with: it is memory as well.
	spanCost = 16
	// maxSpans bounds the spans of one block, and so what it may cost.
	maxSpans = 1024
	// freeBlocks is how many unused blocks are kept for the next read. They are
	// not charged to the budget: 8 MiB at most.
	freeBlocks = 64
)

// A Block holds whole records, one behind the other, and remembers whose they
// are. A session reads into it, a lane writes from it and keeps it until its
// records are settled.
type Block struct {
	buf []byte
	// n is how many bytes of buf hold whole records.
	n int
	// start is the journal's offset of buf[0].
	start int64
	spans []span
	// accepted is when the oldest record in it was put into the journal.
	accepted time.Time
	// charge is what the block costs the budget.
	charge int64
}

// A span is a run of records of one writer inside a block. It begins where the
// one before it ends.
type span struct {
	w       *Writer
	end     int32
	records int32
}

// Bytes returns the block's whole memory, to read into.
func (b *Block) Bytes() []byte { return b.buf }

func (b *Block) end() int64 { return b.start + int64(b.n) }

// room returns how many bytes can be added.
func (b *Block) room() int {
	if len(b.spans) == maxSpans {
		return 0
	}
	return len(b.buf) - b.n
}

// add marks n bytes more as whole records of w. The bytes must be there already.
func (b *Block) add(w *Writer, n, records int) {
	b.n += n
	if last := len(b.spans) - 1; last >= 0 && b.spans[last].w == w {
		b.spans[last].end = int32(b.n)
		b.spans[last].records += int32(records)
		return
	}
	b.spans = append(b.spans, span{w: w, end: int32(b.n), records: int32(records)})
}

// recordsBefore counts the records of the spans that end at or before n bytes:
// quick, and exact at the end of a span.
func (b *Block) recordsBefore(n int) (records int64) {
	for _, s := range b.spans {
		if int(s.end) > n {
			break
		}
		records += int64(s.records)
	}
	return records
}

// recordsWithin counts the records that end at or before n bytes.
func (b *Block) recordsWithin(n int) (records int64) {
	begin := 0
	for _, s := range b.spans {
		if int(s.end) > n {
			break
		}
		records += int64(s.records)
		begin = int(s.end)
	}
	var scan ilp.Scanner
	_, more := scan.Scan(b.buf[begin:n])
	return records + int64(more)
}

// reuse empties the block, to be filled again from the journal's offset start.
func (b *Block) reuse(start int64) {
	clear(b.spans) // do not keep writers alive
	*b = Block{buf: b.buf, spans: b.spans[:0], charge: b.charge, start: start}
}

// blockCost is what a block of size bytes is charged with.
func blockCost(size int) int64 { return int64(size) + maxSpans*spanCost }

// freeList keeps unused blocks of one size.
type freeList struct {
	size int
	mu   sync.Mutex
	free []*Block
}

// get returns an empty block.
func (f *freeList) get() *Block {
	f.mu.Lock()
	if n := len(f.free); n > 0 {
		b := f.free[n-1]
		f.free[n-1] = nil
		f.free = f.free[:n-1]
		f.mu.Unlock()
		return b
	}
	f.mu.Unlock()
	return &Block{buf: make([]byte, f.size), charge: blockCost(f.size)}
}

func (f *freeList) put(b *Block) {
	if len(b.buf) != f.size {
		return
	}
	b.reuse(0)
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.free) < freeBlocks {
		f.free = append(f.free, b)
	}
}
