package upstream

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/standin"
)

// TestExamine has every trouble that a server may make, but for those of TLS and of a real
// QuestDB without authentication.
func TestExamine(t *testing.T) {
	t.Parallel()
	key, err := auth.Generate("writer")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		behave func(*standin.Behaviour)
		want   Trouble
		reason string
	}{
		"healthy":   {func(*standin.Behaviour) {}, NoTrouble, ""},
		"refuses":   {func(b *standin.Behaviour) { b.RefuseKeys = true }, TroubleRefused, "wrong credentials"},
		"silent":    {func(b *standin.Behaviour) { b.Challenge = standin.ChallengeNone }, TroubleSilent, "no challenge"},
		"closes":    {func(b *standin.Behaviour) { b.Challenge = standin.ChallengeClose }, TroubleSilent, "closed instead of a challenge"},
		"resets":    {func(b *standin.Behaviour) { b.Challenge = standin.ChallengeReset }, TroubleSilent, "closed instead of a challenge"},
		"malformed": {func(b *standin.Behaviour) { b.Challenge = standin.ChallengeMalformed }, TroubleNotQuestDB, "malformed challenge"},
		"lost":      {func(b *standin.Behaviour) { b.CloseAfterSignature = &standin.Close{Reset: true} }, TroubleLost, "connection lost"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := standin.New(t, key.AuthLine())
			server.Behave(c.behave)
			pool, err := New(Options{Addrs: []string{server.Addr()}, Key: key, AuthTimeout: time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer pool.Close()
			found := pool.Examine(t.Context())
			if len(found) != 1 || found[0].Trouble != c.want || !strings.Contains(found[0].Reason, c.reason) || (c.reason == "") != (found[0].Reason == "") {
				t.Errorf("got %+v", found)
			}
			if c.want == TroubleRefused && server.Stats().Refused != 2 {
				t.Errorf("tried %d times, want 2", server.Stats().Refused)
			}
		})
	}
}

// TestExamineAll sees that all addresses are looked at, whatever those before them are,
// and what is said when there is no time.
func TestExamineAll(t *testing.T) {
	t.Parallel()
	key, err := auth.Generate("writer")
	if err != nil {
		t.Fatal(err)
	}
	server := standin.New(t, key.AuthLine())
	_, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	pool, err := New(Options{Addrs: []string{"unknown:1", "two:" + port}, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	pool.lookup = func(_ context.Context, host string) ([]string, error) {
		if host == "two" {
			return []string{"127.0.0.2", "127.0.0.1"}, nil // nobody listens on the first
		}
		return nil, &net.DNSError{Err: "no such host", Name: host}
	}
	var got []Trouble
	for _, x := range pool.Examine(t.Context()) {
		got = append(got, x.Trouble)
	}
	if len(got) != 3 || got[0] != TroubleName || got[1] != TroubleConnect || got[2] != NoTrouble {
		t.Errorf("got %v", got)
	}
	late, cancel := context.WithCancel(t.Context())
	cancel()
	for _, x := range pool.Examine(late) {
		if x.Trouble != TroubleUnfinished {
			t.Errorf("without time: %+v", x)
		}
	}
}
