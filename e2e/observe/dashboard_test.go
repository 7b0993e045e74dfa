package observe

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// A panel is one of the dashboard, as far as the tests look at it.
type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               struct{ Type, UID string }
	Targets                  []target
}

// A target is a query of a panel.
type target struct {
	RefID, Expr, LegendFormat string
	Instant, Range            bool
	Datasource                struct{ Type, UID string }
}

// readDashboard returns the dashboard's text, its panels and its variables.
func readDashboard(t *testing.T) (text []byte, panels []panel, variables map[string]variable) {
	t.Helper()
	text, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels     []panel
		Templating struct {
			List []struct {
				Name, Type, Definition string
			}
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	variables = map[string]variable{}
	for _, v := range d.Templating.List {
		variables[v.Name] = variable{v.Type, v.Definition}
	}
	return text, d.Panels, variables
}

type variable struct{ kind, definition string }

// TestDashboardSchema has Grafana's own library read the dashboard, which knows
// every field of it and of the panels' options.
func TestDashboardSchema(t *testing.T) {
	grafana := cog.NewRuntime()
	grafana.RegisterDataqueryVariant(prometheus.VariantConfig())
	known := map[string]bool{"row": true}
	for _, kind := range []variants.PanelcfgConfig{
		stat.VariantConfig(), timeseries.VariantConfig(), statetimeline.VariantConfig(), heatmap.VariantConfig(), table.VariantConfig(),
	} {
		grafana.RegisterPanelcfgVariant(kind)
		known[kind.Identifier] = true
	}
	text, panels, _ := readDashboard(t)
	for _, p := range panels {
		if !known[p.Type] {
			t.Errorf("panel %q is of type %q, whose options nothing checks", p.Title, p.Type)
		}
	}
	if err := strictly(text); err != nil {
		t.Error(err)
	}
	// What is misspelt would be ignored by Grafana.
	for _, word := range []string{`"refresh"`, `"gridPos"`, `"graphMode"`, `"lineWidth"`, `"legendFormat"`, `"alignValue"`, `"cellGap"`, `"cellHeight"`} {
		wrong := strings.Replace(string(text), word, `"x`+word[1:], 1)
		if wrong == string(text) || strictly([]byte(wrong)) == nil {
			t.Errorf("%s in other words is taken as well, or is not there", word)
		}
	}
	//lint:ignore SA1019 the newer form is one that many a Grafana in use cannot import
	var d dashboard.Dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	if newest := dashboard.NewDashboard().SchemaVersion; d.SchemaVersion != newest {
		t.Errorf("the schema's version is %d, Grafana's %d", d.SchemaVersion, newest)
	}
}

// strictly reads a dashboard and fails where a field is unknown or lacks.
func strictly(text []byte) error {
	//lint:ignore SA1019 as above
	var d dashboard.Dashboard
	err := d.UnmarshalJSONStrict(text)
	var all cog.BuildErrors
	if errors.As(err, &all) && len(all) == 0 {
		err = nil // so it says that there are none
	}
	return errors.Join(err, d.Validate())
}

// TestDashboardPanels checks what a schema does not.
func TestDashboardPanels(t *testing.T) {
	_, panels, variables := readDashboard(t)
	if variables["datasource"].kind != "datasource" {
		t.Error("the datasource is no variable")
	}
	chosen := []string{"namespace", "pod", "instance"}
	for _, name := range chosen {
		if v := variables[name]; v.kind != "query" || !strings.Contains(v.definition, "questdb_ilp_proxy_build_info") {
			t.Errorf("variable %s: %+v", name, v)
		}
	}
	const width = 24
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, p := range panels {
		if ids[p.ID] || p.ID == 0 || titles[p.Title] || p.Title == "" {
			t.Errorf("panel %d %q: no id or title of its own", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		if p.GridPos.W <= 0 || p.GridPos.H <= 0 || p.GridPos.X+p.GridPos.W > width {
			t.Errorf("panel %q is at %+v", p.Title, p.GridPos)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other, ok := taken[[2]int{x, y}]; ok {
					t.Fatalf("panels %q and %q lie over one another", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if n := len(p.Description); n == 0 || n > 200 {
			t.Errorf("panel %q has a description of %d characters", p.Title, n)
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %q: datasource %q, %d queries", p.Title, p.Datasource.UID, len(p.Targets))
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || q.Datasource.UID != "${datasource}" || q.Instant == q.Range {
				t.Errorf("panel %q: query %+v", p.Title, q)
			}
			refs[q.RefID] = true
			for _, s := range selectors(q.Expr) {
				for _, name := range chosen {
					if s.labels[name] != "$"+name {
						t.Errorf("panel %q: %s does not choose by %s", p.Title, s.name, name)
					}
				}
			}
		}
	}
}
