package config

import "strings"

// confPair is one key=value of a client configuration string.
type confPair struct{ key, value string }

// splitClientConf cuts schema::key=value;key=value; apart. Within a value ;; is
// a semicolon. The last ; may be missing. Errors name keys, never values: in a
// broken string a token may be anywhere.
func splitClientConf(text string) (schema string, pairs []confPair, err error) {
	schema, rest, found := strings.Cut(text, "::")
	if !found {
		return "", nil, invalid("it does not begin with a schema and ::")
	}
	if err := checkSchema(schema); err != nil {
		return "", nil, err
	}
	last := "the schema"
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		if !found || strings.Contains(key, ";") {
			return "", nil, invalid("behind %s comes something without a =", last).should("key=value pairs, each ended by ;")
		}
		if !isConfKey(key) {
			return "", nil, invalid("behind %s comes something that is no key", last).should("keys of letters, digits and _; a ; within a value is written ;;")
		}
		value, after, err := cutConfValue(after)
		if err != nil {
			return "", nil, invalid("%s: %s", key, err)
		}
		pairs = append(pairs, confPair{key, value})
		last, rest = key, after
	}
	return schema, pairs, nil
}

// cutConfValue cuts the value off that text begins with.
func cutConfValue(text string) (value, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == ';' && i+1 < len(text) && text[i+1] == ';':
			b.WriteByte(c)
			i++
		case c == ';':
			return b.String(), text[i+1:], nil
		case c < 0x20 || c == 0x7f:
			return "", "", invalid("its value has a control character (0x%02x)", c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

func isConfKey(key string) bool {
	for _, c := range []byte(key) {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return key != ""
}

func checkSchema(schema string) error {
	switch schema {
	case "tcp", "tcps":
		return nil
	case "http", "https":
		return invalid("%s:: is ILP over HTTP, the proxy speaks ILP over TCP", schema).should("tcp:: (tcps:: over TLS) with the address of QuestDB's ILP/TCP port, 9009 by default")
	}
	if lower := strings.ToLower(schema); lower == "tcp" || lower == "tcps" {
		return invalid("schema %s is not lower-case", shorten(schema)).should("%s::", lower)
	}
	return invalid("it does not begin with a schema that clients know").should("tcp:: at its beginning")
}
