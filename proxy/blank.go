package proxy

import "questdb-ilp-proxy/proxy/ilp"

// QuestDB takes a run of blank lines for the beginning of the record behind it. 9.x
// makes its buffer grow for a long one, and then reads more at the end of a connection
// than there is padding for, so that the refusal of one of the last records would not
// show; 8.x refuses it like a record that is too long. So long runs do not go upstream.

// blankStep is how far apart a chunk is looked at for blank lines, so that none of
// blankStep+blankSeen bytes is missed: two of those, one behind the other, are less than
// delivery.MaxBlank.
const (
	blankStep = 256
	blankSeen = 8
)

// manyBlanks reports whether p may hold a long run of blank lines: it does not miss any.
func manyBlanks(p []byte) bool {
	for i := blankStep - 1; i+blankSeen <= len(p); i += blankStep {
		if b := p[i]; (b == '\n' || b == '\r' || b == '=') && ilp.IsBlank(p[i:i+blankSeen]) {
			return true
		}
	}
	return false
}

// withoutBlanks moves the records among whole lines to the front of them.
func withoutBlanks(whole []byte) []byte {
	kept := whole[:0]
	for line := range eachRecord(whole) {
		if !ilp.IsBlank(line) {
			kept = append(kept, line...)
		}
	}
	return kept
}
