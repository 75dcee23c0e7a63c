# Kernels: what nvcc makes of them, and their proof. Included by the Makefile.

# nvcc comes from the Python registry. The second, newer compiler is there for tests, and for its disassembler.
CUDA      := .tools/cuda
CUDA_NEXT := .tools/cuda-next
CUDA_OUT  := .build/cuda
NVCC      := PATH=$(CURDIR)/$(CUDA)/cuda/bin:$$PATH nvcc
NVCC_NEXT := PATH=$(CURDIR)/$(CUDA_NEXT)/cuda/bin:$$PATH nvcc
CUDA_SRC  := cuda/kernels.cu $(filter-out cuda/kernels.cu,$(wildcard cuda/*.cu cuda/*.cuh)) cuda/kernels.h
HOST_SRC  := $(wildcard cuda/internal/hostmodel/*)
SM        := 75 80 86 89 90 100 120

.PHONY: cuda-toolchain kernels kernels-host test-kernels kernel-mutants kernel-usage kernel-usage-update kernel-throughput

$(CUDA)/done: .ci/cuda-requirements.txt
$(CUDA_NEXT)/done: .ci/cuda-next-requirements.txt
$(CUDA)/done $(CUDA_NEXT)/done:
	@# Debian's python3 comes without what makes environments.
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { apt-get update -qq && apt-get install -y -qq python3-venv; }
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r $<
	cd $(@D) && ln -s lib/python3*/site-packages/nvidia/cu13 cuda
	@test -x $(@D)/cuda/bin/nvcc
	touch $@

cuda-toolchain: $(CUDA)/done $(CUDA_NEXT)/done ## nvcc, pinned, and a newer one for tests: about 700 MB below .tools

kernels: cuda/built/kernels.fatbin ## cuda/built: the kernels as PTX and, made of that PTX, for every kind of GPU

cuda/built/kernels.ptx: $(CUDA_SRC) $(CUDA)/done
	@# In a folder without a path of its own, so that the result does not depend on where it is made.
	cd cuda && $(NVCC) -std=c++17 -ptx -arch compute_75 -o $(CURDIR)/$@ kernels.cu

$(CUDA_OUT)/sm_%.cubin: cuda/built/kernels.ptx
	@mkdir -p $(@D)
	PATH=$(CURDIR)/$(CUDA)/cuda/bin:$$PATH ptxas -arch sm_$* -m64 -v $< -o $@ 2> $(@:.cubin=.usage) || { cat $(@:.cubin=.usage); exit 1; }

# The oldest compression, so that older drivers read it.
cuda/built/kernels.fatbin: $(SM:%=$(CUDA_OUT)/sm_%.cubin)
	cd $(CUDA_OUT) && PATH=$(CURDIR)/$(CUDA)/cuda/bin:$$PATH fatbinary -64 --create=$(CURDIR)/$@ --compress-all --compress-mode=speed \
	  $(foreach sm,$(SM),--image3=kind=elf,sm=$(sm),file=sm_$(sm).cubin) --image3=kind=ptx,sm=75,file=$(CURDIR)/cuda/built/kernels.ptx

# Registers, spills and shared memory of every kernel on every kind of GPU.
$(CUDA_OUT)/usage.txt: $(SM:%=$(CUDA_OUT)/sm_%.cubin) cuda/usage.awk
	awk -f cuda/usage.awk $(SM:%=$(CUDA_OUT)/sm_%.usage) > $@.new
	mv $@.new $@

kernel-usage: $(CUDA_OUT)/usage.txt ## registers, spills and shared memory as in cuda/testdata/usage.golden, and no spills
	diff -u cuda/testdata/usage.golden $<
	@! grep -n 'spill' $< || { echo "registers are spilled"; exit 1; }

kernel-usage-update: $(CUDA_OUT)/usage.txt
	cp $< cuda/testdata/usage.golden

# The kernels as C++. The engine that runs them is compiled without sanitizers.
HOST_CXX   := $(CXX) -std=c++17 -g -Wall
HOST_asan  := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined
HOST_tsan  := -O1 -fno-omit-frame-pointer -fsanitize=thread
HOST_plain := -O2
MODEL_asan := -DMODEL_ASAN=1
MODEL_tsan := -DMODEL_TSAN=1

$(CUDA_OUT)/host-%: $(CUDA_SRC) $(HOST_SRC)
	@mkdir -p $(CUDA_OUT)
	$(HOST_CXX) -O2 $(MODEL_$*) -c -o $@-engine.o cuda/internal/hostmodel/engine.cc
	$(HOST_CXX) $(HOST_$*) -o $@ $@-engine.o cuda/internal/hostmodel/kernels.cc cuda/internal/hostmodel/runner.cc

kernels-host: $(CUDA_OUT)/libdovetail_kernels.so ## the kernels as a library for the simulated driver

$(CUDA_OUT)/libdovetail_kernels.so: $(CUDA_SRC) $(HOST_SRC)
	@mkdir -p $(CUDA_OUT)
	$(HOST_CXX) -O2 -fPIC -shared -fvisibility=hidden -o $@ cuda/internal/hostmodel/engine.cc cuda/internal/hostmodel/kernels.cc

# The tests compare with lsh, shuffle and dedup, on the interpreter and as C++ with sanitizers.
KERNEL_SEEDS ?= 4
KERNEL_TEST  := $(GO) test -count 1 -timeout 60m ./cuda/internal/kerneltest
PTX_NEXT     := $(CUDA_OUT)/next_75.ptx $(CUDA_OUT)/next_100.ptx

$(PTX_NEXT): $(CUDA_OUT)/next_%.ptx: $(CUDA_SRC) $(CUDA_NEXT)/done
	@mkdir -p $(@D)
	cd cuda && $(NVCC_NEXT) -std=c++17 -ptx -arch compute_$* -o $(CURDIR)/$@ kernels.cu

# The PTX as it is in the file that builds embed, which must have a cubin for every kind of GPU.
$(CUDA_OUT)/embedded.ptx: cuda/built/kernels.fatbin $(CUDA_NEXT)/done
	rm -rf $(CUDA_OUT)/embedded; mkdir -p $(CUDA_OUT)/embedded
	cd $(CUDA_OUT)/embedded && PATH=$(CURDIR)/$(CUDA_NEXT)/cuda/bin:$$PATH && \
	  for sm in $(SM); do cuobjdump --list-elf $(CURDIR)/$< | grep -q "sm_$$sm.cubin" || { echo "no cubin for sm_$$sm"; exit 1; }; done && \
	  cuobjdump -xptx all $(CURDIR)/$< && mv *.ptx ../embedded.ptx

test-kernels: $(CUDA_OUT)/embedded.ptx $(PTX_NEXT) $(CUDA_OUT)/host-plain $(CUDA_OUT)/host-asan $(CUDA_OUT)/host-tsan kernel-usage ## the kernels against plain Go: their PTX, of two compilers, in an interpreter; as C++ with sanitizers; a few planted bugs
	$(GO) test -count 1 ./cuda/internal/ptx
	DOVETAIL_KERNELS_PTX=$(CURDIR)/$(CUDA_OUT)/embedded.ptx $(KERNEL_TEST) -run 'TestPTX|TestModule' -seeds $(KERNEL_SEEDS)
	for next in $(PTX_NEXT); do DOVETAIL_KERNELS_PTX=$(CURDIR)/$$next $(KERNEL_TEST) -run TestPTX -seeds 2 || exit 1; done
	for build in plain asan tsan; do DOVETAIL_KERNELS_HOST=$(CURDIR)/$(CUDA_OUT)/host-$$build $(KERNEL_TEST) -run TestHost -seeds $(KERNEL_SEEDS) || exit 1; done
	$(MAKE) --no-print-directory kernel-mutants MUTANTS=few

MUTANTS ?= all
kernel-mutants: $(CUDA)/done ## bugs planted in the kernels, each to be found by a test: MUTANTS=all, few or a part of a name
	PATH=$(CURDIR)/$(CUDA)/cuda/bin:$$PATH DOVETAIL_KERNELS_NVCC=nvcc DOVETAIL_KERNELS_CXX=$(CXX) DOVETAIL_KERNELS_SOURCES=$(CURDIR)/cuda \
	  $(KERNEL_TEST) -run TestMutants -v -mutants '$(MUTANTS)'

# What a GPU could do, calculated: docs/design has the method.
kernel-throughput: cuda/built/kernels.ptx $(CUDA_OUT)/usage.txt $(CUDA_NEXT)/done ## docs/kernels.md: a bound for each kernel from its machine code
	PATH=$(CURDIR)/$(CUDA)/cuda/bin:$$PATH ptxas -arch sm_90 -m64 -lineinfo -o $(CUDA_OUT)/lines.cubin cuda/built/kernels.ptx
	PATH=$(CURDIR)/$(CUDA_NEXT)/cuda/bin:$$PATH nvdisasm -c -gp $(CUDA_OUT)/lines.cubin > $(CUDA_OUT)/lines.sass
	DOVETAIL_KERNELS_PTX=$(CURDIR)/cuda/built/kernels.ptx DOVETAIL_KERNELS_SASS=$(CURDIR)/$(CUDA_OUT)/lines.sass \
	  DOVETAIL_KERNELS_USAGE=$(CURDIR)/$(CUDA_OUT)/usage.txt DOVETAIL_KERNELS_THROUGHPUT=$(CURDIR)/$(CUDA_OUT)/throughput.md $(KERNEL_TEST) -run TestThroughput
	{ echo "# Latest result of \`make kernel-throughput\`"; echo; \
	  echo "Bounds for an H100, calculated from machine code, not measured: no GPU was used. \`docs/design/20261127-cuda.md\` has the method."; echo; \
	  cat $(CUDA_OUT)/throughput.md; } > docs/kernels.md
