package ilp

import (
	"strings"
	"unicode/utf8"
)

// Table returns the name of the table that record is for, unescaped; ok is false where it can't be read. As
// in QuestDB (7.4.2 to 9.3.4, seen) the name ends where it is not UTF-8: what a Latin-1 writer calls "café"
// is table "caf". It need not be one that the server allows: see TableFault.
func Table(record []byte) (name string, ok bool) {
	v := validator{b: record}
	for v.i < len(record) && IsBlank(record[v.i:v.i+1]) {
		v.i++
	}
	text, end, err := v.name()
	if err != nil || end != ',' && end != ' ' {
		return "", false
	}
	return string(text[:validUTF8(text)]), true
}

// validUTF8 returns how many of the first bytes of text are UTF-8.
func validUTF8(text []byte) int {
	if utf8.Valid(text) {
		return len(text)
	}
	n := 0
	for {
		r, size := utf8.DecodeRune(text[n:])
		if r == utf8.RuneError && size < 2 {
			return n
		}
		n += size
	}
}

// longestTable is how many bytes the name of a table has at most, as of the folder that holds it, on the
// file systems that there are. QuestDB's own limit is less, and can be set.
const longestTable = 255

// TableFault reports whether QuestDB allows no table of this name, as TableUtils.isValidTableName has it in 7.4.2
// to 9.3.4: then each record for it is refused, whatever the server's state. fault is a name, not allowed either,
// that stands for all with the same fault: the first character that makes it illegal, or the like.
//
// A name of more than cairo.max.file.name.length characters (127, unless that is set) is not allowed either; here
// only those are that no setting allows.
func TableFault(name string) (fault string, illegal bool) {
	switch {
	case name == "":
		return "", true
	case len(name) > longestTable:
		return strings.Repeat("x", longestTable+1), true
	case name[0] == ' ' || name[len(name)-1] == ' ':
		return " ", true
	}
	before := '.'
	for _, c := range name {
		switch {
		case c < 0x10, c == 0x7f, c == 0xfeff:
			return string(c), true
		case c == '.' && before == '.':
			return "..", true
		}
		switch c {
		case '?', ',', '\'', '"', '\\', '/', ':', ')', '(', '+', '*', '%', '~':
			return string(c), true
		}
		before = c
	}
	return "..", before == '.'
}
