//! What a VM is told that it is.

use serde::{Deserialize, Serialize};

/// What a VM's start info claims about it: the `SIF_*` flags of public/xen.h that a VM file may ask for. They are told to the kernel, and
/// change nothing of what Xen lets it do. The order of the fields is the wire format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// That it is privileged (`SIF_PRIVILEGED`).
    pub privileged: bool,
    /// That it is the initial domain, whose console is the machine's (`SIF_INITDOMAIN`).
    pub initial_domain: bool,
    /// That its RAM disk is a list of modules in the form of multiboot (`SIF_MULTIBOOT_MOD`); only of a PV guest with a RAM disk.
    pub module_list: bool,
}

impl Claims {
    /// The claims by the name that they have in a VM file.
    pub fn by_name(&mut self) -> [(&'static str, &mut bool); 3] {
        let Self { privileged, initial_domain, module_list } = self;
        [("privileged", privileged), ("initdomain", initial_domain), ("multiboot_mod", module_list)]
    }

    /// The flags as Xen's header numbers them.
    pub fn sif_flags(self) -> u32 {
        u32::from(self.privileged) | u32::from(self.initial_domain) << 1 | u32::from(self.module_list) << 2
    }

    /// The names of what is claimed.
    pub fn names(mut self) -> impl Iterator<Item = &'static str> {
        self.by_name().map(|(name, claimed)| claimed.then_some(name)).into_iter().flatten()
    }
}
