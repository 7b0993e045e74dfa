//go:build race

package socket

import (
	"runtime"
	"unsafe"
)

// The race detector does not see what the kernel does to memory.

func raceRead(p []byte) { runtime.RaceReadRange(unsafe.Pointer(unsafe.SliceData(p)), len(p)) }

func raceWritten(p []byte) { runtime.RaceWriteRange(unsafe.Pointer(unsafe.SliceData(p)), len(p)) }
