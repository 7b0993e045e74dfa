// Package docs has no code: its tests look after the project's documents.
package docs

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"questdb-ilp-proxy/e2e/markdown"
)

const root = ".."

// TestLinks follows the links of every Markdown file of the project that lead to
// another of its files, or to a heading.
func TestLinks(t *testing.T) {
	texts := documents(t)
	if len(texts) < 3 {
		t.Fatalf("only %d documents found", len(texts))
	}
	followed := 0
	for path, text := range texts {
		for _, link := range markdown.Links(text) {
			u, err := url.Parse(link.Target)
			if err != nil {
				t.Errorf("%s:%d: %v", path, link.Line, err)
				continue
			}
			if u.Scheme != "" || u.Host != "" {
				continue
			}
			followed++
			to := path
			if u.Path != "" {
				to = filepath.Join(filepath.Dir(path), filepath.FromSlash(u.Path))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil || strings.HasPrefix(to, "..") || strings.HasPrefix(u.Path, "/") {
				t.Errorf("%s:%d: %s leads to no file of the project", path, link.Line, link.Target)
				continue
			}
			if u.Fragment != "" && !markdown.Anchors(texts[to])[u.Fragment] {
				t.Errorf("%s:%d: %s leads to no heading", path, link.Line, link.Target)
			}
		}
	}
	if followed < 10 {
		t.Errorf("only %d links found", followed)
	}
}

// documents returns the Markdown files of the project, by their paths in it.
func documents(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		path, err = filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch name := entry.Name(); {
		case entry.IsDir() && (path == "build" || path == "bin" || path == "dist" || name == "node_modules" || name == ".git"):
			return filepath.SkipDir
		case !entry.IsDir() && filepath.Ext(name) == ".md":
			text, err := os.ReadFile(filepath.Join(root, path))
			if err != nil {
				return err
			}
			texts[path] = string(text)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}
