package config

import "strings"

// Sandbox is whether the process gives up what it does not need.
type Sandbox string

// What ILP_SANDBOX may be.
const (
	SandboxOn      Sandbox = "on" // as far as the kernel can
	SandboxOff     Sandbox = "off"
	SandboxRequire Sandbox = "require" // all of it, or the proxy does not start
)

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Sandbox) UnmarshalText(text []byte) error {
	switch mode := Sandbox(strings.ToLower(string(text))); mode {
	case SandboxOn, SandboxOff, SandboxRequire:
		*s = mode
		return nil
	}
	return invalid("%s is none of on, off and require", shorten(string(text)))
}
