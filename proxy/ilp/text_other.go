//go:build !amd64 || purego

package ilp

const useVector = false

func scanTextVector(p []byte) (done, records, last int) { return scanTextWords(p) }
