package e2e

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
)

// arrive is how long rows may take into a table: far longer than they do, on a
// machine that has much else to do.
const arrive = 60 * time.Second

func newKey(t testing.TB, id string) *auth.Key {
	t.Helper()
	key, err := auth.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// netcat pipes ilp into nc, or into bash where there is no nc, as a shell script
// would. nc is not told to end (-N): it keeps its connection open after its
// input, which must not hold up the row. It ends with the test.
func netcat(t testing.TB, host, port, ilp string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	args := []string{"nc", host, port}
	if _, err := exec.LookPath("nc"); err != nil {
		args = []string{"bash", "-c", `exec 3<>"/dev/tcp/$0/$1" && cat >&3 && read -r <&3`, host, port}
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
	})
	if _, err := in.Write([]byte(ilp)); err != nil {
		t.Fatal(err)
	}
	in.Close()
}

// needRoot skips a test that has to do what the system lets only root do. In CI, which
// is to run all of them, it fails.
func needRoot(t testing.TB, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("CI has to run this as root, " + what)
		}
		t.Skip("needs root, " + what)
	}
}
