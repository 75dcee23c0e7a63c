# PMIx, and trying the program under real launchers. Included by the Makefile.

# With the tag pmix it takes a C compiler and PMIx's headers, at run time nothing: libpmix is loaded if it is there. Where pkg-config
# finds no headers Debian's are installed (as root).
LAUNCHER_PACKAGES := .ci/launchers-packages.txt
PMIX_CFLAGS = $(shell pkg-config --cflags-only-I pmix 2>/dev/null)
PMIX_BUILD  = CGO_ENABLED=1 CGO_CFLAGS="-O2 -g $(PMIX_CFLAGS)" $(GO)

.PHONY: pmix-headers build-pmix test-launchers launcher-packages
pmix-headers: ## PMIx's headers, which a build with the tag pmix needs
	@pkg-config --exists pmix 2>/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends pkg-config gcc libc6-dev \
	  $$(grep '^libpmix-dev=' $(LAUNCHER_PACKAGES)) > /dev/null; }

build-pmix: pmix-headers ## bin/dovetail that finds its ranks through PMIx
	$(PMIX_BUILD) build -tags pmix -trimpath -ldflags "-X main.buildVersion=$(VERSION)" -o bin/dovetail ./cmd/dovetail

launcher-packages: pmix-headers
	@for p in mpirun.openmpi mpiexec.hydra srun slurmctld slurmd munged ip; do command -v $$p > /dev/null || missing=1; done; \
	  test -z "$$missing" || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $$(cat $(LAUNCHER_PACKAGES)) > /dev/null; }

# The programs that are tried are not bin/dovetail, which may be of another build.
LAUNCHER_OUT := $(CURDIR)/.build/launchers
test-launchers: launcher-packages ucx-tools ## whole jobs under mpirun, mpiexec and a Slurm of two nodes that is started here, with ranks that are killed; as root, 2 to 3 minutes
	$(PMIX_BUILD) vet -tags pmix ./internal/bootstrap/...
	CGO_ENABLED=1 CGO_CFLAGS="$(UCX_CGO) $(PMIX_CFLAGS)" $(GO) build -tags "pmix ucx" -o $(LAUNCHER_OUT)/full/dovetail ./cmd/dovetail
	CGO_ENABLED=0 $(GO) build -o $(LAUNCHER_OUT)/plain/dovetail ./cmd/dovetail
	@# What was left out is worth a line, which go test shows only when it shows everything.
	@if DOVETAIL_LAUNCHERS=installed DOVETAIL_UCX_LIB=$(UCX_LIB) DOVETAIL_BIN=$(LAUNCHER_OUT)/full/dovetail DOVETAIL_BIN_PLAIN=$(LAUNCHER_OUT)/plain/dovetail \
	  $(GO) test -v -count 1 -timeout 30m ./internal/launchers $(FLAGS) > $(LAUNCHER_OUT)/log 2>&1; \
	then grep -E '^(ok|--- |    --- )|NOT TESTED|killed after' $(LAUNCHER_OUT)/log; else cat $(LAUNCHER_OUT)/log; exit 1; fi
