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

.PHONY: ucx-tools
ucx-tools: $(UCX)/done ## what a build with the tag ucx needs beside gcc, and UCX for tests: 170 MB below .tools
