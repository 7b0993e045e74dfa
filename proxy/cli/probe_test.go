package cli

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"
)

// TestProbeUnanswered asks a port that accepts and says nothing, as that of a stopped
// process does: that is what the commands say.
func TestProbeUnanswered(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, command := range []string{"health", "ready", "wait", "drain"} {
		var stdout, stderr bytes.Buffer
		p := &program{environ: []string{"ILP_ADMIN=" + l.Addr().String()}, stdout: &stdout, stderr: &stderr}
		code := p.main(context.Background(), []string{name, command, "--timeout", "50ms"})
		if text := stderr.String(); code != ExitFailure || !strings.Contains(text, "no answer") || !strings.Contains(text, l.Addr().String()) {
			t.Errorf("%s: %d, %s", command, code, text)
		}
	}
}
