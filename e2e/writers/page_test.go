package writers

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const pages = "../../docs/writers"

// block is a fenced block whose info string names a file: its language, the name,
// the text.
var block = regexp.MustCompile("(?ms)^```([a-z]+) ([^`\n ]+)\n(.*?)^```$")

// files returns the blocks of a page by the names of their files.
func files(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(pages, page+".md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		if _, twice := found[m[2]]; twice {
			t.Fatalf("%s.md has %s twice", page, m[2])
		}
		found[m[2]] = m[3]
	}
	return found
}

// TestPages wants a test for each page, and for each file on it; and each page in
// the index.
func TestPages(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(pages, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob(filepath.Join(pages, "*.md"))
	if err != nil || len(paths) < 2 {
		t.Fatalf("no pages: %v", err)
	}
	for _, path := range paths {
		page := strings.TrimSuffix(filepath.Base(path), ".md")
		if page == "README" {
			continue
		}
		if !strings.Contains(string(index), "("+page+".md)") {
			t.Errorf("the index has no link to %s.md", page)
		}
		var tried []string
		for _, w := range writers() {
			if w.page == page {
				tried = append(tried, w.files...)
			}
		}
		if len(tried) == 0 {
			t.Errorf("nothing tries what is on %s.md", page)
		}
		for name := range files(t, page) {
			if !slices.Contains(tried, name) {
				t.Errorf("nothing tries %s of %s.md", name, page)
			}
		}
	}
}
