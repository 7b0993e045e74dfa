package sandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links the kernel follows at most.
const maxLinks = 40

// places returns the folders in which the files at paths lie: by name, and in truth,
// where there are symbolic links on the way. With links, it is also the folder of each
// such link, so that it may be swapped. Of a file that is mounted by itself, as into a
// container, it is the file: nothing can take its place.
func places(paths []string, links bool) []string {
	var all []string
	for _, path := range paths {
		all = append(all, placesOf(path, links)...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	// A folder within another one needs no rule.
	return slices.DeleteFunc(slices.Clone(all), func(path string) bool {
		return slices.ContainsFunc(all, func(other string) bool {
			return other != path && strings.HasPrefix(path, strings.TrimSuffix(other, "/")+"/")
		})
	})
}

func placesOf(path string, links bool) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil // the working folder is gone: so is the file
	}
	if mounted(path) {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return []string{real}
		}
	}
	folders := []string{filepath.Dir(path)}
	for range maxLinks {
		link, next, ok := follow(path)
		if !ok {
			break
		}
		// /var/run and the like are the system's, which swaps no files by them.
		if folder := filepath.Dir(link); links && strings.Count(folder, "/") > 1 {
			folders = append(folders, folder)
		}
		path = next
	}
	folders = append(folders, filepath.Dir(path))
	for i, folder := range folders {
		if real, err := filepath.EvalSymlinks(folder); err == nil {
			folders[i] = real
		}
	}
	return folders
}

// follow returns the first symbolic link on path, and what path is behind it.
func follow(path string) (link, next string, ok bool) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			continue
		}
		target, err := os.Readlink(path[:i])
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path[:i]), target)
		}
		return path[:i], filepath.Join(target, path[i:]), true
	}
	return "", "", false
}

// mounted reports whether path is a file that is mounted by itself.
func mounted(path string) bool {
	var info unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_TYPE, &info)
	return err == nil && info.Mode&unix.S_IFMT != unix.S_IFDIR && info.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
