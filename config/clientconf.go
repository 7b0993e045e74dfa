package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"questdb-ilp-proxy/auth"
)

// ClientConf is what a QuestDB client configuration string says that matters
// to the proxy.
type ClientConf struct {
	Addrs       Addrs
	Key         *auth.Key     // nil without username and token
	AuthTimeout time.Duration // 0 if it is not there
	Notes       []string      // keys that mean nothing to a proxy, in a sentence each

	TLS        bool   // tcps::
	SkipVerify bool   // tls_verify=unsafe_off
	Roots      Roots  // tls_ca, where it is not pem_file
	RootsFile  string // tls_roots
}

// bufferKeys concern how a client gathers rows before it sends them. They are
// common to a string that is shared with clients, and mean nothing here.
var bufferKeys = []string{
	"init_buf_size", "max_buf_size", "max_name_len", "buffer_capacity", "protocol_version",
	"auto_flush", "auto_flush_rows", "auto_flush_bytes", "auto_flush_interval",
}

// httpKeys are known, and of another transport.
var httpKeys = []string{
	"user", "password", "pass", "request_timeout", "request_min_throughput", "retry_timeout", "retry_max_backoff_millis",
	"max_backoff", "transactional", "http_timeout", "path", "pool_timeout",
}

// tlsKeys belong to tcps::.
var tlsKeys = []string{"tls_verify", "tls_ca", "tls_roots", "tls_roots_password"}

// ParseClientConf reads a string such as tcp::addr=host:9009;username=U;token=D;
// with all that QuestDB documents for ILP over TCP. Its errors never quote
// the value of a key that may be secret.
func ParseClientConf(text string) (*ClientConf, error) {
	schema, pairs, err := splitClientConf(text)
	if err != nil {
		return nil, err
	}
	conf, values := &ClientConf{TLS: schema == "tcps"}, map[string]string{}
	for _, pair := range pairs {
		if _, twice := values[pair.key]; twice && pair.key != "addr" {
			return nil, invalid("key %q is there twice", pair.key).should("each key once")
		}
		values[pair.key] = pair.value
		if err := conf.take(pair.key, pair.value); err != nil {
			return nil, err
		}
	}
	if len(conf.Addrs) == 0 {
		return nil, invalid("it has no addr")
	}
	if err := conf.takeTLS(values); err != nil {
		return nil, err
	}
	conf.Key, err = clientConfKey(values)
	return conf, err
}

// take takes over the pair, except for the credentials, which go together.
func (c *ClientConf) take(key, value string) error {
	switch {
	case key == "addr":
		for item := range strings.SplitSeq(value, ",") {
			if err := c.Addrs.add(item); err != nil {
				return invalid("addr: %s", err)
			}
		}
	case key == "auth_timeout":
		n, err := strconv.ParseUint(value, 10, 32)
		if err != nil || n == 0 || n > 600000 {
			return invalid("auth_timeout: %s is not a number of milliseconds from 1 to 600000", shorten(value)).should("like auth_timeout=15000")
		}
		c.AuthTimeout = time.Duration(n) * time.Millisecond
	case key == "username", key == "token", key == "token_x", key == "token_y":
	case slices.Contains(bufferKeys, key):
		c.Notes = append(c.Notes, fmt.Sprintf("%s concerns a client's buffer and means nothing to the proxy", key))
	case slices.Contains(tlsKeys, key):
		if !c.TLS {
			return invalid("%s belongs to TLS", key).should("left out; or the schema tcps::")
		}
	case slices.Contains(httpKeys, key):
		return invalid("%s belongs to ILP over HTTP", key).should("left out; over TCP it is username and token")
	default:
		known := slices.Concat([]string{"addr", "username", "token", "token_x", "token_y", "auth_timeout"}, tlsKeys, bufferKeys)
		return invalid("unknown key %s", shorten(key)).should("a key that clients know; the nearest is %s (case matters)", nearest(key, known))
	}
	return nil
}

// takeTLS takes over what there is about TLS, which goes together.
func (c *ClientConf) takeTLS(values map[string]string) error {
	switch verify, set := values["tls_verify"]; {
	case !set, verify == "on":
	case verify == "unsafe_off":
		c.SkipVerify = true
	default:
		return invalid("tls_verify: %s is not known", shorten(verify)).should("tls_verify=on, or tls_verify=unsafe_off to take any certificate")
	}
	if _, set := values["tls_roots_password"]; set {
		return invalid("tls_roots_password: tls_roots with a password is a Java keystore, which only Java's client reads").should(
			"tls_roots with a PEM file, and no tls_roots_password; %s", fromKeystore)
	}
	c.RootsFile = values["tls_roots"]
	switch ca, set := values["tls_ca"]; {
	case !set, ca == "os_roots":
	case ca == "webpki_roots":
		c.Roots = MozillaRoots
	case ca == "webpki_and_os_roots":
		c.Roots = AllRoots
	case ca == "pem_file":
		if c.RootsFile == "" {
			return invalid("it has tls_ca=pem_file and no tls_roots").should("tls_ca=pem_file;tls_roots=PATH of a PEM file")
		}
		return nil
	default:
		return invalid("tls_ca: %s is not known", shorten(ca)).should("one of os_roots, webpki_roots, webpki_and_os_roots, pem_file")
	}
	if _, set := values["tls_ca"]; set && c.RootsFile != "" {
		return invalid("it has tls_roots, and a tls_ca other than pem_file").should("tls_ca=pem_file, or no tls_roots")
	}
	return nil
}

// clientConfKey makes the key of username and token, and compares it with the
// public half if that is there.
func clientConfKey(values map[string]string) (*auth.Key, error) {
	username, token, x, y := values["username"], values["token"], values["token_x"], values["token_y"]
	switch {
	case username == "" && token == "" && x == "" && y == "":
		return nil, nil
	case username == "":
		return nil, invalid("it has a token and no username")
	case token == "":
		return nil, invalid("it has a username and no token")
	case (x == "") != (y == ""):
		return nil, invalid("it has one of token_x and token_y").should("both of them or none")
	}
	key, err := auth.NewKey(username, auth.NewSecret(token))
	if err != nil {
		return nil, invalid("username and token: %s", err)
	}
	if x != "" {
		public, err := auth.NewPublicKey(username, x, y)
		if err != nil {
			return nil, invalid("token_x and token_y: %s", err)
		}
		if public.AuthLine() != key.AuthLine() {
			return nil, invalid("token does not belong to token_x and token_y").should("d, x and y of the same key")
		}
	}
	return key, nil
}
