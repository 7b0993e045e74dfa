package auth

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"questdb-ilp-proxy/e2e/bubble"
)

var testChallenge = strings.Repeat(" !~0123456789ABC", ChallengeSize/16)

// dial returns a client's connection to a loopback server that runs serve on
// the other end and closes it afterwards.
func dial(t *testing.T, serve func(*net.TCPConn)) net.Conn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		serve(conn.(*net.TCPConn))
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		listener.Close()
		<-done
	})
	return conn
}

// challenge plays the server up to the challenge and returns what came first.
func challenge(t *testing.T, conn io.ReadWriter, answer string) (line string) {
	t.Helper()
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	if err != nil {
		t.Errorf("server reads the key id: %v", err)
	}
	if _, err := io.WriteString(conn, answer); err != nil {
		t.Errorf("server sends the challenge: %v", err)
	}
	return line
}

func TestHandshake(t *testing.T) {
	key := docKey(t)
	lines := make(chan [2]string, 1)
	conn := dial(t, func(conn *net.TCPConn) {
		id := challenge(t, conn, testChallenge+"\n")
		signature, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			t.Errorf("server reads the signature: %v", err)
		}
		lines <- [2]string{id, signature}
		_, _ = io.Copy(io.Discard, conn)
	})
	result, err := Handshake(t.Context(), conn, key, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if result.Challenge <= 0 || result.Challenge > time.Minute {
		t.Errorf("challenge took %v", result.Challenge)
	}
	got := <-lines
	if got[0] != docID+"\n" {
		t.Errorf("key id line is %q", got[0])
	}
	if len(got[1]) != 89 { // 64 bytes in base64, padding and LF
		t.Errorf("signature line is %q", got[1])
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSuffix(got[1], "\n"))
	if err != nil || len(signature) != 64 {
		t.Fatalf("signature %q: %v", got[1], err)
	}
	digest := sha256.Sum256([]byte(testChallenge))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(key.Public().ECDSA(), digest[:], r, s) {
		t.Error("signature does not verify")
	}
	if err := Probation(t.Context(), conn, 20*time.Millisecond); err != nil {
		t.Errorf("probation: %v", err)
	}
	// The deadlines are gone: a read waits until the server has something.
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read after probation: %v, want EOF", err)
	}
}

func TestHandshakeChallengeInPieces(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		r := bufio.NewReader(server)
		_, _ = r.ReadString('\n')
		for _, c := range []byte(testChallenge + "\n") {
			_, _ = server.Write([]byte{c})
		}
		_, _ = r.ReadString('\n')
	}()
	if _, err := Handshake(t.Context(), client, docKey(t), 0); err != nil {
		t.Error(err)
	}
}

func TestHandshakeFailures(t *testing.T) {
	reset := func(conn *net.TCPConn) { _ = conn.SetLinger(0) }
	after := func(answer string, then func(*net.TCPConn)) func(t *testing.T, conn *net.TCPConn) {
		return func(t *testing.T, conn *net.TCPConn) {
			challenge(t, conn, answer)
			if then != nil {
				then(conn)
			}
		}
	}
	wait := func(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }
	for name, c := range map[string]struct {
		serve func(t *testing.T, conn *net.TCPConn)
		want  error
		text  string
	}{
		"FIN for a challenge":    {after("", nil), ErrClosedBeforeChallenge, "0 of 513"},
		"reset for a challenge":  {after("", reset), ErrClosedBeforeChallenge, "reset"},
		"FIN at once":            {func(*testing.T, *net.TCPConn) {}, ErrClosedBeforeChallenge, ""},
		"FIN in the challenge":   {after(testChallenge[:100], nil), ErrClosedBeforeChallenge, "100 of 513"},
		"FIN before the LF":      {after(testChallenge, nil), ErrClosedBeforeChallenge, "512 of 513"},
		"silence":                {after("", wait), ErrNoChallenge, "0 of 513"},
		"silence in it":          {after(testChallenge[:7], wait), ErrNoChallenge, "7 of 513"},
		"too short":              {after(testChallenge[:511]+"\n", wait), ErrChallengeMalformed, "after 511"},
		"empty line":             {after("\n", wait), ErrChallengeMalformed, "after 0"},
		"too long":               {after(testChallenge+"x\n", wait), ErrChallengeMalformed, "longer"},
		"CR LF":                  {after(testChallenge+"\r\n", wait), ErrChallengeMalformed, "longer"},
		"endless":                {after(strings.Repeat("x", 1<<16), wait), ErrChallengeMalformed, "longer"},
		"HTTP":                   {after("HTTP/1.1 400 Bad Request\r\n", wait), ErrChallengeMalformed, "0x0d at 24"},
		"TLS alert":              {after("\x15\x03\x01\x00\x02\x02\x50", wait), ErrChallengeMalformed, "0x15 at 0"},
		"not ASCII":              {after(testChallenge[:9]+"\x7f", wait), ErrChallengeMalformed, "0x7f at 9"},
		"FIN after signature":    {afterSignature(nil), ErrRefused, "auth.txt"},
		"reset after signature":  {afterSignature(reset), ErrClosedAfterSignature, "reset"},
		"speaks after signature": {afterSignature(func(c *net.TCPConn) { _, _ = c.Write([]byte("!")) }), ErrChallengeMalformed, "spoke"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, func(conn *net.TCPConn) { c.serve(t, conn) })
			timeout := time.Minute
			if c.want == ErrNoChallenge {
				timeout = 50 * time.Millisecond
			}
			_, err := Handshake(t.Context(), conn, docKey(t), timeout)
			if err == nil {
				err = Probation(t.Context(), conn, time.Minute)
			}
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, want %v and %q", err, c.want, c.text)
			}
			for _, other := range []error{ErrClosedBeforeChallenge, ErrNoChallenge, ErrChallengeMalformed, ErrRefused, ErrClosedAfterSignature} {
				if other != c.want && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
			mustNotShow(t, err.Error())
		})
	}
}

// afterSignature reads the signature to its end before it acts.
func afterSignature(then func(*net.TCPConn)) func(*testing.T, *net.TCPConn) {
	return func(t *testing.T, conn *net.TCPConn) {
		challenge(t, conn, testChallenge+"\n")
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			t.Errorf("server reads the signature: %v", err)
		}
		if then != nil {
			then(conn)
		}
	}
}

func TestHandshakeCannotSendSignature(t *testing.T) {
	client, server := net.Pipe() // unbuffered: the write fails for sure
	defer client.Close()
	go func() {
		_, _ = bufio.NewReaderSize(server, 16).ReadString('\n')
		_, _ = io.WriteString(server, testChallenge+"\n")
		server.Close()
	}()
	if _, err := Handshake(t.Context(), client, docKey(t), 0); !errors.Is(err, ErrClosedAfterSignature) {
		t.Errorf("got %v, want ErrClosedAfterSignature", err)
	}
}

func TestHandshakeTimeouts(t *testing.T) {
	for name, c := range map[string]struct {
		timeout  time.Duration
		ctx      func(context.Context) (context.Context, context.CancelFunc)
		want     error
		notWant  error
		duration time.Duration
	}{
		"timeout": {15 * time.Second, context.WithCancel, ErrNoChallenge, context.Canceled, 15 * time.Second},
		"deadline of ctx": {time.Minute, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 2*time.Second)
		}, ErrNoChallenge, context.Canceled, 2 * time.Second},
		"cancelled": {0, func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(3*time.Second, cancel)
			return ctx, cancel
		}, context.Canceled, ErrNoChallenge, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ctx, cancel := c.ctx(t.Context())
				defer cancel()
				client, server := net.Pipe()
				defer client.Close()
				defer server.Close()
				go func() { _, _ = io.Copy(io.Discard, server) }()
				start := time.Now()
				_, err := Handshake(ctx, client, docKey(t), c.timeout)
				if !errors.Is(err, c.want) || errors.Is(err, c.notWant) {
					t.Errorf("got %v", err)
				}
				if d := time.Since(start); d != c.duration {
					t.Errorf("took %v, want %v", d, c.duration)
				}
			})
		})
	}
}

func TestProbationSurvivedTakesItsTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		start := time.Now()
		if err := Probation(t.Context(), client, time.Second); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := Probation(ctx, client, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want cancelled", err)
		}
		client.Close()
		if err := Probation(t.Context(), client, time.Minute); !errors.Is(err, ErrClosedAfterSignature) {
			t.Errorf("got %v, want ErrClosedAfterSignature", err)
		}
	})
}

func TestClassifyEnd(t *testing.T) {
	for _, err := range []error{nil, io.EOF} {
		if !errors.Is(ClassifyEnd(err), ErrRefused) {
			t.Errorf("%v is not a refusal", err)
		}
	}
	if err := ClassifyEnd(io.ErrUnexpectedEOF); !errors.Is(err, ErrClosedAfterSignature) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}
