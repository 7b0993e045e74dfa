package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"questdb-ilp-proxy/e2e/questdb"
)

// The peers, by the names of -only.
const (
	direct   = "direct"
	haproxy  = "haproxy"
	nginx    = "nginx"
	proxy    = "proxy"     // at most once
	proxyALO = "proxy-alo" // at least once
	// otherProxy is the binary of -other, at most once.
	otherProxy = "other"
)

// relay is one way to the target: through a process, or straight.
type relay struct {
	name string
	addr string // where writers connect
	// admin is where a proxy serves its metrics.
	admin string
	cmd   *exec.Cmd
	log   string // its file of standard output and error
	done  chan struct{}
	free  func() // gives the ports back
}

func (r *relay) pid() int {
	if r.cmd == nil {
		return 0
	}
	return r.cmd.Process.Pid
}

// spawn starts r's process, whose output goes to a file.
func (b *bench) spawn(r *relay, env []string, name string, args ...string) error {
	f, err := os.CreateTemp(b.dir, r.name+"-*.log")
	if err != nil {
		return err
	}
	defer f.Close()
	r.log = f.Name()
	r.cmd = exec.Command(name, args...)
	r.cmd.Stdout, r.cmd.Stderr = f, f
	r.cmd.Dir = b.dir
	r.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", r.name, err)
	}
	r.done = make(chan struct{})
	go func() {
		_ = r.cmd.Wait() // how it ended is in its log
		close(r.done)
	}()
	return nil
}

// said is what the process wrote.
func (r *relay) said() string {
	text, err := os.ReadFile(r.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// ready waits until ok, or the process ended.
func (r *relay) ready(ctx context.Context, ok func() bool) error {
	return await(ctx, r.name, 10*time.Millisecond, func() bool {
		select {
		case <-r.done:
			return true
		default:
			return ok()
		}
	})
}

// failed says where err happened and, if the process is not there any more,
// what it said last: that is the reason, then.
func (r *relay) failed(err error) error {
	if r.cmd == nil || !r.ended() {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	said := r.said()
	return fmt.Errorf("%s ended: %w; it said:\n%s", r.name, err, said[max(0, len(said)-4000):])
}

func (r *relay) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// stop ends the process and its children.
func (r *relay) stop() {
	if r.cmd != nil {
		// nginx's workers end with their master, if that is told politely.
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		t := time.NewTimer(2 * time.Second)
		select {
		case <-r.done:
		case <-t.C:
			for _, pid := range family(r.cmd.Process.Pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			<-r.done
		}
		t.Stop()
	}
	if r.free != nil {
		r.free()
	}
}

func (b *bench) stopRelays() {
	for _, r := range b.relays {
		r.stop()
	}
	b.relays = nil
}

// toSink starts, once, the peers that lead to the sink, and returns them. The
// first is the reference.
func (b *bench) toSink(ctx context.Context) ([]*relay, error) {
	if b.relays != nil {
		return b.relays, nil
	}
	for _, name := range []string{haproxy, nginx, proxy, otherProxy, direct} {
		r, err := b.startToSink(ctx, name)
		if err != nil {
			return nil, err
		}
		if r != nil {
			b.relays = append(b.relays, r)
		}
	}
	if len(b.relays) == 0 {
		return nil, errors.New("-only leaves nobody to measure")
	}
	return b.relays, nil
}

// startToSink starts one peer; nil if it is not wanted or not installed.
func (b *bench) startToSink(ctx context.Context, name string) (*relay, error) {
	if !b.wants(name) {
		return nil, nil
	}
	switch name {
	case haproxy:
		return b.startHAProxy(ctx, b.sink.plain)
	case nginx:
		return b.startNginx(ctx)
	case proxy, otherProxy:
		r, err := b.startProxy(ctx, name, b.sink.auth)
		if err != nil {
			return nil, err
		}
		if err := r.explored(ctx); err != nil {
			r.stop()
			return nil, err
		}
		return r, nil
	default:
		return &relay{name: direct, addr: b.sink.plain}, nil
	}
}

// startProxy starts the proxy before target, as whoever runs it would: the only
// thing set for speed is the memory.
func (b *bench) startProxy(ctx context.Context, name, target string) (*relay, error) {
	ports, release, err := questdb.ReservePorts(2)
	if err != nil {
		return nil, err
	}
	jwk, err := b.key.MarshalJWK()
	if err != nil {
		return nil, err
	}
	r := &relay{name: name, addr: loopback(ports[0]), admin: loopback(ports[1]), free: release}
	env := []string{
		"ILP_LISTEN=tcp://" + r.addr, "ILP_UPSTREAM=tcp://" + target, "ILP_AUTH_JWK=" + string(jwk),
		"ILP_BUFFER=256MiB", "ILP_ADMIN=" + r.admin, "ILP_LOG_LEVEL=warn",
	}
	delivery := "ILP_DELIVERY=at-least-once"
	if name != proxyALO {
		delivery = "ILP_DELIVERY=at-most-once"
	}
	binary := b.proxy
	var set []string
	if name == otherProxy {
		binary, set = b.other, b.set
	}
	for {
		// The last one of a name counts.
		if err := b.spawn(r, slices.Concat(env, []string{delivery}, set), binary, "serve"); err != nil {
			return nil, err
		}
		err := r.ready(ctx, func() bool { return isReady(ctx, r.admin) })
		if err != nil {
			r.stop()
			return nil, fmt.Errorf("%w; it says:\n%s", err, r.said())
		}
		if !r.ended() {
			return r, nil
		}
		if said := r.said(); delivery == noDelivery || !strings.Contains(said, "ILP_DELIVERY") {
			r.stop()
			return nil, fmt.Errorf("the proxy ended; it says:\n%s", said)
		}
		b.report.note("This proxy has no ILP_DELIVERY: all its figures are of the one way it has.")
		delivery = noDelivery
	}
}

// noDelivery stands for ILP_DELIVERY where that is unknown, and says nothing.
const noDelivery = "ILP_LOG_FORMAT=auto"

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

func isReady(ctx context.Context, admin string) bool {
	status, _ := get(ctx, admin, "/readyz")
	return status == http.StatusOK
}

// exploreTime is how long a proxy may take for its path check; an older one has none.
const exploreTime = 15 * time.Second

// explored sends a row and waits until the proxy knows the path to the sink. That takes
// seconds, once, since the sink refuses nothing, and the first confirmation waits for it.
func (r *relay) explored(ctx context.Context) error {
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		return r.failed(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("bench v=1i\n")); err != nil {
		return r.failed(err)
	}
	deadline := time.Now().Add(exploreTime)
	return r.ready(ctx, func() bool {
		_, text := get(ctx, r.admin, "/metrics")
		return strings.Contains(text, "questdb_ilp_proxy_path{") || time.Now().After(deadline)
	})
}

// get fetches path from a proxy's admin address; status 0 if that failed.
func get(ctx context.Context, admin, path string) (status int, text string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+path, nil)
	if err != nil {
		return 0, ""
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(body)
}

// HAProxy's and nginx's settings are their defaults, but for two threads or
// workers for the two cores of the project's machines, room for the idle
// writers, and a backlog as long as the proxy's.

const haproxyConf = `global
  nbthread 2
  maxconn 9000
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen ilp
  maxconn 9000
  bind %s backlog 4096
  server sink %s
`

func (b *bench) startHAProxy(ctx context.Context, target string) (*relay, error) {
	return b.startPeer(ctx, haproxy, "apt-get install haproxy", func(addr string) (conf string, args []string) {
		return fmt.Sprintf(haproxyConf, addr, target), []string{"-db", "-f"}
	})
}

const nginxConf = `daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
pid %[1]s/nginx.pid;
error_log stderr error;
include /etc/nginx/modules-enabled/*stream.conf;
events { worker_connections 19000; }
stream {
  server {
    listen %[2]s backlog=4096;
    proxy_pass %[3]s;
    proxy_timeout 1h;
  }
}
`

func (b *bench) startNginx(ctx context.Context) (*relay, error) {
	return b.startPeer(ctx, nginx, "apt-get install nginx-light libnginx-mod-stream", func(addr string) (conf string, args []string) {
		return fmt.Sprintf(nginxConf, b.dir, addr, b.sink.plain), []string{"-e", "stderr", "-c"}
	})
}

// startPeer starts a relay that takes the path of its configuration as its last
// argument. One that is not there is noted, with the command that installs it.
func (b *bench) startPeer(ctx context.Context, name, install string, conf func(addr string) (string, []string)) (*relay, error) {
	binary, err := exec.LookPath(name)
	if err != nil {
		if binary, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			b.report.note(fmt.Sprintf("%s is not here, so it was not measured. On Debian: %s", name, install))
			return nil, nil
		}
	}
	version, err := exec.CommandContext(ctx, binary, "-v").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s -v: %w", binary, err)
	}
	line, _, _ := bytes.Cut(bytes.TrimSpace(version), []byte("\n"))
	b.report.note(string(line))

	ports, release, err := questdb.ReservePorts(1)
	if err != nil {
		return nil, err
	}
	r := &relay{name: name, addr: loopback(ports[0]), free: release}
	text, args := conf(r.addr)
	file := b.path(name + ".conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := b.spawn(r, nil, binary, append(args, file)...); err != nil {
		return nil, err
	}
	err = r.ready(ctx, func() bool {
		c, err := net.Dial("tcp", r.addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	if err == nil && r.ended() {
		err = fmt.Errorf("%s ended", name)
		if name == nginx && strings.Contains(r.said(), `"stream"`) {
			b.report.note("nginx has no stream module here, so it was not measured. On Debian: " + install)
			r.stop()
			return nil, nil
		}
	}
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("%w; it says:\n%s", err, r.said())
	}
	return r, nil
}
