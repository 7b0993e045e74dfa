//go:build kubernetes

package kubernetes

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAccepted has the API server look at what the chart makes of each of its
// examples of values, with everything switched on.
func TestAccepted(t *testing.T) {
	n := newNamespace(t)
	files, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values: %v", err)
	}
	for _, file := range files {
		if strings.Contains(file, "injection") && os.Getenv("E2E_NO_INJECTION") != "" {
			continue // TestInjection sees to it
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			// What the Prometheus Operator defines, not every cluster has.
			objects := must(t, "", "helm", "-n", n.name, "template", "accepted", chart, "--dry-run=server", "--no-hooks", "--values", file,
				"--set", "serviceMonitor.enabled=false,podMonitor.enabled=false,prometheusRule.enabled=false")
			if strings.TrimSpace(objects) == "" {
				return // templates only
			}
			must(t, objects, "kubectl", "-n", n.name, "apply", "--dry-run=server", "-f", "-")
		})
	}
}
