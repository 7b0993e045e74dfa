package upstream

import (
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/standin"
)

// TestSetCredentials gives the pool another key: idle connections are replaced, one
// that is handed out stays as it is.
func TestSetCredentials(t *testing.T) {
	first, second := testKey(t), newKey(t, "second")
	s := standin.New(t, first.AuthLine(), second.AuthLine())
	p, _ := startPool(t, Options{Key: first, Addrs: []string{s.Addr()}, MinIdle: 2})
	held := acquire(t, p)
	await(t, p, "two idle ones", func(st Status) bool { return st.Idle == 2 })
	last := p.lastID.Load()
	p.SetCredentials(second, nil)
	awaitConns(t, p, "all idle ones new", func(c *Conn) bool { return c == held || c.id > last && c.key == second })
	if !held.alive() || held.key != first {
		t.Error("the connection that was handed out is not what it was")
	}
}

// TestSetCredentialsAfterRefusal has the old key refused for good: the new one is
// tried at once, not after the pause.
func TestSetCredentialsAfterRefusal(t *testing.T) {
	first, second := testKey(t), newKey(t, "second")
	s := standin.New(t, second.AuthLine())
	p, _ := startPool(t, Options{Key: first, Addrs: []string{s.Addr()}, MinIdle: 1, RetryBase: time.Millisecond, RetryMax: time.Hour})
	await(t, p, "two refusals", func(Status) bool {
		p.gate.mu.Lock()
		defer p.gate.mu.Unlock()
		return p.gate.refused > 1
	})
	p.SetCredentials(second, nil)
	await(t, p, "a connection", func(st Status) bool { return st.Idle == 1 })
}

// TestKeyNotKnownYet gives the pool a key that the server does not know, then one more:
// the one that was accepted before serves, until the server knows the new one.
func TestKeyNotKnownYet(t *testing.T) {
	first, second, third := testKey(t), newKey(t, "second"), newKey(t, "third")
	s := standin.New(t, first.AuthLine())
	p, logs := startPool(t, Options{Key: first, Addrs: []string{s.Addr()}, MinIdle: 2, RetryBase: time.Millisecond, RetryMax: time.Hour})
	await(t, p, "two idle ones", func(st Status) bool { return st.Idle == 2 })
	for _, key := range []*auth.Key{second, third} {
		last := p.lastID.Load()
		p.SetCredentials(key, nil)
		awaitConns(t, p, "new ones with the first key", func(c *Conn) bool { return c.id > last && c.key == first })
	}
	if n := strings.Count(logs.String(), "QuestDB refuses the new key"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if err := s.AddKey(third.AuthLine()); err != nil {
		t.Fatal(err)
	}
	s.CloseAll()
	awaitConns(t, p, "the third key", func(c *Conn) bool { return c.key == third })
	// It is accepted now: no way back.
	s.RemoveKey("third")
	s.CloseAll()
	await(t, p, "a refusal", func(Status) bool { return strings.Contains(logs.String(), `refused key id \"third\"`) })
}

func newKey(t *testing.T, id string) *auth.Key {
	t.Helper()
	key, err := auth.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// awaitConns waits until all connections of the pool, and at least two, are such.
func awaitConns(t *testing.T, p *Pool, what string, such func(*Conn) bool) {
	t.Helper()
	await(t, p, what, func(st Status) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.all) >= 2 && st.Idle >= 2 && !p.any(func(c *Conn) bool { return !such(c) })
	})
}
