package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// figure says what is measured.
type figure struct {
	Name      string
	Unit      string
	Reference string  // the peer that the others are compared with
	Target    float64 `json:",omitempty"` // ratio that the proxy is to reach; 0 for none
	Most      float64 `json:",omitempty"` // value that the proxy may have at most; 0 for none
	Lower     bool    `json:",omitempty"` // the lower the better
}

// series are a figure's values.
type series struct {
	figure
	Peers []*peer
}

// peer is what one peer reached, in each round.
type peer struct {
	Name   string
	Values []float64
	// Ratios are to the reference in the same round; the reference's own are to
	// the median of its values.
	Ratios []float64 `json:",omitempty"`
}

// report is all that a run found.
type report struct {
	Machine string
	Notes   []string
	Seconds float64
	Figures []*series
}

func newReport() report {
	var load string
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(text), " ")
	}
	return report{Machine: fmt.Sprintf("%d CPUs, load before %s, %s", runtime.NumCPU(), load, runtime.Version())}
}

// note adds a sentence, once.
func (r *report) note(text string) {
	if !slices.Contains(r.Notes, text) {
		r.Notes = append(r.Notes, text)
	}
}

func (r *report) add(f figure) *series {
	s := &series{figure: f}
	r.Figures = append(r.Figures, s)
	return s
}

func (s *series) put(name string, value float64) {
	p := s.peer(name)
	if p == nil {
		p = &peer{Name: name}
		s.Peers = append(s.Peers, p)
	}
	p.Values = append(p.Values, value)
}

func (s *series) peer(name string) *peer {
	for _, p := range s.Peers {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// compare fills in the ratios. Without the reference, there are none.
func (s *series) compare() {
	ref := s.peer(s.Reference)
	if ref == nil {
		return
	}
	for _, p := range s.Peers {
		p.Ratios = nil
		for round, v := range p.Values {
			by := median(ref.Values)
			if p != ref && round < len(ref.Values) {
				by = ref.Values[round]
			}
			p.Ratios = append(p.Ratios, v/by)
		}
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// verdict compares the proxy with its target; "" if there is none.
func (s *series) verdict(p *peer) string {
	if p.Name != proxy && p.Name != proxyALO {
		return ""
	}
	switch {
	case s.Most > 0:
		return reached(median(p.Values) <= s.Most, fmt.Sprintf("at most %.0f", s.Most))
	case s.Target > 0 && len(p.Ratios) > 0:
		if s.Lower {
			return reached(median(p.Ratios) <= s.Target, fmt.Sprintf("at most %.2fx", s.Target))
		}
		return reached(median(p.Ratios) >= s.Target, fmt.Sprintf("at least %.2fx", s.Target))
	}
	return ""
}

func reached(ok bool, target string) string {
	if ok {
		return "reached: " + target
	}
	return "MISSED: " + target
}

// print writes the table.
func (r *report) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s, %.0f s\n", r.Machine, r.Seconds)
	for _, note := range r.Notes {
		fmt.Fprintln(w, note)
	}
	for _, s := range r.Figures {
		if len(s.Peers) == 0 {
			continue
		}
		s.compare()
		fmt.Fprintf(w, "\n%s\n", s.Name)
		for _, name := range []string{direct, haproxy, nginx, proxy, proxyALO, otherProxy} {
			p := s.peer(name)
			if p == nil {
				continue
			}
			fmt.Fprintf(w, "  %s\t%s %s\t%s\t%s\n", peerNames[name], number(median(p.Values)), s.Unit, ratios(p, name == s.Reference), s.verdict(p))
		}
	}
	return w.Flush()
}

var peerNames = map[string]string{
	direct: "straight", haproxy: "HAProxy", nginx: "nginx",
	proxy: "proxy, at most once", proxyALO: "proxy, at least once", otherProxy: "the other proxy",
}

// ratios are the median and, in brackets, the lowest and highest.
func ratios(p *peer, reference bool) string {
	if len(p.Ratios) == 0 {
		return ""
	}
	span := fmt.Sprintf("(%.2f to %.2f)", slices.Min(p.Ratios), slices.Max(p.Ratios))
	if reference {
		return "1x     " + span + " by itself"
	}
	return fmt.Sprintf("%.2fx  %s", median(p.Ratios), span)
}

// number rounds to three digits or so.
func number(v float64) string {
	switch {
	case math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	case math.Abs(v) >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func (r *report) writeJSON(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
