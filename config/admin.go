package config

import (
	"strings"

	"questdb-ilp-proxy/auth"
)

// minToken is the length of the shortest token, in characters: nobody guesses it.
const minToken = 16

// AdminClient returns where on this machine the admin port of a proxy with these
// environment variables answers, as host:port, and its token, which is zero
// without one. It looks at ILP_ADMIN, ILP_ADMIN_TOKEN and ILP_ADMIN_TOKEN_FILE
// alone, so that a probe needs neither a key nor an upstream. If anything is wrong
// the error is [Errors].
func AdminClient(environ []string) (addr string, token auth.Secret, err error) {
	values, set := map[string]string{}, map[string]bool{}
	for _, v := range Variables() {
		if v.Name == "ILP_ADMIN" {
			values[v.Name] = v.Default
		}
	}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if value = strings.TrimSpace(value); value != "" && strings.HasPrefix(name, "ILP_ADMIN") {
			values[name], set[name] = value, true
		}
	}
	var problems Errors
	c := &Config{AdminToken: auth.NewSecret(values["ILP_ADMIN_TOKEN"]), AdminTokenFile: values["ILP_ADMIN_TOKEN_FILE"]}
	c.resolveAdminToken(set, &problems)
	if err := c.Admin.UnmarshalText([]byte(values["ILP_ADMIN"])); err != nil {
		problems.addValue("ILP_ADMIN", err)
	} else if c.Admin == "" {
		problems.add("ILP_ADMIN", "it is off, so nothing can be asked", "as the proxy has it, like 127.0.0.1:9090")
	} else if at, ok := (Listen{Network: "tcp", Addr: string(c.Admin)}).writerAddr(); ok {
		addr = at
	} else {
		problems.add("ILP_ADMIN", "the port of "+string(c.Admin)+" is not known before the proxy runs", "an address with a port")
	}
	if err := problems.err(); err != nil {
		return "", auth.Secret{}, err
	}
	return addr, c.AdminToken, nil
}

// resolveAdminToken reads the token's file into AdminToken, and judges the token.
func (c *Config) resolveAdminToken(set map[string]bool, problems *Errors) {
	name := "ILP_ADMIN_TOKEN"
	if set["ILP_ADMIN_TOKEN_FILE"] {
		if set[name] {
			problems.add("ILP_ADMIN_TOKEN_FILE", "ILP_ADMIN_TOKEN is set too", "one of the two only")
			return
		}
		name = "ILP_ADMIN_TOKEN_FILE"
		token, ok := c.readSecret(name, c.AdminTokenFile, problems)
		if !ok {
			return
		}
		c.AdminToken = token
	}
	if c.AdminToken.IsZero() {
		return
	}
	// The value is in no message: it is a secret, if a bad one.
	token := c.AdminToken.Reveal()
	unprintable := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(token) < minToken || strings.ContainsFunc(token, unprintable) {
		problems.add(name, "the token is too short, or has characters that do not fit in an HTTP header", hints()["ILP_ADMIN_TOKEN"])
	}
}

// HostNames is a list of host names, in lower case.
type HostNames []string

// UnmarshalText reads a comma-separated list.
func (h *HostNames) UnmarshalText(text []byte) error {
	items, err := splitList(strings.ToLower(string(text)))
	if err != nil {
		return err
	}
	for _, item := range items {
		if err := checkHost(item); err != nil {
			return err
		}
	}
	*h = items
	return nil
}
