# Every target is a few lines; `make help` lists them. CI runs the same ones.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Without this tag the metrics of raft and memberlist go to another library.
GOTAGS  := hashicorpmetrics
GO      := go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
BUILD   := CGO_ENABLED=0 $(GO) build -tags $(GOTAGS) -trimpath -ldflags '$(LDFLAGS)'
TEST    := $(GO) test -tags $(GOTAGS)
TOOL    := $(GO) tool -modfile=internal/tools/go.mod
LINT    := $(GO) tool -modfile=internal/tools/lint/go.mod golangci-lint
DEMO    := /tmp/shoal-demo
# The programs that tests run on the lab, so that no test builds its own.
BINARIES := SHOAL_BIN=$(CURDIR)/bin/shoal WEB_BIN=$(CURDIR)/bin/web DOCKER_BIN=$(CURDIR)/bin/docker
N       ?= 5
FUZZTIME ?= 10s
ARGS    ?=

# Packages whose tests need no Docker Engine and no root.
UNIT = $$($(GO) list -tags $(GOTAGS) ./... | grep -v '^shoal/integration')

.PHONY: help setup build image fmt lint vet test unit race integration docker chaos bench demo demo-down lab lab-swarm lab-down check golden fuzz cover sizes deps vuln changelog clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what is missing on a bare Debian 12, and start Docker if it does not run
	@bash internal/tools/setup

build: ## build bin/shoal, bin/web (the sample program) and bin/shoallab
	$(BUILD) -o bin/ . ./examples/web ./integration/lab/shoallab

# Debian has the docker command 20.10; the one of later engines is built.
bin/docker: internal/tools/docker/go.mod
	CGO_ENABLED=0 $(GO) build -modfile=$< -trimpath -ldflags '-s -w -X github.com/docker/cli/cli/version.Version=28.5.2' -o $@ github.com/docker/cli/cmd/docker

image: build setup ## build the sample image web:1 on the local engine
	rm -rf bin/image && mkdir -p bin/image/rootfs/bin
	cp bin/web bin/image/rootfs/bin/ && ln -s web bin/image/rootfs/bin/sleep
	docker build -q -t web:1 -f examples/web/Dockerfile bin/image

fmt: ## format all Go files (gofumpt, goimports)
	$(LINT) fmt ./...

lint: vet ## run all linters
	$(LINT) run ./...

vet: ## run go vet, also over the files that need an engine
	$(GO) vet -tags $(GOTAGS),docker ./...

test: setup build vet unit docker ## run every test: unit, laws, clusters in one process, real engines, the lab

unit: ## run the tests that need neither Docker nor root
	$(TEST) -timeout 10m $(ARGS) $(UNIT)

race: ## run the unit tests under the race detector
	$(TEST) -race -short -timeout 20m $(ARGS) $(UNIT)

integration: ## run whole clusters in one process
	$(TEST) -timeout 10m $(ARGS) ./integration

docker: setup build bin/docker ## run the tests that need a real engine, and those on the lab
	$(BINARIES) $(TEST) -tags $(GOTAGS),docker -p 1 -timeout 40m -run $(or $(RUN),.) $(ARGS) ./integration/... $$(grep -rl --include='*_docker_test.go' '^//go:build docker' . | xargs -r -n1 dirname | sort -u | grep -v '^./integration')

chaos: setup build ## campaigns on the lab: networks broken in every way, and changes under load
	SHOAL_CHAOS=1 $(BINARIES) $(TEST) -tags $(GOTAGS),docker -count 1 -timeout 40m -v -run $(or $(RUN),'TestNetworks$$|TestNetworkFaults|TestNothingIsDropped') $(ARGS) ./integration

bench: build ## run the benchmarks, each beside its baseline
	$(TEST) -run '^$$' -bench . -benchmem -timeout 30m $(ARGS) $(UNIT)
	$(BINARIES) $(TEST) -tags $(GOTAGS),docker -run '^$$' -bench . -timeout 60m $(ARGS) ./integration/...

demo: image ## form a one-node cluster here, run and scale a service on it
	@DEMO=$(DEMO) bash examples/demo

demo-down: ## remove what `make demo` left running
	@DEMO=$(DEMO) bash examples/demo down

lab: setup build ## form a cluster of N hosts on this machine, each with its own engine: make lab N=5
	bin/shoallab up -n $(N) -web bin/web

lab-swarm: setup build ## the same with Docker Swarm, to compare with
	bin/shoallab up -n $(N) -web bin/web -form swarm

lab-down: ## remove the lab, and what interrupted tests left of theirs
	@test -x bin/shoallab || $(BUILD) -o bin/ ./integration/lab/shoallab
	bin/shoallab down

check: fmt lint unit race sizes ## what must be green before a commit

golden: ## rewrite golden files; read the diff
	UPDATE_GOLDEN=1 $(TEST) $$(grep -rl --include='*_test.go' UPDATE_GOLDEN . | xargs -r -n1 dirname | sort -u)

fuzz: ## fuzz every target for FUZZTIME
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9]*' . | while IFS=: read -r file f; do \
		$(TEST) -run '^$$' -fuzz "^$${f#func }$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")"; done

cover: ## test coverage by package, and bin/cover.html
	$(TEST) -coverprofile bin/cover.out $(UNIT)
	$(GO) tool cover -html bin/cover.out -o bin/cover.html

sizes: ## the longest files and functions, against the budget
	$(TEST) -count 1 -run 'TestFilesAndFunctionsAreShort' -v ./internal/repotest

deps: ## direct dependencies, how much they bring along, and what is not used
	@$(GO) list -m -f '{{if not (or .Indirect .Main)}}{{.Path}} {{.Version}}{{end}}' all
	@echo "$$($(GO) list -tags $(GOTAGS) -deps -f '{{with .Module}}{{.Path}}{{end}}' . | sort -u | wc -l) modules linked"
	$(TOOL) deadcode -tags $(GOTAGS) .

vuln: ## look the dependencies up in the vulnerability database; needs the network
	$(TOOL) govulncheck -tags $(GOTAGS) ./...

changelog: ## print the unreleased entries, joined as a release would
	@for kind in added changed fixed removed; do sed -n "/^kind: $$kind/,/^---/s/^text: /- $$kind: /p" docs/changelog/unreleased/*.md; done

clean: ## remove what was built
	rm -rf bin
