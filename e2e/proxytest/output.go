package proxytest

import (
	"bufio"
	"io"
	"slices"
	"strings"
	"sync"
)

// output is what the process wrote to its standard error and output, line by
// line.
type output struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced with every line
}

func newOutput() *output { return &output{more: make(chan struct{})} }

// read takes lines from r until its end.
func (o *output) read(r io.Reader) {
	b := bufio.NewReader(r)
	for {
		line, err := b.ReadString('\n')
		if line != "" {
			o.add(strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return
		}
	}
}

func (o *output) add(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, line)
	close(o.more)
	o.more = make(chan struct{})
}

// look returns the lines so far, and what is closed when there are more.
func (o *output) look() ([]string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lines), o.more
}
