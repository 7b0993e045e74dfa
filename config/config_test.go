package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
)

// The key of QuestDB's documentation.
const (
	docD   = "5UjEMuA0Pj5pjK8a-fa24dyIf-Es5mYny3oE_Wmus48"
	docX   = "fLKYEaoEb9lrn3nkwLDA-M_xnuFOdSt9y0Z7_vWSHLU"
	docY   = "Dt5tbS1dEDMSYfym3fgMv0B99szno-dFc1rYF9t0aac"
	docJWK = `{"kty":"EC","crv":"P-256","kid":"testUser1","x":"` + docX + `","y":"` + docY + `","d":"` + docD + `"}`
)

// minimal is the least that has to be set.
var minimal = []string{"ILP_UPSTREAM=questdb", "ILP_AUTH_KEY_ID=testUser1", "ILP_AUTH_KEY=" + docD}

func with(more ...string) []string { return append(append([]string{}, minimal...), more...) }

func TestDefaults(t *testing.T) {
	got, err := Load(with("HOME=/", "PATH="))
	if err != nil {
		t.Fatal(err)
	}
	if got.Key == nil || got.Key.ID() != "testUser1" {
		t.Errorf("key is %v", got.Key)
	}
	got.Key, got.AuthKey = nil, auth.Secret{}
	want := &Config{
		Listen:    Listens{{"tcp", "127.0.0.1:9009", false}, {"tcp", "[::1]:9009", true}},
		UnixMode:  0o660,
		Upstream:  Addrs{"questdb:9009"},
		AuthKeyID: "testUser1", PoolMinIdle: 2, PoolMax: 16,
		DialTimeout: 10 * time.Second, AuthTimeout: 15 * time.Second,
		RetryBase: 100 * time.Millisecond, RetryMax: 30 * time.Second,
		Buffer: 64 * MiB, MaxRecord: MiB, MaxClients: 10000, DrainTimeout: 20 * time.Second,
		Delivery: AtLeastOnce, ConfirmBytes: 64 * MiB, ConfirmInterval: 5 * time.Second, Settle: 500 * time.Millisecond,
		PathCheck: true, OnRejected: OnRejectedContinue,
		Admin: "127.0.0.1:9090", Sandbox: SandboxOn, LogFormat: LogAuto,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEverythingSet(t *testing.T) {
	got, err := Load([]string{
		"ILP_LISTEN=tcp://0.0.0.0:1, [fe80::1%eth0]:0,localhost:2,unix:///run/a.sock,systemd://ilp", "ILP_UNIX_MODE=600", "ILP_ALLOW= 10.0.0.0/8,::1 , 192.168.1.7",
		"ILP_UPSTREAM=tcp://a:1,b,[::1]:9,[::2]", "ILP_AUTH_JWK=" + docJWK + "\n",
		"ILP_POOL_MIN_IDLE=0", "ILP_POOL_MAX=300", "ILP_DIAL_TIMEOUT=1s", "ILP_AUTH_TIMEOUT=2s",
		"ILP_RETRY_BASE=1ms", "ILP_RETRY_MAX=1h", "ILP_BUFFER=1GiB", "ILP_MAX_RECORD=65536", "ILP_MAX_CLIENTS=7",
		"ILP_CLIENT_IDLE_TIMEOUT=5m", "ILP_DRAIN_TIMEOUT=0s", "ILP_ADMIN=off", "ILP_LOG_LEVEL=DEBUG", "ILP_LOG_FORMAT=json",
		"ILP_DELIVERY=At-Most-Once", "ILP_CONFIRM_BYTES=64KiB", "ILP_CONFIRM_INTERVAL=1m", "ILP_SETTLE=3s", "ILP_PATH_CHECK=OFF",
		"ILP_REJECTED_FILE=some/file.jsonl", "ILP_ON_REJECTED=Disconnect", "ILP_SANDBOX=Require", "ILP_MAX_CLIENTS_PER_ADDRESS=3",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Key == nil || got.Key.ID() != "testUser1" {
		t.Errorf("key is %v", got.Key)
	}
	if w := strings.Join(got.Warnings, "\n"); len(got.Warnings) != 3 || !strings.Contains(w, "256 connections") ||
		!strings.Contains(w, "ILP_ON_REJECTED: with ILP_DELIVERY=at-most-once") || !strings.Contains(w, "ILP_REJECTED_FILE: with ILP_DELIVERY=at-most-once") {
		t.Errorf("warnings are %q", got.Warnings)
	}
	got.Key, got.AuthJWK, got.Warnings = nil, auth.Secret{}, nil
	want := &Config{
		Listen: Listens{{"tcp", "0.0.0.0:1", false}, {"tcp", "[fe80::1%eth0]:0", false}, {"tcp", "127.0.0.1:2", false}, {"tcp", "[::1]:2", true},
			{"unix", "/run/a.sock", false}, {"systemd", "ilp", false}},
		UnixMode: 0o600,
		Allow: Allow{Prefixes: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.168.1.7/32"),
		}},
		Upstream: Addrs{"a:1", "b:9009", "[::1]:9", "[::2]:9009"}, PoolMax: 300,
		DialTimeout: time.Second, AuthTimeout: 2 * time.Second, RetryBase: time.Millisecond, RetryMax: time.Hour,
		Buffer: GiB, MaxRecord: 64 * KiB, MaxClients: 7, ClientIdleTimeout: 5 * time.Minute, LogLevel: -4, LogFormat: LogJSON,
		Delivery: AtMostOnce, ConfirmBytes: 64 * KiB, ConfirmInterval: time.Minute, Settle: 3 * time.Second,
		RejectedFile: "some/file.jsonl", OnRejected: OnRejectedDisconnect, Sandbox: SandboxRequire, MaxClientsPerAddress: 3,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestProblems has one line for each thing that can be wrong: the variable and
// what is said of it. Nothing else must be said.
func TestProblems(t *testing.T) {
	for name, c := range map[string]struct {
		environ []string
		want    []string // each "VARIABLE: text", parts of the lines in order
	}{
		"nothing set":            {nil, []string{"ILP_AUTH_JWK_FILE: no key", "ILP_UPSTREAM: not set"}},
		"set to nothing":         {[]string{"ILP_UPSTREAM= ", "ILP_AUTH_KEY=", "ILP_BUFFER=\t"}, []string{"ILP_AUTH_JWK_FILE: no key", "ILP_UPSTREAM: not set"}},
		"all at once":            {[]string{"ILP_BUFFER=x", "ILP_POOL_MAX=x", "ILP_FOO=1"}, []string{"ILP_AUTH_JWK_FILE: ", "ILP_BUFFER: ", "ILP_FOO: ", "ILP_POOL_MAX: ", "ILP_UPSTREAM: "}},
		"typo":                   {with("ILP_POOL_MIX=3"), []string{"ILP_POOL_MIX: unknown variable; should be ILP_POOL_MAX"}},
		"typo, empty":            {with("ILP_LISTENS="), []string{"ILP_LISTENS: unknown variable; should be ILP_LISTEN"}},
		"port like a service's":  {with("ILP_UPSTREAM_PORT=9009"), []string{"ILP_UPSTREAM_PORT: unknown"}},
		"unix":                   {with("ILP_LISTEN=unix://x"), []string{"ILP_LISTEN: \"unix://x\": not the absolute path"}},
		"unix, too long":         {with("ILP_LISTEN=unix:///" + strings.Repeat("x", 107)), []string{"ILP_LISTEN: \"unix:///" + strings.Repeat("x", 52) + "\"...: its path has 108 bytes"}},
		"unix twice":             {with("ILP_LISTEN=unix:///x,unix:///x"), []string{"ILP_LISTEN: unix:///x is there twice"}},
		"unix mode":              {with("ILP_UNIX_MODE=9"), []string{"ILP_UNIX_MODE: \"9\" is not a file mode"}},
		"unix upstream":          {with("ILP_UPSTREAM=unix:///x"), []string{"ILP_UPSTREAM: \"unix:///x\": QuestDB is reached over TCP"}},
		"systemd, all and one":   {with("ILP_LISTEN=systemd://,systemd://x"), []string{"ILP_LISTEN: systemd:// is all"}},
		"udp":                    {with("ILP_LISTEN=udp://0.0.0.0:1"), []string{"ILP_ALLOW: not set"}},
		"listen twice":           {with("ILP_LISTEN=localhost:1,127.0.0.1:1"), []string{"ILP_LISTEN: 127.0.0.1:1 is there twice"}},
		"listen without port":    {with("ILP_LISTEN=localhost"), []string{"ILP_LISTEN: \"localhost\" is not host:port"}},
		"listen, empty element":  {with("ILP_LISTEN=localhost:1,"), []string{"ILP_LISTEN: \"localhost:1,\" has an empty element"}},
		"listen, port name":      {with("ILP_LISTEN=localhost:ilp"), []string{`ILP_LISTEN: "localhost:ilp": "ilp" is not a port`}},
		"listen, port too large": {with("ILP_LISTEN=localhost:65536"), []string{"ILP_LISTEN: "}},
		"listen without allow":   {with("ILP_LISTEN=:9009"), []string{"ILP_ALLOW: not set, and ILP_LISTEN has :9009"}},
		"listen on a name":       {with("ILP_LISTEN=myhost:1,other:2"), []string{"ILP_ALLOW: not set, and ILP_LISTEN has myhost:1"}},
		"allow, host bits":       {with("ILP_ALLOW=10.1.2.3/8"), []string{`ILP_ALLOW: "10.1.2.3/8" has bits set behind its length; should be 10.0.0.0/8, or 10.1.2.3`}},
		"allow, rubbish":         {with("ILP_ALLOW=all"), []string{`ILP_ALLOW: "all" is not a CIDR`}},
		"allow, any and more":    {with("ILP_ALLOW=any,10.0.0.0/8"), []string{`ILP_ALLOW: "any" stands beside`}},
		"allow, mapped":          {with("ILP_ALLOW=::ffff:10.0.0.0/104"), []string{"ILP_ALLOW: "}},
		"allow twice":            {with("ILP_ALLOW=10.0.0.1,10.0.0.1/32"), []string{"ILP_ALLOW: 10.0.0.1/32 is there twice"}},
		"listen TLS":             {with("ILP_LISTEN=tcps://a:1"), []string{"ILP_LISTEN: \"tcps://a:1\": writers connect without TLS; should be tcp://a:1"}},
		"upstream, TLS for some": {with("ILP_UPSTREAM=tcps://a:1,b:1"), []string{"ILP_UPSTREAM: \"tcps://a:1,b:1\" has TLS (tcps://) for some addresses and not for others"}},
		"TLS without TLS":        {with("ILP_TLS_CA=x", "ILP_TLS_UNSAFE_SKIP_VERIFY=true"), []string{"ILP_TLS_CA: it is set, and ILP_UPSTREAM is not tcps://", "ILP_TLS_UNSAFE_SKIP_VERIFY: it is set"}},
		"TLS, no CA file":        {with("ILP_UPSTREAM=tcps://a:1", "ILP_TLS_CA=/nowhere/ca"), []string{`ILP_TLS_CA: cannot open "/nowhere/ca": no such file or directory; should be the path`}},
		"TLS, no certificate":    {with("ILP_UPSTREAM=tcps://a:1", "ILP_TLS_KEY=x"), []string{"ILP_TLS_CERT: not set, and ILP_TLS_KEY needs it"}},
		"TLS, name":              {with("ILP_UPSTREAM=tcps://a:1", "ILP_TLS_SERVER_NAME=a:9009"), []string{"ILP_TLS_SERVER_NAME: "}},
		"TLS, CA not looked at":  {with("ILP_UPSTREAM=tcps://a:1", "ILP_TLS_CA=x", "ILP_TLS_UNSAFE_SKIP_VERIFY=TRUE"), []string{"ILP_TLS_CA: it is set, and ILP_TLS_UNSAFE_SKIP_VERIFY has nothing verified"}},
		"TLS, skip":              {with("ILP_UPSTREAM=tcps://a:1", "ILP_TLS_UNSAFE_SKIP_VERIFY=on"), []string{`ILP_TLS_UNSAFE_SKIP_VERIFY: "on" is neither true nor false`}},
		"upstream scheme":        {with("ILP_UPSTREAM=http://a:1"), []string{"ILP_UPSTREAM: \"http://a:1\": unknown scheme \"http\""}},
		"upstream twice":         {with("ILP_UPSTREAM=a,tcp://a:9009"), []string{"ILP_UPSTREAM: a:9009 is there twice"}},
		"upstream path":          {with("ILP_UPSTREAM=tcp://a:1/x"), []string{"ILP_UPSTREAM: "}},
		"upstream user":          {with("ILP_UPSTREAM=tcp://u@a:1"), []string{"ILP_UPSTREAM: "}},
		"upstream port 0":        {with("ILP_UPSTREAM=a:0"), []string{"ILP_UPSTREAM: "}},
		"upstream without host":  {with("ILP_UPSTREAM=:9009"), []string{"ILP_UPSTREAM: \":9009\" has no host"}},
		"upstream, bare IPv6":    {with("ILP_UPSTREAM=fe80::1"), []string{"ILP_UPSTREAM: \"fe80::1\": an IPv6 address needs brackets"}},
		"upstream is itself":     {with("ILP_UPSTREAM=localhost"), []string{"ILP_UPSTREAM: its address is in ILP_LISTEN too (127.0.0.1:9009)"}},
		"upstream is itself too": {with("ILP_UPSTREAM=127.0.0.1", "ILP_LISTEN=0.0.0.0:9009", "ILP_ALLOW=any"), []string{"ILP_UPSTREAM: its address"}},
		"admin is a listener":    {with("ILP_ADMIN=localhost:9009"), []string{"ILP_ADMIN: 127.0.0.1:9009 is in ILP_LISTEN too"}},
		"admin, rubbish":         {with("ILP_ADMIN=no"), []string{"ILP_ADMIN: \"no\" is not host:port; should be like 127.0.0.1:9090, or off"}},
		"pool min over max":      {with("ILP_POOL_MIN_IDLE=17"), []string{"ILP_POOL_MIN_IDLE: 17 is more than ILP_POOL_MAX, which is 16"}},
		"pool of one":            {with("ILP_POOL_MAX=1"), []string{"ILP_POOL_MAX: 1 is less than 2"}},
		"pool negative":          {with("ILP_POOL_MIN_IDLE=-1"), []string{"ILP_POOL_MIN_IDLE: -1 is negative"}},
		"pool not whole":         {with("ILP_POOL_MAX=2.5"), []string{"ILP_POOL_MAX: \"2.5\" is not a whole number; should be a whole number"}},
		"no number, no unit":     {with("ILP_DIAL_TIMEOUT=NaN"), []string{"ILP_DIAL_TIMEOUT: \"NaN\" is not a duration"}},
		"duration without unit":  {with("ILP_DIAL_TIMEOUT=10"), []string{"ILP_DIAL_TIMEOUT: \"10\" has no unit; should be with a unit, like 10s"}},
		"duration negative":      {with("ILP_DIAL_TIMEOUT=-1s"), []string{"ILP_DIAL_TIMEOUT: -1s is negative"}},
		"duration zero":          {with("ILP_AUTH_TIMEOUT=0"), []string{"ILP_AUTH_TIMEOUT: 0s is less than 1ms"}},
		"duration, rubbish":      {with("ILP_DRAIN_TIMEOUT=soon"), []string{"ILP_DRAIN_TIMEOUT: \"soon\" is not a duration"}},
		"duration, huge":         {with("ILP_DRAIN_TIMEOUT=48h"), []string{"ILP_DRAIN_TIMEOUT: 48h0m0s is more than 1h0m0s"}},
		"retry base over max":    {with("ILP_RETRY_BASE=1m"), []string{"ILP_RETRY_BASE: 1m0s is more than ILP_RETRY_MAX, which is 30s"}},
		"sandbox":                {with("ILP_SANDBOX=yes"), []string{`ILP_SANDBOX: "yes" is none of on, off and require`}},
		"per address":            {with("ILP_MAX_CLIENTS_PER_ADDRESS=-1"), []string{"ILP_MAX_CLIENTS_PER_ADDRESS: -1 is negative"}},
		"idle timeout tiny":      {with("ILP_CLIENT_IDLE_TIMEOUT=1ms"), []string{"ILP_CLIENT_IDLE_TIMEOUT: "}},
		"buffer small":           {with("ILP_BUFFER=1000KiB"), []string{"ILP_BUFFER: 1000KiB is less than 1MiB"}},
		"buffer unit":            {with("ILP_BUFFER=64 MiB"), []string{"ILP_BUFFER: \"64 MiB\" is not a size: unknown unit \" MiB\""}},
		"record over a quarter":  {with("ILP_BUFFER=2MiB"), []string{"ILP_MAX_RECORD: 1MiB is more than a quarter of ILP_BUFFER, which is 2MiB; should be at most 512KiB, or ILP_BUFFER at least 4MiB"}},
		"record small":           {with("ILP_MAX_RECORD=1"), []string{"ILP_MAX_RECORD: 1B is less than 1KiB"}},
		"clients zero":           {with("ILP_MAX_CLIENTS=0"), []string{"ILP_MAX_CLIENTS: 0 is less than 1"}},
		"level":                  {with("ILP_LOG_LEVEL=verbose"), []string{"ILP_LOG_LEVEL: \"verbose\" is not a log level; should be one of debug, info, warn, error"}},
		"format":                 {with("ILP_LOG_FORMAT=xml"), []string{"ILP_LOG_FORMAT: \"xml\" is not a log format; should be one of auto, text, json"}},
		"delivery":               {with("ILP_DELIVERY=exactly-once"), []string{`ILP_DELIVERY: "exactly-once" is not a delivery mode; should be at-least-once or at-most-once`}},
		"confirm bytes small":    {with("ILP_CONFIRM_BYTES=1KiB"), []string{"ILP_CONFIRM_BYTES: 1KiB is less than 64KiB; should be a size like 16MiB"}},
		"confirm interval zero":  {with("ILP_CONFIRM_INTERVAL=0"), []string{"ILP_CONFIRM_INTERVAL: 0s is less than 100ms"}},
		"confirm interval, long": {with("ILP_CONFIRM_INTERVAL=2h"), []string{"ILP_CONFIRM_INTERVAL: 2h0m0s is more than 1h0m0s"}},
		"settle zero":            {with("ILP_SETTLE=0"), []string{"ILP_SETTLE: 0s is less than 1ms"}},
		"settle negative":        {with("ILP_SETTLE=-1s"), []string{"ILP_SETTLE: -1s is negative"}},
		"path check":             {with("ILP_PATH_CHECK=maybe"), []string{`ILP_PATH_CHECK: "maybe" is neither on nor off; should be on or off`}},
		"rejected is a folder":   {with("ILP_REJECTED_FILE=/tmp/"), []string{`ILP_REJECTED_FILE: "/tmp/" is a folder; should be the path of a file`}},
		"on rejected":            {with("ILP_ON_REJECTED=close"), []string{`ILP_ON_REJECTED: "close" is neither continue nor disconnect; should be continue or disconnect`}},
		"line end in a value":    {with("ILP_LOG_FORMAT=a\nb"), []string{`ILP_LOG_FORMAT: "a\nb" is not`}},

		"key and file":       {with("ILP_AUTH_KEY_FILE=/x"), []string{"ILP_AUTH_KEY_FILE: the key comes from ILP_AUTH_KEY too"}},
		"key and JWK":        {with("ILP_AUTH_JWK=" + docJWK), []string{"ILP_AUTH_KEY: the key comes from ILP_AUTH_JWK too"}},
		"JWK and file":       {[]string{minimal[0], "ILP_AUTH_JWK=x", "ILP_AUTH_JWK_FILE=/x"}, []string{"ILP_AUTH_JWK_FILE: the key comes from ILP_AUTH_JWK too"}},
		"JWK and key id":     {[]string{minimal[0], minimal[1], "ILP_AUTH_JWK=" + docJWK}, []string{"ILP_AUTH_KEY_ID: ILP_AUTH_JWK has the key id already"}},
		"key without id":     {[]string{minimal[0], minimal[2]}, []string{"ILP_AUTH_KEY_ID: not set, and ILP_AUTH_KEY needs it"}},
		"id without key":     {minimal[:2], []string{"ILP_AUTH_KEY_ID: there is a key id and no key"}},
		"id with a space":    {[]string{minimal[0], "ILP_AUTH_KEY_ID=a b", minimal[2]}, []string{"ILP_AUTH_KEY_ID: key id not usable"}},
		"JWK for a key":      {[]string{minimal[0], minimal[1], "ILP_AUTH_KEY=" + docJWK}, []string{"ILP_AUTH_KEY: it looks like a JWK; should be in ILP_AUTH_JWK"}},
		"key, standard":      {[]string{minimal[0], minimal[1], "ILP_AUTH_KEY=" + strings.ReplaceAll(docD, "-", "+")}, []string{"ILP_AUTH_KEY: private key d: it is in standard base64"}},
		"key cut off":        {[]string{minimal[0], minimal[1], "ILP_AUTH_KEY=" + docD[:40]}, []string{"ILP_AUTH_KEY: private key d: it has 30 bytes"}},
		"JWK, another curve": {[]string{minimal[0], "ILP_AUTH_JWK=" + strings.Replace(docJWK, "P-256", "P-384", 1)}, []string{"ILP_AUTH_JWK: wrong curve: crv is \"P-384\""}},
		"JWK, mismatch":      {[]string{minimal[0], "ILP_AUTH_JWK=" + strings.Replace(docJWK, docD, docX, 1)}, []string{"ILP_AUTH_JWK: JWK \"testUser1\": private key d does not belong"}},
		"file not there":     {[]string{minimal[0], "ILP_AUTH_JWK_FILE=/does/not/exist"}, []string{"ILP_AUTH_JWK_FILE: cannot open \"/does/not/exist\": no such file or directory"}},
		"file is a folder":   {[]string{minimal[0], "ILP_AUTH_JWK_FILE=/"}, []string{"ILP_AUTH_JWK_FILE: read /: is a directory"}},

		"conf and upstream": {[]string{minimal[0], confVar("")}, []string{"QDB_CLIENT_CONF: it has an addr, and ILP_UPSTREAM is set too"}},
		"conf and key":      {[]string{minimal[1], minimal[2], confVar("")}, []string{"ILP_AUTH_KEY: the key comes from QDB_CLIENT_CONF too"}},
		"conf and id":       {[]string{minimal[1], confVar("")}, []string{"ILP_AUTH_KEY_ID: QDB_CLIENT_CONF has the key id already"}},
		"conf and timeout":  {[]string{"ILP_AUTH_TIMEOUT=1s", confVar("auth_timeout=1;")}, []string{"QDB_CLIENT_CONF: it has an auth_timeout, and ILP_AUTH_TIMEOUT is set too"}},
		"conf without key":  {[]string{"QDB_CLIENT_CONF=tcp::addr=a"}, []string{"ILP_AUTH_JWK_FILE: no key is set"}},
		"conf broken":       {[]string{confVar("foo=1;")}, []string{`QDB_CLIENT_CONF: unknown key "foo"`}},
		"conf is itself":    {[]string{"ILP_LISTEN=host:9009", "ILP_ALLOW=any", confVar("")}, []string{"QDB_CLIENT_CONF: its address is in ILP_LISTEN too"}},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := Load(c.environ)
			var problems Errors
			if !errors.As(err, &problems) || config != nil {
				t.Fatalf("got %+v, %v", config, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) || len(problems) != len(c.want) {
				t.Fatalf("got\n%s\nwant\n%s", err, strings.Join(c.want, "\n"))
			}
			for i, want := range c.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("got  %s\nwant %s", lines[i], want)
				}
				if problems[i].Hint == "" {
					t.Errorf("no hint in %s", lines[i])
				}
			}
			if strings.Contains(err.Error(), docD[:20]) || strings.Contains(err.Error(), docD[20:]) {
				t.Errorf("the key is in the error:\n%s", err)
			}
		})
	}
}

// confVar is QDB_CLIENT_CONF with an address, the documentation's key, and more.
func confVar(more string) string {
	return "QDB_CLIENT_CONF=tcp::addr=host:9009;username=testUser1;token=" + docD + ";" + more
}

func TestClientConfVariable(t *testing.T) {
	got, err := Load([]string{confVar("auth_timeout=1500;auto_flush=off;")})
	if err != nil {
		t.Fatal(err)
	}
	if got.Key.ID() != "testUser1" || !reflect.DeepEqual(got.Upstream, Addrs{"host:9009"}) || got.AuthTimeout != 1500*time.Millisecond {
		t.Errorf("got %+v", got)
	}
	if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "auto_flush") {
		t.Errorf("warnings are %q", got.Warnings)
	}
	if got, err = Load([]string{"QDB_CLIENT_CONF=tcp::addr=a", minimal[1], minimal[2]}); err != nil || got.Key == nil {
		t.Errorf("address from one, key from the other: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	write := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		environ  []string
		warnings int
		problem  string
	}{
		"key":            {[]string{minimal[1], "ILP_AUTH_KEY_FILE=" + write(docD+"\n", 0o600)}, 0, ""},
		"JWK":            {[]string{"ILP_AUTH_JWK_FILE=" + write(docJWK+"\r\n", 0o640)}, 0, ""},
		"world-readable": {[]string{"ILP_AUTH_JWK_FILE=" + write(docJWK, 0o644)}, 1, ""},
		"JWK for a key":  {[]string{minimal[1], "ILP_AUTH_KEY_FILE=" + write(docJWK, 0o600)}, 0, "ILP_AUTH_KEY_FILE: it looks like a JWK; should be in ILP_AUTH_JWK_FILE"},
		"empty":          {[]string{"ILP_AUTH_JWK_FILE=" + write(" \n", 0o600)}, 0, "is empty"},
		"too large":      {[]string{"ILP_AUTH_JWK_FILE=" + write(strings.Repeat(" ", maxKeyFile+1), 0o600)}, 0, "larger than 64KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Load(append(c.environ, minimal[0]))
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("got %v, want %s", err, c.problem)
				}
				return
			}
			if err != nil || got.Key.ID() != "testUser1" || len(got.Warnings) != c.warnings {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestPathThatLooksLikeAKey has a path of a key's length and alphabet: it is the path of
// a file if there is one, else it may be the key.
func TestPathThatLooksLikeAKey(t *testing.T) {
	t.Chdir(t.TempDir())
	path := strings.Repeat("k", len(docD))
	environ := []string{minimal[0], minimal[1], "ILP_AUTH_KEY_FILE=" + path}
	if _, err := Load(environ); err == nil || !strings.Contains(err.Error(), "looks like the key itself") || strings.Contains(err.Error(), path) {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(path, []byte(docD), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(environ); err != nil {
		t.Errorf("with the file: %v", err)
	}
}

func TestConfigPrintsWithoutSecrets(t *testing.T) {
	for _, environ := range [][]string{with(), {minimal[0], "ILP_AUTH_JWK=" + docJWK}, {confVar("")}} {
		config, err := Load(environ)
		if err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"%v", "%+v", "%#v", "%q", "%x", "%s", "%d"} {
			out := fmt.Sprintf(verb, config) + fmt.Sprintf(verb, *config)
			if strings.Contains(out, docD) || strings.Contains(out, fmt.Sprintf("%x", docD)) {
				t.Errorf("%s shows the key: %s", verb, out)
			}
		}
	}
}

// TestMisplacedSecrets has the key and the token in variables that are shown.
func TestMisplacedSecrets(t *testing.T) {
	const token = "a-token-of-the-admin-port"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"ILP_ADMIN_TOKEN=" + token, "ILP_ADMIN_TOKEN_FILE=" + file} {
		for entry, want := range map[string]string{
			"ILP_REJECTED_FILE=/tmp/" + docD:            "ILP_REJECTED_FILE: the private key is in it",
			"ILP_REJECTED_FILE=/tmp/" + token:           "ILP_REJECTED_FILE: the token of ILP_ADMIN_TOKEN is in it",
			"ILP_ADMIN_HOSTS=" + token:                  "ILP_ADMIN_HOSTS: the token of ILP_ADMIN_TOKEN is in it",
			"ILP_ADMIN=" + token:                        "ILP_ADMIN: ",
			"ILP_ADMIN=" + token + token + ":x":         "ILP_ADMIN: ",
			"ILP_POOL_MAX=" + token:                     "ILP_POOL_MAX: ",
			"ILP_LISTEN=" + token + ":9009":             "ILP_LISTEN: the token of ILP_ADMIN_TOKEN is in it",
			"ILP_LISTEN=tcp://a:1,ftp://" + docD:        "ILP_LISTEN: its value may hold a key",
			"ILP_UPSTREAM=" + docD + ":1":               "ILP_UPSTREAM: the private key is in it",
			"ILP_MAX_RECORD=12" + strings.ToLower(docD): "ILP_MAX_RECORD: its value may hold a key",
		} {
			_, err := Load(with(entry, source))
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), docD[:10]) {
				t.Errorf("%s with %s: got %v", entry, source, err)
			}
		}
	}
}

func TestServiceLinks(t *testing.T) {
	for _, entry := range []string{
		"ILP_SERVICE_HOST=10.0.0.1", "ILP_SERVICE_PORT=9009", "ILP_SERVICE_PORT_ILP=9009", "ILP_PORT=tcp://10.0.0.1:9009",
		"ILP_PORT_9009_TCP=tcp://10.0.0.1:9009", "ILP_PORT_9009_TCP_PROTO=tcp", "ILP_PORT_9009_TCP_PORT=9009", "ILP_PORT_9009_TCP_ADDR=10.0.0.1",
		"ILP_PROXY_SERVICE_HOST=fd00::1", "ILP_PROXY_SERVICE_PORT_ILP_TCP=9009", "ILP_PROXY_PORT=udp://[fd00::1]:9009",
		"ILP_PROXY_PORT_9009_UDP=udp://10.0.0.1:9009", "ILP_PROXY_PORT_9009_UDP_ADDR=10.0.0.1", "ILP_PROXY_PORT_9009_SCTP_PROTO=sctp",
		"ILP_SERVICE_PORT=tcp://10.0.0.1:9009", "ILP_NAME=/proxy/ilp",
	} {
		if _, err := Load(with(entry)); err != nil {
			t.Errorf("%s: %v", entry, err)
		}
	}
	for _, entry := range []string{
		"ILP_SERVICE_HOST=questdb", "ILP_SERVICE_PORT=x", "ILP_PORT=9009", "ILP_PORT_X_TCP=tcp://1.1.1.1:1", "ILP_PORT_9009_TCP_PROTO=9009",
		"ILP_PORT_9009_TCP_ADDR=x", "ILP_PORT_9009_TCP_PORT=x", "ILP_PORT_9009_HTTP=tcp://1.1.1.1:1", "ILP_NAME=x", "ILP_=1", "ILP_POOL_MIX=1",
		"ILP_SERVICES_HOST=10.0.0.1", "ILP_upstream=x", "ILP__SERVICE_HOST=10.0.0.1",
	} {
		if _, err := Load(with(entry)); err == nil || !strings.Contains(err.Error(), "unknown variable") {
			t.Errorf("%s: got %v", entry, err)
		}
	}
}

func TestAllowContains(t *testing.T) {
	parse := func(text string) Allow {
		var a Allow
		if err := a.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if a.String() != text {
			t.Errorf("%s prints as %s", text, a)
		}
		return a
	}
	some := parse("10.0.0.0/8,fe80::/10")
	for _, c := range []struct {
		allow Allow
		addr  string
		want  bool
	}{
		{Allow{}, "127.0.0.1", true}, {Allow{}, "::1", true}, {Allow{}, "::ffff:127.0.0.5", true}, {Allow{}, "10.0.0.1", false},
		{parse("any"), "8.8.8.8", true}, {some, "10.1.1.1", true}, {some, "::ffff:10.1.1.1", true}, {some, "fe80::1%eth0", true},
		{some, "127.0.0.1", false}, {some, "11.0.0.1", false},
	} {
		if got := c.allow.Contains(netip.MustParseAddr(c.addr)); got != c.want {
			t.Errorf("%q contains %s: %v", c.allow, c.addr, got)
		}
	}
}

func TestListenMayBeAbsent(t *testing.T) {
	for _, c := range []struct {
		listen Listen
		err    error
		want   bool
	}{
		{Listen{Optional: true}, fmt.Errorf("bind: %w", syscall.EADDRNOTAVAIL), true},
		{Listen{Optional: true}, syscall.EAFNOSUPPORT, true},
		{Listen{Optional: true}, syscall.EADDRINUSE, false},
		{Listen{}, syscall.EADDRNOTAVAIL, false},
	} {
		if got := c.listen.MayBeAbsent(c.err); got != c.want {
			t.Errorf("%+v, %v: %v", c.listen, c.err, got)
		}
	}
}
