package helm

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"questdb-ilp-proxy/config"
)

var update = flag.Bool("update", false, "write the schema's part on config, and the copies of dashboard and alerts")

const chart = "questdb-ilp-proxy"

// own are the variables that have values of their own in the chart, or that have no
// business there: keys come from Secrets alone.
var own = map[string]bool{
	"ILP_LISTEN": true, "ILP_UNIX_MODE": true, "ILP_ALLOW": true, "ILP_UPSTREAM": true,
	"ILP_AUTH_KEY_ID": true, "ILP_AUTH_KEY": true, "ILP_AUTH_KEY_FILE": true, "ILP_AUTH_JWK": true, "ILP_AUTH_JWK_FILE": true,
	"QDB_CLIENT_CONF": true,
	"ILP_TLS_CA":      true, "ILP_TLS_SERVER_NAME": true, "ILP_TLS_CERT": true, "ILP_TLS_KEY": true, "ILP_TLS_UNSAFE_SKIP_VERIFY": true,
	"ILP_ADMIN": true, "ILP_ADMIN_HOSTS": true, "ILP_ADMIN_TOKEN": true, "ILP_ADMIN_TOKEN_FILE": true,
	"ILP_DRAIN_TIMEOUT": true, "ILP_REJECTED_FILE": true,
}

// object is a JSON object with its keys in order, so that writing the schema leaves
// what it does not change as it is.
type object struct {
	keys   []string
	values map[string]json.RawMessage
}

func (o *object) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, &o.values); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			return nil // the end; what was wrong would have shown above
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			if depth == 1 {
				o.keys = append(o.keys, t)
				var skip json.RawMessage
				if err := d.Decode(&skip); err != nil {
					return err
				}
			}
		}
	}
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, key := range o.keys {
		name, _ := json.Marshal(key)
		fmt.Fprintf(&b, "%c%s:%s", "{,"[min(i, 1)], name, o.values[key])
	}
	if len(o.keys) == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// configSchema is what the schema has to say of config.
func configSchema() object {
	properties := object{values: map[string]json.RawMessage{}}
	for _, v := range config.Variables() {
		if own[v.Name] {
			continue
		}
		description := v.Description
		if v.Default != "" {
			description += ". Default: " + v.Default
		}
		properties.keys = append(properties.keys, v.Name)
		properties.values[v.Name] = must(json.Marshal(map[string]any{"type": []string{"string", "integer", "boolean"}, "description": description}))
	}
	return object{
		keys: []string{"type", "additionalProperties", "properties"},
		values: map[string]json.RawMessage{
			"type": json.RawMessage(`"object"`), "additionalProperties": json.RawMessage("false"), "properties": must(json.Marshal(properties)),
		},
	}
}

func must(data []byte, err error) json.RawMessage {
	if err != nil {
		panic(err)
	}
	return data
}

// TestSchemaKnowsConfig has a new variable in the schema, or one in own that is
// none any more found.
func TestSchemaKnowsConfig(t *testing.T) {
	known := map[string]bool{}
	for _, v := range config.Variables() {
		known[v.Name] = true
	}
	for name := range own {
		if !known[name] {
			t.Errorf("%s is no variable any more", name)
		}
	}
	path := filepath.Join(chart, "values.schema.json")
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var schema, properties object
	if err := json.Unmarshal(have, &schema); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(schema.values["properties"], &properties); err != nil {
		t.Fatal(err)
	}
	properties.values["config"] = must(json.Marshal(configSchema()))
	schema.values["properties"] = must(json.Marshal(properties))
	var want bytes.Buffer
	e := json.NewEncoder(&want)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(schema); err != nil {
		t.Fatal(err)
	}
	compare(t, path, have, want.Bytes())
}

// TestSchemaIsClosed has every object of the schema say what else it may have:
// nothing, or values of one kind.
func TestSchemaIsClosed(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(chart, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}
	// What Kubernetes and Helm define, and would have to be followed here for ever.
	open := map[string]bool{
		"/properties/global": true, "/properties/gateway/properties/affinity/properties/nodeAffinity": true,
		"/properties/gateway/properties/affinity/properties/podAffinity": true, "/properties/gateway/properties/affinity/properties/podAntiAffinity": true,
	}
	objects := 0
	var walk func(path string, node any)
	walk = func(path string, node any) {
		switch n := node.(type) {
		case []any:
			for i, item := range n {
				walk(fmt.Sprintf("%s/%d", path, i), item)
			}
		case map[string]any:
			if n["type"] == "object" {
				objects++
				if more := n["additionalProperties"]; more != false && !open[path] {
					if _, kind := more.(map[string]any); !kind {
						t.Errorf("%s: additionalProperties is %v, want false or a schema", path, more)
					}
				}
			}
			for key, value := range n {
				walk(path+"/"+key, value)
			}
		}
	}
	walk("", schema)
	if objects < 20 {
		t.Errorf("found %d objects: this test does not look where they are", objects)
	}
}

// TestSchemaKeepsDefaults has each section, and each default that says something, required:
// Helm takes away what a value of null stands for, and the templates count on it.
func TestSchemaKeepsDefaults(t *testing.T) {
	type node struct {
		Properties map[string]node
		Required   []string
	}
	var schema node
	var values map[string]any
	read := func(name string, unmarshal func([]byte, any) error, into any) {
		data, err := os.ReadFile(filepath.Join(chart, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := unmarshal(data, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	read("values.schema.json", json.Unmarshal, &schema)
	read("values.yaml", yaml.Unmarshal, &values)
	// Without these the templates do the same as with none of them.
	free := map[string]bool{
		"/global": true, "/enabled": true, "/commonLabels": true, "/gateway/topologySpread": true,
		"/gateway/podAnnotations": true, "/gateway/podLabels": true, "/gateway/nodeSelector": true, "/gateway/affinity": true,
		"/resources/requests": true, "/resources/limits": true,
	}
	looked := 0
	var walk func(path string, n node, values map[string]any)
	walk = func(path string, n node, values map[string]any) {
		for name, value := range values {
			at := path + "/" + name
			section, isSection := value.(map[string]any)
			list, isList := value.([]any)
			if free[at] || value == nil || value == "" || isList && len(list) == 0 ||
				strings.HasSuffix(at, "/labels") || strings.HasSuffix(at, "/annotations") && path != "/sidecar" {
				continue
			}
			looked++
			if !slices.Contains(n.Required, name) {
				t.Errorf("%s can be null: it belongs to what is required", at)
			}
			if isSection {
				walk(at, n.Properties[name], section)
			}
		}
	}
	walk("", schema, values)
	if looked < 60 {
		t.Errorf("%d values were looked at", looked)
	}
}

// TestCopies compares what the chart has copies of.
func TestCopies(t *testing.T) {
	for _, name := range []string{"dashboards/questdb-ilp-proxy.json", "alerts/questdb-ilp-proxy.rules.yaml"} {
		want, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(chart, "files", filepath.Base(name))
		have, err := os.ReadFile(path)
		if err != nil && !*update {
			t.Fatal(err)
		}
		compare(t, path, have, want)
	}
}

// TestDrainIsTheProxys keeps the chart's default at the proxy's, which its own
// documentation names.
func TestDrainIsTheProxys(t *testing.T) {
	values, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, drain, _ := strings.Cut(string(values), "\ndrain:\n")
	drain, _, _ = strings.Cut(drain, "\n\n")
	variables := config.Variables()
	i := slices.IndexFunc(variables, func(v config.Variable) bool { return v.Name == "ILP_DRAIN_TIMEOUT" })
	if want := "timeoutSeconds: " + strings.TrimSuffix(variables[i].Default, "s") + "\n"; !strings.Contains(drain, want) {
		t.Errorf("drain in values.yaml lacks %q:\n%s", want, drain)
	}
}

// compare writes want with -update, and else complains if have is different.
func compare(t *testing.T, path string, have, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(have, want) {
		t.Errorf("%s is out of date: go test ./helm -update", path)
	}
}
