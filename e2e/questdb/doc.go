// Package questdb runs real QuestDB servers for the end-to-end tests and the demo.
//
// A test says
//
//	db := questdb.Start(t, questdb.Options{Keys: []*auth.Key{key}})
//
// and has a server that demands authentication on its ILP port, on ports that
// the kernel chose, in a folder of its own. It can query it, stop it politely,
// kill it, pause it, and start it again on the same data and the same ports.
// When the test ends, or its process dies in whatever way, the server and its
// folder are gone. Programs that have no testing.TB use [Run].
//
// The servers come from Maven Central, one jar each, named and pinned by
// pom.xml in this folder; [Jar] fetches them once into build/questdb. Java 17
// or newer and Maven are needed, and an error names the one that is missing.
//
// SQL goes over the PostgreSQL wire for every version, because the HTTP server
// of 7.x accepts connections and rarely answers them.
//
// The package works on Linux only.
package questdb
