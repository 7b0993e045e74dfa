//go:build !linux

package sandbox

import (
	"errors"
	"runtime"
)

// Restrict takes nothing: only Linux can.
func Restrict(Options) Result {
	return Result{Missing: errors.New(runtime.GOOS + " has no Landlock")}
}
