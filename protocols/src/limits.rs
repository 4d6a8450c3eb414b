//! The bounds of the fields of specs. The modules whose fields they bound show them.

/// The longest name of a VM in bytes: the console prefix `[name]` must leave room for a line.
pub const MAX_NAME_LEN: usize = 63;
/// The characters that a name may have besides letters and digits: those that need no quotes in a log or a file's name.
pub const NAME_PUNCTUATION: &str = "._-~+@:";
/// Xen's `DOMID_FIRST_RESERVED`: domain ids from here on are not those of domains.
pub const FIRST_RESERVED_DOMID: u16 = 0x7ff0;
/// The most vCPUs of a VM. Xen itself allows 8192 for PV; nothing we boot on has more than 512 CPUs.
pub const MAX_VCPUS: u32 = 512;
/// The most memory of a VM in KiB: 16 TiB, the machine memory that Xen on x86 supports at most.
pub const MAX_MEMORY_KIB: u64 = 16 << 30;
/// The longest command line in bytes: `start_info.cmd_line` has 1024 with the closing NUL.
pub const MAX_COMMAND_LINE_LEN: usize = 1023;
/// The longest name of an image in the archive in bytes.
pub const MAX_IMAGE_NAME_LEN: usize = 255;
/// The most restarts in a row that can be asked for: enough for every VM that is restarted on purpose.
pub const MAX_RESTART_LIMIT: u32 = 1_000_000;
/// The longest time before the first restart that can be asked for, in milliseconds: an hour.
pub const MAX_RESTART_DELAY_MS: u32 = 3_600_000;
/// The most VMs that one VM can be started after.
pub const MAX_AFTER: usize = 32;
/// The longest text in bytes by which a VM shows that it is ready.
pub const MAX_READY_LEN: usize = 255;
/// The most channels that one VM serves: as many references are reserved and not in use otherwise.
pub const MAX_CHANNELS: usize = 6;
/// The most modules of a VM.
pub const MAX_MODULES: usize = 12;
/// The longest command line of a module in bytes.
pub const MAX_MODULE_LINE_LEN: usize = 255;
/// The most VMs of a platform: db-boot keeps the console page of every running VM mapped, and has room for so many.
pub const MAX_VMS: usize = 2000;
