//go:build !amd64 || purego

package ilp

const useVector = false

func scanTextVector(p []byte) (done, records, last int) { return scanTextWords(p) }

func stopMasks(p []byte, blocks int, masks *[8]uint64) { stopMasksBytes(p, blocks, masks) }
