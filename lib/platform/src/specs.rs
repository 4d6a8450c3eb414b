//! The specs of a RAM disk.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use protocols::archive::{PLATFORM_ENTRY, vm_of_spec_entry};
use protocols::order::{OrderError, disorders};
use protocols::platform::PlatformSpecError;
use protocols::{BootSpec, PlatformSpec, SpecError};
use ramdisk::{Archive, RamdiskError};
use thiserror::Error;

/// What is wrong with the spec of one VM.
#[derive(Debug, Error)]
pub enum SpecFault {
    /// It is damaged.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// It is stored under another VM's name.
    #[error("the entry holds the boot spec of a VM called `{0}`; pack the RAM disk again with domb")]
    Name(String),
    /// Two VMs are to have the same domain identifier.
    #[error("domid {domid} is that of VM {other} too; change one of the two `domid` settings")]
    Domid {
        /// The identifier.
        domid: u16,
        /// The VM that has it.
        other: String,
    },
    /// The VM could never start.
    #[error("{0}; change its `after` setting")]
    Order(#[from] OrderError),
}

/// Why it is not known what holds for all VMs.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The entry is not a file.
    #[error(transparent)]
    Entry(#[from] RamdiskError),
    /// It holds something else.
    #[error("{PLATFORM_ENTRY}: {0}; pack the RAM disk again with domb")]
    Spec(#[from] PlatformSpecError),
}

/// A VM whose spec cannot be used.
#[derive(Debug)]
pub struct SpecFailure {
    /// Its name.
    pub name: String,
    /// Whether the platform cannot do without it; not known, hence `false`, when its boot spec cannot be read.
    pub critical: bool,
    /// Why.
    pub fault: SpecFault,
}

/// The specs of a RAM disk, in the order in which they stand there.
#[derive(Debug, Default)]
pub struct Specs {
    /// What holds for all VMs.
    pub settings: PlatformSpec,
    /// The boot specs that can be used.
    pub vms: Vec<BootSpec>,
    /// The others.
    pub failures: Vec<SpecFailure>,
}

impl Specs {
    /// Reads the platform spec, if there is one, and the boot specs in `archive`.
    pub fn read(archive: &Archive<'_>) -> Result<Self, ReadError> {
        let mut specs = Self::default();
        if archive.entry(PLATFORM_ENTRY).is_some() {
            specs.settings = PlatformSpec::decode(archive.file(PLATFORM_ENTRY)?)?;
        }
        let mut domids = BTreeMap::new();
        for entry in archive.entries() {
            if let Some(name) = vm_of_spec_entry(entry.name()) {
                match read_spec(name, entry.data(), &mut domids) {
                    Ok(spec) => specs.vms.push(spec),
                    Err(fault) => {
                        specs.failures.push(SpecFailure { name: name.to_string(), critical: false, fault });
                    }
                }
            }
        }
        specs.refuse_disorder();
        Ok(specs)
    }

    /// Takes out the VMs that could never start because of those that they start after.
    fn refuse_disorder(&mut self) {
        let nodes: Vec<_> =
            self.vms.iter().map(|spec| (spec.name.as_str(), spec.life.after.as_slice())).collect();
        // From the last to the first, so that the indices stay right.
        for (index, error) in disorders(&nodes).into_iter().rev() {
            let spec = self.vms.remove(index);
            let critical = spec.life.critical;
            self.failures.push(SpecFailure { name: spec.name, critical, fault: error.into() });
        }
    }
}

fn read_spec(name: &str, bytes: &[u8], domids: &mut BTreeMap<u16, String>) -> Result<BootSpec, SpecFault> {
    let spec = BootSpec::decode(bytes)?;
    if spec.name != name {
        return Err(SpecFault::Name(spec.name));
    }
    if let Some(domid) = spec.domid
        && let Some(other) = domids.insert(domid, spec.name.clone())
    {
        return Err(SpecFault::Domid { domid, other });
    }
    Ok(spec)
}
