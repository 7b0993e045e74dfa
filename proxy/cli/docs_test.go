package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

var update = flag.Bool("update", false, "write the generated reference and manual pages into docs/")

// TestDocs keeps the reference and the manual pages what the commands' help says;
// after a change of the code, go test ./proxy/cli -update writes them.
func TestDocs(t *testing.T) {
	const dir = "../../docs"
	want := docs(t)
	present, err := filepath.Glob(dir + "/man/*.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range present {
		name := "man/" + filepath.Base(path)
		if _, ok := want[name]; ok {
			continue
		}
		if !*update {
			t.Errorf("%s is of no command, run: go test ./proxy/cli -update", path)
		} else if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
	for name, text := range want {
		path := filepath.Join(dir, name)
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
		} else if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s differs from the code (%v), run: go test ./proxy/cli -update", path, err)
		}
	}
}

// docs returns the files of docs/ that are generated.
func docs(t *testing.T) map[string][]byte {
	t.Helper()
	root := (&program{}).rootCommand()
	files := map[string][]byte{}
	var reference bytes.Buffer
	reference.WriteString("<!-- Generated: go test ./proxy/cli -update -->\n\n")
	anchor := func(file string) string {
		return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-")
	}
	var each func(*cobra.Command)
	each = func(c *cobra.Command) {
		c.DisableAutoGenTag = true // it has a date
		if err := doc.GenMarkdownCustom(c, &reference, anchor); err != nil {
			t.Fatal(err)
		}
		// The pages' date would otherwise be that of the run.
		header := &doc.GenManHeader{Section: "1", Source: name, Date: new(time.Unix(0, 0).UTC())}
		var page bytes.Buffer
		if err := doc.GenMan(c, header, &page); err != nil {
			t.Fatal(err)
		}
		files["man/"+strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"] = page.Bytes()
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				each(sub)
			}
		}
	}
	each(root)
	files["reference.md"] = reference.Bytes()
	return files
}
