// Package helm holds the chart, and tests of what Helm's own tools cannot see: that
// the chart knows every variable of the configuration, and has the same dashboard
// and alerts as the repository.
package helm
