package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParseClientConf(t *testing.T) {
	const key = "username=testUser1;token=" + docD + ";"
	for name, c := range map[string]struct {
		text  string
		addrs Addrs
		key   bool
		after time.Duration
		notes int
	}{
		"documentation":        {"tcp::addr=host:9009;" + key + "token_x=" + docX + ";token_y=" + docY + ";auth_timeout=15000;", Addrs{"host:9009"}, true, 15 * time.Second, 0},
		"without the last ;":   {"tcp::addr=host:9009;" + strings.TrimSuffix(key, ";"), Addrs{"host:9009"}, true, 0, 0},
		"address only":         {"tcp::addr=host", Addrs{"host:9009"}, false, 0, 0},
		"IPv6":                 {"tcp::addr=[::1]:1;", Addrs{"[::1]:1"}, false, 0, 0},
		"several":              {"tcp::addr=a;addr=b:1;addr=c,d;", Addrs{"a:9009", "b:1", "c:9009", "d:9009"}, false, 0, 0},
		"a client's buffering": {"tcp::addr=a;init_buf_size=1;max_buf_size=2;auto_flush_rows=3;protocol_version=2;max_name_len=127;", Addrs{"a:9009"}, false, 0, 5},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseClientConf(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Addrs, c.addrs) || (got.Key != nil) != c.key || got.AuthTimeout != c.after || len(got.Notes) != c.notes {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestClientConfEscapes(t *testing.T) {
	for text, want := range map[string][]confPair{
		"tcp::":                 nil,
		"tcp::a=;":              {{"a", ""}},
		"tcp::a=b;;c":           {{"a", "b;c"}},
		"tcp::a=b;;":            {{"a", "b;"}},
		"tcp::a=b;;;c=d":        {{"a", "b;"}, {"c", "d"}},
		"tcp::a=;;;;;b=1;":      {{"a", ";;"}, {"b", "1"}},
		"tcp::a=b=c;d=x::y;e=é": {{"a", "b=c"}, {"d", "x::y"}, {"e", "é"}},
	} {
		if _, got, err := splitClientConf(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
}

func TestParseClientConfRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "does not begin with a schema",
		"addr=a;":                           "does not begin with a schema",
		docD:                                "does not begin with a schema",
		docD + "::a":                        "schema that clients know",
		"http::addr=a;":                     "ILP over HTTP",
		"https::addr=a;":                    "ILP over HTTP",
		"TCP::addr=a;":                      "not lower-case",
		"tcp::":                             "no addr",
		"tcp::username=a;token=" + docD:     "no addr",
		"tcp::addr=;":                       "has no host",
		"tcp::addr=tcp://a;":                "addr: ",
		"tcp::addr=a;addr=a;":               "twice",
		"tcp::addr=a;" + docD:               "behind addr comes something without a =",
		"tcp::addr=a;=x;":                   "behind addr comes something that is no key",
		"tcp::addr=a; username=x;":          "behind addr comes something that is no key",
		"tcp::addr=a;;username=x;":          "addr: ",
		"tcp::addr=a;token\x00=1;":          "no key",
		"tcp::addr=a;token=" + docD + "\n;": "token: its value has a control character (0x0a)",
		"tcp::addr=a;Username=x;":           "unknown key \"Username\"",
		"tcp::addr=a;username=x;":           "a username and no token",
		"tcp::addr=a;token=" + docD:         "a token and no username",
		"tcp::addr=a;token_x=" + docX:       "a token and no username",
		"tcp::addr=a;username=u;token=" + docD + ";token_x=" + docX:                      "one of token_x and token_y",
		"tcp::addr=a;username=u;token=" + docD + ";token_x=" + docX + ";token_y=x":       "token_x and token_y: public key y",
		"tcp::addr=a;username=u;token=" + docX + ";token_x=" + docX + ";token_y=" + docY: "token does not belong",
		"tcp::addr=a;username=u v;token=" + docD:                                         "key id not usable",
		"tcp::addr=a;username=u;token=" + docD[:30]:                                      "private key d",
		"tcp::addr=a;username=u;username=u;":                                             "\"username\" is there twice",
		"tcp::addr=a;auth_timeout=15s;":                                                  "not a number of milliseconds",
		"tcp::addr=a;auth_timeout=0;":                                                    "not a number of milliseconds",
		"tcp::addr=a;auth_timeout=-1;":                                                   "not a number of milliseconds",
		"tcp::addr=a;tls_verify=on;":                                                     "belongs to TLS",
		"tcps::addr=a;tls_verify=off;":                                                   "tls_verify: \"off\" is not known",
		"tcps::addr=a;tls_ca=x;":                                                         "tls_ca: \"x\" is not known",
		"tcps::addr=a;tls_ca=pem_file;":                                                  "tls_ca=pem_file and no tls_roots",
		"tcps::addr=a;tls_ca=os_roots;tls_roots=/x;":                                     "a tls_ca other than pem_file",
		"tcps::addr=a;tls_roots=/x.jks;tls_roots_password=" + docD:                       "Java keystore, which only Java",
		"tcp::addr=a;password=" + docD:                                                   "belongs to ILP over HTTP",
	} {
		_, err := ParseClientConf(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), docD[:12]) {
			t.Errorf("the token is in the error: %v", err)
		}
	}
}
