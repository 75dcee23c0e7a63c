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
test-launchers: launcher-packages ## whole jobs under mpirun, mpiexec and a Slurm of two nodes that is started here, with ranks that are killed; as root, about 2 minutes
	$(PMIX_BUILD) vet -tags pmix ./internal/bootstrap/...
	$(PMIX_BUILD) build -tags pmix -o $(LAUNCHER_OUT)/pmix/dovetail ./cmd/dovetail
	CGO_ENABLED=0 $(GO) build -o $(LAUNCHER_OUT)/plain/dovetail ./cmd/dovetail
	DOVETAIL_LAUNCHERS=installed DOVETAIL_BIN=$(LAUNCHER_OUT)/pmix/dovetail DOVETAIL_BIN_PLAIN=$(LAUNCHER_OUT)/plain/dovetail \
	  $(GO) test -count 1 -timeout 10m $(FLAGS) ./internal/launchers
