// Package kubernetes tests the Helm chart in a real cluster: whichever KUBECONFIG
// points to. Its tests are behind the build tag kubernetes, for "make e2e-kubernetes".
//
// They need kubectl, helm and docker, and make and remove namespaces whose names
// begin with ilp-e2e-, and a MutatingAdmissionPolicy. All their pods meet the
// restricted Pod Security Standard, which the namespaces enforce. Environment:
//
//	E2E_LOAD_IMAGE      command that takes an image from Docker into the cluster, its
//	                    name appended (default: kind load docker-image)
//	E2E_PROXY_IMAGE     image of the proxy, in Docker (default: one from scratch with
//	                    the binary as it is built here)
//	E2E_QUESTDB_IMAGE   image of QuestDB (default: questdb/questdb:9.3.4); "local" is
//	                    made of this machine's Java and QuestDB's jar
//	E2E_NO_INJECTION    1 where the cluster does not serve MutatingAdmissionPolicy: then
//	                    the chart has to refuse
package kubernetes
