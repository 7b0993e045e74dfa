package check

import (
	"fmt"
	"io"
	"strings"
	"unicode"
)

// Kind is what a finding is about.
type Kind string

// The kinds of findings. Each is a failure, with an exit code of its own, except
// OK and Note.
const (
	OK            Kind = "ok"   // as it should be
	Note          Kind = "note" // worth knowing; nothing to do
	Other         Kind = "failed"
	Configuration Kind = "configuration"
	Name          Kind = "name"
	Connect       Kind = "connect"
	TLS           Kind = "tls"
	Silent        Kind = "no_challenge"
	NoAuth        Kind = "no_authentication"
	NotQuestDB    Kind = "not_questdb"
	Refused       Kind = "key_refused"
	HTTP          Kind = "http"
	Promise       Kind = "promise"
)

// Failure is one way in which a check ends.
type Failure struct {
	Code    int // the exit code
	Kind    Kind
	Meaning string
}

// Failures are all of them, by their exit codes.
func Failures() []Failure {
	return []Failure{
		{1, Other, "something else failed, or --timeout was over"},
		{2, Configuration, "the configuration is wrong, or a flag"},
		{3, Name, "the name of a host cannot be resolved"},
		{4, Connect, "nothing accepts a connection at an address"},
		{5, TLS, "TLS: a certificate, or a port that is not for it"},
		{6, Silent, "no challenge: QuestDB is full, or stuck, or what is there is something else"},
		{7, NoAuth, "QuestDB demands no authentication there"},
		{8, NotQuestDB, "it answers, and is no ILP port of QuestDB's"},
		{9, Refused, "QuestDB refuses the key"},
		{10, HTTP, "QuestDB cannot be asked at the address of --http"},
		{11, Promise, "records are delivered, but tables or settings of QuestDB's weaken the promise that none is lost"},
	}
}

// Finding is one thing that was found out.
type Finding struct {
	Kind  Kind   `json:"kind"`
	About string `json:"about"`        // the address, or configuration
	Text  string `json:"text"`         // what it is
	Do    string `json:"do,omitempty"` // what the operator can do about it
}

// Report is all that was found out.
type Report struct {
	ExitCode int       `json:"exit_code"`
	Result   string    `json:"result"`
	Findings []Finding `json:"findings"`
}

// NewReport makes a report of findings. Its exit code is that of the first failure;
// [Promise] is the least of them.
func NewReport(findings ...Finding) Report {
	r := Report{Findings: findings, Result: "records would be delivered"}
	var worst Failure
	for _, finding := range findings {
		f, failed := failure(finding.Kind)
		if failed && (worst.Code == 0 || worst.Kind == Promise) {
			worst = f
		}
	}
	if worst.Code != 0 {
		r.ExitCode, r.Result = worst.Code, worst.Meaning
	}
	return r
}

func failure(kind Kind) (Failure, bool) {
	for _, f := range Failures() {
		if f.Kind == kind {
			return f, true
		}
	}
	return Failure{}, false
}

// Write writes the report for people.
func (r Report) Write(w io.Writer) error {
	var b strings.Builder
	for _, f := range r.Findings {
		label := "FAILED"
		switch f.Kind {
		case OK:
			label = "ok"
		case Note:
			label = "note"
		case Promise:
			label = "warning"
		}
		fmt.Fprintf(&b, "%-8s%s: %s\n", label, printable(f.About), printable(f.Text))
		if f.Do != "" {
			fmt.Fprintf(&b, "%-8sto do: %s\n", "", printable(f.Do))
		}
	}
	fmt.Fprintf(&b, "\nexit code %d: %s\n", r.ExitCode, r.Result)
	_, err := io.WriteString(w, b.String())
	return err
}

// printable leaves out what would do something to a terminal.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '?'
	}, text)
}
