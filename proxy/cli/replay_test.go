package cli

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/proxy/rejected"
)

// mixed is a file with all kinds of lines. The second record is of a lane's end,
// the third not UTF-8.
const (
	mixed = `{"reason":"malformed","writer":"[::1]:1","record":"a v=1\n"}
{"reason":"undelivered","record":"b v=\"x\ny=\"\r"}

{"reason":"refused","record_base64":"YyB2PSL/Igo="}
`
	mixedBytes = "a v=1\nb v=\"x\ny=\"\rc v=\"\xff\"\n"
)

// sinkProxy accepts one connection as the proxy does, and hands over what came
// when the writer has ended.
func sinkProxy(t *testing.T) (addr string, got <-chan string) {
	t.Helper()
	return fakeProxy(t, func(conn net.Conn) string {
		data, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		return string(data)
	})
}

// fakeProxy accepts one connection and closes it after serve.
func fakeProxy(t *testing.T, serve func(net.Conn) string) (addr string, got <-chan string) {
	t.Helper()
	// So that what does not fit into the kernel's buffers need not be so large.
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10) })
	}}
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	result, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return // nobody came
		}
		defer conn.Close()
		result <- serve(conn)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String(), result
}

func runWith(ctx context.Context, environ []string, stdin string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := Main(ctx, append([]string{name}, args...), environ, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func TestReplay(t *testing.T) {
	for title, c := range map[string]struct {
		args  []string
		bytes string
		want  string
	}{
		"all":         {nil, mixedBytes, "sent 3 records, 25 bytes, to ADDR\n"},
		"one reason":  {[]string{"--reason", "refused"}, "c v=\"\xff\"\n", "sent 1 record, 8 bytes, to ADDR; left out 2 records of another reason\n"},
		"two reasons": {[]string{"--reason=refused", "--reason=malformed"}, "a v=1\nc v=\"\xff\"\n", "sent 2 records, 14 bytes, to ADDR; left out 1 record of another reason\n"},
	} {
		t.Run(title, func(t *testing.T) {
			addr, got := sinkProxy(t)
			out := run(t, mixed, append([]string{"replay", "-", "--to", addr}, c.args...)...)
			if want := (result{ExitOK, strings.ReplaceAll(c.want, "ADDR", addr), ""}); out != want {
				t.Errorf("got %+v, want %+v", out, want)
			}
			if data := <-got; data != c.bytes {
				t.Errorf("sent %q, want %q", data, c.bytes)
			}
		})
	}
}

// TestReplayOfASinksFile has the whole way: every byte, a large file, and the
// address of ILP_LISTEN.
func TestReplayOfASinksFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rejected.jsonl")
	var records []rejected.Record
	var want strings.Builder
	for n := range 3000 {
		text := "t s=\"" + strings.Repeat(string([]byte{byte(n), 0, 'x'}), n%400) + "\"\n"
		text = strings.NewReplacer("\n", "", "\r", "", "\\", "", "=", "").Replace(text[4:]) + "\n"
		records = append(records, rejected.Record{Reason: rejected.ReasonUndelivered, Bytes: []byte(text)})
		want.WriteString(text)
	}
	records = append(records, rejected.Record{Bytes: []byte("t v=\"" + strings.Repeat("y", 1<<20) + "\"\n")})
	want.Write(records[len(records)-1].Bytes)
	writeFile(t, path, records...)

	addr, got := sinkProxy(t)
	out := runWith(t.Context(), []string{"ILP_LISTEN=tcp://" + addr + ",localhost:1"}, "", "replay", path)
	if out.code != ExitOK || !strings.HasPrefix(out.stdout, "sent 3001 records, ") || out.stderr != "" {
		t.Errorf("got %+v", out)
	}
	if data := <-got; data != want.String() {
		t.Errorf("%d bytes came, want %d", len(data), want.Len())
	}
}

// writeFile writes what a sink's file would have.
func writeFile(t *testing.T, path string, records ...rejected.Record) {
	t.Helper()
	s, err := rejected.Open(rejected.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(records...); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReplayEndsThoughTheFileGrows: the proxy appends what is refused again.
func TestReplayEndsThoughTheFileGrows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rejected.jsonl")
	writeFile(t, path, rejected.Record{Bytes: []byte("t v=1\n")})
	addr, got := fakeProxy(t, func(conn net.Conn) string {
		data := make([]byte, 6)
		_, err := io.ReadFull(conn, data)
		if err != nil {
			t.Error(err)
		}
		rest, err := io.ReadAll(conn)
		if err != nil {
			t.Error(err)
		}
		return string(data) + string(rest)
	})
	p := &program{stdout: io.Discard, stderr: io.Discard}
	input, closeInput, err := p.openRejected(path)
	if err != nil {
		t.Fatal(err)
	}
	defer closeInput()
	writeFile(t, path, rejected.Record{Bytes: []byte("t v=1\n")})
	r := &replay{p: p, to: addr, timeout: time.Minute}
	if err := r.all(t.Context(), rejected.NewReader(input)); err != nil {
		t.Fatal(err)
	}
	if err := r.finish(); err != nil {
		t.Fatal(err)
	}
	r.writer.close()
	if data := <-got; data != "t v=1\n" || r.sent != 1 {
		t.Errorf("sent %d, %q", r.sent, data)
	}
}

func TestReplayNamesWhatItDoesNotSend(t *testing.T) {
	const file = `{"reason":"refused","record":"a v=1\n"}
not JSON
{"reason":"too_long","size":9000000,"record":"b v=\"xxx"}
{"reason":"refused","record":"c v=1"}
{"reason":"refused","record":"d v=\"==\\\n"}
{"record":"e v=1\n"}
{"reason":"refused","record":"f v=1`
	addr, got := sinkProxy(t)
	out := run(t, file, "replay", "-", "--to", addr)
	if out.code != ExitFailure || out.stdout != "sent 2 records, 12 bytes, to "+addr+"\n" {
		t.Errorf("got %+v", out)
	}
	if data := <-got; data != "a v=1\ne v=1\n" {
		t.Errorf("sent %q", data)
	}
	lines := strings.Split(strings.TrimSuffix(out.stderr, "\n"), "\n")
	want := []string{"line 2: it is not JSON", "line 3: only the beginning of its record was kept, 8 bytes of 9000000; not sent", "line 4: its record has no end",
		"line 5: its record has no end", "line 7: the last line is cut off", "5 lines not sent"}
	if len(lines) != len(want) {
		t.Fatalf("got %q", lines)
	}
	for i := range want {
		if !strings.HasPrefix(lines[i], name+": "+want[i]) {
			t.Errorf("got %s, want %s", lines[i], want[i])
		}
	}

	out = run(t, strings.Repeat("rubbish\n", 1000), "replay", "-")
	if n := strings.Count(out.stderr, "\n"); out.code != ExitFailure || n != maxComplaints+1 || !strings.HasSuffix(out.stderr, "1000 lines not sent\n") {
		t.Errorf("%d lines: %+v", n, out)
	}
}

func TestReplayDryRun(t *testing.T) {
	out := run(t, mixed+`{"record":"e v=1\n"}`, "replay", "-", "--dry-run", "--to", "localhost:1")
	const want = "would send 4 records, 31 bytes, to localhost:1\n       1 (no reason)\n       1 malformed\n       1 refused\n       1 undelivered\n"
	if out != (result{ExitOK, want, ""}) {
		t.Errorf("got %+v", out)
	}
	if out = run(t, "", "replay", "-"); out != (result{ExitOK, "sent 0 records, 0 bytes, to 127.0.0.1:9009\n", ""}) {
		t.Errorf("nothing to send: %+v", out)
	}
}

func TestReplayWrongUse(t *testing.T) {
	for title, c := range map[string]struct {
		environ []string
		args    []string
		code    int
		want    string
	}{
		"no file":        {nil, nil, ExitUsage, "accepts 1 arg(s)"},
		"not there":      {nil, []string{"/does/not/exist"}, ExitFailure, "read the records: open /does/not/exist: no such file"},
		"a folder":       {nil, []string{"/"}, ExitFailure, "read the records: read /: is a directory"},
		"reason":         {nil, []string{"-", "--reason", "bad"}, ExitUsage, `--reason: there is no "bad", should be one of malformed, `},
		"to":             {nil, []string{"-", "--to", "unix:///x"}, ExitUsage, "--to: "},
		"to, several":    {nil, []string{"-", "--to", "a,b"}, ExitUsage, "--to: it is several addresses"},
		"timeout":        {nil, []string{"-", "--timeout", "0s"}, ExitUsage, "--timeout: "},
		"ILP_LISTEN":     {[]string{"ILP_LISTEN=localhost:0"}, []string{"-"}, ExitUsage, "ILP_LISTEN: the port of 127.0.0.1:0 is not known"},
		"nobody listens": {nil, []string{"-", "--to", closedPort(t)}, ExitFailure, "connect to the proxy: dial tcp"},
	} {
		t.Run(title, func(t *testing.T) {
			out := runWith(t.Context(), c.environ, mixed, append([]string{"replay"}, c.args...)...)
			if out.code != c.code || out.stdout != "" || !strings.HasPrefix(out.stderr, name+": "+c.want) {
				t.Errorf("got %+v, want %s", out, c.want)
			}
		})
	}
}

// closedPort returns an address on which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestReplayProxyEndsEarly has every way in which the proxy does not take all.
// None may look like success, however little there was to send.
func TestReplayProxyEndsEarly(t *testing.T) {
	large := `{"record":"t v=\"` + strings.Repeat("x", 6<<20) + `\"\n"}` + "\n" + mixed
	for title, c := range map[string]struct {
		file  string
		serve func(net.Conn) string
	}{
		"at once":     {mixed, func(net.Conn) string { return "" }},
		"half-closes": {large, func(conn net.Conn) string { _ = conn.(*net.TCPConn).CloseWrite(); return "" }},
		"after some": {large, func(conn net.Conn) string {
			_, _ = io.CopyN(io.Discard, conn, 1<<20)
			return ""
		}},
		"resets": {mixed, func(conn net.Conn) string {
			_, _ = io.CopyN(io.Discard, conn, 1)
			_ = conn.(*net.TCPConn).SetLinger(0)
			return ""
		}},
	} {
		t.Run(title, func(t *testing.T) {
			addr, _ := fakeProxy(t, c.serve)
			out := run(t, c.file, "replay", "-", "--to", addr)
			if out.code != ExitFailure || out.stdout != "" || !strings.Contains(out.stderr, "send the records: the proxy ended the connection before it had everything") {
				t.Errorf("got %+v", out)
			}
		})
	}
}

func TestReplayProxyTakesNothing(t *testing.T) {
	large := `{"record":"t v=\"` + strings.Repeat("x", 6<<20) + `\"\n"}` + "\n"
	for title, file := range map[string]string{"nothing more": large, "no end": mixed} {
		t.Run(title, func(t *testing.T) {
			over := make(chan struct{})
			addr, _ := fakeProxy(t, func(net.Conn) string { <-over; return "" })
			defer close(over)
			out := run(t, file, "replay", "-", "--to", addr, "--timeout", "50ms")
			if out.code != ExitFailure || !strings.Contains(out.stderr, "the proxy took nothing for 50ms") {
				t.Errorf("got %+v", out)
			}
		})
	}
}

func TestReplayInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	addr, _ := fakeProxy(t, func(conn net.Conn) string {
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		cancel()
		<-over
		return ""
	})
	defer close(over)
	out := runWith(ctx, nil, mixed, "replay", "-", "--to", addr)
	if out.code != ExitFailure || !strings.Contains(out.stderr, "send the records: context canceled") {
		t.Errorf("got %+v", out)
	}
}

func TestReplayOutputFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := Main(t.Context(), []string{name, "replay", path}, nil, nil, failingWriter{}, &stderr); code != ExitFailure || !strings.Contains(stderr.String(), "disk full") {
		t.Errorf("%d, %s", code, &stderr)
	}
}
