package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// layout says who runs where. A proxy is a sidecar of the writer and not of QuestDB:
// what it takes of a core is nothing that QuestDB could have used. Where all share
// their cores, and QuestDB uses all it can get, any process in between costs rows.
// QuestDB is started on all of them, and so has threads for all, whoever writes to it.
type layout struct {
	name    string
	server  string // its cores, see list; "": all
	others  string
	writers []int
	peers   []string // nil: all
}

// layouts returns that in which QuestDB has half of the cores, and that in which all
// share them: with many writers only, and without the peers of which the first says enough.
// With one core, or without a way to pin anything, there is only the latter, with everything.
func (b *bench) layouts() ([]layout, error) {
	writers := b.writers
	shared := layout{name: "cores that all share", writers: []int{slices.Max(writers)}, peers: []string{direct, haproxy, proxyALO, otherProxy}}
	cores, err := allowedCores()
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("taskset"); err != nil {
		b.report.note("taskset (of util-linux) is not here, so QuestDB was not measured on cores of its own")
		cores = nil
	}
	if len(cores) < 2 {
		shared.writers, shared.peers = writers, nil
		return []layout{shared}, nil
	}
	half := len(cores) / 2
	own := layout{name: "cores of its own", server: list(cores[:half]), others: list(cores[half:]), writers: writers}
	shared.server, shared.others = list(cores), list(cores)
	return []layout{own, shared}, nil
}

// list writes cores as taskset(1) takes them.
func list(cores []int) string {
	s := make([]string, len(cores))
	for i, c := range cores {
		s[i] = strconv.Itoa(c)
	}
	return strings.Join(s, ",")
}

// allowedCores are those that this process may use.
func allowedCores() (cores []int, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(status) {
		value, ok := bytes.CutPrefix(line, []byte("Cpus_allowed_list:"))
		if !ok {
			continue
		}
		for r := range strings.SplitSeq(strings.TrimSpace(string(value)), ",") {
			from, to, ok := strings.Cut(r, "-")
			if !ok {
				to = from
			}
			first, err1 := strconv.Atoi(from)
			last, err2 := strconv.Atoi(to)
			if err := errors.Join(err1, err2); err != nil {
				return nil, fmt.Errorf("/proc/self/status: %w", err)
			}
			for c := first; c <= last; c++ {
				cores = append(cores, c)
			}
		}
	}
	return cores, nil
}

// pin has all threads of the processes, and what those start, run on some cores only.
func pin(cores string, pids ...int) error {
	if cores == "" {
		return nil
	}
	for _, pid := range pids {
		if out, err := exec.Command("taskset", "--all-tasks", "--cpu-list", "--pid", cores, strconv.Itoa(pid)).CombinedOutput(); err != nil {
			return fmt.Errorf("taskset for process %d: %w %s", pid, err, bytes.TrimSpace(out))
		}
	}
	return nil
}
