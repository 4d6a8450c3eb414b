//! The features a kernel supports or insists on (public header `features.h`).
use bitflags::bitflags;

bitflags! {
    /// A set of features, bit numbers as in `features.h` (`XENFEAT_*`), first submap.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Features: u32 {
        /// Page tables need not be write-protected.
        const WRITABLE_PAGE_TABLES = 1 << 0;
        /// Descriptor tables need not be write-protected.
        const WRITABLE_DESCRIPTOR_TABLES = 1 << 1;
        /// Xen translates between pseudo-physical and machine addresses.
        const AUTO_TRANSLATED_PHYSMAP = 1 << 2;
        /// The kernel runs in ring 0.
        const SUPERVISOR_MODE_KERNEL = 1 << 3;
        /// PAE page directories may lie above 4 GiB.
        const PAE_PGDIR_ABOVE_4GB = 1 << 4;
        /// MMU_PT_UPDATE_PRESERVE_AD exists.
        const MMU_PT_UPDATE_PRESERVE_AD = 1 << 5;
        /// MMUEXT_CLEAR_PAGE and MMUEXT_COPY_PAGE exist.
        const HIGHMEM_ASSIST = 1 << 6;
        /// Grant mappings honour the available bits of page table entries.
        const GNTTAB_MAP_AVAIL_BITS = 1 << 7;
        /// The HVM callback vector exists.
        const HVM_CALLBACK_VECTOR = 1 << 8;
        /// The PV clock is safe to use in HVM guests.
        const HVM_SAFE_PVCLOCK = 1 << 9;
        /// HVM guests can use physical interrupts.
        const HVM_PIRQS = 1 << 10;
        /// The kernel can run as Dom0.
        const DOM0 = 1 << 11;
        /// Grants are also mapped at pfn = mfn (deprecated).
        const GRANT_MAP_IDENTITY = 1 << 12;
        /// Memory operations know virtual NUMA nodes.
        const MEMORY_OP_VNODE_SUPPORTED = 1 << 13;
        /// Arm only: the SMC calling convention.
        const ARM_SMCCC_SUPPORTED = 1 << 14;
        /// PVH: the ACPI RSDP may lie anywhere.
        const LINUX_RSDP_UNRESTRICTED = 1 << 15;
        /// The domain is not direct-mapped.
        const NOT_DIRECT_MAPPED = 1 << 16;
        /// The domain is direct-mapped.
        const DIRECT_MAPPED = 1 << 17;
        /// VCPUOP_register_runstate_phys_area exists.
        const RUNSTATE_PHYS_AREA = 1 << 18;
        /// VCPUOP_register_vcpu_time_phys_area exists.
        const VCPU_TIME_PHYS_AREA = 1 << 19;
        /// All MSI-X vector control writes reach the device model.
        const DM_MSIX_ALL_WRITES = 1 << 20;

        // Bits of later headers are kept as they are.
        const _ = !0;
    }
}

/// The names that the text of a FEATURES note may use: those libelf knows.
const NAMES: [(&str, Features); 7] = [
    ("writable_page_tables", Features::WRITABLE_PAGE_TABLES),
    ("writable_descriptor_tables", Features::WRITABLE_DESCRIPTOR_TABLES),
    ("auto_translated_physmap", Features::AUTO_TRANSLATED_PHYSMAP),
    ("supervisor_mode_kernel", Features::SUPERVISOR_MODE_KERNEL),
    ("pae_pgdir_above_4gb", Features::PAE_PGDIR_ABOVE_4GB),
    ("hvm_callback_vector", Features::HVM_CALLBACK_VECTOR),
    ("dom0", Features::DOM0),
];

impl Features {
    /// Reads the text of a FEATURES note: names separated by `|`, required ones with `!` before them.
    ///
    /// Answers (supported, required); what is required is supported too. A name nobody knows is passed over, as libelf
    /// does, unless it is required: then it is the error.
    pub(crate) fn parse(text: &str) -> Result<(Self, Self), &str> {
        let (mut supported, mut required) = (Self::empty(), Self::empty());
        for name in text.split('|') {
            let (wanted, is_required) = match name.strip_prefix('!') {
                Some(rest) => (rest, true),
                None => (name, false),
            };
            match NAMES.iter().find(|(known, _)| *known == wanted) {
                Some((_, feature)) => {
                    supported |= *feature;
                    if is_required {
                        required |= *feature;
                    }
                }
                None if is_required => return Err(wanted),
                None => {}
            }
        }
        Ok((supported, required))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_features_are_supported_too() {
        let (supported, required) = Features::parse("!writable_page_tables|pae_pgdir_above_4gb").unwrap();
        assert_eq!(supported, Features::WRITABLE_PAGE_TABLES | Features::PAE_PGDIR_ABOVE_4GB);
        assert_eq!(required, Features::WRITABLE_PAGE_TABLES);
    }

    #[test]
    fn unknown_names_matter_only_when_required() {
        assert_eq!(Features::parse("fancy|dom0"), Ok((Features::DOM0, Features::empty())));
        assert_eq!(Features::parse("dom0|!fancy"), Err("fancy"));
        assert_eq!(Features::parse(""), Ok((Features::empty(), Features::empty())));
    }
}
