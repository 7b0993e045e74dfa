package auth

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// panicVar has this test's process panic, in the way that it names.
const panicVar = "AUTH_TEST_PANIC"

// TestPanic has a process end by a panic, with a key in the value of the panic, and with
// other goroutines amid signatures: neither that nor their stacks, which show what
// functions were called with, have the key in them.
func TestPanic(t *testing.T) {
	if how := os.Getenv(panicVar); how != "" {
		panicWith(t, how)
	}
	for _, how := range []string{"key", "value of a key", "secret", "error", "struct", "runtime"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			cmd := exec.Command(os.Args[0], "-test.run=^TestPanic$")
			cmd.Env = append(os.Environ(), panicVar+"="+how, "GOTRACEBACK=system")
			cmd.Stdout, cmd.Stderr = &out, &out
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) {
				t.Fatalf("it did not panic: %v", err)
			}
			text := out.String()
			if !strings.Contains(text, "panic: ") || strings.Count(text, "\ngoroutine ") < signers || !strings.Contains(text, "auth.(*Key).Sign(") {
				t.Errorf("this is no dump of all goroutines: %s", text)
			}
			mustNotShow(t, text)
			// In the order in which numbers lie in memory, and as a stack shows an array.
			backwards := make([]string, 8)
			for i, c := range docKey(t).mustBytes(t)[24:] {
				backwards[7-i] = fmt.Sprintf("%02x", c)
			}
			for _, form := range []string{"0x" + strings.Join(backwards, ""), "0xe5, 0x48, 0xc4"} {
				if strings.Contains(text, form) {
					t.Errorf("%s is in the dump", form)
				}
			}
		})
	}
}

// signers is how many goroutines sign while the process panics.
const signers = 8

// panicWith never returns.
func panicWith(t *testing.T, how string) {
	key := docKey(t)
	var begun sync.WaitGroup
	for range signers {
		begun.Add(1)
		go func() {
			challenge := make([]byte, ChallengeSize)
			for i := 0; ; i++ {
				if _, err := key.Sign(challenge); err != nil {
					panic(err)
				}
				if i == 0 {
					begun.Done()
				}
			}
		}()
	}
	begun.Wait()
	survived := make(chan struct{})
	go func() { // not on the test's goroutine, which would say more before it panics
		switch how {
		case "key":
			panic(key)
		case "value of a key":
			panic(*key)
		case "secret":
			panic(NewSecret(docD))
		case "error":
			panic(fmt.Errorf("with %v, %+v and %w", key, *key, errors.New("more")))
		case "struct":
			panic(newHolder(t))
		default:
			var none []byte
			_ = none[len(docD)]
		}
		close(survived)
	}()
	<-survived
	os.Exit(0)
}

func (k *Key) mustBytes(t *testing.T) []byte {
	t.Helper()
	d, err := k.private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return d
}
