//! The kernels of a platform, unpacked.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use kernel_image::{ImageError, Unpacking, UnpackingCost};
use protocols::BootSpec;
use ramdisk::Archive;

use crate::event_log::SharedLog;
use crate::planned::{PlannedVm, VmError};
use crate::store::{Image, Needed, may_restart};

/// The most that one kernel may unpack to. The largest distribution kernels unpack to less than 100 MiB; the bound keeps
/// a decompression bomb from taking the builder's memory.
const MAX_KERNEL: usize = 512 << 20;

/// How much memory unpacking takes in proportion to what comes out, where the file does not say what will come out: the
/// output, and a window that may be as large and that is moved to twice the room while it grows.
const UNPACKING_SHARE: usize = 4;

/// Unpacks a kernel, if it is packed and the builder has the memory for that.
fn unpack(file: &[u8], spare: usize) -> Result<Cow<'_, [u8]>, Unusable> {
    let limit = unpacking_limit(file, spare)?;
    let unpacked = kernel_image::unwrap(file, limit).map_err(Unusable::Image)?;
    Ok(unpacked.elf)
}

/// The most bytes that a kernel may unpack to where `spare` can still be allocated.
fn unpacking_limit(file: &[u8], spare: usize) -> Result<usize, Unusable> {
    let limit = match UnpackingCost::declared(file) {
        // A size beyond the limit is a lie, which unwrapping says better.
        Some(cost) if cost.output <= MAX_KERNEL && cost.total() > spare => {
            return Err(Unusable::NoRoom { needed: cost.total(), spare });
        }
        Some(cost) => spare.saturating_sub(cost.workspace),
        None => spare / UNPACKING_SHARE,
    };
    Ok(limit.min(MAX_KERNEL))
}

/// A kernel that is unpacked by and by.
#[derive(Debug)]
pub struct UnpackingKernel {
    name: String,
    unpacking: Unpacking,
    needed: usize,
}

impl UnpackingKernel {
    /// How much is unpacked between two looks at the clock, in bytes.
    const PIECE: usize = 256 << 10;

    /// Begins with the kernel `file`, called `name`, into at most the `spare` bytes that can still be allocated; `None` if it is not packed.
    pub fn new(name: &str, file: Rc<Vec<u8>>, spare: usize) -> Result<Option<Self>, VmError> {
        // Where the file does not say what will come out, all there is may be needed.
        let needed = UnpackingCost::declared(&file).map_or(spare, UnpackingCost::total);
        let begin = |file: Rc<Vec<u8>>| {
            let limit = unpacking_limit(&file, spare)?;
            Unpacking::new(file, limit).map_err(Unusable::Image)
        };
        let unpacking = begin(file).map_err(|error| error.of(name))?;
        Ok(unpacking.map(|unpacking| Self { name: name.to_string(), unpacking, needed }))
    }

    /// Goes on by a piece, and further until `is_over`; says whether that was all.
    pub fn step(&mut self, mut is_over: impl FnMut() -> bool) -> Result<bool, VmError> {
        loop {
            let ended = self.unpacking.step(Self::PIECE);
            if ended.map_err(|error| Unusable::Image(error).of(&self.name))? {
                return Ok(true);
            }
            if is_over() {
                return Ok(false);
            }
        }
    }

    /// The most bytes of heap that it takes in all.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// The ELF file, once all of it is there.
    pub fn into_elf(self) -> Result<Vec<u8>, VmError> {
        let Self { name, unpacking, .. } = self;
        unpacking.into_elf().map_err(|error| Unusable::Image(error).of(&name))
    }
}

/// Why a kernel file cannot be used.
#[derive(Clone, Debug)]
enum Unusable {
    Image(ImageError),
    NoRoom { needed: usize, spare: usize },
}

impl Unusable {
    /// The error of a VM whose kernel this is, in the file called `name`.
    fn of(self, name: &str) -> VmError {
        let file = name.into();
        match self {
            Self::Image(error) => VmError::Kernel { file, error },
            Self::NoRoom { needed, spare } => VmError::NoRoom { file, needed, spare },
        }
    }
}

/// The kernels of a platform, unpacked: each once, however many VMs start it.
#[derive(Default)]
pub struct Images<'a> {
    kernels: BTreeMap<String, Result<Cow<'a, [u8]>, Unusable>>,
    event_log: SharedLog,
}

impl<'a> Images<'a> {
    /// Unpacks every kernel that a spec names and the archive has; what is stored as a plain ELF file is not copied.
    ///
    /// `spare_memory` tells how many bytes can still be allocated: a kernel that might take more is not unpacked.
    pub fn unpack<'s>(
        archive: &Archive<'a>,
        specs: impl Iterator<Item = &'s BootSpec>,
        spare_memory: impl Fn() -> usize,
    ) -> Self {
        let mut kernels = BTreeMap::new();
        for spec in specs {
            if !kernels.contains_key(&spec.kernel)
                && let Ok(file) = archive.file(&spec.kernel)
            {
                kernels.insert(spec.kernel.clone(), unpack(file, spare_memory()));
            }
        }
        Self { kernels, event_log: SharedLog::default() }
    }

    /// Has some VMs get the event log with their RAM disks.
    pub(crate) fn with_event_log(self, event_log: SharedLog) -> Self {
        Self { event_log, ..self }
    }

    /// The kernel of `spec`, which is not packed any more.
    pub(crate) fn kernel(&self, spec: &BootSpec, archive: &Archive<'_>) -> Result<&[u8], VmError> {
        match self.kernels.get(&spec.kernel) {
            Some(Ok(elf)) => Ok(elf),
            Some(Err(error)) => Err(error.clone().of(&spec.kernel)),
            None => Err(archive.file(&spec.kernel).err().map_or(VmError::NotUnpacked, VmError::Missing)),
        }
    }

    /// The event log, for those that get it.
    pub(crate) fn event_log(&self) -> &SharedLog {
        &self.event_log
    }

    /// What those of `vms` that may be restarted will need again, and what else `keeps` is true of.
    pub(crate) fn needed(
        mut self,
        archive: &Archive<'a>,
        vms: &[Rc<PlannedVm>],
        keeps: impl Fn(&str) -> bool,
    ) -> Needed {
        let range = |name: &str| {
            let entry = archive.entry(name)?;
            let start = entry.data_offset();
            Some(start..start.saturating_add(entry.data().len()))
        };
        let mut needed = Needed::default();
        let names = archive.entries().iter().map(ramdisk::Entry::name).filter(|name| keeps(name));
        needed.kept = names.filter_map(|name| Some((name.to_string(), range(name)?))).collect();
        for spec in vms.iter().map(|vm| &vm.spec).filter(|spec| may_restart(spec)) {
            let kernel = match self.kernels.remove(&spec.kernel) {
                Some(Ok(Cow::Owned(elf))) => Some(Image::Unpacked(elf)),
                Some(Ok(Cow::Borrowed(_))) => range(&spec.kernel).map(Image::Stored),
                _ => None,
            };
            needed.kernels.extend(kernel.map(|image| (spec.kernel.clone(), image)));
            let ramdisk = spec.ramdisk.as_ref().and_then(|name| Some((name.clone(), range(name)?)));
            needed.ramdisks.extend(ramdisk);
        }
        Needed { event_log: self.event_log, ..needed }
    }
}
