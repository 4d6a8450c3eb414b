# Everything that one does with this checkout. `make help` names the targets; mk/config.example names the variables.

include mk/rules.mk
MAKEFLAGS += --no-print-directory --no-builtin-rules

# Releases whose public headers the host tests read.
XEN_VERSIONS := 4.14 4.17 4.20
# Kernels that the host tests read.
LINUX_FLAVOURS := debian12 debian12-cloud debian13
host := target/debug
harness = $(host)/harness

.PHONY: all db-boot db-server control-domain tools runner run tests-list tests-all test test-host xen check floors unsafe-check unsafe-inventory \
    fault-sweep fuzz lint clean help
.DEFAULT_GOAL := all
# A downloaded file stays, also one that is only on the way to another.
.SECONDARY:

all: tools db-boot
	@echo "build/kernels/db-boot and $(host)/domb are built; make -C tests hello.run boots something"

# The builder: build/kernels/db-boot. TRUST_KEY=FILE.pub makes one that builds only what this key has signed.
db-boot: build/deps.ok
	@mk/build-kernels db-boot

# The builder as a service: build/kernels/db-server. TRUST_KEY as for db-boot.
db-server: build/deps.ok
	@mk/build-kernels db-server

# The control domain: build/kernels/control-domain.
control-domain: build/deps.ok
	@mk/build-kernels control-domain

# domb and the test runner. One cargo call, which says what it is at the first time and is quiet later.
tools: build/deps.ok
	@quiet=--quiet; if [ ! -x $(host)/domb ]; then quiet=; \
	    echo "mk: building domb and the test runner (once)" >&2; fi; \
	    $(CARGO) build $$quiet --target-dir target -p domb -p harness

# The runner alone, for what looks at the source only.
runner: build/deps.ok
	@quiet=--quiet; if [ ! -x $(harness) ]; then quiet=; \
	    echo "mk: building the test runner (once)" >&2; fi; \
	    $(CARGO) build $$quiet --target-dir target -p harness

# One boot: NAME.run [XEN=version or file] [BOOT=direct|seabios|ovmf].
%.run: tools
	@$(harness) run $* --xen '$(XEN)' --boot '$(BOOT)' --timeout-factor '$(TIMEOUT_FACTOR)'

run: memorywalk.run

tests-list: runner
	@$(harness) list

tests-all: tools
	@$(harness) all --xens '$(XENS)' $(if $(JOBS),--jobs '$(JOBS)') --timeout-factor '$(TIMEOUT_FACTOR)'

# The whole of it, quick things first.
test: check lint test-host tests-all

# Host tests compare our layouts with the C headers of each Xen, and read the kernels that Debian ships.
test-host: $(XEN_VERSIONS:%=build/xen/%/include/xen) $(LINUX_FLAVOURS:%=build/linux-images/%)
	@echo "== host tests"
	@LINUX_IMAGES='$(CURDIR)/build/linux-images' $(CARGO) test --quiet --workspace --target-dir target

# A Xen that no Debian carries, from its source tree: build/xen/VERSION/xen.gz. OPTIONS='PV32=y ...' of its configuration, and
# a NAME=VERSION-something for it.
xen:
	@mk/build-xen '$(SOURCE)' $(if $(NAME)$(OPTIONS),'$(NAME)') $(OPTIONS)

# Every fault at every call of every platform on every simulated release. Two minutes of processor time.
fault-sweep:
	@$(CARGO) build --quiet --profile evidence --target-dir target -p faults
	@target/evidence/fault-sweep

# Speed, beside Debian's xl and beside what building has to cost. QUICK=1 measures the essential part, RECORD=1 adds the
# figures to tests/bench/history.txt.
.PHONY: bench
bench: tools
	@$(harness) bench --xen '$(XEN)' $(if $(QUICK),--quick) $(if $(RECORD),--record)

# Undefined behaviour: host tests of the crates with unsafe code under the address sanitizer, and Miri where there is one.
.PHONY: sanitize
sanitize:
	@mk/sanitize

# VMS VMs, one after the other, in one boot: memory and time have to stay flat.
VMS ?= 10000
.PHONY: soak
soak: tools
	@$(harness) soak --xen '$(XEN)' --vms '$(VMS)'

# Kernels are equal wherever they are built: KERNELS="NAME ..." from another folder, with another cargo home.
KERNELS ?= db-boot
.PHONY: reproducible
reproducible: build/deps.ok
	@mk/reproducible $(KERNELS)

# Hostile input for every parser: TARGET=NAME for one of them, SECONDS=N for each, SEED=N for other inputs. The compiler puts in
# counters, by which the inputs are led to new code.
SECONDS ?= 3
triple = $(shell rustc -vV | sed -n 's/^host: //p')
fuzz_flags := "-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=3", \
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
fuzz:
	@$(CARGO) --config 'target.$(triple).rustflags=[$(fuzz_flags)]' build --quiet --profile evidence \
	    --target $(triple) --target-dir target/fuzz -p fuzz
	@target/fuzz/$(triple)/evidence/fuzz --target '$(TARGET)' --seconds '$(SECONDS)' --seed '$(SEED)'

check: floors unsafe-check

floors: runner
	@$(harness) check-floors

unsafe-check: runner
	@$(harness) check-unsafe

unsafe-inventory: runner
	@$(harness) check-unsafe --write

# rustfmt and clippy are not everywhere. Where they are, the project's lints must hold; a newer clippy's own advice is
# shown, and counts only where the toolchain is ours to choose (CI).
lint:
	@echo "== lints"
	@if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --all --check; \
	    else echo "rustfmt is not here: skipped"; fi
	@if $(CARGO) clippy --version >/dev/null 2>&1; then \
	    $(CARGO) clippy --quiet --workspace --all-targets --target-dir target $(if $(CI),-- -D warnings); \
	    else echo "clippy is not here: skipped"; fi

clean:
	rm -rf build target

help:
	@echo 'make                    build db-boot and domb'
	@echo 'make db-server          build the builder as a service'
	@echo 'make control-domain     build the control domain'
	@echo 'make run                the main job: boot Xen, build the VM memorywalk, give its verdict'
	@echo 'make test               everything: rules, lints, host tests, and every boot on $(XENS)'
	@echo 'make bench              measure db-boot beside Debian'"'"'s xl on XEN [QUICK=1] [RECORD=1]'
	@echo 'make check              the source rules alone: dependency floors, unsafe inventory (seconds)'
	@echo 'make fault-sweep        every fault that Xen can answer with, at every call, on the simulated Xen'
	@echo 'make sanitize           host tests of the crates with unsafe code under the address sanitizer (and Miri, if it is there)'
	@echo 'make soak               build and destroy 10,000 VMs in one boot [VMS=N] [XEN=4.20]: memory and time stay flat'
	@echo 'make reproducible       build db-boot twice, from two folders, and compare [KERNELS="db-server ..."]'
	@echo 'make fuzz               hostile input for every parser: TARGET=NAME SECONDS=N SEED=N'
	@echo 'make unsafe-inventory   bring docs/unsafe.md up to date'
	@echo 'make xen SOURCE=DIR     build Xen from its source tree DIR, for XEN=VERSION below [OPTIONS='"'"'PV32=y'"'"' NAME=4.22-pv32]'
	@echo 'make clean              remove build/ and target/, downloads included'
	@echo 'make -C tests list      the tests that boot'
	@echo 'make -C tests NAME.run  one of them: XEN=4.14|4.17|4.20|/path/xen.gz  BOOT=direct|seabios|ovmf'
	@echo 'make -C tests all       all of them on every Xen of XENS'
	@echo 'Variables: mk/config.example'
