package e2e

import (
	"flag"
	"os"
	"runtime"
	"strconv"
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
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		// Most of a test is waiting for a server.
		if err := f.Value.Set(strconv.Itoa(runtime.GOMAXPROCS(0) + 1)); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}
