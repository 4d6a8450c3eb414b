//! What the entries of db-boot's RAM disk are called.
//!
//! What holds for all VMs together is at [`PLATFORM_ENTRY`], if it is not as usual.
//! A VM named `web` has its boot spec at `vms/web.spec`; the spec names the VM's images, which `domb pack`
//! puts below `images/`. The order of the specs in the archive is the order of the VMs.

use alloc::format;
use alloc::string::String;

/// The folder of the boot specs.
pub const SPEC_FOLDER: &str = "vms/";
/// How the name of a boot spec ends.
pub const SPEC_SUFFIX: &str = ".spec";
/// The folder into which `domb pack` puts kernels and RAM disks.
pub const IMAGE_FOLDER: &str = "images/";

/// The platform spec.
pub const PLATFORM_ENTRY: &str = "platform.spec";
/// The control spec, which only the control domain reads.
pub const CONTROL_ENTRY: &str = "control.spec";

/// The entry that holds the boot spec of the VM called `vm`.
pub fn spec_entry(vm: &str) -> String {
    format!("{SPEC_FOLDER}{vm}{SPEC_SUFFIX}")
}

/// The entry of the image that controllers know by `name`.
pub fn image_entry(name: &str) -> String {
    format!("{IMAGE_FOLDER}{name}")
}

/// The VM whose boot spec the entry `name` holds; `None` when `name` is not that of a boot spec.
///
/// Only direct children of [`SPEC_FOLDER`] are boot specs.
pub fn vm_of_spec_entry(name: &str) -> Option<&str> {
    let vm = name.strip_prefix(SPEC_FOLDER)?.strip_suffix(SPEC_SUFFIX)?;
    (!vm.is_empty() && !vm.contains('/')).then_some(vm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_entry_names_its_vm() {
        assert_eq!(spec_entry("web"), "vms/web.spec");
        assert_eq!(vm_of_spec_entry("vms/web.spec"), Some("web"));
    }

    #[test]
    fn other_entries_are_not_specs() {
        for name in ["vms", "vms/", "vms/.spec", "vms/a/b.spec", "images/web.spec", "vms/web.cfg", "web.spec"]
        {
            assert_eq!(vm_of_spec_entry(name), None, "{name}");
        }
    }
}
