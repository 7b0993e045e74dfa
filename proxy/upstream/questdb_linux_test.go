package upstream

import (
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/questdb"
)

// The pool against a real QuestDB: what the stand-in is believed in.
func TestOnARealQuestDB(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a QuestDB")
	}
	key, other := testKey(t), testKey(t)
	s := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})

	wrong, _ := startPool(t, Options{Addrs: []string{s.ILP()}, Key: other, MinIdle: 1, Max: 2})
	await(t, wrong, "a refusal", func(st Status) bool { return strings.Contains(st.Reason, "wrong credentials") && !st.Ready })

	p, logs := startPool(t, Options{Addrs: []string{s.ILP()}, Key: key, MinIdle: 2, Max: 4})
	c := acquire(t, p)
	if _, err := c.Write([]byte("upstream_real a=1i\nupstream_real a=2i\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if end := awaitEnd(t, c); !end.Clean() {
		t.Errorf("after our half-close: %+v", end)
	}
	c.Discard()
	if st := wrong.Status(); st.Ready {
		t.Errorf("with the wrong key: %+v", st)
	}

	bad := acquire(t, p)
	if _, err := bad.Write([]byte("upstream_real a=no number\n")); err != nil {
		t.Fatal(err)
	}
	if end := awaitEnd(t, bad); end.Clean() {
		t.Errorf("after a malformed record: %+v", end)
	}
	bad.Discard()

	await(t, p, "2 idle ones", func(st Status) bool { return st.Idle == 2 && st.Connecting == 0 })
	s.Restart()
	c = acquire(t, p)
	if _, err := c.Write([]byte("upstream_real a=3i\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if end := awaitEnd(t, c); !end.Clean() {
		t.Errorf("after a restart: %+v", end)
	}
	c.Discard()
	s.WaitCount("upstream_real", 3, 20*time.Second)
	if n := len(logs.lines("level=ERROR")); n > 0 {
		t.Errorf("%d errors:\n%s", n, logs)
	}
}
