// Package markdown reads so much of the project's Markdown as tests need: where its
// links lead, and which headings they can lead to.
package markdown

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// A Link is one in a text.
type Link struct {
	Line   int // from 1
	Target string
}

var (
	inline    = regexp.MustCompile(`\]\(([^()\s]+)(?:\s+"[^"]*")?\)`)
	reference = regexp.MustCompile(`^\s{0,3}\[[^\]]+\]:\s*(\S+)`)
	code      = regexp.MustCompile("``.*?``|`[^`]*`")
	linked    = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)`)
	heading   = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*\s*$`)
)

// Links returns the links and pictures of a text, but not those in code.
func Links(text string) (links []Link) {
	each(text, func(n int, line string) {
		line = code.ReplaceAllString(line, "")
		for _, m := range inline.FindAllStringSubmatch(line, -1) {
			links = append(links, Link{n, m[1]})
		}
		if m := reference.FindStringSubmatch(line); m != nil {
			links = append(links, Link{n, strings.Trim(m[1], "<>")})
		}
	})
	return links
}

// Anchors returns what can stand behind the # of a link to a text: a name for each of
// its headings, as GitHub, GitLab and Gitea make them.
func Anchors(text string) map[string]bool {
	anchors := map[string]bool{}
	each(text, func(_ int, line string) {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			return
		}
		name := anchor(m[1])
		for n := 1; anchors[name]; n++ {
			name = anchor(m[1]) + "-" + strconv.Itoa(n)
		}
		anchors[name] = true
	})
	return anchors
}

func anchor(title string) string {
	title = linked.ReplaceAllString(title, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}

// each calls f for the lines that are not in a block of code.
func each(text string, f func(n int, line string)) {
	fence := ""
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\r\n")
		switch begin := strings.TrimLeft(line, " "); {
		case fence == "" && (strings.HasPrefix(begin, "```") || strings.HasPrefix(begin, "~~~")):
			fence = begin[:3]
		case fence != "" && strings.HasPrefix(begin, fence):
			fence = ""
		case fence == "":
			f(n, line)
		}
	}
}
