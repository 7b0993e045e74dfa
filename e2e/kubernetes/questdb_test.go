//go:build kubernetes

package kubernetes

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"
	"time"

	"questdb-ilp-proxy/auth"
)

// newKey makes a key pair.
func newKey(t *testing.T, id string) *auth.Key {
	t.Helper()
	key, err := auth.Generate(id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keySecret is the Secret that the chart wants.
func keySecret(t *testing.T, key *auth.Key) object {
	t.Helper()
	jwk, err := key.MarshalJWK()
	if err != nil {
		t.Fatal(err)
	}
	return object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "ilp-key"}, "stringData": object{"key.jwk": string(jwk)}}
}

// questdb runs a QuestDB named questdb that knows these keys. Again, it replaces the one
// before, and what that had.
func (n *namespace) questdb(keys ...*auth.Key) {
	n.t.Helper()
	lines := ""
	for _, key := range keys {
		lines += key.AuthLine() + "\n"
	}
	settings := []object{}
	for name, value := range map[string]string{
		"QDB_LINE_TCP_AUTH_DB_PATH":                  "auth/auth.txt", // below the root
		"QDB_PG_ENABLED":                             "false",
		"QDB_LINE_UDP_ENABLED":                       "false",
		"QDB_TELEMETRY_ENABLED":                      "false",
		"QDB_SHARED_WORKER_COUNT":                    "2",
		"QDB_CAIRO_WRITER_DATA_APPEND_PAGE_SIZE":     "64K",
		"QDB_CAIRO_WAL_WRITER_DATA_APPEND_PAGE_SIZE": "64K",
	} {
		settings = append(settings, object{"name": name, "value": value})
	}
	security := restricted(10001)
	labels := object{"app.kubernetes.io/name": "questdb"}
	n.apply(
		object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "questdb-auth"}, "stringData": object{"auth.txt": lines}},
		object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": "questdb"}, "spec": object{
			"selector": labels,
			"ports":    []object{{"name": "ilp", "port": 9009}, {"name": "http", "port": 9000}},
		}},
		object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": object{"name": "questdb"}, "spec": object{
			"strategy": object{"type": "Recreate"},
			"selector": object{"matchLabels": labels},
			"template": object{
				"metadata": object{"labels": labels, "annotations": object{"keys": lines}}, // public halves; a change restarts it
				"spec": object{
					"automountServiceAccountToken": false, "enableServiceLinks": false, "terminationGracePeriodSeconds": 5,
					"securityContext": object{"fsGroup": 10001},
					"containers": []object{{
						"name": "questdb", "image": questdbImage, "imagePullPolicy": "IfNotPresent", "env": settings, "securityContext": security,
						"readinessProbe": object{"periodSeconds": 1, "httpGet": object{"path": "/exec?query=select%201", "port": 9000}},
						"volumeMounts": []object{
							{"name": "data", "mountPath": "/var/lib/questdb"},
							{"name": "auth", "mountPath": "/var/lib/questdb/auth", "readOnly": true},
							{"name": "tmp", "mountPath": "/tmp"},
						},
					}},
					"volumes": []object{
						{"name": "data", "emptyDir": object{}},
						{"name": "tmp", "emptyDir": object{}},
						{"name": "auth", "secret": object{"secretName": "questdb-auth"}},
					},
				},
			},
		}},
	)
	n.kubectl("rollout", "status", "deployment/questdb", "--timeout="+patience.String())
}

// sql asks QuestDB, by way of the API server, and returns the first row.
func (n *namespace) sql(query string) ([]any, error) {
	out, err := run(n.t, "", "kubectl", "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/services/http:questdb:9000/proxy/exec?query=%s", n.name, url.QueryEscape(query)))
	if err != nil {
		return nil, err
	}
	var answer struct {
		Dataset [][]any
		Error   string
	}
	switch err := json.Unmarshal([]byte(out), &answer); {
	case err != nil:
		return nil, fmt.Errorf("%w: %s", err, out)
	case answer.Error != "":
		return nil, fmt.Errorf("%s: %s", query, answer.Error)
	case len(answer.Dataset) == 0:
		return nil, fmt.Errorf("%s: no row", query)
	}
	return answer.Dataset[0], nil
}

// arrive waits until the table has so many different rows of the program writer,
// and checks that it has no more.
func (n *namespace) arrive(table string, rows int) {
	n.t.Helper()
	await(n.t, fmt.Sprintf("%d rows of %s", rows, table), time.Minute, func() (bool, string) {
		row, err := n.sql(fmt.Sprintf("select count(), sum(c) from (select w, n, count() c from %s group by w, n)", table))
		if err != nil {
			return false, err.Error()
		}
		state := fmt.Sprintf("%v different rows, %v in all", row[0], row[1])
		if row[0] == float64(rows) {
			n.t.Logf("%s: %s", table, state)
		} else if got, _ := row[0].(float64); got > float64(rows) {
			n.t.Fatalf("%s has %s, more than were written", table, state)
		}
		return row[0] == float64(rows), state
	})
}
