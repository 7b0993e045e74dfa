package status

import "time"

// keptRejections is how many rejected records are remembered.
const keptRejections = 20

// Rejection is a record that was not delivered.
type Rejection struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Detail string    `json:"detail,omitempty"`
	Table  string    `json:"table,omitempty"`
	Writer string    `json:"writer"`
	// Record is its beginning, only if that may be shown.
	Record string `json:"record,omitempty"`
}

// Rejections remembers the last rejected records.
type Rejections struct {
	records bool
	ring    ring[Rejection]
}

// NewRejections returns a Rejections; with records it keeps their beginnings too.
func NewRejections(records bool) *Rejections {
	return &Rejections{records: records, ring: ring[Rejection]{most: keptRejections}}
}

// Most is how many of a large number of rejections at once are worth being added: the last ones.
func (r *Rejections) Most() int { return r.ring.most }

// Add remembers one, whose bytes are record.
func (r *Rejections) Add(x Rejection, record []byte) {
	x.Detail, x.Table, x.Writer = clip(x.Detail), clip(x.Table), clip(x.Writer)
	x.Record = ""
	if r.records {
		x.Record = clip(string(record[:min(len(record), maxText+1)]))
	}
	r.ring.add(x)
}

// Last returns what is remembered, latest first.
func (r *Rejections) Last() []Rejection { return r.ring.last() }
