// Package observe tests what is for looking at the proxy from outside: the
// dashboard in dashboards/ and the alerts in alerts/. A real Prometheus scrapes a
// real proxy under load, and is asked every query of both.
//
// The package works on Linux only.
package observe
