package delivery

import (
	"sort"
	"sync"
)

const (
	// maxBlockSize is the size of a block where the budget is large enough, and
	// maxPassing with at-most-once delivery: there a block is free again once it is
	// written. Measured on loopback, eight writers at full speed cost a fifth less CPU
	// time so: fewer, longer reads and writes wake other processes less often. Where
	// blocks are kept until they are settled a read must not take up that much.
	maxBlockSize = 128 << 10
	maxPassing   = 512 << 10
	minBlockSize = 1 << 10
	// maxGathered is how many bytes are always copied into the lane's last block, rather
	// than kept in the one that they were read into.
	maxGathered = 32 << 10
	// spanCost is what one span is charged with: it is memory as well.
	spanCost = 16
	// minSpans and spanBytes bound the spans of one block, and so what it may cost: there is
	// one for so many bytes of its memory, but minSpans in any.
	minSpans  = 1024
	spanBytes = 128
)

// A Block holds whole records, one behind the other, and remembers whose they
// are. A session reads into it, a lane writes from it and keeps it until its
// records are settled.
type Block struct {
	buf []byte
	// n is how many bytes of buf hold whole records.
	n int
	// start is the journal's offset of buf[0], before how many records there were
	// in the journal before it.
	start  int64
	before int64
	spans  []span
	// charge is what the block costs the budget.
	charge int64
}

// A span is a run of records of one writer inside a block. It begins where the
// one before it ends.
type span struct {
	w   *Writer
	end int32
	// records counts those of this span and all before it.
	records int32
}

// Bytes returns the block's whole memory, to read into.
func (b *Block) Bytes() []byte { return b.buf }

func (b *Block) end() int64 { return b.start + int64(b.n) }

// room returns how many bytes can be added.
func (b *Block) room() int {
	if len(b.spans) == maxSpans(len(b.buf)) {
		return 0
	}
	return len(b.buf) - b.n
}

// add marks n bytes more as whole records of w. The bytes must be there already.
func (b *Block) add(w *Writer, n, records int) {
	b.n += n
	s := span{w: w, end: int32(b.n), records: int32(records)}
	last := len(b.spans) - 1
	if last >= 0 {
		s.records += b.spans[last].records
	}
	if last >= 0 && b.spans[last].w == w {
		b.spans[last] = s
		return
	}
	b.spans = append(b.spans, s)
}

// spanAt returns the index of the span that holds the byte at offset n of the
// block, len(b.spans) if there is none.
func (b *Block) spanAt(n int) int {
	return sort.Search(len(b.spans), func(i int) bool { return int(b.spans[i].end) > n })
}

// spanStart returns where the span with index i begins.
func (b *Block) spanStart(i int) int {
	if i == 0 {
		return 0
	}
	return int(b.spans[i-1].end)
}

// records counts the records in the block.
func (b *Block) records() int64 {
	if len(b.spans) == 0 {
		return 0
	}
	return int64(b.spans[len(b.spans)-1].records)
}

// largest returns the size of the largest record in the block.
func (b *Block) largest() (size int) {
	at := 0
	for _, s := range b.spans {
		for at < int(s.end) {
			n := firstRecord(b.buf[at:s.end])
			size = max(size, n)
			at += n
		}
	}
	return size
}

// reuse empties the block, to be filled again from the journal's offset start.
func (b *Block) reuse(start int64) {
	clear(b.spans) // do not keep writers alive
	b.n, b.start, b.before, b.spans = 0, start, 0, b.spans[:0]
}

// maxSpans is how many spans a block of size bytes may have.
func maxSpans(size int) int { return max(size/spanBytes, minSpans) }

// blockCost is what a block of size bytes is charged with.
func blockCost(size int) int64 { return int64(size) + int64(maxSpans(size)*spanCost) }

// freeList keeps unused blocks of one size for the next read: a settled segment gives
// back hundreds at once, and making one anew costs as much as reading into it. They are
// not charged to the budget. The garbage collector drops those that nobody took for
// two of its rounds, and it makes a round whenever memory is near its limit.
type freeList struct {
	size int
	pool sync.Pool // of *Block
}

// get returns an empty block.
func (f *freeList) get() *Block {
	if b, ok := f.pool.Get().(*Block); ok {
		return b
	}
	return &Block{buf: make([]byte, f.size), charge: blockCost(f.size)}
}

// put takes b back, unless its memory is a large record's own, which may be just as long
// as a block and is charged otherwise.
func (f *freeList) put(b *Block) {
	if len(b.buf) != f.size || b.charge != blockCost(f.size) {
		return
	}
	b.reuse(0)
	f.pool.Put(b)
}
