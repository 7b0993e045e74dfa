package config

import (
	"reflect"
	"slices"
	"strings"

	"questdb-ilp-proxy/auth"
)

// Setting is what one variable comes to.
type Setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`  // secrets are [auth.Redacted]
	Source string `json:"source"` // a value of Source..., "file PATH", or the variable that it comes from
}

// Where a setting comes from, if not from a file or another variable.
const (
	SourceDefault     = "default"
	SourceEnvironment = "environment"
	SourceNone        = "not set"
)

// hiddenValue stands for a value that may hold a key, where there should be none.
const hiddenValue = "[not shown: it may hold a key]"

// Effective is [Load], and tells what each variable comes to and why, in the order of
// the documentation. No secret is in it.
func Effective(environ []string) (*Config, []Setting, error) {
	c, err := Load(environ)
	if err != nil {
		return nil, nil, err
	}
	var none Errors
	values := known(environ, &none)
	derived := c.derived(values)
	var settings []Setting
	for field := range fields() {
		s := Setting{Name: field.Tag.Get("env")}
		value, set := values[s.Name]
		other, isDerived := derived[s.Name]
		switch {
		case isDerived:
			s.Value, s.Source = other.Value, other.Source
		case set && s.Name == "QDB_CLIENT_CONF":
			s.Value, s.Source = redactClientConf(value), SourceEnvironment
		case set && field.Type == reflect.TypeFor[auth.Secret]():
			s.Value, s.Source = auth.Redacted, SourceEnvironment
		case set:
			s.Value, s.Source = visible(value), SourceEnvironment
		case field.Tag.Get("envDefault") != "":
			s.Value, s.Source = field.Tag.Get("envDefault"), SourceDefault
		default:
			s.Source = SourceNone
		}
		settings = append(settings, s)
	}
	return c, settings, nil
}

// derived are the settings that come from files or from other variables.
func (c *Config) derived(values map[string]string) map[string]Setting {
	d := map[string]Setting{}
	file := func(path string) string { return "file " + visible(path) }
	const conf = "QDB_CLIENT_CONF"
	if values[conf] != "" {
		scheme := ""
		if c.UpstreamTLS {
			scheme = tlsScheme
		}
		d["ILP_UPSTREAM"] = Setting{Value: visible(scheme + strings.Join(c.Upstream, ","+scheme)), Source: conf}
		if c.conf.AuthTimeout != 0 {
			d["ILP_AUTH_TIMEOUT"] = Setting{Value: c.AuthTimeout.String(), Source: conf}
		}
		if c.conf.Key != nil {
			d["ILP_AUTH_KEY_ID"] = Setting{Value: c.Key.ID(), Source: conf}
			d["ILP_AUTH_KEY"] = Setting{Value: auth.Redacted, Source: conf}
		}
		if c.conf.RootsFile != "" {
			d["ILP_TLS_CA"] = Setting{Value: visible(c.conf.RootsFile), Source: conf}
		}
		if c.conf.SkipVerify {
			d["ILP_TLS_UNSAFE_SKIP_VERIFY"] = Setting{Value: "true", Source: conf}
		}
	}
	switch {
	case values["ILP_AUTH_JWK"] != "":
		d["ILP_AUTH_KEY_ID"] = Setting{Value: c.Key.ID(), Source: "ILP_AUTH_JWK"}
	case c.AuthJWKFile != "":
		d["ILP_AUTH_KEY_ID"] = Setting{Value: c.Key.ID(), Source: file(c.AuthJWKFile)}
		d["ILP_AUTH_JWK"] = Setting{Value: auth.Redacted, Source: file(c.AuthJWKFile)}
	case c.AuthKeyFile != "":
		d["ILP_AUTH_KEY"] = Setting{Value: auth.Redacted, Source: file(c.AuthKeyFile)}
	}
	if c.AdminTokenFile != "" {
		d["ILP_ADMIN_TOKEN"] = Setting{Value: auth.Redacted, Source: file(c.AdminTokenFile)}
	}
	if c.SegmentBytes() < c.ConfirmBytes {
		d["ILP_CONFIRM_BYTES"] = Setting{Value: c.SegmentBytes().String(), Source: "a quarter of ILP_BUFFER"}
	}
	return d
}

// visible returns value, unless a key may be in it.
func visible(value string) string {
	if auth.MayHoldKey(value) {
		return hiddenValue
	}
	return value
}

// redactClientConf returns a client configuration string, which can be read, without its
// secrets.
func redactClientConf(text string) string {
	schema, pairs, err := splitClientConf(text)
	if err != nil {
		return auth.Redacted
	}
	public := slices.Concat([]string{"addr", "username", "auth_timeout"}, tlsKeys, bufferKeys)
	var b strings.Builder
	b.WriteString(schema + "::")
	for _, pair := range pairs {
		value := auth.Redacted
		switch {
		case pair.key == "token_x" || pair.key == "token_y": // as long as a key, and public
			value = pair.value
		case pair.key != "tls_roots_password" && slices.Contains(public, pair.key):
			value = visible(pair.value)
		}
		b.WriteString(pair.key + "=" + strings.ReplaceAll(value, ";", ";;") + ";")
	}
	return b.String()
}
