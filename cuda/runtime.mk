# The device runtime: what it is built with, and its proof on simulated GPUs. Included by the Makefile.

# With the tag cuda it takes gcc, and CUDA's headers, which are not ours to give away: they come from NVIDIA's package in Python's
# registry, 7 MB. cuda/shim is what is linked in place of NVIDIA's driver; the folder of its library is named after its contents,
# because go does not look into libraries when it decides whether a program is up to date.
CUDA_DIR     := $(CURDIR)/.tools/cuda-headers
CUDA_HEADERS ?= $(CUDA_DIR)/include
SHIM_SOURCES := $(wildcard cuda/shim/*) cuda/shim/include/cuda.h .ci/cuda-headers.txt
SHIM         := $(CURDIR)/.build/cuda/shim-$(shell cat $(SHIM_SOURCES) 2>/dev/null | cksum | cut -d' ' -f1)
CUDA_INCLUDE := -I$(CURDIR)/cuda/shim/include -I$(CUDA_HEADERS)
# go-nvml warns of functions of NVML that it only declares.
CUDA_BUILD := CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations $(CUDA_INCLUDE)" \
	CGO_LDFLAGS="-O2 -g -L$(SHIM)" $(GO)

$(CUDA_DIR)/include: .ci/cuda-headers.txt
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	$(PYTHON) -m venv $(CUDA_DIR)/python
	$(CUDA_DIR)/python/bin/pip install --quiet --disable-pip-version-check --no-deps -r $<
	rm -f $@ && ln -s $$(cd $(CUDA_DIR) && echo python/lib/python3*/site-packages/nvidia/cu13/include) $@

$(SHIM)/libcuda.a: $(SHIM_SOURCES) | $(CUDA_HEADERS)
	rm -rf $(dir $(SHIM))shim-* && mkdir -p $(SHIM)
	sh cuda/shim/names.sh $(CC) $(CUDA_INCLUDE) > $(SHIM)/names.h
	$(CC) -O2 -g -fPIC -Wall -Wextra $(CUDA_INCLUDE) -I$(SHIM) -c -o $(SHIM)/shim.o cuda/shim/shim.c
	$(CC) -fPIC -I$(SHIM) -c -o $(SHIM)/trampolines.o cuda/shim/trampolines.S
	$(AR) rc $(SHIM)/new.a $(SHIM)/shim.o $(SHIM)/trampolines.o && mv $(SHIM)/new.a $@

.PHONY: cuda-tools
cuda-tools: $(SHIM)/libcuda.a ## what a build with the tag cuda needs beside gcc

# The simulated driver, and where it finds the kernels that are compiled as C++ (make kernels-host).
CUDASIM_SOURCES := $(wildcard internal/cudasim/*) cuda/internal/hostmodel/hostmodel.h cuda/shim/include/cuda.h
CUDASIM         := $(CURDIR)/.build/cuda/libdovetail_cudasim.so
CXX_WARN        := -Wall -Wextra -Wno-missing-field-initializers
$(CUDASIM): $(CUDASIM_SOURCES) | $(CUDA_HEADERS)
	mkdir -p $(@D)
	$(CXX) -std=c++17 -O2 -g -fPIC -shared -fvisibility=hidden $(CXX_WARN) $(CUDA_INCLUDE) -Icuda/internal/hostmodel \
	  -o $@.new internal/cudasim/sim.cc internal/cudasim/api.cc -ldl -lpthread && mv $@.new $@

.PHONY: cudasim
cudasim: $(CUDASIM) ## the driver of simulated GPUs

KERNELS_HOST := .build/cuda/libdovetail_kernels.so

.PHONY: build-cuda
build-cuda: cuda-tools ## bin/dovetail that finds GPUs; needs gcc and Python to build, and at run time no driver
	$(CUDA_BUILD) build -tags cuda -trimpath -ldflags "-X main.buildVersion=$(VERSION)" -o bin/dovetail ./cmd/dovetail

.PHONY: sim
sim: $(CUDASIM) $(KERNELS_HOST) ## beside bin/dovetail what --device sim needs
	@mkdir -p bin
	cp $^ bin/

.PHONY: test-cuda
test-cuda: cuda-tools cudasim $(KERNELS_HOST) ## what knows of GPUs, with GPUs that are simulated
	$(CUDA_BUILD) vet -tags cuda ./cuda/... ./internal/engine/... ./cmd/dovetail
	DOVETAIL_CUDASIM=$(CUDASIM) $(CUDA_BUILD) test -short -count 1 -tags cuda ./cuda ./internal/engine/...
	DOVETAIL_CUDASIM=$(CUDASIM) $(CUDA_BUILD) test -short -count 1 -tags cuda -run 'TestInfo|TestSimulated|TestDevice' ./cmd/dovetail

# One test with GPUs: make test-cuda-one PKG=./cuda RUN=TestStreamOrder
.PHONY: test-cuda-one
test-cuda-one: cuda-tools cudasim $(KERNELS_HOST)
	DOVETAIL_CUDASIM=$(CUDASIM) $(CUDA_BUILD) test -count 1 -tags cuda $(FLAGS) -run '$(RUN)' $(PKG)

.PHONY: cuda-mutants
BUG ?=
cuda-mutants: cuda-tools cudasim $(KERNELS_HOST) ## planted bugs of the device runtime, each of which a check must find; BUG=part of a name
	DOVETAIL_CUDASIM=$(CUDASIM) $(CUDA_BUILD) test -count 1 -v -timeout 60m ./internal/cudasim/planted -play -bug '$(BUG)'
