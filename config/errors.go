package config

import (
	"fmt"
	"slices"
	"strings"

	"questdb-ilp-proxy/auth"
)

// Problem is one thing that is wrong with the configuration.
type Problem struct {
	Var     string // the variable
	Problem string // what is wrong
	Hint    string // what would be right
}

// String returns the problem as one line.
func (p Problem) String() string {
	line := p.Var + ": " + p.Problem
	if p.Hint != "" {
		line += "; should be " + p.Hint
	}
	// Values are quoted where they are shown; this is for what is left.
	return strings.NewReplacer("\n", " ", "\r", " ").Replace(line)
}

// Errors is everything that is wrong with the configuration, sorted by variable.
type Errors []Problem

// Error returns all problems, one on a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, p := range e {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// add notes a problem. Without a hint it gets the one of the variable's tag.
func (e *Errors) add(name, problem, hint string) {
	if hint == "" {
		hint = hints()[name]
	}
	// A key may be where nobody looked for one.
	*e = append(*e, Problem{name, auth.HideKeys(problem), auth.HideKeys(hint)})
}

// about reports whether there is a problem with the variable.
func (e Errors) about(name string) bool {
	return slices.ContainsFunc(e, func(p Problem) bool { return p.Var == name })
}

// err returns e, sorted, or nil if it is empty.
func (e Errors) err() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b Problem) int { return strings.Compare(a.Var, b.Var) })
	return e
}

// valueError is what is wrong with one value, with a hint of its own where the
// variable's general one would not help.
type valueError struct{ problem, hint string }

func (e *valueError) Error() string { return e.problem }

func invalid(format string, args ...any) *valueError {
	return &valueError{problem: fmt.Sprintf(format, args...)}
}

func (e *valueError) should(format string, args ...any) *valueError {
	e.hint = fmt.Sprintf(format, args...)
	return e
}

// shorten quotes a value for an error message, so that a huge one stays small and
// a key that is in the wrong place stays secret.
func shorten(value string) string {
	const most = 60
	if auth.MayHoldKey(value) {
		return "a value that may be a key and is not shown here"
	}
	if len(value) > most {
		return fmt.Sprintf("%q...", value[:most])
	}
	return fmt.Sprintf("%q", value)
}
