package config

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of variables into README.md")

// TestReadme keeps the README's table what the code says; after a change of
// the code, go test ./config -update writes it.
func TestReadme(t *testing.T) {
	const path = "../README.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	begin, end := strings.Index(text, TableBegin), strings.Index(text, TableEnd)
	if begin < 0 || end < begin {
		t.Fatalf("%s has no table between %s and %s", path, TableBegin, TableEnd)
	}
	end += len(TableEnd)
	if text[begin:end] == MarkdownTable() {
		return
	}
	if !*update {
		t.Fatalf("%s differs from the code, run: go test ./config -update\ngot\n%s\nwant\n%s", path, text[begin:end], MarkdownTable())
	}
	if err := os.WriteFile(path, []byte(text[:begin]+MarkdownTable()+text[end:]), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestVariablesAreComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range Variables() {
		if seen[v.Name] || v.Description == "" || strings.ContainsAny(v.Description, "|\n${}") || hints()[v.Name] == "" {
			t.Errorf("%+v", v)
		}
		seen[v.Name] = true
	}
	if len(seen) != 44 {
		t.Errorf("%d variables", len(seen))
	}
}
