package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/lmittmann/tint"
)

// holder has secrets in every place where a formatter may come upon one.
type holder struct {
	Exported Secret
	hidden   Secret
	Pointer  *Secret
	List     []Secret
	Map      map[string]Secret
	Any      any
	Key      *Key
	key      *Key
	Value    Key
	value    Key
}

func newHolder(t *testing.T) holder {
	s, key := NewSecret(docD), docKey(t)
	return holder{s, s, &s, []Secret{s}, map[string]Secret{"d": s}, s, key, key, *key, *key}
}

// mustNotShow fails if out has the private key in it in any encoding.
func mustNotShow(t *testing.T, out string) {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(docD)
	if err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprint(raw) // [229 72 196 ...
	for _, form := range []string{
		docD, base64.RawStdEncoding.EncodeToString(raw), hex.EncodeToString(raw), hex.EncodeToString([]byte(docD)),
		string(raw), strings.Trim(number, "[]"), new(big.Int).SetBytes(raw).String(),
	} {
		if strings.Contains(strings.ToLower(out), strings.ToLower(form)) {
			t.Errorf("secret is visible as %q in: %s", form, out)
		}
	}
}

func TestSecretThroughEveryVerb(t *testing.T) {
	h := newHolder(t)
	values := map[string]any{
		"secret": h.Exported, "pointer": h.Pointer, "list": h.List, "map": h.Map, "key": h.Key, "key value": h.Value,
		"struct": h, "pointer to struct": &h, "error": errors.Join(fmt.Errorf("with %v", h.Exported)),
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			for _, verb := range "vTtbcdoOqxXUeEfFgGsp" {
				for _, flags := range []string{"", "+", "#", " ", "0", "-", "10", ".3", "+#"} {
					mustNotShow(t, fmt.Sprintf("%"+flags+string(verb), value))
				}
			}
			mustNotShow(t, fmt.Sprintln(value))
		})
	}
	if got := fmt.Sprintf("%v %+v %#v %q %x %s", h.Exported, h.Exported, h.Exported, h.Exported, h.Exported, h.Exported); got != strings.TrimSpace(strings.Repeat(Redacted+" ", 6)) {
		t.Errorf("got %s", got)
	}
	if got := fmt.Sprint(h.Key); got != `key "testUser1" [redacted]` {
		t.Errorf("got %s", got)
	}
}

func TestSecretThroughLoggers(t *testing.T) {
	h := newHolder(t)
	var out bytes.Buffer
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	for name, handler := range map[string]slog.Handler{
		"text": slog.NewTextHandler(&out, options),
		"json": slog.NewJSONHandler(&out, options),
		"tint": tint.NewTextHandler(&out, &tint.Options{Level: slog.LevelDebug}),
	} {
		t.Run(name, func(t *testing.T) {
			out.Reset()
			log := slog.New(handler)
			log.Info("x", "secret", h.Exported, "pointer", h.Pointer, "key", h.Key, "value", h.Value, "struct", h, "list", h.List)
			log.With("secret", h.Exported).WithGroup("g").Error("x", slog.Group("k", "key", h.Key))
			mustNotShow(t, out.String())
			if !strings.Contains(out.String(), Redacted) {
				t.Errorf("nothing redacted in %s", out.String())
			}
		})
	}
}

func TestSecretThroughMarshalers(t *testing.T) {
	h := newHolder(t)
	for name, marshal := range map[string]func() ([]byte, error){
		"json":        func() ([]byte, error) { return json.Marshal(h) },
		"json secret": func() ([]byte, error) { return json.Marshal(h.Exported) },
		"json key":    func() ([]byte, error) { return json.Marshal(h.Key) },
		"json map":    func() ([]byte, error) { return json.Marshal(map[string]any{"a": h.Value}) },
		"xml secret":  func() ([]byte, error) { return xml.Marshal(h.Exported) },
		"xml list":    func() ([]byte, error) { return xml.Marshal(h.List) },
		"xml key":     func() ([]byte, error) { return xml.Marshal(h.Key) },
		"text secret": h.Exported.MarshalText,
		"text key":    h.Key.MarshalText,
	} {
		t.Run(name, func(t *testing.T) {
			out, err := marshal()
			if err != nil {
				t.Fatal(err)
			}
			mustNotShow(t, string(out))
			if !strings.Contains(string(out), Redacted) {
				t.Errorf("got %s", out)
			}
		})
	}
	t.Run("gob", func(t *testing.T) { // refuses or redacts, never shows
		var out bytes.Buffer
		_ = gob.NewEncoder(&out).Encode(h.Exported)
		_ = gob.NewEncoder(&out).Encode(struct{ A Secret }{h.Exported})
		_ = gob.NewEncoder(&out).Encode(h.Key)
		mustNotShow(t, out.String())
	})
}

func TestSecretKeepsItsText(t *testing.T) {
	var s Secret
	if !s.IsZero() || s.Reveal() != "" {
		t.Error("the zero value is not empty")
	}
	if err := s.UnmarshalText([]byte(" a b ")); err != nil || s.Reveal() != " a b " || s.IsZero() {
		t.Errorf("got %q, %v", s.Reveal(), err)
	}
	if err := json.Unmarshal([]byte(`"x"`), &s); err != nil || s.Reveal() != "x" {
		t.Errorf("got %q, %v", s.Reveal(), err)
	}
}
