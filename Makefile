# SPDX-License-Identifier: Apache-2.0
#
# cvmbench: build, test, certify.  `make help` lists the targets.
#
#   make                     build/cvmbench
#   make CC=clang            with clang
#   make SAN=address,undefined   with sanitizers, in build-address-undefined/
#   make CUDA=no             without the backend for NVIDIA GPUs (CUDA=/path: that toolkit)
#   make install PREFIX=/usr DESTDIR=/tmp/x

VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
CC ?= cc
ifeq ($(origin CC),default)
CC := gcc
endif

comma := ,
B := $(if $(BUILD),$(BUILD),$(if $(SAN),build-$(subst $(comma),-,$(SAN)),build))

# --- libraries: a missing one is named with the package that has it ---------------------------

# pkg-config name : Debian package
LIBS := jansson:libjansson-dev inih:libinih-dev hwloc:libhwloc-dev numa:libnuma-dev libcrypto:libssl-dev
PC := $(foreach l,$(LIBS),$(firstword $(subst :, ,$(l))))

NO_LIBS_GOALS := help clean certify setup test lint format check-format
# what `make gpu-bundle` packed elsewhere, for a machine with a GPU and without the libraries
GPU_BUNDLE := $(if $(filter-out check-gpu,$(or $(MAKECMDGOALS),all)),,$(wildcard $(B)/gpu))
HAVE_LIBS := $(and $(GPU_BUNDLE),$(shell pkg-config --exists $(PC) cmocka 2>/dev/null && echo y))
ifneq ($(HAVE_LIBS),)
GPU_BUNDLE :=
endif
ifneq ($(GPU_BUNDLE),)
NO_LIBS_GOALS += check-gpu
endif
NEEDS_LIBS := $(if $(MAKECMDGOALS),$(filter-out $(NO_LIBS_GOALS),$(MAKECMDGOALS)),all)
ifneq ($(NEEDS_LIBS),)
ifeq ($(shell command -v pkg-config),)
$(error pkg-config is missing: install the Debian package pkg-config, or run scripts/setup)
endif
MISSING := $(strip $(foreach l,$(LIBS),$(if $(shell pkg-config --exists $(firstword $(subst :, ,$(l))) && echo y),,$(l))))
ifneq ($(MISSING),)
$(error missing $(foreach l,$(MISSING),library $(firstword $(subst :, ,$(l))) (Debian package $(lastword $(subst :, ,$(l))));) run scripts/setup to install what is missing)
endif
PC_CFLAGS := $(shell pkg-config --cflags $(PC))
PC_LIBS := $(shell pkg-config --libs $(PC))
endif

# --- flags -------------------------------------------------------------------------------------

WARN := -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla \
	-Wformat=2 -Wundef -Wwrite-strings -fno-common
OPT ?= -O2 -g
CFLAGS_ALL = -std=gnu17 -D_GNU_SOURCE -Iharness -Ibench -I$(B) $(OPT) $(WARN) -fvisibility=hidden \
	-fstack-protector-strong -pthread $(PC_CFLAGS) $(CUDA_CFLAGS) \
	-DCVB_DATADIR='"$(PREFIX)/share/cvmbench"' $(CFLAGS)
LDFLAGS_ALL = -pthread $(LDFLAGS)
LDLIBS_ALL = $(PC_LIBS) -lm -ldl $(LDLIBS)
ifneq ($(SAN),)
CFLAGS_ALL += -fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all
LDFLAGS_ALL += -fsanitize=$(SAN)
endif

# --- CUDA: headers make the backend, nvcc its kernels; nothing is linked ------------------------

# CUDA=no leaves the backend out, CUDA=/path names a toolkit, NVCC=no leaves the kernels out
CUDA ?= $(firstword $(wildcard /usr/local/cuda /usr/lib/cuda /opt/cuda) /usr)
CUDA_INC := $(if $(filter no,$(CUDA)),,$(dir $(firstword $(wildcard $(CUDA)/include/cudaTypedefs.h))))
CUDA_VERSION := $(if $(CUDA_INC),$(shell sed -n 's/^\#define CUDA_VERSION  *//p' $(CUDA_INC)cuda.h))
ifeq ($(and $(CUDA_INC),$(wildcard $(CUDA_INC)cublasLt.h),$(filter-out 11% 120%,$(CUDA_VERSION))),)
CUDA_CFLAGS := -DCVB_CUDA=0 -DCVB_CUDA_KERNELS=0
NVCC := no
CUDA_NOTE := CUDA backend left out: $(if $(filter no,$(CUDA)),CUDA=no,no cudaTypedefs.h and cublasLt.h of CUDA 12.1 or newer in $(CUDA)/include)
else
NVCC ?= $(firstword $(wildcard $(CUDA)/bin/nvcc) $(shell command -v nvcc) no)
ifeq ($(NVCC),no)
CUDA_CFLAGS := -DCVB_CUDA=1 -DCVB_CUDA_KERNELS=0 -isystem $(CUDA_INC)
CUDA_NOTE := CUDA backend without kernels: no nvcc; launches, HBM rates, fp8 and int8 need it
else
# those of the architectures that this nvcc knows; others run what the driver makes of the PTX
CUDA_ARCHS := $(filter sm_80 sm_90 sm_100,$(shell $(NVCC) --list-gpu-code 2>/dev/null))
CUDA_CFLAGS := -DCVB_CUDA=1 -DCVB_CUDA_KERNELS=1 -isystem $(CUDA_INC) \
	-DCVB_CUDA_ARCHS='"$(CUDA_ARCHS) ptx"'
endif
endif
CUDA_FATBIN := $(B)/harness/gpu/cuda_kernels.fatbin
GENCODE = $(foreach a,$(CUDA_ARCHS:sm_%=%),-gencode arch=compute_$(a),code=sm_$(a)) \
	-gencode arch=compute_80,code=compute_80

# --- sources: every .c under harness/ and bench/; adding a benchmark is adding a file -----------

SRC := $(wildcard harness/*/*.c bench/*/*.c)
ifneq ($(findstring -DCVB_CUDA=0,$(CUDA_CFLAGS)),)
SRC := $(filter-out harness/gpu/cuda_%.c,$(SRC))
endif
OBJ := $(SRC:%.c=$(B)/%.o)
MAIN := $(B)/harness/cli/main.o
TEST_SRC := $(wildcard tests/*/*_test.c)
TEST_BIN := $(TEST_SRC:%.c=$(B)/%)
GPU_TESTS := $(addprefix $(B)/tests/gpu/,conformance_test work_test errors_test)

.PHONY: all
all: $(B)/cvmbench

$(B)/cvmbench: $(OBJ)
	@echo "  LINK  $@"
	$(if $(CUDA_NOTE),@echo "  NOTE  $(CUDA_NOTE)")
	@$(CC) $(LDFLAGS_ALL) -o $@ $(OBJ) $(LDLIBS_ALL)

# A change of compiler or flags rebuilds everything.
$(B)/flags: FORCE
	@mkdir -p $(B)
	@echo '$(CC) $(subst ','"'"',$(CFLAGS_ALL)) $(LDFLAGS_ALL)' | cmp -s - $@ || \
		echo '$(CC) $(subst ','"'"',$(CFLAGS_ALL)) $(LDFLAGS_ALL)' > $@

# Version and commit, rewritten only when they change, seen by one file only.
$(B)/version.h: FORCE
	@mkdir -p $(B)
	@printf '#define CVB_VERSION "%s"\n#define CVB_GIT_ID "%s"\n' $(VERSION) \
		"$$(git describe --always --dirty 2>/dev/null || echo unknown)" > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

.PHONY: FORCE
FORCE:

$(B)/harness/machine/fingerprint.o: $(B)/version.h

ifneq ($(NVCC),no)
$(CUDA_FATBIN): harness/gpu/cuda_kernels.cu $(B)/flags
	@mkdir -p $(@D)
	@echo "  NVCC  $<"
	@$(NVCC) -O3 -fatbin $(GENCODE) -o $@ $<

$(B)/harness/gpu/cuda_kernel.o: $(CUDA_FATBIN)
$(B)/harness/gpu/cuda_kernel.o: private CUDA_CFLAGS += -DCVB_CUDA_FATBIN='"$(CUDA_FATBIN)"'
endif

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

-include $(OBJ:.o=.d) $(TEST_BIN:=.d)

# --- tests ---------------------------------------------------------------------------------------

# A test program is linked with everything but main: objects, not an archive, so that the linker
# section of benchmarks is whole.
$(B)/tests/%_test: tests/%_test.c $(OBJ) $(B)/flags
	@mkdir -p $(@D)
	@echo "  TEST  $<"
	@$(CC) $(CFLAGS_ALL) -Itests -MMD -MP -MF $@.d $(LDFLAGS_ALL) -o $@ $< \
		$(filter-out $(MAIN),$(OBJ)) -lcmocka $(LDLIBS_ALL)

# A driver for tests of the CUDA backend: one library under the three names that are loaded.
FAKE := $(B)/tests/gpu/fake
FAKE_SRC := $(wildcard tests/gpu/fake/*.c)

$(FAKE)/libcuda.so.1: $(FAKE_SRC) harness/gpu/emu_types.c $(wildcard tests/gpu/fake/*.h) $(B)/flags
	@mkdir -p $(@D)
	@echo "  FAKE  $@"
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -fPIC -shared -o $@ $(FAKE_SRC) harness/gpu/emu_types.c -lm
	@ln -sf libcuda.so.1 $(@D)/libnvidia-ml.so.1
	@ln -sf libcuda.so.1 $(@D)/libcublasLt.so.13
	@$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -DFAKE_OLD -fPIC -shared -o $(@D)/old.so $(FAKE_SRC) \
		harness/gpu/emu_types.c -lm

# The statistics engine against simulated machines; one program of several files.
SIM_SRC := $(wildcard tests/sim/*.c)

$(B)/tests/sim/check_stats: $(SIM_SRC) tests/sim/sim.h $(OBJ) $(B)/flags
	@mkdir -p $(@D)
	@echo "  SIM   $@"
	@$(CC) $(CFLAGS_ALL) -Itests $(LDFLAGS_ALL) -o $@ $(SIM_SRC) \
		$(filter-out $(MAIN),$(OBJ)) $(LDLIBS_ALL)

.PHONY: tests
tests: $(TEST_BIN) $(B)/tests/sim/check_stats $(if $(filter -DCVB_CUDA=1,$(CUDA_CFLAGS)),$(FAKE)/libcuda.so.1)

.PHONY: test
test:
	@scripts/setup build run test
	@ci/test

# --- certify ---------------------------------------------------------------------------------------

PROFILE ?= quick

.PHONY: certify
certify:
	@scripts/setup build run
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@scripts/guest
	@ci/certify $(PROFILE)

# --- install ------------------------------------------------------------------------------------------

.PHONY: install
install: $(B)/cvmbench
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/cvmbench/profiles \
		$(DESTDIR)$(PREFIX)/share/cvmbench/plots $(DESTDIR)$(PREFIX)/share/cvmbench/scripts \
		$(DESTDIR)$(PREFIX)/share/cvmbench/profiles/workload \
		$(DESTDIR)$(PREFIX)/share/cvmbench/profiles/gpu $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(B)/cvmbench $(DESTDIR)$(PREFIX)/bin/cvmbench
	install -m 644 $(wildcard profiles/*.ini) $(DESTDIR)$(PREFIX)/share/cvmbench/profiles/
	install -m 644 $(wildcard profiles/workload/*.ini) \
		$(DESTDIR)$(PREFIX)/share/cvmbench/profiles/workload/
	install -m 644 $(wildcard profiles/gpu/*.ini) $(DESTDIR)$(PREFIX)/share/cvmbench/profiles/gpu/
	install -m 644 $(wildcard plots/*.gp) $(DESTDIR)$(PREFIX)/share/cvmbench/plots/
	install -m 755 scripts/setup scripts/guest scripts/guest-init \
		$(DESTDIR)$(PREFIX)/share/cvmbench/scripts/
	install -m 644 $(wildcard docs/man/*.1) $(DESTDIR)$(PREFIX)/share/man/man1/

# --- comparisons with other tools and with limits: benchmarks, not tests ---------------------------------

.PHONY: check-stats
check-stats: $(B)/tests/sim/check_stats
	@$<

# docs/statistics/*.svg, from simulated campaigns, and docs/gpu-confidential/*.svg
.PHONY: docs-pictures
docs-pictures: $(B)/tests/sim/check_stats
	@scripts/docs-pictures $<

# NAME=crypto takes that file of ci/reference only, TURNS=15 more turns
.PHONY: check-reference
check-reference: $(B)/cvmbench
	@CVB="$(abspath $<)" ci/check-reference $(NAME)

# The CUDA backend on this machine's NVIDIA GPU.  ci/check-gpu exits with 4 where there is none, of
# which make makes its 2.
.PHONY: check-gpu
ifneq ($(GPU_BUNDLE),)
check-gpu:
	@echo "check-gpu: the build's libraries are not here: taking $(GPU_BUNDLE)"
	@BUNDLE="$(GPU_BUNDLE)" ci/check-gpu
else
check-gpu: $(B)/cvmbench $(GPU_TESTS)
	@CVB="$(abspath $<)" TESTS="$(abspath $(B)/tests/gpu)" ci/check-gpu
endif

# All that ci/check-gpu runs, with the libraries that a bare machine lacks, in one folder.
.PHONY: gpu-bundle
gpu-bundle: $(B)/cvmbench $(GPU_TESTS)
	rm -rf $(B)/gpu
	mkdir -p $(B)/gpu/lib
	cp $^ "$$(command -v jq)" $(B)/gpu/
	ldd $(B)/gpu/* 2>/dev/null | awk '/=> \// && !/lib(c|m|dl|rt|pthread)\.so/ { print $$3 }' | sort -u | \
		xargs cp -Lt $(B)/gpu/lib

# --- housekeeping ---------------------------------------------------------------------------------------

.PHONY: lint format clean help
lint:
	@scripts/setup build test lint
	@$(MAKE) --no-print-directory all
	@ci/lint

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build build-*

help:
	@echo 'make                build build/cvmbench (CC=clang, SAN=address,undefined, OPT=…;'
	@echo '                    CUDA=no or NVCC=no: without the CUDA backend, or its kernels)'
	@echo 'make certify        install what is missing, build, boot VMs, measure, judge, report'
	@echo 'make test           install what is missing, run every test'
	@echo 'make check-stats    error rates of the statistics engine, simulated (about two minutes)'
	@echo 'make check-reference   the field'\''s tools and ours side by side [NAME=… TURNS=…]'
	@echo 'make check-gpu      the CUDA backend on this machine'\''s NVIDIA GPU (eight minutes at most)'
	@echo 'make gpu-bundle     what check-gpu needs, in build/gpu, for a machine without a compiler'
	@echo 'make lint           formatting, banned calls, headers, shell, pages, cppcheck, commit subjects'
	@echo 'make install PREFIX=/usr/local [DESTDIR=…]'
	@echo 'make format         clang-format the tree'
	@echo 'make clean          remove build folders (the guest image too)'
