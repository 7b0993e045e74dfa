package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"questdb-ilp-proxy/config"
)

// The library that rotates rejected records leaves a goroutine.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"))
}

// The key of QuestDB's documentation, as jose writes it.
const (
	docLine = "testUser1 ec-p-256-sha256 fLKYEaoEb9lrn3nkwLDA-M_xnuFOdSt9y0Z7_vWSHLU Dt5tbS1dEDMSYfym3fgMv0B99szno-dFc1rYF9t0aac\n"
	docJWK  = `{"alg":"ES256","crv":"P-256","d":"5UjEMuA0Pj5pjK8a-fa24dyIf-Es5mYny3oE_Wmus48","key_ops":["sign","verify"],"kid":"testUser1","kty":"EC","x":"fLKYEaoEb9lrn3nkwLDA-M_xnuFOdSt9y0Z7_vWSHLU","y":"Dt5tbS1dEDMSYfym3fgMv0B99szno-dFc1rYF9t0aac"}`
)

// result is what a command left behind.
type result struct {
	code           int
	stdout, stderr string
}

func run(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := Main(t.Context(), append([]string{name}, args...), nil, strings.NewReader(stdin), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

func TestKeygenToStdoutAndAuthline(t *testing.T) {
	key := run(t, "", "keygen", "--kid", "me")
	if key.code != ExitOK || key.stderr != "" || !strings.HasSuffix(key.stdout, "}\n") {
		t.Fatalf("got %+v", key)
	}
	var jwk map[string]string
	if err := json.Unmarshal([]byte(key.stdout), &jwk); err != nil {
		t.Fatal(err)
	}
	for member, want := range map[string]string{"kty": "EC", "crv": "P-256", "kid": "me", "alg": "ES256"} {
		if jwk[member] != want {
			t.Errorf("%s is %q", member, jwk[member])
		}
	}
	line := run(t, key.stdout, "authline", "-")
	want := "me ec-p-256-sha256 " + jwk["x"] + " " + jwk["y"] + "\n"
	if line != (result{ExitOK, want, ""}) {
		t.Errorf("got %+v, want %s", line, want)
	}
}

func TestKeygenToFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "me.jwk")
	if got := run(t, "", "keygen", "--kid", "me", "--out", path); got != (result{}) {
		t.Fatalf("got %+v", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "authline", path); got.code != ExitOK || !strings.HasPrefix(got.stdout, "me ec-p-256-sha256 ") {
		t.Errorf("got %+v", got)
	}
	if got := run(t, "", "keygen", "--kid", "me", "--out", path); got.code != ExitFailure || !strings.Contains(got.stderr, "exists already") {
		t.Errorf("over an existing file: %+v", got)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed: %v", err)
	}
}

func TestKeygenNeverFollowsALink(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "target")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "keygen", "--kid", "me", "--out", link); got.code != ExitFailure {
		t.Errorf("got %+v", got)
	}
	if _, err := os.Stat(target); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("target: %v", err)
	}
}

func TestNewFileLeavesNothingOnFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	err := newFile(path, func(file io.Writer) error {
		if _, err := file.Write([]byte("half")); err != nil {
			t.Error(err)
		}
		return errors.New("no space left")
	})
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file: %v", err)
	}
}

func TestAuthlineReadsWhatJoseWrote(t *testing.T) {
	public := strings.Replace(docJWK, `"d":"5UjEMuA0Pj5pjK8a-fa24dyIf-Es5mYny3oE_Wmus48",`, "", 1)
	for _, jwk := range []string{docJWK, docJWK + "\n", public} {
		if got := run(t, jwk, "authline", "-"); got != (result{ExitOK, docLine, ""}) {
			t.Errorf("%s: got %+v", jwk, got)
		}
	}
}

func TestWrongUse(t *testing.T) {
	dir := t.TempDir()
	for title, c := range map[string]struct {
		stdin string
		args  []string
		code  int
		want  string
	}{
		"unknown command":      {"", []string{"serv"}, ExitUsage, "Did you mean this?\n\tserve"},
		"unknown flag":         {"", []string{"--listen"}, ExitUsage, "unknown flag: --listen"},
		"serve with argument":  {"", []string{"serve", "x"}, ExitUsage, "unknown command \"x\""},
		"serve with flag":      {"", []string{"serve", "-x"}, ExitUsage, "unknown shorthand flag"},
		"keygen without kid":   {"", []string{"keygen"}, ExitUsage, `"kid" not set`},
		"keygen, empty kid":    {"", []string{"keygen", "--kid", ""}, ExitUsage, "--kid: key id not usable: it is empty"},
		"keygen, bad kid":      {"", []string{"keygen", "--kid", "a b"}, ExitUsage, "white space"},
		"keygen, empty out":    {"", []string{"keygen", "--kid", "a", "--out="}, ExitUsage, "--out is empty"},
		"keygen, no folder":    {"", []string{"keygen", "--kid", "a", "--out", dir + "/no/key"}, ExitFailure, "no such file or directory"},
		"keygen with argument": {"", []string{"keygen", "--kid", "a", "b"}, ExitUsage, "unknown command"},
		"authline of nothing":  {"", []string{"authline"}, ExitUsage, "accepts 1 arg(s)"},
		"authline, no file":    {"", []string{"authline", dir + "/no"}, ExitFailure, "no such file or directory"},
		"authline of rubbish":  {"x", []string{"authline", "-"}, ExitFailure, "not a JWK"},
		"authline, too large":  {strings.Repeat("x", maxJWK+1), []string{"authline", "-"}, ExitFailure, "larger than"},
		"version of what":      {"", []string{"version", "x"}, ExitUsage, "unknown command"},
	} {
		t.Run(title, func(t *testing.T) {
			got := run(t, c.stdin, c.args...)
			if got.code != c.code || !strings.Contains(got.stderr, c.want) || !strings.HasPrefix(got.stderr, name+": ") {
				t.Errorf("got %+v, want %d and %q", got, c.code, c.want)
			}
			if strings.Contains(got.stdout+got.stderr, "Usage:") {
				t.Errorf("usage is in %+v", got)
			}
		})
	}
}

func TestHelpEverywhere(t *testing.T) {
	commands := [][]string{{}}
	for _, c := range (&program{}).rootCommand().Commands() {
		commands = append(commands, []string{c.Name()})
	}
	if len(commands) < 13 {
		t.Errorf("only %v", commands)
	}
	for _, args := range commands {
		got := run(t, "", append(args, "--help")...)
		if got.code != ExitOK || got.stderr != "" || !strings.Contains(got.stdout, "Examples:\n  ") {
			t.Errorf("%v: got %+v", args, got)
		}
		for line := range strings.Lines(got.stdout) {
			if len(args) > 0 && len(line) > 110 {
				t.Errorf("%v: long line %q", args, line)
			}
		}
	}
	help := run(t, "", "serve", "--help").stdout
	for _, v := range config.Variables() {
		if !strings.Contains(help, "  "+v.Name) {
			t.Errorf("serve --help lacks %s", v.Name)
		}
	}
}

func TestVersion(t *testing.T) {
	got := run(t, "", "version")
	if got.code != ExitOK || !strings.HasPrefix(got.stdout, name+" ") || !strings.Contains(got.stdout, "(commit ") || !strings.Contains(got.stdout, "go1.") {
		t.Errorf("got %+v", got)
	}
}

func TestOutputThatFails(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"keygen", "--kid", "a"}, {"authline", "-"}} {
		var stderr bytes.Buffer
		code := Main(t.Context(), append([]string{name}, args...), nil, strings.NewReader(docJWK), failingWriter{}, &stderr)
		if code != ExitFailure || !strings.Contains(stderr.String(), "disk full") {
			t.Errorf("%v: %d, %s", args, code, &stderr)
		}
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestServeNamesEveryProblem(t *testing.T) {
	for _, args := range [][]string{{name}, {name, "serve"}} {
		var stdout, stderr bytes.Buffer
		p := &program{[]string{"ILP_UPSTREAM=a", "ILP_POOL_MIX=1", "ILP_BUFFER=no"}, strings.NewReader(""), &stdout, &stderr,
			func(context.Context, *config.Config, *slog.Logger) (int, error) {
				t.Error("it served")
				return 0, nil
			}}
		code := p.main(t.Context(), args)
		lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
		if code != ExitUsage || stdout.Len() != 0 || len(lines) != 3 {
			t.Fatalf("%d, %s, %s", code, &stdout, &stderr)
		}
		for i, want := range []string{"ILP_AUTH_JWK_FILE: ", "ILP_BUFFER: ", "ILP_POOL_MIX: "} {
			if !strings.HasPrefix(lines[i], name+": "+want) {
				t.Errorf("line %d is %s", i, lines[i])
			}
		}
	}
}

func TestServe(t *testing.T) {
	for title, c := range map[string]struct {
		code int
		err  error
		want int
		log  string
	}{
		"ends well":         {ExitOK, nil, ExitOK, ""},
		"leaves records":    {ExitFailure, nil, ExitFailure, ""},
		"fails":             {ExitFailure, errors.New("boom"), ExitFailure, `"error":"boom"`},
		"fails with code 0": {ExitOK, errors.New("boom"), ExitFailure, `"error":"boom"`},
	} {
		t.Run(title, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			environ := []string{"ILP_UPSTREAM=a", "ILP_AUTH_JWK=" + docJWK, "ILP_POOL_MAX=300"}
			p := &program{environ, strings.NewReader(""), &stdout, &stderr,
				func(_ context.Context, cfg *config.Config, logger *slog.Logger) (int, error) {
					logger.Debug("not to be seen")
					logger.Info("serving", "config", *cfg, "key", cfg.Key)
					return c.code, c.err
				}}
			code := p.main(t.Context(), []string{name})
			if code != c.want || stdout.Len() != 0 || !strings.Contains(stderr.String(), c.log) {
				t.Errorf("%d, %s, %s", code, &stdout, &stderr)
			}
			for line := range strings.Lines(stderr.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("not JSON: %s", line)
				}
			}
			if !strings.Contains(stderr.String(), "256 connections") || strings.Contains(stderr.String(), "not to be seen") {
				t.Errorf("log is %s", &stderr)
			}
			if strings.Contains(stderr.String(), "5UjEMuA0") {
				t.Errorf("the key is in the log: %s", &stderr)
			}
		})
	}
}
