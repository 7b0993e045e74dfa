package ilp

import (
	"encoding/binary"
	"math/bits"
)

// scanText looks through p, which begins at the start of a line, for as long as it is text of which every LF is a boundary and
// every boundary but that of a CR before LF is an LF. It stops before a block that holds a backslash, "==", an '=' at the start
// of a line, or a CR that is not followed by LF; and maybe, after a long line, where less than a block is left.
//
// done is the number of bytes looked through, records the number of lines that ended there and are not blank, last the offset
// just past the last LF there, 0 if there was none. CR LF at the end of a line is one boundary here, though the server sees a
// blank line between the two: in quotes, where the CR is content, the record ends at the same LF.
func scanText(p []byte) (done, records, last int) {
	if !useVector || len(p) < fewBlocks {
		return scanTextWords(p)
	}
	done, records, last = scanTextVector(p)
	if len(p)-done < blockSize && done-last < fewBlocks {
		rest, more, end := scanTextWords(p[last:])
		done = last + rest
		records += more
		last += end
	}
	return done, records, last
}

// fewBlocks is how many bytes are too few to look at in blocks of 64. They are what a writer of single records sends, whose
// code and data are not in the processor's caches by then: less of both is faster.
const fewBlocks = 4 * blockSize

// scanTextWords is scanText for any machine, in blocks of 8. A byte that has a property is marked by its high bit.
func scanTextWords(p []byte) (done, records, last int) {
	const (
		lf, cr    = ones * '\n', ones * '\r'
		eq, slash = ones * '=', ones * '\\'
		wordBits  = 64
	)
	start := uint64(0x80) // the byte before is LF, or p's start is here; each of these in the lowest byte
	var afterEq, afterCR, afterStartCR uint64
	for ; done < len(p); done += 8 {
		w := wordAt(p, done)
		isLF, isEq, isCR := equalBytes(w^lf), equalBytes(w^eq), equalBytes(w^cr)
		starts := isLF<<8 | start
		startCRs := isCR & starts
		special := equalBytes(w^slash) | isEq&(isEq<<8|afterEq|starts) | (isCR<<8|afterCR)&^isLF
		if special != 0 {
			break
		}
		if isLF != 0 {
			blank := starts | startCRs<<8 | afterStartCR
			records += bits.OnesCount64(isLF &^ blank)
			last = done + (wordBits-bits.LeadingZeros64(isLF))/8
		}
		start, afterEq, afterCR, afterStartCR = isLF>>56, isEq>>56, isCR>>56, startCRs>>56
	}
	return min(done, len(p)), records, last
}

// wordAt is the 8 bytes of p from i on, as many as there are and zeros behind them, which mean nothing in text.
func wordAt(p []byte, i int) (w uint64) {
	if len(p)-i >= 8 {
		return binary.LittleEndian.Uint64(p[i:])
	}
	if beyond := 8 - (len(p) - i); i >= beyond {
		return binary.LittleEndian.Uint64(p[len(p)-8:]) >> (8 * beyond)
	}
	for k, b := range p[i:] {
		w |= uint64(b) << (8 * k)
	}
	return w
}

// equalBytes has the high bit of exactly the bytes of x that are zero.
func equalBytes(x uint64) uint64 {
	const low = ^uint64(highs)
	return ^((x&low + low) | x | low)
}
