package check

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"questdb-ilp-proxy/config"
)

// settings are those of QuestDB's that the delivery promise depends on.
var settings = []string{
	"cairo.o3.max.lag", "cairo.wal.enabled.default", "cairo.commit.mode", "line.default.partition.by", "line.tcp.default.partition.by",
	"line.tcp.net.connection.limit", "readonly",
}

// named is how many tables are named at most.
const named = 20

// state is what QuestDB says of itself; nil where it does not.
type state struct{ tables, wal, settings *table }

// setting returns a setting's value, "" if it is not known.
func (s *state) setting(name string) string {
	if s.settings == nil {
		return ""
	}
	for _, row := range s.settings.Dataset {
		if s.settings.cell(row, "property_path") == name {
			value, _ := s.settings.cell(row, "value").(string)
			return value
		}
	}
	return ""
}

// judge says what that means for the promise.
func (s *state) judge(about string, c *config.Config) (findings []Finding) {
	add := func(kind Kind, text, do string) { findings = append(findings, Finding{kind, about, text, do}) }
	if s.settings == nil {
		add(Note, "QuestDB does not tell its settings (SHOW PARAMETERS), so only its tables are looked at", "")
	}
	if s.setting("readonly") == "true" {
		add(Promise, "QuestDB is read-only (readonly=true): it refuses every record, and the proxy holds them until its memory is full", "readonly=false, and restart QuestDB")
	}
	if limit, err := strconv.Atoi(s.setting("line.tcp.net.connection.limit")); err == nil && limit < c.PoolMax {
		add(Promise, fmt.Sprintf("ILP_POOL_MAX is %d, and QuestDB allows %d connections to all its clients together: when they are used up, it answers nobody",
			c.PoolMax, limit), "a lower ILP_POOL_MAX, or a higher line.tcp.net.connection.limit, with room for other clients")
	}
	s.bypassing(c, add)
	s.newTables(c, add)
	if suspended := s.suspended(); len(suspended) > 0 {
		add(Promise, list(suspended, "suspended table")+": QuestDB takes rows for it, and does not show them", fmt.Sprintf("ALTER TABLE %s RESUME WAL; QuestDB's log says why it was suspended", quote(suspended[0])))
	}
	if mode := s.setting("cairo.commit.mode"); mode == "nosync" || mode == "async" {
		add(Note, "cairo.commit.mode="+mode+": rows survive the end of QuestDB, and not a power cut of its machine", "cairo.commit.mode=sync if they have to, at the cost of speed")
	}
	return findings
}

// bypassing looks at the tables that bypass WAL.
func (s *state) bypassing(c *config.Config, add func(Kind, string, string)) {
	var tables, lagging []string
	all := 0
	for _, row := range s.tables.Dataset {
		name, _ := s.tables.cell(row, "table_name").(string)
		if isOwn(name) {
			continue
		}
		all++
		if s.tables.cell(row, "walEnabled") != false {
			continue
		}
		tables = append(tables, name)
		if lag, known := s.tables.cell(row, "o3MaxLag").(float64); !known || lag != 0 {
			lagging = append(lagging, name)
		}
	}
	slices.Sort(tables)
	slices.Sort(lagging)
	if len(tables) == 0 {
		add(OK, fmt.Sprintf("no table bypasses WAL, of %d", all), "")
		return
	}
	text := fmt.Sprintf("%s, of %d", list(tables, "table bypasses WAL", "tables bypass WAL"), all)
	var missing, do []string
	if len(lagging) > 0 {
		missing = append(missing, list(lagging, "of them without o3MaxLag=0", "of them without o3MaxLag=0"))
		do = append(do, fmt.Sprintf("ALTER TABLE %s SET PARAM o3MaxLag = 0s, for each of them (cairo.o3.max.lag counts only when a table is made)", quote(lagging[0])))
	}
	if c.Settle < bypassSettle {
		missing = append(missing, fmt.Sprintf("ILP_SETTLE is %v", c.Settle))
		do = append(do, "ILP_SETTLE=3s")
	}
	if len(missing) == 0 {
		add(OK, text+", and have what the promise needs for that: o3MaxLag=0 and ILP_SETTLE of 3s or more", "")
		return
	}
	add(Promise, text+": QuestDB commits their rows long after it has read them, so that they are lost if it is killed meanwhile; "+strings.Join(missing, "; "),
		strings.Join(do, "; ")+"; or make it a WAL table (ALTER TABLE "+quote(tables[0])+" SET TYPE WAL, and a restart), which must be partitioned")
}

// newTables looks at what tables will be like that QuestDB makes for new records.
func (s *state) newTables(c *config.Config, add func(Kind, string, string)) {
	var why string
	switch {
	case s.setting("cairo.wal.enabled.default") == "false":
		why = "cairo.wal.enabled.default=false"
	case strings.EqualFold(s.setting("line.default.partition.by"), "NONE"):
		why = "line.default.partition.by=NONE"
	case strings.EqualFold(s.setting("line.tcp.default.partition.by"), "NONE"):
		why = "line.tcp.default.partition.by=NONE"
	default:
		return
	}
	if s.setting("cairo.o3.max.lag") == "0" && c.Settle >= bypassSettle {
		add(OK, why+": tables that QuestDB makes for new records bypass WAL, and have what the promise needs for that", "")
		return
	}
	add(Promise, why+": tables that QuestDB makes for new records bypass WAL", "QuestDB's default in its place; or cairo.o3.max.lag=0 there and ILP_SETTLE=3s here")
}

// suspended returns the tables whose rows do not become visible.
func (s *state) suspended() (names []string) {
	if s.wal == nil {
		return nil
	}
	for _, row := range s.wal.Dataset {
		if name, _ := s.wal.cell(row, "name").(string); s.wal.cell(row, "suspended") == true {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// isOwn reports whether a table is QuestDB's own, to which no writer writes.
func isOwn(name string) bool {
	return strings.HasPrefix(name, "sys.") || strings.HasPrefix(name, "telemetry") || strings.HasPrefix(name, "_query_trace")
}

// list names tables; plural is one's with an s if it is left out.
func list(tables []string, one string, plural ...string) string {
	what := one
	if len(tables) > 1 {
		what = append(plural, one+"s")[0]
	}
	shown := make([]string, 0, named)
	for _, name := range tables[:min(named, len(tables))] {
		shown = append(shown, quote(name))
	}
	more := ""
	if n := len(tables) - named; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("%d %s (%s%s)", len(tables), what, strings.Join(shown, ", "), more)
}

// quote writes a table's name for SQL, and for a terminal.
func quote(name string) string { return strconv.Quote(name) }
