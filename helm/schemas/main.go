// Command schemas makes JSON schemas for kubeconform of what the chart makes, one
// folder for each version of Kubernetes: from the OpenAPI description in the module
// k8s.io/kubernetes and the definitions in the Prometheus Operator's, which Go's
// checksum database vouches for. Nothing may be in an object that Kubernetes does
// not know.
//
//	go run ./helm/schemas -out FOLDER v1.29.6 v1.36.3
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kinds are those that the chart or the example makes, by group and version as the
// OpenAPI description names them. What is not here kubeconform complains of.
var kinds = map[string][]string{
	"io.k8s.api.core.v1":                           {"ConfigMap", "Pod", "Service", "ServiceAccount"},
	"io.k8s.api.apps.v1":                           {"Deployment"},
	"io.k8s.api.batch.v1":                          {"Job", "CronJob"},
	"io.k8s.api.autoscaling.v2":                    {"HorizontalPodAutoscaler"},
	"io.k8s.api.networking.v1":                     {"NetworkPolicy"},
	"io.k8s.api.policy.v1":                         {"PodDisruptionBudget"},
	"io.k8s.api.admissionregistration.v1":          {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"},
	"io.k8s.api.admissionregistration.v1beta1":     {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"},
	"io.k8s.api.admissionregistration.v1alpha1":    {"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"},
	"github.com/prometheus-operator/monitoring.v1": {"servicemonitors", "podmonitors", "prometheusrules"},
}

// operator has the ServiceMonitor's, PodMonitor's and PrometheusRule's definition.
const operator = "github.com/prometheus-operator/prometheus-operator@v0.85.0"

func main() {
	out := flag.String("out", "", "`FOLDER` to write to")
	flag.Parse()
	if *out == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	for _, version := range flag.Args() {
		if err := write(*out, version); err != nil {
			fmt.Fprintf(os.Stderr, "schemas of Kubernetes %s: %v\n", version, err)
			os.Exit(1)
		}
	}
}

func write(out, version string) error {
	dir := filepath.Join(out, version)
	if _, err := os.Stat(dir); err == nil {
		return nil // it is renamed into place when it is whole
	}
	source, err := module("k8s.io/kubernetes@" + version)
	if err != nil {
		return err
	}
	var swagger struct{ Definitions map[string]any }
	if err := read(filepath.Join(source, "api/openapi-spec/swagger.json"), &swagger); err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(out, ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for group, names := range kinds {
		for _, kind := range names {
			definition, ok := swagger.Definitions[group+"."+kind]
			if !ok {
				continue // not in this version, or not Kubernetes' own
			}
			parts := strings.Split(group, ".")
			suffix := "-" + parts[len(parts)-1]
			if g := parts[len(parts)-2]; g != "core" {
				suffix = "-" + g + suffix
			}
			schema := closed(definition, swagger.Definitions)
			if err := save(tmp, strings.ToLower(kind)+suffix, schema); err != nil {
				return err
			}
		}
	}
	if err := custom(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

// custom writes those of the Prometheus Operator.
func custom(dir string) error {
	source, err := module(operator)
	if err != nil {
		return err
	}
	for _, plural := range kinds["github.com/prometheus-operator/monitoring.v1"] {
		var crd struct {
			Spec struct {
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema any }
				}
			}
		}
		if err := read(filepath.Join(source, "jsonnet/prometheus-operator", plural+"-crd.json"), &crd); err != nil {
			return err
		}
		for _, v := range crd.Spec.Versions {
			if err := save(dir, strings.ToLower(crd.Spec.Names.Kind)+"-monitoring-"+v.Name, closed(v.Schema.OpenAPIV3Schema, nil)); err != nil {
				return err
			}
		}
	}
	return nil
}

// closed returns the schema with its references filled in, and nothing more allowed
// in its objects than they say.
func closed(node any, definitions map[string]any) any {
	switch n := node.(type) {
	case []any:
		list := make([]any, len(n))
		for i, item := range n {
			list[i] = closed(item, definitions)
		}
		return list
	case map[string]any:
		if ref, ok := n["$ref"].(string); ok {
			return closed(definitions[strings.TrimPrefix(ref, "#/definitions/")], definitions)
		}
		switch {
		case n["format"] == "int-or-string", n["x-kubernetes-int-or-string"] == true:
			return map[string]any{"type": []string{"integer", "string"}}
		case strings.Contains(fmt.Sprint(n["description"]), "Quantity is a fixed-point"):
			return map[string]any{"type": []string{"number", "string"}}
		}
		schema := map[string]any{}
		for key, value := range n {
			// Formats like int32 are OpenAPI's; properties have names, not schema words.
			switch key {
			case "format", "description":
			case "properties":
				properties := map[string]any{}
				for name, property := range value.(map[string]any) {
					properties[name] = closed(property, definitions)
				}
				schema[key] = properties
			default:
				schema[key] = closed(value, definitions)
			}
		}
		if _, ok := n["properties"]; ok && n["additionalProperties"] == nil && n["x-kubernetes-preserve-unknown-fields"] == nil {
			schema["additionalProperties"] = false
			properties := schema["properties"].(map[string]any)
			if metadata, ok := properties["metadata"].(map[string]any); ok && metadata["properties"] == nil {
				metadata["additionalProperties"] = true // a custom resource's says only that it is an object
			}
		}
		return schema
	default:
		return node
	}
}

// module has Go fetch a module, and returns its folder.
func module(path string) (dir string, err error) {
	cmd := exec.Command("go", "mod", "download", "-json", path)
	cmd.Dir = os.TempDir() // no go.mod has a say
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go mod download %s: %w: %s%s", path, err, text, stderr.Bytes())
	}
	var m struct{ Dir string }
	return m.Dir, json.Unmarshal(text, &m)
}

func read(path string, into any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func save(dir, name string, schema any) error {
	data, err := json.Marshal(schema)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".json"), data, 0o644)
}
