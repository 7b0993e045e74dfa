package rejected

import (
	"slices"
	"time"
)

// Why a record was not delivered.
const (
	ReasonMalformed    = "malformed"     // QuestDB's parser does not accept it
	ReasonTooLong      = "too_long"      // longer than ILP_MAX_RECORD
	ReasonRefused      = "refused"       // well-formed, and QuestDB refuses it alone
	ReasonTableRefused = "table_refused" // of a table of which QuestDB refuses every record
	ReasonUndelivered  = "undelivered"   // left when the proxy had to end
)

// Reasons returns all reasons.
func Reasons() []string {
	return []string{ReasonMalformed, ReasonTooLong, ReasonRefused, ReasonTableRefused, ReasonUndelivered}
}

// KnownReason reports whether reason is one of [Reasons].
func KnownReason(reason string) bool { return slices.Contains(Reasons(), reason) }

// Record is one record that was not delivered.
type Record struct {
	Time   time.Time // when that was decided; zero: when it is put
	Remote string    // address of the writer
	Reason string    // one of the constants
	Detail string    // what is wrong with it, in words; may be empty
	Table  string    // empty: taken from Bytes, where they tell it
	Bytes  []byte    // the record with the LF or CR that ends it
	// Size is how many bytes the record had, if Bytes are only its beginning;
	// else 0. Such a record cannot be sent again.
	Size int64
}
