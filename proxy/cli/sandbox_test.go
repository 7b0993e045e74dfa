package cli

import (
	"reflect"
	"testing"

	"questdb-ilp-proxy/auth"
	"questdb-ilp-proxy/config"
	"questdb-ilp-proxy/proxy/sandbox"
)

// TestNeeded has the configuration say what the running proxy still needs: too little
// would break it later, too much is no sandbox.
func TestNeeded(t *testing.T) {
	key, err := auth.Generate("writer")
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := key.MarshalJWK()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		notify  string
		environ []string
		want    sandbox.Options
	}{
		"the least": {"", []string{"ILP_UPSTREAM=10.0.0.1:9009"}, sandbox.Options{Connect: []uint16{9009}}},
		"names": {"/run/systemd/notify", []string{"ILP_UPSTREAM=questdb,[::1]:1,other:9009", "ILP_ADMIN_TOKEN=0123456789abcdef"},
			sandbox.Options{Connect: []uint16{9009, 1}, Names: true}},
		"files and sockets": {"@notify", []string{"ILP_UPSTREAM=127.0.0.1", "ILP_LISTEN=:0,unix:///run/a.sock,udp://:0,unix:///run/b.sock", "ILP_ALLOW=any", "ILP_REJECTED_FILE=/var/lib/r.jsonl"},
			sandbox.Options{Connect: []uint16{9009}, Remove: []string{"/run/a.sock", "/run/b.sock"}, Append: []string{"/var/lib/r.jsonl"}, AbstractSockets: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NOTIFY_SOCKET", c.notify)
			cfg, err := config.Load(append(c.environ, "ILP_AUTH_JWK="+string(jwk)))
			if err != nil {
				t.Fatal(err)
			}
			if got := needed(cfg); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}
