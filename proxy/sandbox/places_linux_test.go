package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPlaces(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(path string) string { return filepath.Join(root, path) }
	for _, dir := range []string{"keys/..1", "releases/5", "current", "etc", "certs/live", "certs/archive"} {
		if err := os.MkdirAll(at(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"keys/..1/key", "releases/5/key", "certs/archive/cert1"} {
		if err := os.WriteFile(at(file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"keys/..data": "..1", "keys/key": "..data/key",
		"current/key": at("releases/now/key"), "releases/now": "5",
		"certs/live/cert": "../archive/cert1",
		"etc/loop":        "loop",
	} {
		if err := os.Symlink(target, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ paths, want []string }{
		"none":                          {nil, nil},
		"a file":                        {[]string{at("releases/5/key")}, []string{at("releases/5")}},
		"one that is not there":         {[]string{at("etc/none")}, []string{at("etc")}},
		"as Kubernetes mounts it":       {[]string{at("keys/key")}, []string{at("keys")}},
		"by a link that is swapped":     {[]string{at("current/key")}, []string{at("current"), at("releases")}},
		"by a link to another folder":   {[]string{at("certs/live/cert")}, []string{at("certs/archive"), at("certs/live")}},
		"two in one folder":             {[]string{at("etc/a"), at("etc/b")}, []string{at("etc")}},
		"one in a folder of the other":  {[]string{at("etc/a"), at("etc/sub/b")}, []string{at("etc")}},
		"a folder with a name like it":  {[]string{at("etc/a"), at("etc2/b")}, []string{at("etc"), at("etc2")}},
		"a link to itself":              {[]string{at("etc/loop")}, []string{at("etc")}},
		"the top, with all that is":     {[]string{"/none", at("etc/a")}, []string{"/"}},
		"by a link of the system's own": {[]string{"/proc/self/none"}, nil}, // below
	} {
		t.Run(name, func(t *testing.T) {
			if test.paths != nil && test.want == nil {
				real, err := filepath.EvalSymlinks("/proc/self")
				if err != nil {
					t.Fatal(err)
				}
				test.want = []string{real} // and not /proc
			}
			if got := places(test.paths, true); !slices.Equal(got, test.want) {
				t.Errorf("places(%q)\n got %q\nwant %q", test.paths, got, test.want)
			}
		})
	}
}

// TestPlacesToWrite leaves out where links lie: /var/lib/private is behind one that lies
// in /var/lib.
func TestPlacesToWrite(t *testing.T) {
	t.Parallel()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "lib/private/proxy"), 0o700), os.Symlink("private/proxy", filepath.Join(root, "lib/proxy"))); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(root, "lib/private/proxy")}
	if got := places([]string{filepath.Join(root, "lib/proxy/rejected.jsonl")}, false); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMountedFile is about a file that was mounted into a container by itself: its
// folder, which may be the top, stays out of reach.
func TestMountedFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a file")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := places([]string{file}, true); !slices.Equal(got, []string{dir}) {
		t.Errorf("not mounted: %q", got)
	}
	if err := unix.Mount(file, file, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mounting a file: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(file, 0); err != nil {
			t.Error(err)
		}
	})
	if got := places([]string{file}, true); !slices.Equal(got, []string{file}) {
		t.Errorf("mounted: %q", got)
	}
}
