package config

import "strings"

// Example returns a commented file of all variables with their defaults, in the form
// that Docker's --env-file, systemd's EnvironmentFile= and others read. As it is it
// sets nothing.
func Example() string {
	var b strings.Builder
	b.WriteString(`# Configuration of questdb-ilp-proxy, for docker run --env-file, EnvironmentFile= of
# systemd, and the like. What is commented out below is the default: remove the # to
# change it. Two things have no default: ILP_UPSTREAM, and a key in one of its forms
# (ILP_AUTH_JWK_FILE, say). QDB_CLIENT_CONF can be both.
`)
	for _, v := range Variables() {
		b.WriteString("\n# " + strings.ReplaceAll(v.Description, "`", "") + "\n#" + v.Name + "=" + v.Default + "\n")
	}
	return b.String()
}
