package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"
	"time"

	"questdb-ilp-proxy/auth"
)

// maxKeyFile bounds what is read of a key file, in bytes.
const maxKeyFile = 64 << 10

// readLimit is how long reading a file may take that is a pipe.
const readLimit = 10 * time.Second

// resolveClientConf reads QDB_CLIENT_CONF into the fields that it stands for,
// where no other variable claims them.
func (c *Config) resolveClientConf(set map[string]bool, problems *Errors) {
	const name = "QDB_CLIENT_CONF"
	if c.ClientConf.IsZero() {
		return
	}
	conf, err := ParseClientConf(c.ClientConf.Reveal())
	if err != nil {
		problems.addValue(name, err)
		return
	}
	if set["ILP_UPSTREAM"] {
		problems.add(name, "it has an addr, and ILP_UPSTREAM is set too", "one of the two only")
	}
	c.conf = *conf
	c.Upstream, c.UpstreamTLS = conf.Addrs, conf.TLS
	if set["ILP_TLS_CA"] && (conf.RootsFile != "" || conf.Roots != SystemRoots) {
		problems.add(name, "it has tls_roots or tls_ca, and ILP_TLS_CA is set too", "one of the two only")
	}
	if set["ILP_TLS_UNSAFE_SKIP_VERIFY"] && conf.SkipVerify {
		problems.add(name, "it has tls_verify, and ILP_TLS_UNSAFE_SKIP_VERIFY is set too", "one of the two only")
	}
	if conf.AuthTimeout != 0 {
		if set["ILP_AUTH_TIMEOUT"] {
			problems.add(name, "it has an auth_timeout, and ILP_AUTH_TIMEOUT is set too", "one of the two only")
		}
		c.AuthTimeout = conf.AuthTimeout
	}
	c.Key = conf.Key
	for _, note := range conf.Notes {
		c.warn("%s: %s", name, note)
	}
}

// resolveKey makes c.Key of whichever source is set, exactly one.
func (c *Config) resolveKey(set map[string]bool, problems *Errors) {
	before := len(*problems)
	checkKeySources(set, c.Key != nil, problems)
	if len(*problems) > before {
		return
	}
	switch {
	case set["ILP_AUTH_JWK"]:
		c.keyOfJWK("ILP_AUTH_JWK", c.AuthJWK, problems)
	case set["ILP_AUTH_JWK_FILE"]:
		if jwk, ok := c.readSecret("ILP_AUTH_JWK_FILE", c.AuthJWKFile, problems); ok {
			c.keyOfJWK("ILP_AUTH_JWK_FILE", jwk, problems)
		}
	case set["ILP_AUTH_KEY"]:
		c.keyOfScalar("ILP_AUTH_KEY", c.AuthKey, problems)
	case set["ILP_AUTH_KEY_FILE"]:
		if d, ok := c.readSecret("ILP_AUTH_KEY_FILE", c.AuthKeyFile, problems); ok {
			c.keyOfScalar("ILP_AUTH_KEY_FILE", d, problems)
		}
	}
}

// checkKeySources sees to it that there is one source of the key, and that it
// is complete.
func checkKeySources(set map[string]bool, inConf bool, problems *Errors) {
	var sources []string
	if inConf {
		sources = append(sources, "QDB_CLIENT_CONF")
	}
	for _, name := range []string{"ILP_AUTH_JWK", "ILP_AUTH_JWK_FILE", "ILP_AUTH_KEY", "ILP_AUTH_KEY_FILE"} {
		if set[name] {
			sources = append(sources, name)
		}
	}
	switch {
	case len(sources) > 1:
		last := len(sources) - 1
		problems.add(sources[last], fmt.Sprintf("the key comes from %s too", strings.Join(sources[:last], " and ")), "one source of the key only")
	case len(sources) == 1:
		scalar := strings.HasPrefix(sources[0], "ILP_AUTH_KEY")
		if set["ILP_AUTH_KEY_ID"] && !scalar {
			problems.add("ILP_AUTH_KEY_ID", sources[0]+" has the key id already", "not set, or with ILP_AUTH_KEY or ILP_AUTH_KEY_FILE")
		} else if !set["ILP_AUTH_KEY_ID"] && scalar {
			problems.add("ILP_AUTH_KEY_ID", "not set, and "+sources[0]+" needs it", "")
		}
	case set["ILP_AUTH_KEY_ID"]:
		problems.add("ILP_AUTH_KEY_ID", "there is a key id and no key", "with ILP_AUTH_KEY or ILP_AUTH_KEY_FILE")
	case problems.about("QDB_CLIENT_CONF"):
		// Its own problem comes first; the key may be in it.
	default:
		problems.add("ILP_AUTH_JWK_FILE", "no key is set", "the path of a JWK (or use ILP_AUTH_JWK, ILP_AUTH_KEY_ID with ILP_AUTH_KEY or ILP_AUTH_KEY_FILE, or QDB_CLIENT_CONF); keygen makes one")
	}
}

// holdsSecret reports whether one of the variables that are secrets is in a value.
func holdsSecret(value string, values map[string]string) bool {
	for field := range fields() {
		if field.Type != reflect.TypeFor[auth.Secret]() {
			continue
		}
		if secret := values[field.Tag.Get("env")]; len(secret) >= minToken && strings.Contains(value, secret) {
			return true
		}
	}
	return false
}

// conceal takes the token of the admin port out of what is said, in case it was put into
// another variable. What looks like a key is not in it anyway.
func (c *Config) conceal(problems Errors) {
	token := c.AdminToken.Reveal()
	if len(token) < minToken {
		return
	}
	for i := range problems {
		problems[i].Problem = strings.ReplaceAll(problems[i].Problem, token, auth.Redacted)
		problems[i].Hint = strings.ReplaceAll(problems[i].Hint, token, auth.Redacted)
	}
}

// checkMisplaced refuses a secret in a variable that is shown, in the log and elsewhere.
func (c *Config) checkMisplaced(values map[string]string, problems *Errors) {
	token := c.AdminToken.Reveal()
	for field := range fields() {
		name := field.Tag.Get("env")
		value := values[name]
		if field.Type == reflect.TypeFor[auth.Secret]() || value == "" || problems.about(name) {
			continue
		}
		switch {
		case c.Key != nil && c.Key.IsIn(value):
			problems.add(name, "the private key is in it", "")
		case len(token) >= minToken && strings.Contains(value, token):
			problems.add(name, "the token of ILP_ADMIN_TOKEN is in it", "")
		}
	}
}

func (c *Config) keyOfJWK(name string, jwk auth.Secret, problems *Errors) {
	key, err := auth.ParseJWK([]byte(jwk.Reveal()))
	if err != nil {
		problems.add(name, err.Error(), "")
		return
	}
	c.Key = key
}

func (c *Config) keyOfScalar(name string, d auth.Secret, problems *Errors) {
	if err := auth.CheckID(c.AuthKeyID); err != nil {
		problems.add("ILP_AUTH_KEY_ID", err.Error(), "")
		return
	}
	if strings.HasPrefix(d.Reveal(), "{") {
		problems.add(name, "it looks like a JWK", "in "+strings.Replace(name, "KEY", "JWK", 1)+", without ILP_AUTH_KEY_ID")
		return
	}
	key, err := auth.NewKey(c.AuthKeyID, d)
	if err != nil {
		problems.add(name, err.Error(), "")
		return
	}
	c.Key = key
}

// openFile opens the file that the variable name names. It may be a pipe, as of a
// shell's <(...): whoever should write to that is not waited for without a limit.
func openFile(name, path string, problems *Errors) (*os.File, bool) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		_ = file.SetReadDeadline(time.Now().Add(readLimit)) // a file on a disk has none, and needs none
		return file, true
	}
	var why *os.PathError
	if errors.As(err, &why) { // it quotes the path, whatever that is
		err = why.Err
	}
	problems.add(name, fmt.Sprintf("cannot open %s: %s", shorten(path), err), "")
	return nil, false
}

// warnIfOpen warns of a secret's file that everyone may read.
func (c *Config) warnIfOpen(name, path string, file *os.File) {
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0 {
		c.warn("%s: everyone on this machine may read %s; chmod 600 it, or set the volume's defaultMode to 0400", name, path)
	}
}

// readSecret reads a small file without the white space around its text.
func (c *Config) readSecret(name, path string, problems *Errors) (auth.Secret, bool) {
	if _, err := os.Stat(path); err != nil && auth.LooksLikeKey(path) { // a path may look like one
		problems.add(name, "it looks like the key itself, which is not shown here", "the path of a file that holds it, or the key in "+strings.TrimSuffix(name, "_FILE"))
		return auth.Secret{}, false
	}
	file, ok := openFile(name, path, problems)
	if !ok {
		return auth.Secret{}, false
	}
	defer file.Close()
	c.warnIfOpen(name, path, file)
	data, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	switch text := strings.TrimSpace(string(data)); {
	case err != nil:
		problems.add(name, err.Error(), "")
	case len(data) > maxKeyFile:
		problems.add(name, fmt.Sprintf("%s is larger than 64KiB, that is no key", path), "")
	case text == "":
		problems.add(name, path+" is empty", "")
	default:
		return auth.NewSecret(text), true
	}
	return auth.Secret{}, false
}
