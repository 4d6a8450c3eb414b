//! Who translates the memory of a PVH guest.

use hypercall::{RawHypercall, Xen};
use protocols::settings::Paging;
use xen_abi::sysctl::Capabilities;

use crate::{BuildError, Step};

/// Who translates a PVH guest's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PvhPaging {
    /// The processor.
    Nested,
    /// Xen.
    Shadow,
}

/// Chooses as is asked for from what this Xen can do on this machine; fails if it can run no PVH guests, or not so. Where it does not say
/// what it can do, creating the domain will show.
pub(crate) fn choose_paging<H: RawHypercall>(xen: &Xen<H>, wanted: Paging) -> Result<PvhPaging, BuildError> {
    let capabilities = xen.capabilities().map_err(BuildError::call(Step::Create))?;
    let Some(capabilities) = capabilities else {
        return Ok(if wanted == Paging::Shadow { PvhPaging::Shadow } else { PvhPaging::Nested });
    };
    if !capabilities.contains(Capabilities::HVM) {
        let missing = "hardware-assisted guests (VT-x or AMD-V, and a Xen built with CONFIG_HVM)";
        return Err(BuildError::NoPvh { missing });
    }
    let [nested, shadow] =
        [Capabilities::HAP, Capabilities::SHADOW].map(|needed| capabilities.contains(needed));
    match wanted {
        Paging::Any | Paging::Nested if nested => Ok(PvhPaging::Nested),
        Paging::Any | Paging::Shadow if shadow => Ok(PvhPaging::Shadow),
        Paging::Nested if shadow => Err(BuildError::NoPvh {
            missing: "nested paging (EPT or NPT), which `hap = 1` asks for; without that line it uses shadow paging",
        }),
        Paging::Any | Paging::Nested => Err(BuildError::NoPvh { missing: "nested paging (EPT or NPT)" }),
        Paging::Shadow => Err(BuildError::NoShadow),
    }
}
