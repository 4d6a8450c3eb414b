# Rules that the top-level Makefile and tests/Makefile share. TOP is the top of the checkout; every path is relative
# to it. Nothing here runs unless it is asked for.

-include $(TOP)/mk/config
XEN ?= 4.17
XENS ?= 4.14 4.17 4.20
BOOT ?= direct
JOBS ?=
TIMEOUT_FACTOR ?= 1
CARGO ?= cargo
export XEN XENS BOOT JOBS TIMEOUT_FACTOR INSTALL KERNEL_TOOLCHAIN KERNEL_RUSTUP_TOOLCHAIN
export DEBIAN_MIRROR DEBIAN_MIRROR_bullseye DEBIAN_MIRROR_bookworm DEBIAN_MIRROR_trixie

MAKEFLAGS += --no-print-directory --no-builtin-rules

# Packages that builds and boots need. Looked for once; `make clean` or a missing build/ looks again.
build/deps.ok: mk/install-deps
	@mk/install-deps
	@mkdir -p build && touch $@

# What is downloaded has no prerequisites: it is fetched when it is not there.
build/xen/%/xen.gz:
	@mk/fetch-debs xen $*
build/xen/%/include/xen:
	@mk/fetch-debs xen-headers $*
build/linux/%/vmlinuz:
	@mk/fetch-debs linux $*
build/linux/busybox:
	@mk/fetch-debs busybox
build/grub:
	@mk/fetch-debs grub

build/linux/initramfs.cpio.gz: mk/initramfs/build mk/initramfs/init | build/linux/busybox
	@mk/initramfs/build
