// Command questdb-ilp-proxy takes InfluxDB line protocol from writers that know
// nothing of authentication, and passes it on to a QuestDB that demands it.
package main

import (
	"context"
	"os"

	"questdb-ilp-proxy/proxy/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args, os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
