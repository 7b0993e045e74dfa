package ilp

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// scanRows looks through p, which begins at the start of a line, for as long as it is blank lines and rows of the usual kind: names
// and values of text without escapes or quotes, and binary values of fixed size and arrays, all of which the server takes. It stops at
// the start of the first line that is anything else, or that does not end within p's whole blocks. records is the number of rows in
// the done bytes.
//
// Where the state machine looks for one stop after the other, from where the last one was, those of a block are at hand at once here.
func scanRows(p []byte) (done, records int) {
	c := cursor{p: p, end: len(p) &^ inBlock}
	c.block, c.mask = c.blockAt(0)
	for {
		i := c.next()
		switch {
		case i < 0:
			return done, records
		case i > done:
			if i = c.row(i); i < 0 {
				return done, records
			}
			records++
		case p[i] != '\n' && p[i] != '\r':
			return done, records
		}
		done = i + 1
	}
}

// noBlock is an offset so far before p that nothing in a block there is in p.
const noBlock = -2 * blockSize

// inBlock is the bits of an offset that tell where in a block it is.
const inBlock = blockSize - 1

// cursor goes over the stops of p: the bytes that mean something in names.
type cursor struct {
	p     []byte
	end   int    // of p's whole blocks
	block int    // the offset of the current one; noBlock behind the last
	mask  uint64 // the stops in it that were not gone over

	masks [8]uint64 // of count blocks from the offset first on
	first int
	count uint
}

// blockAt returns offset and all stops of the block at an offset that is not before the current one's; noBlock if there is none.
func (c *cursor) blockAt(at int) (block int, mask uint64) {
	k := uint(at-c.first) / blockSize
	if k >= c.count {
		if at >= c.end {
			return noBlock, 0
		}
		c.first, c.count, k = at, min(uint(c.end-at)/blockSize, uint(len(c.masks))), 0
		stopMasks(c.p[at:], int(c.count), &c.masks)
	}
	return at, c.masks[k%uint(len(c.masks))]
}

// stopMasksBytes sets for each of the blocks that p begins with, one at least, the mask of its bytes in class stopName. It takes longer
// than it saves: stopMasks, with vectors, is the same.
func stopMasksBytes(p []byte, blocks int, masks *[8]uint64) {
	for k := range blocks {
		masks[k] = 0
		for i, b := range p[k*blockSize:][:blockSize] {
			if class[b]&stopName != 0 {
				masks[k] |= 1 << i
			}
		}
	}
}

// next is the offset of the next stop, negative if there is none.
func (c *cursor) next() int {
	if c.mask == 0 {
		c.more()
	}
	i := c.block + bits.TrailingZeros64(c.mask)
	c.mask &= c.mask - 1
	return i
}

// more goes to the next block with a stop.
//
//go:noinline
func (c *cursor) more() {
	for c.mask == 0 && c.block >= 0 {
		c.block, c.mask = c.blockAt(c.block + blockSize)
	}
}

// skip leaves out the stops before i.
func (c *cursor) skip(i int) {
	if at := i &^ inBlock; at != c.block {
		c.block, c.mask = c.blockAt(at)
	}
	c.mask &= ^uint64(0) << (i & inBlock)
}

// row goes over the rest of a row of which the table's name ends at i, and returns where the row ends, -1 where it can't tell.
func (c *cursor) row(i int) int {
	p := c.p
	for p[i] == ',' { // a tag
		eq := c.next()
		if eq <= i+1 || p[eq] != '=' {
			return -1
		}
		if i = c.next(); i < 0 {
			return -1
		}
	}
	if p[i] != ' ' {
		return -1
	}
	for { // a field
		i = c.doubles(i)
		eq := c.next()
		if eq <= i+1 || p[eq] != '=' || eq+1 == len(p) {
			return -1
		}
		if p[eq+1] == '=' {
			n := binarySize(p[eq+2:])
			if i = eq + 2 + n; n == 0 || i >= len(p) {
				return -1
			}
			c.skip(i + 1)
		} else if i = c.next(); i < 0 || p[eq+1] == '"' || !fieldValueOK(p[eq+1:i]) {
			return -1
		}
		switch p[i] {
		case ',':
			continue
		case '\n':
			return i
		case ' ':
			if i = c.next(); i >= 0 && p[i] == '\n' {
				return i
			}
		}
		return -1
	}
}

// doubles goes over fields that are doubles and not the last of their row, behind the separator at i, and returns the separator
// behind the last of them. It is a part of what row does, without detours.
func (c *cursor) doubles(i int) int {
	const (
		start     = '=' | '='<<8 | typeDouble<<16
		startMask = 1<<24 - 1
		size      = 3 + 8
	)
	p, block, mask := c.p, c.block, c.mask
	for mask != 0 {
		eq := block + bits.TrailingZeros64(mask)
		if len(p)-eq <= size || eq == i+1 {
			break
		}
		field := p[eq:]
		if binary.LittleEndian.Uint32(field)&startMask != start || field[size] != ',' {
			break
		}
		i = eq + size
		next := i + 1
		if at := next &^ inBlock; at != block {
			block, mask = c.blockAt(at)
		}
		mask &= ^uint64(0) << (next & inBlock)
	}
	c.block, c.mask = block, mask
	return i
}

// binarySize is the size of the type and payload of the binary value that v begins with; 0 if it isn't the usual one, or if the size
// can't be seen in v.
func binarySize(v []byte) int {
	if len(v) < 2 {
		return 0
	}
	switch {
	case v[0] == typeDouble:
		return 1 + 8
	case v[0] != typeArray:
		if n := payloadSize(v[0]); n > 0 {
			return 1 + int(n)
		}
		return 0
	case v[1] != elementDouble:
		return 0
	}
	v = v[2:]
	if len(v) == 0 || v[0] == 0 || v[0] > maxDims || len(v) < 1+4*int(v[0]) {
		return 0
	}
	size := int64(8)
	for i := range int(v[0]) {
		d := int32(binary.LittleEndian.Uint32(v[1+4*i:]))
		if size *= int64(d); d <= 0 || size > math.MaxInt32 {
			return 0
		}
	}
	return 2 + 1 + 4*int(v[0]) + int(size)
}
