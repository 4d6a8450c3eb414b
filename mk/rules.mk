# What the Makefile needs before it can build or boot: the user's choices, Debian packages, downloads, the initramfs.
# Every path is relative to the top of the checkout.

-include mk/config
XEN ?=
XENS ?= 4.14 4.17 4.20 4.17-full
BOOT ?= direct
JOBS ?=
TIMEOUT_FACTOR ?= 1
CARGO ?= cargo
# The scripts in mk/ read these from the environment.
export CARGO INSTALL KERNEL_TOOLCHAIN KERNEL_RUSTUP_TOOLCHAIN TRUST_KEY TRUST_VERSION
export DEBIAN_MIRROR DEBIAN_MIRROR_bullseye DEBIAN_MIRROR_bookworm DEBIAN_MIRROR_trixie

# Packages that builds and boots need: looked for once, and again when build/ is gone.
build/deps.ok: mk/install-deps
	@mk/install-deps
	@mkdir -p build && touch $@

# What is downloaded has no prerequisites: it is fetched when it is not there.
build/xen/%/xen.gz:
	@mk/fetch-debs xen $*
# Debian's 4.17 with what Debian's build of it leaves out: security labels and a policy, a late hardware domain, 32-bit PV guests. Shadow paging
# it has, and keeps.
XEN_FULL := EXPERT=y UNSUPPORTED=y XSM=y XSM_FLASK=y XSM_FLASK_POLICY=y LATE_HWDOM=y PV32=y SHADOW_PAGING=y
build/xen/4.17-full/xen.gz:
	@mk/fetch-debs xen-source 4.17
	@mk/build-xen build/xen-source/debian-4.17 4.17-full $(XEN_FULL)
build/xen/%/include/xen:
	@mk/fetch-debs xen-headers $*
build/linux/%/vmlinuz:
	@mk/fetch-debs linux $*
build/linux-images/%: | build/linux/%/vmlinuz
	@mkdir -p build/linux-images && ln -sf ../linux/$*/vmlinuz $@
build/linux/busybox:
	@mk/fetch-debs busybox
build/grub:
	@mk/fetch-debs grub
build/grub-xen:
	@mk/fetch-debs grub-xen
build/dom0/vmlinuz:
	@mk/fetch-debs dom0

build/linux/initramfs.cpio.gz: mk/initramfs/build mk/initramfs/init mk/cpio | build/linux/busybox
	@mk/initramfs/build

build/linux/large.cpio: mk/initramfs/build-large mk/cpio
	@mk/initramfs/build-large

build/dom0/initramfs.cpio.gz: mk/dom0/build mk/dom0/init mk/dom0/meter.c mk/cpio | build/dom0/vmlinuz build/linux/busybox
	@mk/dom0/build
