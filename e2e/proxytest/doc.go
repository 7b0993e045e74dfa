// Package proxytest runs the proxy as a real process for the end-to-end tests.
//
// A test says
//
//	p := proxytest.Start(t, proxytest.EnvFor(key, db.ILP()))
//
// and has a proxy that listens on ports of the kernel's choice, built with the
// race detector, with no other configuration than what it was given. The test
// can ask its log, health and metrics, signal it and wait for its end. When the
// test ends, or its process dies in whatever way, the proxy is gone.
//
// Whatever the test is about, it fails if the race detector found something, if
// the proxy panicked, or if a key or token that it was given is in its output.
//
// The package works on Linux only.
package proxytest
