#!/usr/bin/env bash
# Everything about the chart that needs no cluster: lint, unit tests, and its objects
# against the schemas of each Kubernetes that it is for. "make helm-test" calls it,
# with the tools' folder and the folder for schemas.
set -euo pipefail
cd "$(dirname "$0")"
export PATH=$1:$PATH
schemas=$2
shift 2
versions=("$@")
chart=questdb-ilp-proxy

helm dependency update example-app >/dev/null

echo '== helm lint'
for values in "$chart"/ci/*.yaml; do
  # Lint asks no cluster for its APIs; what the templates refuse is a test's matter.
  helm lint --strict --quiet "$chart" --values "$values" 2>/dev/null || helm lint --strict "$chart" --values "$values"
done
helm lint --strict --quiet example-app

echo '== helm-unittest'
helm-unittest --strict "$chart" example-app

echo '== documentation'
have=$(cat "$chart/README.md")
(cd "$chart" && helm-docs --log-level error --skip-version-footer >/dev/null)
if [[ $(cat "$chart/README.md") != "$have" ]]; then
  echo "helm/$chart/README.md was out of date with values.yaml and is written anew; commit it" >&2
  exit 1
fi
if grep -n '|  |$' "$chart/README.md"; then
  echo "helm/$chart/values.yaml: these values have no description" >&2
  exit 1
fi

# injection VERSION: the API version in which it can have injection, if any.
injection() {
  case $1 in
  v1.36.*) echo v1 ;;
  v1.3[45].*) echo v1beta1 ;;
  v1.3[23].*) echo v1alpha1 ;;
  esac
}

echo '== kubeconform'
# Schemas that find no fault in anything would be no test.
if helm template release "$chart" --values "$chart/ci/gateway-values.yaml" | sed 's/matchLabelKeys:/matchLabelsKeys:/' |
  kubeconform -strict -schema-location "$schemas/${versions[0]}/{{ .ResourceKind }}{{ .KindSuffix }}.json" >/dev/null; then
  echo 'kubeconform accepts a misspelt field: the schemas are no good' >&2
  exit 1
fi
for version in "${versions[@]}"; do
  apis=()
  api=$(injection "$version")
  [[ -z $api ]] || apis=(--api-versions "admissionregistration.k8s.io/$api/MutatingAdmissionPolicy")
  for values in "$chart"/ci/*.yaml example-app/values.yaml; do
    dir=$chart
    [[ $values != example-app/* ]] || dir=example-app
    if [[ $values == */injection-* && -z $api ]]; then
      # Before 1.32 the chart has to refuse.
      if helm template release "$dir" --values "$values" --kube-version "$version" >/dev/null 2>&1; then
        echo "$values: rendered for Kubernetes $version, which has no MutatingAdmissionPolicy" >&2
        exit 1
      fi
      continue
    fi
    helm template release "$dir" --values "$values" --kube-version "$version" "${apis[@]}" |
      kubeconform -strict -summary -kubernetes-version "${version#v}" \
        -schema-location "$schemas/$version/{{ .ResourceKind }}{{ .KindSuffix }}.json" |
      sed "s#^#$version $values: #"
  done
done
