//go:build !linux

package proxy

// kernelDrops is not known here.
func kernelDrops(uintptr) (drops uint32, ok bool) { return 0, false }
