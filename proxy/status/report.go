package status

import (
	"fmt"
	"time"
)

// Verdicts: how it is, in a word that colours the page.
const (
	good = "ok"
	warn = "warning"
	bad  = "failing"
)

// slack is for how long, over what is usual, a record may wait before the page calls that a delay.
const slack = 5 * time.Second

// Report is what /status answers, as JSON.
type Report struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`

	// Verdict is ok, warning or failing; Summary says why in a sentence.
	Verdict string `json:"verdict"`
	Title   string `json:"title"`
	Summary string `json:"summary"`

	PerSecond Figures `json:"per_second"`
	Total     Figures `json:"total"`

	Behind Behind `json:"behind"`

	Lanes   []LaneReport   `json:"lanes"`
	Writers WritersReport  `json:"writers"`
	Servers []ServerReport `json:"upstream"`
	Conns   Conns          `json:"upstream_connections"`

	Rejected []Rejection `json:"rejected"`
	Events   []Event     `json:"events"`

	received, written []float64 // a minute, for the chart
}

// Figures are records and bytes: totals, or by the second.
type Figures struct {
	ReceivedRecords float64 `json:"received_records"`
	ReceivedBytes   float64 `json:"received_bytes"`
	WrittenRecords  float64 `json:"written_records"`
	WrittenBytes    float64 `json:"written_bytes"`
	SettledRecords  float64 `json:"settled_records"`
	SettledBytes    float64 `json:"settled_bytes"`
	Replayed        float64 `json:"replayed_records"`
	Uncertain       float64 `json:"uncertain_records"`
	Rejected        float64 `json:"rejected_records"`
}

// Behind is what is accepted and not yet settled.
type Behind struct {
	Records       int64   `json:"records"`
	OldestSeconds float64 `json:"oldest_seconds"` // 0 if there is none
	Memory        int64   `json:"memory_bytes"`
	MemoryLimit   int64   `json:"memory_limit_bytes"`
	HeldBack      int     `json:"writers_held_back"`
	Unsaved       int64   `json:"rejected_unsaved"`
}

// LaneReport is one lane.
type LaneReport struct {
	Lane          int     `json:"lane"`
	State         string  `json:"state"`
	WaitsFor      string  `json:"waits_for"`
	Addr          string  `json:"address,omitempty"`
	Apart         bool    `json:"apart,omitempty"`
	Writers       int     `json:"writers"`
	Records       int64   `json:"records"`
	Bytes         int64   `json:"bytes"`
	OldestSeconds float64 `json:"oldest_seconds"`
}

// Trouble reports whether the lane is in a state in which it delivers nothing.
func (l LaneReport) Trouble() bool {
	return l.State == "backoff" || l.State == "isolating" || l.State == "blocked"
}

// WritersReport is who writes.
type WritersReport struct {
	Connected int            `json:"connected"`
	Waiting   int            `json:"waiting"`
	Fastest   []WriterReport `json:"fastest"`
}

// WriterReport is one of the fastest writers.
type WriterReport struct {
	Remote           string   `json:"remote"`
	ConnectedSeconds float64  `json:"connected_seconds"`
	Bytes            int64    `json:"bytes"`
	BytesPerSecond   *float64 `json:"bytes_per_second"` // null: not known yet
}

// ServerReport is one address of QuestDB.
type ServerReport struct {
	Addr             string  `json:"address"`
	Result           string  `json:"last_result"` // empty: none yet
	Reason           string  `json:"reason,omitempty"`
	AgoSeconds       float64 `json:"ago_seconds"`
	HandshakeSeconds float64 `json:"handshake_seconds"`
	OK               int64   `json:"succeeded"`
	Failed           int64   `json:"failed"`
	// LastOKAgoSeconds is null if none succeeded.
	LastOKAgoSeconds *float64 `json:"last_succeeded_ago_seconds"`
}

// Conns are upstream connections.
type Conns struct {
	Idle       int `json:"idle"`
	InUse      int `json:"in_use"`
	Connecting int `json:"connecting"`
}

// waits says what a lane in a state waits for.
var waits = map[string]string{
	"idle":       "records to deliver",
	"connecting": "an authenticated connection to QuestDB",
	"open":       "more records; what there is was written",
	"blocked":    "QuestDB to read; it takes no more now",
	"closing":    "QuestDB to read everything and close",
	"settling":   "proof that QuestDB lives on, so that its records are safe",
	"backoff":    "a pause to be over, after a failure",
	"isolating":  "a trial to end, of which record QuestDB refuses",
}

func (p *Page) report(now time.Time) *Report {
	s, c := p.o.Look(), p.o.Count()
	r := &Report{
		Time: now.UTC(), Version: p.o.Version, Started: p.started.UTC(),
		Total:     figures(c),
		PerSecond: figures(p.rates.over(rateOver, now, c)),
		Behind: Behind{Records: s.Unsettled, OldestSeconds: ago(now, s.Oldest), Memory: s.Memory, MemoryLimit: s.MemoryLimit,
			HeldBack: s.HeldBack, Unsaved: s.Unsaved},
		Lanes:    []LaneReport{},
		Writers:  WritersReport{Connected: s.Connected, Waiting: s.Waiting, Fastest: []WriterReport{}},
		Servers:  []ServerReport{},
		Conns:    Conns{s.Idle, s.InUse, s.Connecting},
		Rejected: p.o.Rejections.Last(),
		Events:   p.o.Events.Last(),
	}
	// What is settled comes in portions, each once in so many seconds.
	settled := figures(p.rates.over(max(rateOver, min(2*p.o.Usual, history*sampleEvery)), now, c))
	r.PerSecond.SettledRecords, r.PerSecond.SettledBytes = settled.SettledRecords, settled.SettledBytes
	r.received, r.written = p.rates.series()
	for _, l := range s.Lanes {
		r.Lanes = append(r.Lanes, LaneReport{Lane: l.ID, State: l.State, WaitsFor: waits[l.State], Addr: l.Addr, Apart: l.Apart,
			Writers: l.Writers, Records: l.Records, Bytes: l.Bytes, OldestSeconds: ago(now, l.Oldest)})
	}
	for _, w := range s.Writers {
		x := WriterReport{Remote: clip(w.Remote), ConnectedSeconds: ago(now, w.Since), Bytes: w.Bytes}
		if w.BytesPerSecond >= 0 {
			x.BytesPerSecond = &w.BytesPerSecond
		}
		r.Writers.Fastest = append(r.Writers.Fastest, x)
	}
	for _, v := range s.Servers {
		x := ServerReport{Addr: v.Addr, Result: v.Result, Reason: clip(v.Reason), AgoSeconds: ago(now, v.At),
			HandshakeSeconds: v.Took.Seconds(), OK: v.OK, Failed: v.Failed}
		if !v.LastOK.IsZero() {
			since := ago(now, v.LastOK)
			x.LastOKAgoSeconds = &since
		}
		r.Servers = append(r.Servers, x)
	}
	p.judge(r, s)
	return r
}

// judge sees to the verdict: the gravest of what there is to say.
func (p *Page) judge(r *Report, s Snapshot) {
	set := func(verdict, title, summary string) { r.Verdict, r.Title, r.Summary = verdict, title, summary }
	oldest := time.Duration(r.Behind.OldestSeconds * float64(time.Second))
	late := oldest > 2*p.o.Usual+slack
	stuck := 0
	for _, l := range r.Lanes {
		if l.Trouble() {
			stuck++
		}
	}
	switch {
	case s.Ending:
		set(warn, "Ending", "The proxy was told to end and delivers what it holds.")
	case s.Problem != "":
		set(bad, "Not delivering", s.Problem)
	case late && r.PerSecond.SettledRecords == 0:
		set(bad, "Not delivering", fmt.Sprintf("QuestDB can be reached, but nothing was settled lately, and the oldest record has waited for %s. "+
			"See what the lanes wait for, and QuestDB's own log: its disk may be full, or it refuses the only records that come.", duration(r.Behind.OldestSeconds)))
	case r.Behind.Unsaved > 0:
		set(bad, "Rejected records cannot be saved", "They wait in memory, and so do their writers. Check ILP_REJECTED_FILE, its folder and its disk.")
	case r.Behind.HeldBack > 0:
		set(warn, "Delivering, writers held back", "The memory for records is full, so some writers have to wait: they send faster than QuestDB takes it. Nothing is lost.")
	case late:
		set(warn, "Delivering late", fmt.Sprintf("The oldest record has waited for %s.", duration(r.Behind.OldestSeconds)))
	case s.Waiting > 0:
		set(warn, "Delivering, some writers wait", "ILP_MAX_CLIENTS writers are connected; more wait until one leaves.")
	case r.PerSecond.Rejected > 0:
		set(warn, "Delivering, some records rejected", "Some of what writers send is not delivered: see the rejected records.")
	case stuck > 0 && s.Unsettled > 0:
		set(warn, "Delivering, with trouble", "Some lanes are held up: see what they wait for.")
	case s.Unsettled > 0 || r.PerSecond.ReceivedRecords > 0:
		set(good, "Delivering", "Records arrive and are confirmed.")
	default:
		set(good, "Ready", "Everything that was accepted is in QuestDB.")
	}
}

func figures(c Counts) Figures {
	return Figures{ReceivedRecords: c.Received, ReceivedBytes: c.ReceivedBytes, WrittenRecords: c.Written, WrittenBytes: c.WrittenBytes,
		SettledRecords: c.Settled, SettledBytes: c.SettledBytes, Replayed: c.Replayed, Uncertain: c.Uncertain, Rejected: c.Rejected}
}

// ago is in seconds; 0 for no time.
func ago(now, t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t).Seconds())
}
