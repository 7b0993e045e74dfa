package config

import (
	"maps"
	"slices"
)

// nearest returns the one of names with the smallest edit distance to name; of
// several, the first in the alphabet.
func nearest(name string, names []string) string {
	names = slices.Sorted(slices.Values(names))
	return slices.MinFunc(names, func(a, b string) int { return editDistance(name, a) - editDistance(name, b) })
}

// editDistance returns how many single-byte insertions, deletions and
// replacements make b of a (Levenshtein). It looks at 100 bytes of each.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), 100)], b[:min(len(b), 100)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func mapKeys(m map[string]string) []string { return slices.Collect(maps.Keys(m)) }
