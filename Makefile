# Two commands are enough on a fresh machine with Go: `make run` shows the program at work on real text,
# `make test` runs the tests. Everything else is for whoever works on it.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
OUT     := run
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Real text that is on any machine with Go: the sources and tests of the Go distribution.
GOROOT_TEXT := $(shell $(GO) env GOROOT)

.PHONY: all build run test test-race test-nocgo lint fuzz-smoke bench-smoke soak clean

all: build

build: ## bin/dovetail
	$(GO) build -trimpath -ldflags "-X main.buildVersion=$(VERSION)" -o bin/dovetail ./cmd/dovetail

run: build ## deduplicate the Go distribution's own tree and say what was found
	rm -rf $(OUT)
	mkdir -p $(OUT)
	bin/dovetail dedup --format files --input $(GOROOT_TEXT)/src $(GOROOT_TEXT)/test --output $(OUT)/clean

test: ## all tests, without the long ones
	$(GO) test -short ./...

.PHONY: test-python
PYTHON  ?= python3
VENV    := .tools/python
$(VENV)/done: .ci/python-requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-python: $(VENV)/done ## files that we write, read and compared by numpy, pyarrow and DuckDB
	DOVETAIL_PYTHON=$(CURDIR)/$(VENV)/bin/python $(GO) test -count 1 -run 'Py(thon|arrow)' ./dedup/...

test-race:
	$(GO) test -short -race ./...

test-nocgo: ## the same without a C compiler
	CGO_ENABLED=0 $(GO) build ./...
	CGO_ENABLED=0 $(GO) test -short ./lsh/... ./shuffle/... ./dedup/...

lint: ## import table, package docs, forbidden calls, vet, staticcheck, gofmt
	$(GO) vet ./...
	$(GO) test ./internal/lint
	$(GO) run $(STATICCHECK) ./...

# A number of inputs rather than a time: a busy machine is no reason to fail.
FUZZTIME := 1000x
fuzz-smoke: ## every fuzz target for a moment
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
	  done; \
	done

bench-smoke: ## every benchmark once, so that none rots
	$(GO) test -short -run '^$$' -bench . -benchtime 1x ./...

soak: build ## the long checks: a million documents under memory limits, kill -9, long random tests
	$(GO) run ./internal/soak -bin bin/dovetail -dir $(OUT)/soak
	$(GO) test -timeout 60m -count 1 ./...

clean:
	rm -rf bin $(OUT)
