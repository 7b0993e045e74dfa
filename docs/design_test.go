package docs

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "questdb-ilp-proxy/"

// TestPackages compares the table in design.md with the code: every package of the
// proxy is in it, and imports go only downwards.
func TestPackages(t *testing.T) {
	text, err := os.ReadFile("design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n### Packages\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var order []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|").FindAllStringSubmatch(table, -1) {
		order = append(order, m[1])
	}
	imports := imports(t)
	for pkg := range imports {
		if !slices.Contains(order, pkg) {
			t.Errorf("design.md's table lacks %s", pkg)
		}
	}
	for i, pkg := range order {
		if imports[pkg] == nil {
			t.Errorf("design.md's table has %s, which is no package", pkg)
		}
		for _, other := range imports[pkg] {
			if slices.Index(order, other) <= i {
				t.Errorf("%s imports %s, which is not below it in design.md's table", pkg, other)
			}
		}
	}
}

// imports returns the packages that the binary is made of, and which of them each
// imports.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, top := range []string{"auth", "config", "proxy"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			pkg, err := filepath.Rel(root, filepath.Dir(path))
			if err != nil {
				return err
			}
			found := append([]string{}, all[pkg]...)
			for _, spec := range file.Imports {
				if name, err := strconv.Unquote(spec.Path.Value); err == nil && strings.HasPrefix(name, module) {
					found = append(found, strings.TrimPrefix(name, module))
				}
			}
			all[pkg] = found
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}
