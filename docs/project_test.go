package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// run runs make in the project's root, and returns what it printed.
func run(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	cmd := exec.Command("make", append([]string{"--no-print-directory"}, args...)...)
	cmd.Dir = root
	// Not the flags and variables of the make that may run this test.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") || strings.HasPrefix(v, "TAG=")
	})
	text, err := cmd.CombinedOutput()
	return string(text), err
}

// TestHelp wants every target that is not a file in make help, below the heading of
// a group.
func TestHelp(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	help, err := run(t, "help")
	if err != nil {
		t.Fatalf("%v: %s", err, help)
	}
	targets := 0
	for _, line := range regexp.MustCompile(`(?m)^\.PHONY:(.*)$`).FindAllStringSubmatch(string(makefile), -1) {
		for _, target := range strings.Fields(line[1]) {
			targets++
			if !regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(target) + ` +\S`).MatchString(help) {
				t.Errorf("make help does not have %s:\n%s", target, help)
			}
		}
	}
	if groups := regexp.MustCompile(`(?m)^[A-Z].*$`).FindAllString(help, -1); targets < 10 || len(groups) < 3 {
		t.Errorf("%d targets in the groups %q", targets, groups)
	}
}

func TestReleaseNotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changelog.md")
	text := "# Changelog\n\n## Unreleased\n\n- later\n\n## [1.2.0] - 2026-01-02\n\n### Added\n\n- one\n\n- two\n\n" +
		"## [1.1.0] - 2025-01-01\n- three\n\n[1.1.0]: https://x.example\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]string{
		"v1.2.0": "### Added\n\n- one\n\n- two\n",
		"1.1.0":  "- three\n",
	} {
		if got, err := run(t, "release-notes", "CHANGELOG="+path, "TAG="+tag); err != nil || got != want {
			t.Errorf("%s: %v, %q, want %q", tag, err, got, want)
		}
	}
	if got, err := run(t, "release-notes", "CHANGELOG="+path, "TAG=v1.2"); err == nil || !strings.Contains(got, "no section [1.2]") {
		t.Errorf("a tag without a section: %v, %q", err, got)
	}
	// A section for what comes next, where it is looked for.
	if text, err := os.ReadFile(filepath.Join(root, "CHANGELOG.md")); err != nil || !strings.Contains(string(text), "\n## Unreleased\n") {
		t.Errorf("CHANGELOG.md has no section Unreleased (%v)", err)
	}
}
