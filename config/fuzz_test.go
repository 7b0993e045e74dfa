package config

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"questdb-ilp-proxy/auth"
)

func FuzzClientConf(f *testing.F) {
	f.Add(strings.TrimPrefix(confVar("auth_timeout=1;auto_flush=off;"), "QDB_CLIENT_CONF="))
	f.Add("tcp::addr=a;;b=c;")
	f.Add("tcps::addr=a;tls_verify=unsafe_off")
	f.Fuzz(func(t *testing.T, text string) {
		conf, err := ParseClientConf(text)
		if err == nil && len(conf.Addrs) == 0 {
			t.Error("accepted without an address")
		}
		if err != nil && err.Error() == "" {
			t.Error("an error that says nothing")
		}
		_, pairs, err := splitClientConf(text)
		if err != nil {
			return
		}
		var b strings.Builder
		b.WriteString("tcp::")
		for _, pair := range pairs {
			b.WriteString(pair.key + "=" + strings.ReplaceAll(pair.value, ";", ";;") + ";")
		}
		_, again, err := splitClientConf(b.String())
		if err != nil || len(again) != len(pairs) {
			t.Fatalf("%q became %q: %v", pairs, again, err)
		}
		for i := range pairs {
			if pairs[i] != again[i] {
				t.Errorf("%q became %q", pairs[i], again[i])
			}
		}
	})
}

func FuzzSize(f *testing.F) {
	for _, text := range []string{"64MiB", "1kB", "-1", "9223372036854775807", "1TiB"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		size, err := ParseSize(text)
		if err != nil {
			return
		}
		if size < 0 {
			t.Fatalf("%q is %d", text, int64(size))
		}
		if again, err := ParseSize(size.String()); err != nil || again != size {
			t.Errorf("%q is %d, prints as %s, which is %d: %v", text, int64(size), size, int64(again), err)
		}
	})
}

// FuzzLoad reads whole environments, a variable a line. What is accepted can be run
// with, and no error shows a key.
func FuzzLoad(f *testing.F) {
	f.Add(strings.Join(minimal, "\n"))
	f.Add(strings.Join(with("ILP_LISTEN=udp://localhost:0,systemd://a,unix:///a", "ILP_ALLOW=any", "ILP_BUFFER=4MiB", "ILP_ADMIN=off", "ILP_SANDBOX=require"), "\n"))
	f.Add("ILP_UPSTREAM=tcps://a:1,tcps://[::1]:2\nILP_AUTH_JWK=" + docJWK + "\nILP_TLS_UNSAFE_SKIP_VERIFY=true\nILP_ADMIN_TOKEN=0123456789abcdef")
	f.Add(confVar("auth_timeout=1;") + "\nILP_RETRY_BASE=1m\nILP_RETRY_MAX=59s\nILP_CLIENT_IDLE_TIMEOUT=1ms")
	f.Add("ILP_AUTH_KEY=" + docJWK + "\nILP_UPSTREAM=" + confVar("") + "\nILP_POOL_MAX=1e9\nILP_FOO=\x00\xff\nILP_\xff=1")
	f.Fuzz(func(t *testing.T, text string) {
		environ := strings.Split(text, "\n")
		elsewhere := false // the key is where none belongs: that is another matter
		for _, entry := range environ {
			name, value, _ := strings.Cut(entry, "=")
			if strings.HasSuffix(name, "_FILE") || strings.HasPrefix(name, "ILP_TLS_C") || name == "ILP_TLS_KEY" || strings.Contains(value, "tls_roots") {
				return // it would read whatever file is named
			}
			secret := name == "ILP_AUTH_KEY" || name == "ILP_AUTH_JWK" || name == "QDB_CLIENT_CONF" || name == "ILP_ADMIN_TOKEN"
			elsewhere = elsewhere || !secret && strings.Contains(entry, docD)
		}
		c, err := Load(environ)
		if err != nil {
			var problems Errors
			if !errors.As(err, &problems) || len(problems) == 0 || !utf8.ValidString(err.Error()) {
				t.Fatalf("%T %q", err, err)
			}
			if strings.Contains(err.Error(), docD) && !elsewhere {
				t.Fatalf("the key is in the error: %v", err)
			}
			return
		}
		if c.Key == nil || len(c.Upstream) == 0 || len(c.Listen) == 0 || c.PoolMinIdle < 0 || c.PoolMinIdle > c.PoolMax || c.PoolMax < 2 ||
			c.RetryBase <= 0 || c.RetryBase > c.RetryMax || c.MaxRecord <= 0 || c.MaxRecord > c.Buffer/4 || c.SegmentBytes() <= 0 ||
			c.MaxClients < 1 || c.MaxClientsPerAddress < 0 || c.DialTimeout <= 0 || c.AuthTimeout <= 0 || c.Settle <= 0 ||
			c.ConfirmInterval <= 0 || c.ClientIdleTimeout < 0 || c.DrainTimeout < 0 || (c.TLS == nil) == c.UpstreamTLS {
			t.Fatalf("%q was accepted: %+v", text, c)
		}
		for _, addr := range c.Upstream {
			if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "0" {
				t.Errorf("%q is no address of a server", addr)
			}
		}
		for _, l := range c.Listen {
			if !l.Loopback() && c.Allow.IsZero() {
				t.Errorf("%v is for everybody", l)
			}
		}
		if auth.CheckID(c.Key.ID()) != nil {
			t.Errorf("the key id is %q", c.Key.ID())
		}
	})
}

// FuzzAllow has those in that net.ParseCIDR says are in, and no others.
func FuzzAllow(f *testing.F) {
	f.Add("10.0.0.0/8,::1", []byte{10, 1, 2, 3})
	f.Add("any", []byte{1, 2, 3, 4})
	f.Add("fd00::/8", netip.MustParseAddr("::ffff:10.0.0.1").AsSlice())
	f.Add("::/0,192.168.1.7/32", netip.MustParseAddr("::1").AsSlice())
	f.Add("0.0.0.0/0", netip.MustParseAddr("::ffff:10.0.0.1").AsSlice())
	f.Fuzz(func(t *testing.T, text string, address []byte) {
		var a Allow
		if err := a.UnmarshalText([]byte(text)); err != nil {
			return
		}
		var again Allow
		if err := again.UnmarshalText([]byte(a.String())); err != nil || again.Any != a.Any || !slices.Equal(again.Prefixes, a.Prefixes) {
			t.Fatalf("%q prints as %q: %v", text, a, err)
		}
		addr, ok := netip.AddrFromSlice(address)
		if !ok {
			return
		}
		want := a.Any
		for item := range strings.SplitSeq(text, ",") {
			item = strings.TrimSpace(item)
			if ip := net.ParseIP(item); ip != nil {
				want = want || ip.Equal(address)
			} else if _, cidr, err := net.ParseCIDR(item); err == nil {
				want = want || cidr.Contains(address)
			} else if !a.Any {
				t.Fatalf("%q was accepted", item)
			}
		}
		if got := a.Contains(addr); got != want {
			t.Errorf("%s in %q: %v, want %v", addr, text, got, want)
		}
	})
}

// FuzzListens has what is accepted mean the same when it is printed.
func FuzzListens(f *testing.F) {
	for _, text := range []string{"tcp://localhost:9009,udp://[::1]:0", "unix:///a/b,systemd://", "systemd://x, :1", "[fe80::1%eth0]:1", "tcps://a:1", "unix:///" + strings.Repeat("x", 107)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var listens, again Listens
		if err := listens.UnmarshalText([]byte(text)); err != nil {
			return
		}
		var items []string
		for _, l := range listens {
			items = append(items, l.String())
		}
		for i := range listens {
			listens[i].Optional = false // only localhost can say that
		}
		if err := again.UnmarshalText([]byte(strings.Join(items, ","))); err != nil || !slices.Equal(again, listens) {
			t.Errorf("%q is %v, which is read as %v: %v", text, listens, again, err)
		}
	})
}

func FuzzDuration(f *testing.F) {
	for _, text := range []string{"1m30s", "-1ns", "10", "1.5h", "1e3s", "9223372036s", "µs", ".5s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDuration(text)
		if err != nil {
			return
		}
		if again, err := parseDuration(d.(time.Duration).String()); err != nil || again != d {
			t.Errorf("%q is %v, which is read as %v: %v", text, d, again, err)
		}
	})
}

// FuzzAdminClient is what probes read: a token that a header can carry, or an error
// without it.
func FuzzAdminClient(f *testing.F) {
	f.Add("127.0.0.1:9090", "0123456789abcdef")
	f.Add("off", "short")
	f.Add(":1", "0123456789abcdef\r\nX: y")
	f.Fuzz(func(t *testing.T, at, token string) {
		if strings.ContainsAny(at+token, "\x00\n") {
			return // no variable has that
		}
		addr, got, err := AdminClient([]string{"ILP_ADMIN=" + at, "ILP_ADMIN_TOKEN=" + token})
		token = strings.TrimSpace(token)
		if err != nil {
			if len(token) >= minToken && !strings.Contains(at, token) && strings.Contains(err.Error(), token) {
				t.Fatalf("the token is in the error: %v", err)
			}
			return
		}
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" {
			t.Errorf("%q is no address to ask", addr)
		}
		if got.Reveal() != token || token != "" && (len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' })) {
			t.Errorf("the token %q is %q", token, got.Reveal())
		}
	})
}
