package e2e

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/e2e/questdb"
	"questdb-ilp-proxy/proxy/ilp"
)

// TestTableNames has the server say which tables it allows, and by which name: records for those that are
// not allowed are set aside in bulk, whatever the name.
func TestTableNames(t *testing.T) {
	t.Parallel()
	for _, version := range questdb.Versions() {
		t.Run(version, func(t *testing.T) {
			key := newKey(t, "writer")
			db := questdb.Start(t, questdb.Options{Version: version, Keys: []*auth.Key{key}})
			tables := []string{}
			for _, name := range tableNames() {
				record := []byte(escape.Replace(name) + " v=1i\n")
				table, ok := ilp.Table(record)
				_, illegal := ilp.TableFault(table)
				illegal = illegal || !ok
				if taken := takes(t, db, key, record); taken == illegal {
					t.Errorf("%q: taken: %v, not allowed: %v", name, taken, illegal)
				}
				if !illegal {
					tables = append(tables, table)
				}
			}
			slices.Sort(tables)
			if got := waitTables(t, db, len(tables)); !slices.Equal(got, tables) {
				t.Errorf("tables %q, want %q", got, tables)
			}
		})
	}
}

var escape = strings.NewReplacer(" ", `\ `, ",", `\,`, `\`, `\\`, "=", `\=`)

// tableNames returns names of which each has something that may not be allowed, and one with all characters
// that may.
func tableNames() []string {
	names := []string{".t", "t.", "a..b", "a.b", " t", "t ", "my table", "\ufeffa", "a\ufeffb", "Zürich", strings.Repeat("x", 127), strings.Repeat("€", 100),
		strings.Repeat("y", 256), "caf\xe9", "tmp\xe9:", "\xe9x", "lat\xc3", "ov\xc0\xafz", "su\xed\xa0\x80z"}
	legal := "all"
	for c := rune(1); c < 0x80; c++ {
		if strings.ContainsRune("\n\r =.", c) {
			continue
		}
		if _, illegal := ilp.TableFault("a" + string(c) + "b"); illegal {
			names = append(names, "a"+string(c)+"b")
		} else {
			legal += string(c)
		}
	}
	return append(names, legal)
}

// takes reports whether the server takes record, rather than closing with a reset.
func takes(t *testing.T, db *questdb.Server, key *auth.Key, record []byte) bool {
	t.Helper()
	conn := login(t, db, key)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	// So much that the server leaves some unread when it refuses, and its end becomes a reset.
	padding := 128 << 10
	if db.Version() != questdb.DefaultVersion {
		padding = 32767 // and no more in a row than it takes itself
	}
	_, err := conn.Write(slices.Concat(record, bytes.Repeat([]byte("\n"), padding-1)))
	if err == nil {
		if err = conn.CloseWrite(); err == nil {
			_, err = io.Copy(io.Discard, conn)
		}
	}
	reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ENOTCONN) // by when it comes
	if err != nil && !reset {
		t.Fatalf("%q: %v", record, err)
	}
	return err == nil
}
