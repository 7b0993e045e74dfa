package check

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"questdb-ilp-proxy/config"
)

// FuzzAnswer has anything as QuestDB's answer to all of the queries: whatever it says is
// judged, and nothing reaches a terminal that is not printable.
func FuzzAnswer(f *testing.F) {
	f.Add(`{"columns":[{"name":"table_name"},{"name":"walEnabled"},{"name":"o3MaxLag"}],"dataset":[["a",false,1],["b",true,null],[],null]}`)
	f.Add(`{"columns":[{"name":"name"},{"name":"suspended"}],"dataset":[["\u001b[2J",true],[true,"x"]]}`)
	f.Add(`{"columns":[{"name":"property_path"},{"name":"value"}],"dataset":[["cairo.commit.mode","\u0007"],["line.tcp.net.connection.limit","1"],["readonly","true"]]}`)
	f.Add(`{"columns":null,"dataset":[[1]]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var answer table
		if json.Unmarshal([]byte(text), &answer) != nil {
			return
		}
		s := state{tables: &answer, wal: &answer, settings: &answer}
		var said strings.Builder
		if err := NewReport(s.judge("http://h", &config.Config{PoolMax: 16, Settle: time.Second})...).Write(&said); err != nil {
			t.Fatal(err)
		}
		for _, c := range said.String() {
			if c != '\n' && !unicode.IsPrint(c) {
				t.Fatalf("%q", said.String())
			}
		}
	})
}
