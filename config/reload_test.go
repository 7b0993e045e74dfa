package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/certs"
)

func TestReload(t *testing.T) {
	dir := t.TempDir()
	second, err := auth.Generate("second")
	if err != nil {
		t.Fatal(err)
	}
	text, err := second.MarshalJWK()
	if err != nil {
		t.Fatal(err)
	}
	ca, other := certs.CA(t, "test CA"), certs.CA(t, "other CA")
	first, next := ca.Issue(t, "first"), other.Issue(t, "next")
	jwk := certs.Write(t, filepath.Join(dir, "key.jwk"), []byte(docJWK))
	roots := certs.Write(t, filepath.Join(dir, "ca.pem"), ca.Cert)
	cert := certs.Write(t, filepath.Join(dir, "cert.pem"), first.Cert)
	key := certs.Write(t, filepath.Join(dir, "key.pem"), first.Key)
	c, err := Load([]string{"ILP_UPSTREAM=tcps://questdb", "ILP_AUTH_JWK_FILE=" + jwk, "ILP_TLS_CA=" + roots, "ILP_TLS_CERT=" + cert, "ILP_TLS_KEY=" + key})
	if err != nil {
		t.Fatal(err)
	}
	if files := c.Files(); !slices.Equal(files, []string{jwk, roots, cert, key}) {
		t.Errorf("files: %q", files)
	}

	certs.Write(t, jwk, text)
	certs.Write(t, roots, other.Cert)
	certs.Write(t, cert, next.Cert)
	if _, err := c.Reload(); err == nil || !strings.Contains(err.Error(), "ILP_TLS_CERT: ") {
		t.Errorf("a certificate with another one's key: %v", err)
	}
	certs.Write(t, key, next.Key)
	got, err := c.Reload()
	if err != nil {
		t.Fatal(err)
	}
	if got.Key.ID() != "second" || !got.TLS.RootCAs.Equal(other.Pool()) || got.TLS.Certificates[0].Leaf.DNSNames[0] != "next" {
		t.Errorf("key %v, certificate %v", got.Key, got.TLS.Certificates[0].Leaf.DNSNames)
	}
	if got.TLS.ClientSessionCache == c.TLS.ClientSessionCache {
		t.Error("sessions from before are resumed")
	}
	if c.Key.ID() != "testUser1" || !c.TLS.RootCAs.Equal(ca.Pool()) {
		t.Error("the configuration has changed")
	}
	certs.Write(t, jwk, []byte(strings.Replace(docJWK, docD, docX, 1)))
	certs.Write(t, roots, nil)
	if _, err := c.Reload(); err == nil || !strings.Contains(err.Error(), "ILP_AUTH_JWK_FILE: ") || !strings.Contains(err.Error(), "ILP_TLS_CA: ") {
		t.Errorf("not all that is wrong: %v", err)
	} else if strings.Contains(err.Error(), docX) {
		t.Errorf("the key is in the error: %v", err)
	}
}

func TestReloadKeyFile(t *testing.T) {
	file := certs.Write(t, filepath.Join(t.TempDir(), "key.d"), []byte(docD+"\n"))
	c, err := Load([]string{minimal[0], minimal[1], "ILP_AUTH_KEY_FILE=" + file})
	if err != nil {
		t.Fatal(err)
	}
	if files := c.Files(); !slices.Equal(files, []string{file}) {
		t.Errorf("files: %q", files)
	}
	certs.Write(t, file, []byte(docX)) // a scalar like any other
	if got, err := c.Reload(); err != nil || got.Key.AuthLine() == c.Key.AuthLine() || got.TLS != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestReloadPipe has pipes in the place of the files, which nobody writes to: that is
// said, and not waited for.
func TestReloadPipe(t *testing.T) {
	dir := t.TempDir()
	ca := certs.CA(t, "test CA")
	file := certs.Write(t, filepath.Join(dir, "key.d"), []byte(docD))
	roots := certs.Write(t, filepath.Join(dir, "ca.pem"), ca.Cert)
	c, err := Load([]string{"ILP_UPSTREAM=tcps://questdb", "ILP_AUTH_KEY_ID=testUser1", "ILP_AUTH_KEY_FILE=" + file, "ILP_TLS_CA=" + roots})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, roots} {
		if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	reloaded := make(chan error, 1)
	go func() {
		_, err := c.Reload()
		reloaded <- err
	}()
	select {
	case err := <-reloaded:
		if err == nil || !strings.Contains(err.Error(), "ILP_AUTH_KEY_FILE: "+file+" is empty") || !strings.Contains(err.Error(), "ILP_TLS_CA: ") {
			t.Errorf("pipes in the place of files: %v", err)
		}
	case <-time.After(2 * readLimit):
		t.Error("waits for somebody to write to a pipe")
	}
}

// TestLoadPipe has the key come from a pipe, as of a shell's <(...), whose writer takes
// its time.
func TestLoadPipe(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	path := fmt.Sprintf("/dev/fd/%d", reader.Fd())
	go func() {
		_, _ = writer.WriteString(docD[:10])
		_, _ = writer.WriteString(docD[10:])
		_ = writer.Close()
	}()
	c, err := Load([]string{minimal[0], minimal[1], "ILP_AUTH_KEY_FILE=" + path})
	if err != nil || c.Key.ID() != "testUser1" {
		t.Errorf("%v", err)
	}
}

// TestReloadNothing has everything in variables.
func TestReloadNothing(t *testing.T) {
	c, err := Load(minimal)
	if err != nil {
		t.Fatal(err)
	}
	if files := c.Files(); len(files) != 0 {
		t.Errorf("files: %q", files)
	}
	if got, err := c.Reload(); err != nil || got.Key != c.Key {
		t.Errorf("%+v, %v", got, err)
	}
}
