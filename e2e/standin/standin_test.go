package standin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"questdb-ilp-proxy/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t *testing.T, id string) *auth.Key {
	t.Helper()
	key, err := auth.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

func login(t *testing.T, s *Server, key *auth.Key) net.Conn {
	t.Helper()
	nc := dial(t, s)
	if _, err := auth.Handshake(t.Context(), nc, key, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	return nc
}

// readEnd reads to the end; nil for a FIN.
func readEnd(t *testing.T, nc net.Conn) error {
	t.Helper()
	_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(nc)
	if len(b) > 0 {
		t.Errorf("the server said %q", b)
	}
	return err
}

func TestAcceptsRightKeyAndCollects(t *testing.T) {
	key := newKey(t, "k1")
	s := New(t, key.AuthLine())
	nc := login(t, s, key)
	if _, err := nc.Write([]byte("t a=1\n")); err != nil {
		t.Fatal(err)
	}
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := readEnd(t, nc); err != nil {
		t.Errorf("end: %v, want a FIN", err)
	}
	if got := s.Received(); string(got) != "t a=1\n" {
		t.Errorf("received %q", got)
	}
	if st := s.Stats(); st.OK != 1 || st.Refused != 0 || st.EOF != 1 || st.Bytes != 6 || s.Conns()[0].KeyID() != "k1" {
		t.Errorf("stats %+v", st)
	}
}

func TestRefuses(t *testing.T) {
	key := newKey(t, "k1")
	for name, tc := range map[string]struct {
		key *auth.Key
		how func(*Behaviour)
	}{
		"unknown id":    {newKey(t, "other"), nil},
		"wrong key":     {newKey(t, "k1"), nil},
		"told to":       {key, func(b *Behaviour) { b.RefuseKeys = true }},
		"after a while": {newKey(t, "k1"), func(b *Behaviour) { b.RefuseDelay = 50 * time.Millisecond }},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t, key.AuthLine())
			if tc.how != nil {
				s.Behave(tc.how)
			}
			nc := login(t, s, tc.key)
			if err := readEnd(t, nc); err != nil {
				t.Errorf("end: %v, want a FIN", err)
			}
			if st := s.Stats(); st.OK != 0 || st.Refused != 1 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestAcceptsDERAndDataBehindTheSignature(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding
	s := New(t, fmt.Sprintf("der ec-p-256-sha256 %s %s", b64.EncodeToString(point[1:33]), b64.EncodeToString(point[33:])))
	nc := dial(t, s)
	fmt.Fprint(nc, "der\nthis is discarded\n")
	challenge := make([]byte, 513)
	if _, err := io.ReadFull(nc, challenge); err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(challenge[:512])
	signature, err := ecdsa.SignASN1(rand.Reader, private, hash[:])
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(nc, "%s\nt a=1\n", base64.StdEncoding.EncodeToString(signature))
	s.Wait(t, "the row", func(st Stats) bool { return st.Bytes == 6 })
	if string(s.Received()) != "t a=1\n" {
		t.Errorf("received %q", s.Received())
	}
}

func TestMalformedSignatureHangs(t *testing.T) {
	s := New(t)
	nc := dial(t, s)
	fmt.Fprint(nc, "k\n")
	if _, err := io.ReadFull(nc, make([]byte, 513)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(nc, "not-base64\n")
	s.Wait(t, "the signature", func(st Stats) bool { return st.Malformed == 1 && st.Open == 1 })
}

func TestChallenges(t *testing.T) {
	key := newKey(t, "k1")
	for name, tc := range map[string]struct {
		challenge Challenge
		want      error
	}{
		"none":      {ChallengeNone, auth.ErrNoChallenge},
		"close":     {ChallengeClose, auth.ErrClosedBeforeChallenge},
		"reset":     {ChallengeReset, auth.ErrClosedBeforeChallenge},
		"malformed": {ChallengeMalformed, auth.ErrChallengeMalformed},
		"short":     {ChallengeShort, auth.ErrChallengeMalformed},
		"long":      {ChallengeLong, auth.ErrChallengeMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t, key.AuthLine())
			s.Behave(func(b *Behaviour) { b.Challenge = tc.challenge })
			if _, err := auth.Handshake(t.Context(), dial(t, s), key, 200*time.Millisecond); !errors.Is(err, tc.want) {
				t.Errorf("handshake: %v, want %v", err, tc.want)
			}
		})
	}
}

func TestConnLimit(t *testing.T) {
	key := newKey(t, "k1")
	s := New(t, key.AuthLine())
	s.Behave(func(b *Behaviour) { b.ConnLimit = 2 })
	first := login(t, s, key)
	login(t, s, key)
	waiting := dial(t, s)
	if _, err := auth.Handshake(t.Context(), waiting, key, 100*time.Millisecond); !errors.Is(err, auth.ErrNoChallenge) {
		t.Errorf("beyond the limit: %v", err)
	}
	waiting.Close()
	first.Close()
	login(t, s, key)
	if st := s.Stats(); st.MaxOpen != 2 {
		t.Errorf("%d open at once, limit 2", st.MaxOpen)
	}
}

func TestEnds(t *testing.T) {
	key := newKey(t, "k1")
	for name, tc := range map[string]struct {
		how   func(*Behaviour)
		do    func(*Server)
		reset bool
	}{
		"close after the signature": {how: func(b *Behaviour) { b.CloseAfterSignature = &Close{} }},
		"reset after the signature": {how: func(b *Behaviour) { b.CloseAfterSignature = &Close{20 * time.Millisecond, true} }, reset: true},
		"close after bytes":         {how: func(b *Behaviour) { b.CloseAfterBytes = 4 }},
		"reset after bytes":         {how: func(b *Behaviour) { b.ResetAfterBytes = 4 }, reset: true},
		"hook closes":               {how: func(b *Behaviour) { b.OnData = func(*Conn, []byte) error { return io.EOF } }},
		"hook resets":               {how: func(b *Behaviour) { b.OnData = func(*Conn, []byte) error { return ErrReset } }, reset: true},
		"kill all":                  {do: func(s *Server) { s.KillAll() }, reset: true},
		"close all":                 {do: func(s *Server) { s.CloseAll() }},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(t, key.AuthLine())
			if tc.how != nil {
				s.Behave(tc.how)
			}
			nc := login(t, s, key)
			if tc.do != nil {
				if _, err := nc.Write([]byte("abcd\n")); err != nil {
					t.Fatal(err)
				}
				s.Wait(t, "the bytes", func(st Stats) bool { return st.Bytes == 5 })
				tc.do(s)
			} else {
				_, _ = nc.Write([]byte("abcd\n")) // the connection may be gone already
			}
			err := readEnd(t, nc)
			reset := errors.Is(err, syscall.ECONNRESET)
			// The bytes may meet a closed socket, which answers with a reset.
			tooLate := name == "close after the signature"
			if err != nil && !reset || reset != tc.reset && !tooLate {
				t.Errorf("end: %v; want a reset: %v", err, tc.reset)
			}
			s.Wait(t, "its end", func(st Stats) bool { return st.Open == 0 })
		})
	}
}

func TestStallAndResume(t *testing.T) {
	key := newKey(t, "k1")
	s := New(t, key.AuthLine())
	nc := login(t, s, key)
	s.Wait(t, "the login", func(st Stats) bool { return st.OK == 1 })
	s.Stall()
	_ = nc.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	block := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	sent := 0
	for {
		n, err := nc.Write(block)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil || sent > 1<<28 {
			t.Fatalf("%d bytes went into a stalled server, %v", sent, err)
		}
	}
	if st := s.Stats(); st.Bytes != 0 {
		t.Errorf("a stalled server read %d bytes", st.Bytes)
	}
	s.Resume()
	s.Wait(t, "the rest", func(st Stats) bool { return st.Bytes == int64(sent) })
}

func TestStopsAndListensAgain(t *testing.T) {
	key := newKey(t, "k1")
	s := New(t, key.AuthLine())
	s.StopListening()
	if nc, err := net.Dial("tcp", s.Addr()); err == nil {
		nc.Close()
		t.Fatal("connected to a server that does not listen")
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := auth.Handshake(ctx, dial(t, s), key, 0); err != nil {
		t.Error(err)
	}
}

func TestBadAuthLines(t *testing.T) {
	s := New(t)
	for _, line := range []string{"", "k ec-p-256-sha256 a", "k rsa AA AA", "k ec-p-256-sha256 AA AA", "k ec-p-256-sha256 +/ AA"} {
		if err := s.AddKey(line); err == nil {
			t.Errorf("%q was taken", line)
		}
	}
}
