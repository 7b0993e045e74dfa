package markdown

import (
	"maps"
	"reflect"
	"slices"
	"testing"
)

const text = "# The server's disk: full, `a_b`!\n\n[one](a.md#x) ![two](b.png \"Title\") `[no](c.md)`\n\n" +
	"```sh\n# no heading\n[no](d.md)\n```\n\n## Again\n## Again ##\n[three]: <e.md>\n## A [link](f.md)\n"

func TestLinks(t *testing.T) {
	want := []Link{{3, "a.md#x"}, {3, "b.png"}, {12, "e.md"}, {13, "f.md"}}
	if got := Links(text); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAnchors(t *testing.T) {
	want := []string{"a-link", "again", "again-1", "the-servers-disk-full-a_b"}
	if got := slices.Sorted(maps.Keys(Anchors(text))); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
