package auth

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
)

func FuzzParseJWK(f *testing.F) {
	f.Add(docJWK(f, nil))
	f.Add(docJWK(f, map[string]any{"d": nil}))
	f.Add(docJWK(f, map[string]any{"kid": "a b", "x": docY}))
	f.Add([]byte(`{"keys":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		public, publicErr := ParsePublicJWK(data)
		key, err := ParseJWK(data)
		if err != nil {
			if strings.Contains(err.Error(), docD) {
				t.Errorf("error quotes the key: %v", err)
			}
			return
		}
		if publicErr != nil || public.AuthLine() != key.AuthLine() {
			t.Fatalf("halves differ: %v, %v, %v", key, public, publicErr)
		}
		if len(strings.Fields(key.AuthLine())) != 4 || strings.ContainsAny(key.AuthLine(), "\r\n") {
			t.Errorf("line is %q", key.AuthLine())
		}
		out, err := key.MarshalJWK()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseJWK(out)
		if err != nil || again.AuthLine() != key.AuthLine() || !again.private.Equal(key.private) {
			t.Errorf("what we write reads as another: %v", err)
		}
	})
}

func FuzzHandshakeChallenge(f *testing.F) {
	f.Add([]byte(testChallenge + "\n"))
	f.Add([]byte(testChallenge))
	f.Add([]byte(testChallenge + "x\n"))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		client, server := net.Pipe()
		defer client.Close()
		wellFormed := len(answer) == ChallengeSize+1 && answer[ChallengeSize] == '\n' && onlyPrintable(answer[:ChallengeSize])
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer server.Close()
			_, _ = io.ReadFull(server, make([]byte, len(docID)+1))
			_, _ = server.Write(answer)
			if wellFormed {
				_, _ = io.ReadFull(server, make([]byte, 89))
			}
		}()
		_, err := Handshake(t.Context(), client, docKey(t), 0)
		client.Close()
		<-done
		switch {
		case wellFormed && err != nil:
			t.Errorf("well-formed challenge: %v", err)
		case !wellFormed && err == nil:
			t.Errorf("accepted %q", answer)
		case err != nil && !errors.Is(err, ErrClosedBeforeChallenge) && !errors.Is(err, ErrChallengeMalformed) && !errors.Is(err, ErrClosedAfterSignature):
			t.Errorf("unexpected kind: %v", err)
		}
	})
}

func onlyPrintable(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}

// FuzzNewKey takes key ids and scalars: what is accepted fits on a line of auth.txt,
// signs for the public half there, and no error shows the scalar.
func FuzzNewKey(f *testing.F) {
	f.Add(docID, docD)
	f.Add("#a", docD+"=")
	f.Add("a b", "AAAA")
	f.Add(docD, docD)
	f.Add("\xff", strings.Repeat("_", 43))
	f.Add("x", "AP"+docD)
	f.Fuzz(func(t *testing.T, id, d string) {
		key, err := NewKey(id, NewSecret(d))
		if err != nil {
			if len(d) >= 20 && !strings.Contains(id, d) && strings.Contains(err.Error(), d) {
				t.Fatalf("the scalar is in the error: %v", err)
			}
			return
		}
		fields := strings.Fields(key.AuthLine())
		if len(fields) != 4 || fields[0] != id || strings.ContainsAny(key.AuthLine(), "\r\n") {
			t.Fatalf("the line is %q", key.AuthLine())
		}
		public, err := NewPublicKey(fields[0], fields[2], fields[3])
		if err != nil {
			t.Fatal(err)
		}
		signature, err := key.Sign([]byte(testChallenge))
		if err != nil || len(signature) != 64 {
			t.Fatalf("%d bytes, %v", len(signature), err)
		}
		digest := sha256.Sum256([]byte(testChallenge))
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if !ecdsa.Verify(public.ECDSA(), digest[:], r, s) {
			t.Error("the signature is not that of the key in the line")
		}
		if shown := fmt.Sprintf("%v %+v %#v %s", key, *key, key, NewSecret(d)); strings.Contains(shown, d) {
			t.Errorf("the scalar is printed: %s", shown)
		}
	})
}
