# Two commands are enough on a fresh machine with Go: `make run` shows the program at work on real text,
# `make test` runs the tests. Everything else is for whoever works on it.

GO      ?= go
PYTHON  ?= python3
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
OUT     := run
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Real text that is on any machine with Go: the sources and tests of the Go distribution.
GOROOT_TEXT := $(shell $(GO) env GOROOT)

.PHONY: all build run test test-race test-nocgo lint fuzz-smoke bench-smoke bench-executor bench-readers quality test-browser readme-picture simulate test-simulate soak clean

all: build

build: ## bin/dovetail
	$(GO) build -trimpath -ldflags "-X main.buildVersion=$(VERSION)" -o bin/dovetail ./cmd/dovetail

run: build ## deduplicate the Go distribution's own tree and say what was found
	rm -rf $(OUT)
	mkdir -p $(OUT)
	echo module results > $(OUT)/go.mod # the result holds Go files, which are no packages of this module
	bin/dovetail dedup --format files --input $(GOROOT_TEXT)/src $(GOROOT_TEXT)/test --output $(OUT)/clean

test: ## all tests, without the long ones
	$(GO) test -short -timeout 30m ./...

.PHONY: test-python
VENV    := .tools/python
$(VENV)/done: .ci/python-requirements.txt
	@# Debian's python3 comes without what makes environments.
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $<
	touch $@

test-python: $(VENV)/done ## files that we write, read and compared by numpy, pyarrow and DuckDB
	DOVETAIL_PYTHON=$(CURDIR)/$(VENV)/bin/python $(GO) test -count 1 -run 'Py(thon|arrow)' ./dedup/...

test-race: ## all tests with the race detector, which the guests of the simulator cannot have
	$(GO) test -short -race -timeout 30m $$($(GO) list ./... | grep -v internal/simulate)

# The first seed is another one each time, and is printed.
SEEDS ?= 200
SEED  ?= $(shell date +%s)000
RANKS ?= 0
GUEST ?= pipeline
simulate: ## play seeds of the simulator: SEEDS=1000 SEED=1 RANKS=64 GUEST=pipeline or dedup; those that fail print their history
	$(GO) run ./internal/simulate/cmd --seeds $(SEEDS) --seed $(SEED) --ranks $(RANKS) --guest $(GUEST)

test-simulate: ## some hundred seeds, a few of the main job, and the planted bugs
	$(GO) test -count 1 -timeout 30m ./internal/simulate
	$(GO) run ./internal/simulate/cmd --seeds 10 --seed $(SEED) --ranks 4 --guest dedup

test-nocgo: ## the same without a C compiler
	CGO_ENABLED=0 $(GO) build ./...
	CGO_ENABLED=0 $(GO) test -short ./lsh/... ./shuffle/... ./dedup/...

.PHONY: test-cpu-paths
test-cpu-paths: ## the sketches and whole runs with each set of instructions that this processor has
	@set -e; for path in $$($(GO) run ./cmd/dovetail info --paths); do \
	  echo "DOVETAIL_CPU=$$path"; \
	  DOVETAIL_CPU=$$path $(GO) test -short -count 1 ./lsh/...; \
	  DOVETAIL_CPU=$$path $(GO) test -short -count 1 -run '^TestOneDigest$$' ./dedup; \
	done
	$(GO) test -short -tags purego ./lsh/... ./internal/rowloops

.PHONY: generate bench-sign
generate: ## assembly, from the programs that write it
	$(GO) generate ./lsh/... ./internal/rowloops

bench-sign: ## kernels and sketches on every path, against C and the bound of the instructions; needs gcc
	cd lsh/internal/simd/rivals && $(GO) run .

lint: ## import table, package docs, forbidden calls, vet, staticcheck, gofmt, assembly as its generator writes it
	$(GO) generate ./lsh/... ./internal/rowloops
	git diff --exit-code -- lsh/internal/simd internal/rowloops
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

quality: build ## precision and recall of every mode, dedup's and Curator's, on the Go distribution's tree, docs/quality.md
	{ echo "# Latest result of \`make quality\`"; echo; \
	  echo "Texts of $$($(GO) env GOVERSION)'s distribution."; echo; bin/dovetail bench quality --text $(GOROOT_TEXT); } > $(OUT)-quality.md
	mv $(OUT)-quality.md docs/quality.md

bench-executor: ## what the executor adds to the job of `make run`, in percent of its processor time
	$(GO) test -run "^$$" -bench MainJob -benchtime 11x -timeout 60m ./bench/overhead

bench-readers: ## the Parquet and JSON libraries that were not chosen, on the same texts
	cd dedup/corpus/internal/rivals && $(GO) test -bench . -benchtime 3x

# The benchmark. Texts, other programs and what it leaves behind are below BENCH_DIR: some GB. Other programs are Python
# packages, for which it takes Python 3.12 or later; what cannot be installed is left out, and the table says so.
BENCH_DIR    ?= .bench
BENCH_SIZE   ?= small
BENCH_FLAGS  ?=
SCALE_FLAGS  ?=
BENCH_PYTHON ?= $(shell for p in python3.12 python3.13 $(HOME)/.pyenv/versions/3.12*/bin/python python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$p && break; done)
RIVALS  := $(basename $(notdir $(wildcard bench/rivals/requirements/*.txt)))
BENCH   := bin/dovetail bench
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

.PHONY: bench bench-data bench-rivals-env bench-scale bench-plot bench-compare

$(BENCH_DIR)/rivals/%/done: bench/rivals/requirements/%.txt
	@mkdir -p $(BENCH_DIR)/rivals; rm -rf $(@D); \
	if $(BENCH_PYTHON) -m venv $(@D) && $(@D)/bin/pip install --quiet --disable-pip-version-check -r $< > $(@D).log 2>&1; \
	then touch $@; else echo "$* cannot be installed, see $(@D).log"; fi

bench-rivals-env: $(RIVALS:%=$(BENCH_DIR)/rivals/%/done) ## the other programs that bench compares with

# Of the other programs two that are quick to install.
SMOKE_RIVALS := rensa duckdb
bench-smoke: build $(SMOKE_RIVALS:%=$(BENCH_DIR)/rivals/%/done) ## every benchmark and workload once, small, so that none rots
	$(GO) test -short -run '^$$' -bench . -benchtime 1x ./...
	$(BENCH) run --quick --rounds 1 --dir $(BENCH_DIR) > /dev/null

bench-data: build ## the texts that bench runs on, from Debian packages
	$(BENCH) data --dir $(BENCH_DIR) --size $(BENCH_SIZE)

bench: build bench-data bench-rivals-env ## speed against limits and other programs: docs/bench.md, .json and .svg
	$(BENCH) run --dir $(BENCH_DIR) --json docs/bench.json --markdown docs/bench.md $(BENCH_FLAGS)
	@$(MAKE) --no-print-directory bench-plot

bench-plot: $(BENCH_DIR)/rivals/plot/done
	$(BENCH_DIR)/rivals/plot/bin/python bench/plot.py docs/bench.json docs/bench.svg

bench-scale: build $(BENCH_DIR)/rivals/plot/done ## time and memory as documents double, for an hour at most
	$(BENCH) scale --dir $(BENCH_DIR) --json docs/bench-scale.json --markdown docs/bench-scale.md $(SCALE_FLAGS)
	$(BENCH_DIR)/rivals/plot/bin/python bench/plot.py docs/bench-scale.json docs/bench-scale.svg

# Both programs measure themselves in turn, so that a machine that is busy is so for both.
BENCH_ROUNDS ?= 6
bench-compare: build ## this tree against BASE=commit, by benchstat
	@test -n "$(BASE)" || { echo "name a commit: make bench-compare BASE=main"; exit 2; }
	@rm -f $(BENCH_DIR)/base.txt $(BENCH_DIR)/new.txt; git worktree remove --force $(BENCH_DIR)/base 2>/dev/null || true
	git worktree add --quiet --detach $(BENCH_DIR)/base $(BASE)
	cd $(BENCH_DIR)/base && $(GO) build -trimpath -o bin/dovetail ./cmd/dovetail
	@set -e; for i in $$(seq $(BENCH_ROUNDS)); do for side in base new; do \
	  program=bin/dovetail; test $$side = new || program=$(BENCH_DIR)/base/bin/dovetail; \
	  $$program bench run --dir $(BENCH_DIR) --without-rivals --rounds 1 --gobench $(BENCH_DIR)/$$side.txt $(BENCH_FLAGS) > /dev/null; \
	done; done
	git worktree remove --force $(BENCH_DIR)/base
	$(GO) run $(BENCHSTAT) $(BENCH_DIR)/base.txt $(BENCH_DIR)/new.txt | tee $(BENCH_DIR)/compare.txt

# The report in a real browser. Where none is installed, Debian's is (as root).
FIND_CHROMIUM := command -v chromium || command -v chromium-browser || command -v google-chrome
chromium:
	@{ $(FIND_CHROMIUM); } >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }
.PHONY: chromium

test-browser: build chromium ## what a run's report looks like on a phone and on a desk, and that it does nothing by itself
	cd internal/browser && $(GO) vet . && \
	  DOVETAIL_BIN=$(CURDIR)/bin/dovetail DOVETAIL_CHROMIUM=$$($(FIND_CHROMIUM)) \
	  $(GO) test -count 1 .

readme-picture: run chromium ## docs/report.png, the first screen of the report of `make run`
	cd internal/browser && $(GO) run . -page $(CURDIR)/$(OUT)/clean/report.html -out $(CURDIR)/docs/report.png

# Networks of namespaces take root, and ip and tc: where these are missing, those of Debian 12 are installed. Where they cannot be made the
# tests say so and pass.
IPROUTE2     := iproute2=6.1.0-3
FAULTS_FLAGS ?=
.PHONY: iproute2 test-faults test-faults-ucx
iproute2:
	@{ command -v ip && command -v tc; } > /dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(IPROUTE2); } || true

test-faults: build iproute2 ## ranks in networks that break: kills, cuts, loss, full disks, strangers; DOVETAIL_FAULTS=4 DOVETAIL_SEED=1
	cd internal/netlab/faults && DOVETAIL_BIN=$(CURDIR)/bin/dovetail $(GO) test -count 1 -timeout 10m -parallel 8 $(FAULTS_FLAGS)

# UCX, held to TCP between the namespaces: it would find shared memory else.
test-faults-ucx: iproute2 ucx-tools ## the same over UCX
	$(UCX_BUILD) build -trimpath -tags ucx -o .build/dovetail-ucx ./cmd/dovetail
	cd internal/netlab/faults && DOVETAIL_BIN=$(CURDIR)/.build/dovetail-ucx DOVETAIL_UCX_LIB=$(UCX_LIB) DOVETAIL_TRANSPORTS=ucx \
	  $(GO) test -count 1 -timeout 10m -parallel 8 $(FAULTS_FLAGS)

soak: build ## the long checks: a million documents under memory limits, kill -9, long random tests
	$(GO) run ./internal/soak -bin bin/dovetail -dir $(OUT)/soak
	DOVETAIL_FAULTS=$${DOVETAIL_FAULTS:-100} $(MAKE) test-faults FAULTS_FLAGS="-run TestRandomFaults -timeout 60m"
	$(GO) test -timeout 60m -count 1 ./...

include cuda/cuda.mk
include cuda/runtime.mk
include internal/launchers/launchers.mk
include ucx/ucx.mk

.PHONY: build-cluster
build-cluster: cuda-tools ucx-tools pmix-headers ## bin/dovetail that finds GPUs, UCX and PMIx where they are; needs gcc and Python to build
	CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations $(CUDA_INCLUDE) -I$(UCX_INCLUDE) $(PMIX_CFLAGS)" CGO_LDFLAGS="-O2 -g -L$(SHIM)" \
	  $(GO) build -tags "cuda pmix ucx" -trimpath -ldflags "-X main.buildVersion=$(VERSION)" -o bin/dovetail ./cmd/dovetail

clean:
	rm -rf bin $(OUT) .build cuda/built/kernels.*
