//go:build !purego

package ilp

import "golang.org/x/sys/cpu"

var useVector = cpu.X86.HasAVX2 && cpu.X86.HasPOPCNT

// scanTextVector is scanText with AVX2, up to where less than a block is left.
func scanTextVector(p []byte) (done, records, last int) {
	return scanTextAVX2(&p[0], len(p)&^(blockSize-1))
}

// scanTextAVX2 looks through n bytes, a multiple of 64.
//
//go:noescape
func scanTextAVX2(p *byte, n int) (done, records, last int)

func stopMasks(p []byte, blocks int, masks *[8]uint64) {
	if !useVector {
		stopMasksBytes(p, blocks, masks)
		return
	}
	stopMasksAVX2(&p[0], blocks, &masks[0])
}

//go:noescape
func stopMasksAVX2(p *byte, blocks int, masks *uint64)
