// Package cli is the command line: the subcommands, their help and exit codes,
// and in wire.go the putting together of everything that serve runs.
package cli
