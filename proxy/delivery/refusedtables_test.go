package delivery

import (
	"fmt"
	"testing"
	"time"
)

func TestStanding(t *testing.T) {
	a, b := &Writer{}, &Writer{}
	start := time.Unix(1000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	for name, test := range map[string]struct {
		do    func(r *refusedTables)
		alone bool
		at    float64
		want  standing
	}{
		"never refused":      {func(r *refusedTables) {}, false, 6, takes},
		"just now":           {func(r *refusedTables) { r.refused(a, "t", at(0)) }, false, 4, unclear},
		"one table":          {func(r *refusedTables) { r.refused(a, "t", at(0)) }, false, 6, takes},
		"two tables":         {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(b, "u", at(3)) }, false, 6, troubled},
		"two by one writer":  {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(a, "u", at(3)) }, false, 6, takes},
		"who is alone":       {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(a, "u", at(3)) }, true, 6, troubled},
		"for too long":       {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(b, "u", at(121)) }, false, 121, takes},
		"the other long ago": {func(r *refusedTables) { r.refused(b, "u", at(0)); r.refused(a, "t", at(31)) }, false, 40, takes},
		"accepted": {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(b, "u", at(0)); r.accepted("t", at(1)) },
			false, 6, takes},
		"the other accepted": {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(b, "u", at(0)); r.accepted("u", at(1)) },
			false, 6, takes},
		"accepted before": {func(r *refusedTables) { r.refused(a, "t", at(2)); r.refused(b, "u", at(2)); r.accepted("t", at(1)) },
			false, 8, troubled},
		"illegal name":          {func(r *refusedTables) { r.refused(a, "no/table", at(0)) }, false, 1, takes},
		"beside illegal ones":   {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(b, "no/table", at(0)) }, false, 6, takes},
		"others' records of it": {func(r *refusedTables) { r.refused(a, "t", at(0)); r.refused(b, "t", at(1)); r.refused(a, "u", at(1)) }, false, 6, troubled},
	} {
		t.Run(name, func(t *testing.T) {
			var r refusedTables
			test.do(&r)
			table := "t"
			if name == "illegal name" {
				table = "no/table"
			}
			if got := r.standing(table, test.alone, at(test.at)); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
			if n := int(r.watched.Load()); n != len(r.tables) {
				t.Errorf("%d tables watched, want %d", n, len(r.tables))
			}
		})
	}
}

// TestTableOf: illegal names are told apart by what is wrong with them, and that is illegal, too.
func TestTableOf(t *testing.T) {
	for name, want := range map[string]struct {
		table string
		legal bool
	}{
		"cpu:1": {":", false}, "cpu:2": {":", false}, ".t": {"..", false}, "\xe9": {"", false},
		"caf\xe9:": {"caf", true}, `my\ table`: {"my table", true},
	} {
		if got, ok := tableOf([]byte(name + " v=1i\n")); got != want.table || !ok || legalTable(got) != want.legal {
			t.Errorf("%q counts as %q, %v; want %+v", name, got, ok, want)
		}
	}
}

// TestTrouble has nothing taken beside records for one table: that tells against the
// server where it is another one's record that is judged, and for a while; or the same
// one's, once it has taken something again.
func TestTrouble(t *testing.T) {
	var r refusedTables
	at := time.Now()
	if r.trouble("a", at) {
		t.Error("trouble without a reason")
	}
	r.nothingTaken("a", at)
	if r.trouble("a", at) {
		t.Error("a table's own refusal is the server's trouble")
	}
	if !r.trouble("b", at.Add(troubleFor-1)) {
		t.Error("no trouble, though nothing was taken beside another table's records")
	}
	if r.trouble("b", at.Add(troubleFor)) {
		t.Error("trouble for ever")
	}
	r.accepted("a", at.Add(-1))
	if r.trouble("a", at.Add(1)) {
		t.Error("what was taken before counts")
	}
	r.accepted("a", at.Add(1))
	if !r.trouble("a", at.Add(2)) {
		t.Error("no trouble, though the table took nothing and then something")
	}
	for i := range 2 * mostTables {
		r.nothingTaken(fmt.Sprint(i), at.Add(time.Second))
	}
	if len(r.nothing) != mostTables {
		t.Errorf("%d tables remembered, want %d", len(r.nothing), mostTables)
	}
	r.nothingTaken("b", at.Add(time.Hour))
	if len(r.nothing) != 1 {
		t.Errorf("%d tables remembered after an hour, want 1", len(r.nothing))
	}
}

// TestGeneral has a table refuse records of one writer, and then of another: only then, and
// after some time in which nothing of it is accepted, it refuses whoever it is.
func TestGeneral(t *testing.T) {
	var r refusedTables
	a, b := &Writer{}, &Writer{}
	start := time.Unix(1000, 0)
	later := start.Add(watchTable)
	r.refused(a, "t", start)
	r.refused(a, "t", later)
	if r.general("t", later) {
		t.Error("one writer's records tell against others'")
	}
	r.refused(b, "t", start)
	if r.general("t", later.Add(-1)) {
		t.Error("too early")
	}
	if !r.general("t", later) {
		t.Error("refuses everybody, and it does not show")
	}
	if r.general("u", later) {
		t.Error("so does another table")
	}
	r.accepted("t", later)
	r.refused(b, "t", later)
	if r.general("t", later.Add(watchTable)) {
		t.Error("what was refused before a record was accepted still counts")
	}
}
