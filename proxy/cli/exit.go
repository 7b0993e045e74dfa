package cli

import "errors"

// The exit codes of all commands.
const (
	ExitOK      = 0
	ExitFailure = 1 // it was tried, and failed; serve: records were left
	ExitUsage   = 2 // wrong configuration, argument or flag: nothing was tried
)

// ExitError is an error with the exit code that it means.
type ExitError struct {
	Code int
	Err  error // nil if everything was said already
}

// Error returns the text of Err.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return "failed"
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// failure gives err the code of a failure, unless it has one.
func failure(err error) error {
	var exit *ExitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return &ExitError{ExitFailure, err}
}
