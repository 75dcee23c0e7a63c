# UCX: what package ucx is built with, and its proof. Included by the Makefile.

# With the tag ucx it takes gcc and UCX's headers, which come with UCX itself from the Python registry, 43 MB compressed. Nothing of it is linked:
# the library is looked for when a program starts. The tests use the one that came with the headers.
UCX         := $(CURDIR)/.tools/ucx
UCX_LIB     := $(UCX)/lib
UCX_INCLUDE := $(UCX)/include
UCX_CGO     := -O2 -g -I$(UCX_INCLUDE)
UCX_BUILD   := CGO_ENABLED=1 CGO_CFLAGS="$(UCX_CGO)" $(GO)
UCX_TEST    := DOVETAIL_UCX_LIB=$(UCX_LIB) $(UCX_BUILD)

$(UCX)/done: .ci/ucx-requirements.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	rm -rf $(UCX)
	$(PYTHON) -m venv $(UCX)/python
	$(UCX)/python/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	cd $(UCX) && for d in lib include; do ln -s $$(echo python/lib/python3*/site-packages/libucx/$$d) $$d; done
	@test -e $(UCX_LIB)/libucp.so.0 && test -e $(UCX_INCLUDE)/ucp/api/ucp.h
	touch $@

# The oldest UCX that will do.
UCX_OLDEST := $(CURDIR)/.tools/ucx-oldest
$(UCX_OLDEST)/done: .ci/ucx-oldest.txt $(UCX)/done
	rm -rf $(UCX_OLDEST)
	$(UCX)/python/bin/pip install --quiet --disable-pip-version-check --no-deps --target $(UCX_OLDEST) -r $<
	touch $@

.PHONY: ucx-tools
ucx-tools: $(UCX)/done ## what a build with the tag ucx needs beside gcc, and UCX for tests: 170 MB below .tools

.PHONY: build-ucx
build-ucx: ucx-tools ## bin/dovetail that finds UCX; needs gcc and Python to build, and at run time no UCX
	$(UCX_BUILD) build -tags ucx -trimpath -ldflags "-X main.buildVersion=$(VERSION)" -o bin/dovetail ./cmd/dovetail

# What knows of UCX, on shared memory and on TCP, in one process and in several. UCX's own threads and memory are no business of the race
# detector.
UCX_PACKAGES := ./ucx/... ./internal/engine ./cmd/dovetail
.PHONY: test-ucx
test-ucx: ucx-tools $(UCX_OLDEST)/done ## package ucx and jobs over it; vet, staticcheck, the suite, the race detector
	$(UCX_BUILD) vet -tags ucx $(UCX_PACKAGES)
	$(UCX_BUILD) run $(STATICCHECK) -tags ucx ./ucx/... ./internal/engine
	$(UCX_TEST) test -short -count 1 -timeout 5m -tags ucx ./ucx/...
	$(UCX_TEST) test -short -count 1 -timeout 5m -tags ucx,invariants -run 'Pieces|Close|Killed' ./ucx
	DOVETAIL_UCX_LIB=$(UCX_OLDEST)/libucx/lib $(UCX_BUILD) test -short -count 1 -timeout 5m -tags ucx -run 'Conformance/.*/transport|Close|Killed|Registe|Bare|Kept|Port' ./ucx
	$(UCX_TEST) test -short -count 1 -timeout 5m -tags ucx -race -run 'Pieces|Close|Misbehaviour|Meeting|Strangers|KilledBusy' ./ucx
	$(UCX_TEST) test -short -count 1 -timeout 10m -tags ucx -race -run 'Conformance$$/shm' ./ucx
	$(UCX_TEST) test -short -count 1 -timeout 5m -tags ucx -race -run 'Registe|Bare|Kept' ./ucx
	DOVETAIL_UCX_REGISTER=always $(UCX_TEST) test -short -count 1 -timeout 5m -tags ucx -run 'Conformance$$|Pieces|Close|Killed' ./ucx
	$(UCX_TEST) test -short -count 1 -timeout 5m -tags ucx -run 'Fabric|Transports' ./internal/engine
	$(UCX_TEST) test -short -count 1 -timeout 5m -tags ucx -run 'TestJobOverUCX|TestRankKilled|TestInfoAndHelp' ./cmd/dovetail
	for f in FuzzFrame FuzzHello FuzzCut; do $(UCX_TEST) test -tags ucx -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./ucx || exit 1; done
	$(UCX_TEST) test -tags ucx -run '^$$' -fuzz '^FuzzLink$$' -fuzztime 200x ./ucx

.PHONY: bench-ucx
bench-ucx: ucx-tools ## goodput of a shuffle over UCX beside a loop in C, idle ranks, messages, meetings
	$(UCX_TEST) test -tags ucx -run '^$$' -bench Goodput -benchtime 15x -timeout 20m ./ucx/goodput
	$(UCX_TEST) test -tags ucx -run '^$$' -bench Idle -benchtime 3x ./ucx/goodput
	$(UCX_TEST) test -tags ucx -run '^$$' -bench 'Transport|Meeting|Register' -timeout 20m ./ucx
