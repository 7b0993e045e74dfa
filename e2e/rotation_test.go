package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/certs"
	"questdb-ilp-proxy/e2e/proxytest"
	"questdb-ilp-proxy/e2e/questdb"
)

// secret is a folder of files as Kubernetes mounts a secret: links that go through
// ..data, which is swapped.
type secret struct {
	t       *testing.T
	dir     string
	version int
}

// publish swaps in the files, given as name, content, name, content.
func (s *secret) publish(files ...string) {
	s.t.Helper()
	s.version++
	name := fmt.Sprintf("..version%d", s.version)
	try := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	try(os.Mkdir(filepath.Join(s.dir, name), 0o700))
	for i := 0; i < len(files); i += 2 {
		certs.Write(s.t, filepath.Join(s.dir, name, files[i]), []byte(files[i+1]))
		if s.version == 1 {
			try(os.Symlink("..data/"+files[i], filepath.Join(s.dir, files[i])))
		}
	}
	try(os.Symlink(name, filepath.Join(s.dir, "..data_tmp")))
	try(os.Rename(filepath.Join(s.dir, "..data_tmp"), filepath.Join(s.dir, "..data")))
	if s.version > 1 {
		try(os.RemoveAll(filepath.Join(s.dir, fmt.Sprintf("..version%d", s.version-1))))
	}
}

func jwk(t *testing.T, key *auth.Key) string {
	t.Helper()
	data, err := key.MarshalJWK()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRotation changes auth.txt and the key under load, restarting QuestDB, in both
// orders; and a key file that is broken. No row is missing, and the pauses between
// attempts are so long that nothing but the change can end them.
func TestRotation(t *testing.T) {
	t.Parallel()
	keys := []*auth.Key{newKey(t, "first"), newKey(t, "second"), newKey(t, "third")}
	db := questdb.Start(t, questdb.Options{Keys: keys[:1]})
	makeTable(db, "rotated", true)
	s := &secret{t: t, dir: t.TempDir()}
	s.publish("key.jwk", jwk(t, keys[0]))
	env := proxytest.EnvFor(keys[0], db.ILP()).With("ILP_AUTH_JWK_FILE", filepath.Join(s.dir, "key.jwk"))
	delete(env, "ILP_AUTH_JWK")
	p := proxytest.Start(t, env.With("ILP_RETRY_MAX", "10m"))
	l := startLoad(t, p, 4, 4000, "rotated")
	more := func() {
		t.Helper()
		p.WaitMetric(arrive, proxytest.AtLeast(p.Metric("records_settled_total")+2000), "records_settled_total")
	}
	more()

	// A broken file: the old key stays.
	s.publish("key.jwk", `{"kty":"EC"}`)
	p.WaitMetric(arrive, proxytest.Equal(1), "credentials_stale")
	p.WaitLog(`"level":"ERROR"`, arrive)
	more()

	// The proxy first: it goes on with the old key until QuestDB is restarted.
	s.publish("key.jwk", jwk(t, keys[1]))
	p.WaitLog(`"key_id":"second"`, arrive)
	p.WaitMetric(arrive, proxytest.Equal(0), "credentials_stale")
	p.WaitLog("QuestDB refuses the new key", arrive)
	more()
	db.SetKeys(keys[1])
	db.Restart()
	more()

	p.Signal(syscall.SIGHUP)
	p.WaitLog(`"why":"SIGHUP","key_id":"second"`, arrive)

	// QuestDB first: the old key is refused until the file changes.
	db.SetKeys(keys[2])
	db.Restart()
	p.WaitLog("QuestDB refuses the credentials", arrive)
	s.publish("key.jwk", jwk(t, keys[2]))
	more()

	l.end()
	allSettled(p, arrive)
	l.check(db, arrive)
	if n := p.Metric("records_rejected_total"); n != 0 {
		t.Errorf("%v records were set aside", n)
	}
	for _, key := range keys {
		if strings.Contains(p.Log(), scalar(t, key)) {
			t.Error("a key is in the log")
		}
	}
	p.Stop(30 * time.Second)
}

// TestRotationBothKeys changes the key while QuestDB knows both: it goes unnoticed,
// and the lanes' connections move over.
func TestRotationBothKeys(t *testing.T) {
	t.Parallel()
	first, second := newKey(t, "first"), newKey(t, "second")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{first, second}})
	makeTable(db, "rotated", false)
	file := certs.Write(t, filepath.Join(t.TempDir(), "key.jwk"), []byte(jwk(t, first)))
	env := proxytest.EnvFor(first, db.ILP()).With("ILP_AUTH_JWK_FILE", file)
	delete(env, "ILP_AUTH_JWK")
	p := proxytest.Start(t, env)
	l := startLoad(t, p, 4, 4000, "rotated")
	p.WaitMetric(arrive, proxytest.AtLeast(1000), "records_settled_total")
	certs.Write(t, file, []byte(jwk(t, second)))
	p.WaitLog(`"key_id":"second"`, arrive)
	p.WaitMetric(arrive, proxytest.AtLeast(p.Metric("records_settled_total")+4000), "records_settled_total")
	rows := l.end()
	allSettled(p, arrive)
	if c := l.check(db, arrive)["rotated"]; c.twice > 0 {
		t.Errorf("%d rows came twice", c.twice)
	}
	checkCounters(t, p, rows)
	p.Stop(30 * time.Second)
}

// TestRotationTLS begins with certificates that are no good, and has them replaced.
func TestRotationTLS(t *testing.T) {
	t.Parallel()
	key := newKey(t, "writer")
	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
	ca, other := certs.CA(t, "test CA"), certs.CA(t, "other CA")
	caFile, _ := ca.Files(t)
	addr := terminator(t, db.ILP(), ca.Issue(t, "localhost"), "verify required ca-file "+caFile)
	s := &secret{t: t, dir: t.TempDir()}
	publish := func(ca, client *certs.Pair) {
		t.Helper()
		s.publish("ca.crt", string(ca.Cert), "tls.crt", string(client.Cert), "tls.key", string(client.Key))
	}
	expired, good := ca.Expired(t), ca.Issue(t)
	publish(other, expired)
	p := proxytest.Start(t, proxytest.EnvFor(key, "tcps://"+addr).With("ILP_TLS_CA", filepath.Join(s.dir, "ca.crt"),
		"ILP_TLS_CERT", filepath.Join(s.dir, "tls.crt"), "ILP_TLS_KEY", filepath.Join(s.dir, "tls.key"),
		"ILP_RETRY_BASE", "5m", "ILP_RETRY_MAX", "10m"))
	p.Send(numbered("waiting", 0, 100))
	p.WaitNotReady("unknown CA", arrive)
	publish(ca, expired)
	p.WaitNotReady("client certificate refused", arrive)
	publish(ca, good)
	db.WaitCount("waiting", 100, arrive)
	checkCounters(t, p, 100)
	s.publish("ca.crt", string(ca.Cert), "tls.crt", string(good.Cert), "tls.key", string(expired.Key))
	p.WaitMetric(arrive, proxytest.Equal(1), "credentials_stale")
	p.Send(numbered("after", 0, 100))
	db.WaitCount("after", 100, arrive)
	p.Stop(30 * time.Second)
}
