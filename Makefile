# SPDX-License-Identifier: Apache-2.0
# Everything a developer or CI does with this repository. `make` alone lists it.

# What may be set on the command line, for example: make setup PYTHON=python3.12
PYTHON       ?= python3
CLANG        ?= clang-19
CLANG_FORMAT ?= clang-format-19
BPFTOOL      ?= bpftool
BTF          ?= /sys/kernel/btf/vmlinux
ARGS         ?=

# What has to be installed: package, least version, version known to be good on Debian 12.
# Not pinned to the last digit, since a security update removes its predecessor from the archive.
define PACKAGES
clang-19         1:19    1:19.1.7     compiles bpf/
clang-format-19  1:19    1:19.1.7     make check, make format
llvm-19          1:19    1:19.1.7     llvm-objdump, to look into the object
bpftool          7.0     7.1.0        vmlinux.h, linking of the object
libbpf1          1:1.0   1:1.1.2      loads the object
libbpf-dev       1:1.0   1:1.1.2      headers for bpf/
linux-libc-dev   6.1     6.1.192      headers for bpf/
ca-certificates  20200601 20230311    authorities for TLS, in the image
gcc              4:10    4:12.2.0     small programs that tests watch
libc6-dev        2.31    2.36         small programs that tests watch
make             4.2     4.3
python3          3.11    3.11.2
python3-venv     3.11    3.11.2       .venv
qemu-system-x86  1:5.2   1:7.2        boots other kernels in tests/vm
qemu-system-arm  1:5.2   1:7.2        the same for arm64
qemu-user-static 1:7.2   1:7.2        runs PyInstaller for arm64 in make dist-arm64
gdb              10.1    13.1         looks at a program in tests/detect
strace           5.10    6.1          the same
openssh-client   1:8.4   1:9.2        the same, to a machine that is not there
gcc-aarch64-linux-gnu 4:10 4:12.2.0   small programs that tests watch there
libc6-dev-arm64-cross 2.31 2.36       the same
containerd       1.4     1.6.20       runs pods in tests/containers
runc             1.0     1.1.5        the same
containernetworking-plugins 0.9 1.1.1 gives pods a network of their own there
docker.io        20.10   20.10.24     runs containers without a CRI there
busybox-static   1:1.30  1:1.35.0     what these pods hold
rsyslog          8.2102  8.2302.0     takes what the syslog sink sends in tests/delivery
rsyslog-gnutls   8.2102  8.2302.0     the same by TLS
mmdebstrap       0.7     1.3.5        makes the system that tests/packaging installs into
libarchive-tools 3.4     3.6.2        the same
rpm              4.16    4.18.0       looks into the rpm in tests/packaging
apparmor         2.13     3.0.8        compiles the profile in tests/packaging
prometheus-alertmanager 0.21 0.25.0   takes what the alertmanager sink sends there
endef
export PACKAGES

# One recipe is one script that stops at the first error.
# What it says goes to stderr, so that `make run | jq` sees events only.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# bpftool is in /usr/sbin, which is not everywhere on the PATH of a user.
export PATH := $(PATH):/usr/sbin:/sbin

PY  := .venv/bin/python
LOG := .make/setup.log

# $(call quietly,command): its output goes to the log, and is shown when it fails.
quietly = { $(1); } >>$(LOG) 2>&1 || { cat $(LOG) >&2; exit 1; }

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

# Set up

.PHONY: setup
setup: .make/editable ## install tools and the Python environment; instant if nothing is missing
	@:

.make/packages: Makefile
	@mkdir -p .make
	if ! command -v apt-get >/dev/null; then
		for tool in $(CLANG) $(CLANG_FORMAT) $(BPFTOOL) gcc; do
			command -v $$tool >/dev/null && continue
			echo "setup: $$tool is missing and there is no apt-get here: install clang-19 with clang-format-19, bpftool 7, libbpf 1.0 with headers, gcc and Python 3.11 with venv by hand." >&2
			exit 1
		done
		touch $@
		exit
	fi
	missing() {
		while read -r package least _; do
			installed=$$(dpkg-query -W -f '$${db:Status-Status} $${Version}' $$package 2>/dev/null || true)
			[[ $$installed == "installed "* ]] &&
				dpkg --compare-versions "$${installed#installed }" ge $$least ||
				echo $$package
		done <<<"$$PACKAGES" | xargs
	}
	wanted=$$(missing)
	if [[ $$wanted ]]; then
		if ((EUID)); then
			echo "setup: packages are missing and only root can install them: sudo apt-get update && sudo apt-get install --no-install-recommends $$wanted" >&2
			exit 1
		fi
		echo "setup: installing $$wanted with apt-get" >&2
		: >$(LOG)
		export DEBIAN_FRONTEND=noninteractive
		$(call quietly,apt-get -qq update && apt-get -qq install -y --no-install-recommends $$wanted)
		wanted=$$(missing)
		if [[ $$wanted ]]; then
			echo "setup: this release of the distribution is too old for $$wanted: Makefile lists the least versions." >&2
			exit 1
		fi
	fi
	touch $@

.venv/pyvenv.cfg: | .make/packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
		echo "setup: Python 3.11 or newer is needed but $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing): name another with make setup PYTHON=python3.12" >&2
		exit 1
	}
	echo "setup: making .venv with $$($(PYTHON) -V)" >&2
	: >$(LOG)
	$(call quietly,$(PYTHON) -m venv --clear .venv)

.make/requirements: requirements.lock .venv/pyvenv.cfg
	@echo "setup: installing requirements.lock into .venv" >&2
	: >$(LOG)
	$(call quietly,$(PY) -m pip install --disable-pip-version-check --require-hashes -r requirements.lock)
	touch $@

.make/editable: pyproject.toml .make/requirements
	@: >$(LOG)
	$(call quietly,$(PY) -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .)
	touch $@

# Build

ARCH    := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
SOURCES := $(sort $(wildcard bpf/*.bpf.c))
OBJECTS := $(SOURCES:bpf/%.bpf.c=bpf/build/%.bpf.o)
# Another kernel or another BTF file gives another name, which is then missing.
KERNEL  := .make/kernel-$(shell uname -r)$(subst /,-,$(BTF))

# vmlinux.h of Linux 7 has members that are named by their type only, an extension of Microsoft's.
# The last flag keeps the path of this checkout out of the object.
# $(call compile,architecture,folder): in the folder is vmlinux.h, and the result goes there.
compile = $(CLANG) -g -O2 -target bpf -mcpu=v2 -D__TARGET_ARCH_$(1) \
	-Wall -Wextra -Wpadded -Werror -Wno-unused-parameter \
	-fms-extensions -Wno-microsoft-anon-tag \
	-isystem $(2) -fdebug-compilation-dir=. -c $< -o $@

.PHONY: build build-arm64
build: bpf/nodeagent.bpf.o ## compile bpf/ to bpf/nodeagent.bpf.o
	@:

bpf/nodeagent.bpf.o: $(OBJECTS)
	@echo "build: $@" >&2
	$(BPFTOOL) gen object $@ $(OBJECTS)

bpf/build/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) bpf/build/vmlinux.h Makefile
	@$(call compile,$(ARCH),bpf/build)

bpf/build/vmlinux.h: $(KERNEL) | .make/packages
	@if ! [[ -r $(BTF) ]]; then
		echo "build: $(BTF) is missing: this kernel was built without CONFIG_DEBUG_INFO_BTF. Name the BTF of another kernel with make build BTF=path" >&2
		exit 1
	fi
	echo "build: $@ from $(BTF)" >&2
	mkdir -p bpf/build
	$(BPFTOOL) btf dump file $(BTF) format c >$@

$(KERNEL):
	@mkdir -p .make
	rm -f .make/kernel-*
	touch $@

# Everything about arm64 on another machine; `fetched` is written when all of it is there.
ARM64         := .make/arm64
ARM64_OBJECTS := $(SOURCES:bpf/%.bpf.c=$(ARM64)/%.bpf.o)

build-arm64: $(ARM64)/nodeagent.bpf.o ## compile bpf/ for arm64, for tests/vm; needs a mirror of Debian
	@:

$(ARM64)/nodeagent.bpf.o: $(ARM64_OBJECTS)
	@echo "build: $@" >&2
	$(BPFTOOL) gen object $@ $(ARM64_OBJECTS)

$(ARM64)/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h) $(ARM64)/fetched Makefile
	@$(call compile,arm64,$(ARM64))

$(ARM64)/fetched: tests/vm/arm64.py requirements.lock | .make/editable
	@mkdir -p $(ARM64)
	$(PY) -m tests.vm.arm64

# Run

.PHONY: run
run: setup build ## watch this node; ARGS="..." goes to `nodeagent run`
	@sudo=
	if ((EUID)); then
		sudo=$$(command -v sudo) || { echo "run: eBPF needs root: run this as root." >&2; exit 1; }
	fi
	echo run: $$sudo .venv/bin/nodeagent run $(ARGS) >&2
	exec $$sudo .venv/bin/nodeagent run $(ARGS)

# Check

# Written when all kernels are there; what is in it changes with each release of Debian.
KERNELS := .make/kernels/kernels.json
SYSTEM  := .make/system.cpio
OLDEST  := .make/oldest.tar

.PHONY: kernels system test test-unit test-arm64 check format bpf-stats bench
kernels: $(KERNELS) ## fetch the kernels that tests/vm boots; needs a mirror of Debian
	@:

$(KERNELS): tests/vm/kernels.py | .make/editable
	@$(PY) -m tests.vm.kernels

system: $(SYSTEM) $(OLDEST) ## make what tests/packaging boots and runs in; needs a mirror of Debian
	@:

$(SYSTEM): tests/vm/system.py | .make/editable
	@$(PY) -m tests.vm.system

$(OLDEST): tests/packaging/oldest.py | .make/editable
	@$(PY) -m tests.packaging.oldest

test: setup build ## run all tests; what this machine cannot do is skipped
	@# Where there is no mirror the tests say what that means.
	$(MAKE) --no-print-directory --keep-going kernels build-arm64 system || true
	$(PY) -m pytest -q -rs $(ARGS)

test-unit: setup build ## run the tests that need neither root nor eBPF
	@$(PY) -m pytest -q tests/unit $(ARGS)

# Not in `make test`: what is built and run here under emulation takes minutes.
test-arm64: setup kernels dist dist-arm64 $(ARM64)/oldest.cpio ## run what dist-arm64 built, in a Debian 11 for arm64
	@$(PY) -m pytest -q -rs tests/packaging/test_arm64.py $(ARGS)

$(ARM64)/oldest.cpio: tests/packaging/arm64.py tests/packaging/oldest.py tests/vm/debian.py | .make/editable
	@mkdir -p $(ARM64)
	$(PY) -m tests.packaging.arm64

check: setup ## lint, format, types, import rules
	@$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(CLANG_FORMAT) --dry-run -Werror bpf/*.[ch]
	$(PY) -m pytest -q tests/unit/test_imports.py

format: setup ## format all code, sort imports
	@$(PY) -m ruff check --fix-only --select I
	$(PY) -m ruff format
	$(CLANG_FORMAT) -i bpf/*.[ch]

bpf-stats: setup build ## what each eBPF program costs the verifier, in docs/programs.txt
	@$(PY) -m tests.bench.programs $(ARGS)

bench: setup build ## measure; ARGS="..." goes to the benchmark
	@$(PY) -m tests.bench $(ARGS)

.PHONY: docs
docs: setup ## build the documentation in dist/site; a link that leads nowhere is an error
	@$(PY) -m mkdocs build --quiet --strict

# Keep

.PHONY: lock clean distclean
lock: setup ## resolve requirements.lock anew; ARGS=--upgrade takes new versions
	@CUSTOM_COMPILE_COMMAND="make lock" $(PY) -m piptools compile --quiet --extra kafka --extra s3 --extra sigma --extra dev --extra dist \
		--generate-hashes --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--output-file requirements.lock $(ARGS) pyproject.toml

# Distribution

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' nodeagent/__init__.py)
# MACHINE=aarch64 builds for that one on this one: the same rules, run by its own Python under emulation.
HERE    := $(shell uname -m)
MACHINE := $(HERE)
NFPM_ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(MACHINE)))
BUILDER := $(ARM64)/builder
ifeq ($(MACHINE),$(HERE))
DIST    := dist
OBJECT  := bpf/nodeagent.bpf.o
PYTHON_THERE := .venv/bin/python
READY   := .make/editable
else ifeq ($(MACHINE) $(HERE),aarch64 x86_64)
DIST    := dist/$(NFPM_ARCH)
OBJECT  := $(ARM64)/nodeagent.bpf.o
PYTHON_THERE := packaging/elsewhere.sh $(BUILDER) python3.11
READY   := $(BUILDER)/ready packaging/elsewhere.sh
else
$(error MACHINE=$(MACHINE) cannot be built on $(HERE): it has to be that, or aarch64 on x86_64)
endif
FROZEN  := build/$(DIST)/frozen
ONE     := $(DIST)/nodeagent-$(VERSION)-linux-$(MACHINE)
CODE    := $(shell find nodeagent sinks -name '*.py' -o -name '*.toml') $(wildcard docs/findings/*.md)
IMAGE   := nodeagent.oci.tar
# The same source gives the same bytes.
STEADY  := SOURCE_DATE_EPOCH=1 PYTHONHASHSEED=0
# What `nodeagent --version` says of it.
COMMIT   = $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)
freeze   = $(STEADY) NODEAGENT_COMMIT=$(COMMIT) NODEAGENT_COMPILER="$$($(CLANG) --version | head -n 1)" NODEAGENT_OBJECT=$(OBJECT) NODEAGENT_ONE_FILE=$(notdir $(ONE)) \
	$(PYTHON_THERE) -m PyInstaller --noconfirm --clean --log-level ERROR \
	--workpath build/$(DIST) --distpath $(DIST) packaging/nodeagent.spec
pack     = VERSION=$(VERSION) ARCH=$(NFPM_ARCH) DIST=$(DIST) LIBC=$$(cat $(DIST)/files/libc) $(STEADY) .venv/bin/nfpm package \
	--config packaging/package/nfpm.yaml --packager $(patsubst .%,%,$(suffix $(1))) --target $(1)

.PHONY: dist dist-arm64 image images
dist: $(ONE) $(ONE).tar.gz $(DIST)/nodeagent.deb $(DIST)/nodeagent.rpm $(DIST)/$(IMAGE) ## build the binary, its packages and its image
	@ls -lh $(DIST)

dist-arm64: ## the same for arm64, in dist/arm64; needs a mirror of Debian
	@$(MAKE) --no-print-directory dist MACHINE=aarch64

$(BUILDER)/ready: packaging/builder.py packaging/needed.py tests/vm/arm64.py tests/vm/debian.py .make/editable $(ARM64)/fetched
	@PYTHONPATH=. $(PY) packaging/builder.py
	touch $@

# PyInstaller makes the folder and the one file at once.
$(FROZEN): $(OBJECT) packaging/nodeagent.spec packaging/needed.py packaging/older.py packaging/older.c $(CODE) $(READY)
	@echo "dist: $(DIST)/nodeagent, $(ONE)" >&2
	mkdir -p $(@D)
	$(call quietly,$(call freeze))
	find $(DIST)/nodeagent -exec touch --no-dereference --date=@1 {} +
	touch $@

$(ONE): $(FROZEN)
	@touch --no-create $@

$(ONE).tar.gz: $(FROZEN)
	@tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner -C $(DIST) -c nodeagent | gzip -9n >$@

$(DIST)/files/config.toml: $(FROZEN) packaging/files.py packaging/bill.py
	@$(PY) packaging/files.py $(DIST)/nodeagent $(DIST)/files
	$(PYTHON_THERE) packaging/bill.py $(DIST)/nodeagent >$(DIST)/files/sbom.json

PACKAGED := $(DIST)/files/config.toml $(wildcard packaging/package/* packaging/systemd/*)
$(DIST)/nodeagent.deb $(DIST)/nodeagent.rpm: $(PACKAGED)
	@echo "dist: $@" >&2
	$(call quietly,$(call pack,$@))

# PACKAGE=path.deb VERSION=...: the same files as another version, for tests/packaging.
.PHONY: package
package: $(PACKAGED)
	@$(call quietly,$(call pack,$(PACKAGE)))

image: $(DIST)/$(IMAGE) ## build the container image, for the machine that this is
	@echo "image: $(<) for $(MACHINE), $$(numfmt --to=iec-i --suffix=B $$(stat -c %s $<))"

$(DIST)/$(IMAGE): $(DIST)/files/config.toml packaging/image.py
	@echo "dist: $@" >&2
	$(STEADY) $(PYTHON_THERE) packaging/image.py $(DIST)/nodeagent $@

images: dist/$(IMAGE) dist-arm64 ## build one image for amd64 and arm64, for a registry
	@$(STEADY) $(PY) packaging/images.py dist/nodeagent.all.oci.tar dist/$(IMAGE) dist/arm64/$(IMAGE)
	ls -lh dist/nodeagent.all.oci.tar

.PHONY: manifests
manifests: .make/editable ## write packaging/kustomize from the chart
	@.venv/bin/helm template nodeagent packaging/chart --namespace nodeagent >packaging/kustomize/nodeagent.yaml

clean: ## remove what was built and cached
	@rm -rf bpf/build bpf/*.o build dist *.egg-info
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find nodeagent sinks tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	@rm -rf .venv .make
