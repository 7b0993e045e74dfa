package auth

import (
	"fmt"
	"log/slog"
)

// Redacted is what every formatter, logger and marshaler shows of a [Secret].
const Redacted = "[redacted]"

// Secret is a string that must not be seen: it prints as [Redacted] whatever
// the verb, in slog, in JSON and in every format that asks for text. The zero
// value is the empty secret.
//
// The text is behind a pointer, because fmt prints unexported struct fields
// without asking their methods: there it finds an address.
type Secret struct{ text *string }

// NewSecret returns s as a secret.
func NewSecret(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{&s}
}

// Reveal returns the text itself. Whoever calls it answers for where it goes.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String returns [Redacted].
func (s Secret) String() string { return Redacted }

// Format implements [fmt.Formatter] for all verbs and flags.
func (s Secret) Format(f fmt.State, _ rune) { redact(f, Redacted) }

// LogValue implements [slog.LogValuer].
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements [encoding.TextMarshaler]; JSON, XML and YAML use it too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// UnmarshalText implements [encoding.TextUnmarshaler], so that a secret can be
// read from the environment or from JSON. It takes the text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// redact writes text to f. There is nobody to tell if that fails.
func redact(f fmt.State, text string) { _, _ = f.Write([]byte(text)) }
