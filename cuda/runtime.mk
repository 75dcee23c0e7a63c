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
CUDASIM_SOURCES := $(wildcard internal/cudasim/*.cc internal/cudasim/*.h) cuda/internal/hostmodel/hostmodel.h cuda/shim/include/cuda.h
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
BUG  ?=
HALF ?= -1
cuda-mutants: cuda-tools cudasim $(KERNELS_HOST) ## planted bugs of the device runtime, each of which a check must find; BUG=part of a name, HALF=0 or 1 for every other
	DOVETAIL_CUDASIM=$(CUDASIM) $(CUDA_BUILD) test -count 1 -v -timeout 60m ./internal/cudasim/planted -play -bug '$(BUG)' -half $(HALF)

# What Dockerfile.cuda builds, in a folder that becomes the root of the image.
IMAGE_ROOT ?= $(CURDIR)/.build/image
.PHONY: image-steps
image-steps: kernels build-cluster sim ## what is put into the image; CI runs it without Docker
	rm -rf $(IMAGE_ROOT) && mkdir -p $(IMAGE_ROOT)/usr/local/bin $(IMAGE_ROOT)/usr/share/doc/dovetail
	cp bin/dovetail bin/libdovetail_cudasim.so bin/libdovetail_kernels.so $(IMAGE_ROOT)/usr/local/bin/
	cp LICENSE NOTICE README.md $(IMAGE_ROOT)/usr/share/doc/dovetail/
	$(IMAGE_ROOT)/usr/local/bin/dovetail info

# On a machine with a GPU, whose driver is loaded in place of the simulated one.
GPU_OUT ?= $(CURDIR)/.build/gpu
.PHONY: test-gpu
test-gpu: cuda-tools kernels build-cuda sim ## for a machine with an NVIDIA GPU: the suites on it, under compute-sanitizer if that is there, and throughput
	mkdir -p $(GPU_OUT)
	bin/dovetail info | tee $(GPU_OUT)/info.txt
	@bin/dovetail info | grep -q 'GPUs for --device cuda, with kernels' || { echo "there is no GPU here"; exit 1; }
	DOVETAIL_TEST_GPU=1 $(CUDA_BUILD) test -count 1 -v -timeout 30m -tags cuda -run '^TestGPU' ./cuda | tee $(GPU_OUT)/suites.txt
	$(CUDA_BUILD) test -c -tags cuda -o $(GPU_OUT)/cuda.test ./cuda
	@if command -v compute-sanitizer > /dev/null; then set -e; for tool in memcheck racecheck initcheck synccheck; do \
	  echo "== compute-sanitizer $$tool"; \
	  DOVETAIL_TEST_GPU=1 compute-sanitizer --tool $$tool --error-exitcode 9 $(GPU_OUT)/cuda.test -test.short -test.run '^TestGPU(Backend|Pairs|Held)' 2>&1 | tee $(GPU_OUT)/$$tool.txt | tail -3; \
	done; else echo "compute-sanitizer is not here: left out"; fi
	DOVETAIL_TEST_GPU=1 $(CUDA_BUILD) test -count 1 -tags cuda -run '^$$' -bench '^BenchmarkGPU' ./cuda | tee $(GPU_OUT)/throughput.txt
	rm -rf $(GPU_OUT)/run && mkdir -p $(GPU_OUT)/run && echo module results > $(GPU_OUT)/run/go.mod
	bin/dovetail dedup --device cuda --format files --input $(GOROOT_TEXT)/src $(GOROOT_TEXT)/test --output $(GPU_OUT)/run/gpu | tee $(GPU_OUT)/run.txt
	bin/dovetail dedup --device cpu --format files --input $(GOROOT_TEXT)/src $(GOROOT_TEXT)/test --output $(GPU_OUT)/run/cpu | tee -a $(GPU_OUT)/run.txt
	@test $$(grep -c "^digest *$$(awk '/^digest/ {print $$2; exit}' $(GPU_OUT)/run.txt)$$" $(GPU_OUT)/run.txt) = 2 || { echo "the digests differ"; exit 1; }
