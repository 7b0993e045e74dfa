package delivery

import (
	"time"

	"questdb-ilp-proxy/proxy/ilp"
)

// A journal is what one lane has accepted and not yet settled: a queue of
// blocks, and three offsets in the lane's stream of records that cut it up:
//
//	settled        sent                end
//	   |  in flight  |     pending      |
//
// Offsets only count whole records that were accepted, never change for a
// record, and settled <= sent <= end always holds. A journal does no I/O and
// takes no lock; its lane does.
type journal struct {
	// blocks holds blocks[head:], the oldest first; what is before head is gone.
	blocks []*Block
	head   int
	// at is the index of the block that holds the byte before sent, or a later
	// one.
	at int

	settled, sent, end int64
	// unsettled counts the records from settled to end.
	unsettled int64
}

// room returns the last block if n bytes more fit into it.
func (j *journal) room(n int) *Block {
	if len(j.blocks) == j.head {
		return nil
	}
	if b := j.blocks[len(j.blocks)-1]; b.room() >= n {
		return b
	}
	return nil
}

// push puts b, still empty, at the end of the queue.
func (j *journal) push(b *Block) {
	b.start = j.end
	j.blocks = append(j.blocks, b)
}

// grow says that the last block holds n bytes more: whole records of w.
func (j *journal) grow(w *Writer, n, records int, now time.Time) {
	b := j.blocks[len(j.blocks)-1]
	if b.n == 0 {
		b.accepted = now
	}
	b.add(w, n, records)
	j.end += int64(n)
	j.unsettled += int64(records)
}

// pending returns the next bytes to write: those of one block, nil when
// everything is written.
func (j *journal) pending() []byte {
	if j.sent == j.end {
		return nil
	}
	b := j.blocks[j.at]
	for j.sent == b.end() {
		j.at++
		b = j.blocks[j.at]
	}
	return b.buf[j.sent-b.start : b.n]
}

// advance says that n bytes of pending were written, and returns how many
// records that completed.
func (j *journal) advance(n int) (records int64) {
	b := j.blocks[j.at]
	before := b.recordsBefore(int(j.sent - b.start))
	j.sent += int64(n)
	return b.recordsBefore(int(j.sent-b.start)) - before
}

// recordsAfter counts the records that end after offset. Unlike unsettled, which
// is kept block by block, it is exact; it may have to look through a block.
func (j *journal) recordsAfter(offset int64) int64 {
	left := j.unsettled
	for _, b := range j.blocks[j.head:] {
		if b.end() > offset {
			if offset > b.start {
				left -= b.recordsWithin(int(offset - b.start))
			}
			break
		}
		left -= b.recordsBefore(b.n)
	}
	return left
}

// rewind moves sent back to the beginning of the record that it is in the
// middle of, if it is: the server drops a record that was cut by the end of
// its connection.
func (j *journal) rewind() {
	if j.at >= len(j.blocks) {
		return
	}
	b := j.blocks[j.at]
	done, begin := int(j.sent-b.start), 0
	for _, s := range b.spans {
		if int(s.end) > done {
			break
		}
		begin = int(s.end)
	}
	var s ilp.Scanner
	for begin < done {
		n, ok := s.Next(b.buf[begin:b.n])
		if !ok || begin+n > done {
			break
		}
		begin += n
	}
	j.sent = b.start + int64(begin)
}

// settle forgets the blocks that end at or before offset and hands them to
// free. The last block stays if it has room, to be filled again.
func (j *journal) settle(offset int64, free func(*Block)) {
	for j.head < len(j.blocks) {
		b := j.blocks[j.head]
		if b.end() > offset {
			break
		}
		j.unsettled -= b.recordsBefore(b.n)
		j.settled = b.end()
		if j.head == len(j.blocks)-1 && (b.n == 0 || b.room() > 0) {
			b.reuse(j.end)
			break
		}
		j.blocks[j.head] = nil
		j.head++
		free(b)
	}
	j.at = max(j.at, j.head)
	if j.head > 64 && j.head > len(j.blocks)/2 {
		j.at -= j.head
		n := copy(j.blocks, j.blocks[j.head:])
		clear(j.blocks[n:])
		j.blocks = j.blocks[:n]
		j.head = 0
	}
}
