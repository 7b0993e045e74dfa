package delivery

import (
	"sort"
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

// store holds a journal's records in memory, from the oldest that is kept to end.
// It knows offsets and where records end, and nothing of what happens to them: a
// store on disk can take its place behind the same methods.
type store struct {
	// blocks holds blocks[head:], the oldest first; what is before head is gone.
	blocks []*Block
	head   int
	// end is the offset behind the last record, accepted how many there were.
	end      int64
	accepted int64
	arrivals arrivals
	// free takes back blocks that are not needed any more.
	free func(*Block)
}

// room returns the last block if n bytes more fit into it.
func (s *store) room(n int) *Block {
	if len(s.blocks) == s.head {
		return nil
	}
	if b := s.blocks[len(s.blocks)-1]; b.room() >= n {
		return b
	}
	return nil
}

// push puts b, still empty, at the end of the queue.
func (s *store) push(b *Block) {
	b.start, b.before = s.end, s.accepted
	s.blocks = append(s.blocks, b)
}

// grow says that the last block holds n bytes more: whole records of w.
func (s *store) grow(w *Writer, n, records int, now time.Time) {
	b := s.blocks[len(s.blocks)-1]
	s.arrivals.add(s.end, now)
	b.add(w, n, records)
	s.end += int64(n)
	s.accepted += int64(records)
}

// blanksFrom returns the offset behind the blank lines that begin at offset.
func (s *store) blanksFrom(offset int64) int64 {
	for {
		b, i := s.find(offset)
		if b == nil {
			return offset
		}
		line := b.buf[offset-b.start : b.spans[i].end]
		line = line[:firstRecord(line)]
		if !ilp.IsBlank(line) {
			return offset
		}
		offset += int64(len(line))
	}
}

// find returns the block that holds the byte at offset, and the index of the
// span in it; nil if there is none.
func (s *store) find(offset int64) (*Block, int) {
	b := s.block(offset)
	if b == nil {
		return nil, 0
	}
	return b, b.spanAt(int(offset - b.start))
}

// block returns the block that holds the byte at offset; nil if there is none.
func (s *store) block(offset int64) *Block {
	live := s.blocks[s.head:]
	if len(live) == 0 {
		return nil
	}
	if last := live[len(live)-1]; last.start <= offset && offset < last.end() {
		return last // what was read just now is what is written
	}
	i := sort.Search(len(live), func(i int) bool { return live[i].end() > offset })
	if i == len(live) || live[i].start > offset {
		return nil
	}
	return live[i]
}

// bytes returns those from offset from on that lie in one block, up to limit. If
// they reach the end of what the block holds, count is how many records were
// accepted up to there; otherwise it is -1.
func (s *store) bytes(from, limit int64) (p []byte, count int64) {
	b := s.block(from)
	if b == nil {
		return nil, -1
	}
	if end := b.end(); limit >= end {
		return b.buf[from-b.start : b.n], b.before + b.records()
	}
	return b.buf[from-b.start : limit-b.start], -1
}

// boundaryBefore returns the last offset, offset itself included, that lies
// between two records.
func (s *store) boundaryBefore(offset int64) int64 {
	begin, _ := s.around(offset)
	return begin
}

// boundaryAfter returns the first offset, offset itself included, that lies
// between two records.
func (s *store) boundaryAfter(offset int64) int64 {
	begin, end := s.around(offset)
	if begin == offset {
		return offset
	}
	return end
}

// around returns where the record begins and ends that offset lies in; twice
// offset itself if it lies between two, or outside of what is stored.
func (s *store) around(offset int64) (begin, end int64) {
	b, i := s.find(offset)
	if b == nil {
		return offset, offset
	}
	at, done := b.spanStart(i), int(offset-b.start)
	for at < done {
		n := firstRecord(b.buf[at:b.spans[i].end])
		if at+n > done {
			return b.start + int64(at), b.start + int64(at+n)
		}
		at += n
	}
	return offset, offset
}

// owner returns the writer of the record at offset.
func (s *store) owner(offset int64) *Writer {
	b, i := s.find(offset)
	return b.spans[i].w
}

// largest returns a size that no record between from and to exceeds, 0 if none
// can be larger than tailSize-MaxBlank. What is not kept, as with at-most-once delivery,
// does not count.
func (s *store) largest(from, to int64) (size int) {
	for from < to {
		b := s.block(from)
		if b == nil {
			break
		}
		const small = 5 // bytes: no record is shorter, "t f=\n"
		if b.n-small*int(b.records()-1) > tailSize-MaxBlank {
			size = max(size, b.largest())
		}
		from = b.end()
	}
	return size
}

// firstRecord returns the length of the first record in p, which holds whole
// records of one writer. Where only the byte behind p could tell that its last one
// has ended (a binary value without a separator), it has.
func firstRecord(p []byte) int {
	var scan ilp.Scanner
	n, _ := scan.Next(p) // all of p if there is no other end
	return max(n, 1)
}

// release forgets the blocks that end at or before offset. The last block stays
// if it has room, to be filled again.
func (s *store) release(offset int64) {
	for s.head < len(s.blocks) {
		b := s.blocks[s.head]
		if b.end() > offset {
			break
		}
		if s.head == len(s.blocks)-1 && (b.n == 0 || b.room() > 0) {
			b.reuse(s.end)
			b.before = s.accepted
			break
		}
		s.blocks[s.head] = nil
		s.head++
		s.free(b)
	}
	if s.head > 64 && s.head > len(s.blocks)/2 {
		n := copy(s.blocks, s.blocks[s.head:])
		clear(s.blocks[n:])
		s.blocks = s.blocks[:n]
		s.head = 0
	}
}
