package delivery

import (
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestFreeListKeepsASegment: the blocks of a segment come back all at once, and are
// those that are read into next.
func TestFreeListKeepsASegment(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const blocks = 1000
	f := &freeList{size: minBlockSize}
	known := map[*Block]bool{}
	for range blocks {
		known[f.get()] = true
	}
	for b := range known {
		f.put(b)
	}
	again := 0
	for range blocks {
		if known[f.get()] {
			again++
		}
	}
	if again < blocks/2 { // the race detector has a sync.Pool lose a quarter
		t.Errorf("%d of %d blocks are used again", again, blocks)
	}
}

// TestFreeListGivesMemoryBack: what nobody needs is not kept for ever.
func TestFreeListGivesMemoryBack(t *testing.T) {
	f := &freeList{size: minBlockSize}
	b := f.get()
	f.put(b)
	debug.FreeOSMemory()
	debug.FreeOSMemory()
	if again := f.get(); again == b {
		t.Error("an unused block outlives two rounds of the garbage collector")
	}
}

// TestFreeListTakesNoLargeRecord: a record that is exactly as long as a block has memory
// of its own, charged by its capacity. Used as a block it would give back more to the
// budget than was taken.
func TestFreeListTakesNoLargeRecord(t *testing.T) {
	f := &freeList{size: minBlockSize}
	for range 20 { // the race detector has a sync.Pool lose some
		f.put(&Block{buf: make([]byte, f.size, 2*f.size), charge: int64(2 * f.size)})
		if b := f.get(); b.charge != blockCost(f.size) {
			t.Fatalf("a block is charged with %d, want %d", b.charge, blockCost(f.size))
		}
	}
}

// TestLargest has a record, between others, for which the server's buffer may have to grow:
// it is as large, or is with the blank lines that may stand before it.
func TestLargest(t *testing.T) {
	for _, size := range []int{maxBlockSize, maxPassing} {
		for text, want := range map[int]int{200: 0, tailSize - MaxBlank - 100: 0, tailSize - 200: tailSize - 200} {
			st := store{free: func(*Block) {}}
			b := &Block{buf: make([]byte, size)}
			st.push(b)
			for i, r := range []string{"t v=1i\n", "t s=\"" + strings.Repeat("x", text-7) + "\"\n", "t v=12i\n"} {
				st.grow(&Writer{remote: strconv.Itoa(i)}, copy(b.buf[b.n:], r), 1, time.Time{})
			}
			if got := st.largest(0, st.end); got != want && want > 0 || got > text {
				t.Errorf("block of %d bytes: the largest record is of %d bytes, want %d of %d", size, got, want, text)
			}
		}
	}
}

// TestBlanksBehind: what is blank behind the last record takes room that 8.x has for padding.
// It may have been written in parts, and none of it with what is set aside.
func TestBlanksBehind(t *testing.T) {
	const row = "t v=1i\n"
	for _, c := range []struct {
		text, aside, more string
		want              int
	}{
		{text: row}, {text: "t v=1i\r\n", want: 1}, {text: row + "\n\n", want: 2}, {text: row + "=\n", want: 2},
		{text: "\n\n", want: 2}, {text: row + "\n" + row},
		{row + "\n", "bad=\n\n", "\n", 1}, {row, "bad\n\n", "", 0}, {row + "\n\n", "bad\n", row, 0},
	} {
		j := &journal{store: store{free: func(*Block) {}}}
		text := c.text + c.aside + c.more
		b := &Block{buf: []byte(text + "x")}
		j.push(b)
		j.accept(&Writer{}, len(text), strings.Count(text, "v"), time.Time{})
		if c.aside != "" {
			j.dismiss(int64(len(c.text)), int64(len(c.text)+strings.Index(c.aside, "\n")+1))
		}
		s := j.begin()
		for p := j.pending(noLimit); len(p) > 0; p = j.pending(noLimit) {
			j.wrote(1)
		}
		if n := s.blanks(); n != c.want {
			t.Errorf("%q, %q set aside, %q: %d bytes of blank lines behind the last, want %d", c.text, c.aside, c.more, n, c.want)
		}
	}
}
