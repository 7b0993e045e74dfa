package e2e

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(confineEnv); dir != "" {
		confine(dir, os.Args[1:])
	}
	// Run again by startRelay: toxiproxy leaves goroutines behind.
	if upstream := os.Getenv(relayEnv); upstream != "" {
		relay(upstream)
	}
	goleak.VerifyTestMain(m)
}
