//! The part of a platform spec that makes db-server serve: who may ask it for VMs, and for what.
//!
//! A *controller* is a VM of the platform that gets a channel to db-server: a word `vchan=client:db-server:0:REFERENCE:PORT` at the
//! end of its command line (see [`ChannelWord`]), where db-server grants the page and opens the port. A VM that is not named
//! here has no channel and can ask for nothing.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::channel::{ChannelWord, End};
use crate::limits::MAX_VMS;
use crate::message::Quota;
use crate::settings::{Access, Placement, Settings, SettingsError, check_label};
use crate::spec::{ImageRole, MAX_MEMORY_KIB, SpecError, check_domid, check_image_name, check_name};

/// db-server's name in the words for its controllers; no VM of its platform has it.
pub const NAME: &str = "db-server";
/// The most controllers of a platform.
pub const MAX_CONTROLLERS: usize = 16;
/// The most images that one controller's list names.
pub const MAX_LISTED_IMAGES: usize = 32;
/// The most security labels that one controller's list names.
pub const MAX_LISTED_LABELS: usize = 16;
/// The most requests that a controller may have under way.
pub const MAX_REQUESTS: u32 = 64;
/// The longest that ` ` and the [word](channel_word) of a channel to db-server make a command line, in bytes.
pub const CHANNEL_WORD_ROOM: usize = 47;

/// What db-server serves. The order of the fields is the wire format: additions go last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// The most memory that its store of images takes, over all controllers, in KiB: at most [`MAX_MEMORY_KIB`]; 0 for no store.
    pub store_kib: u64,
    /// Who may ask: 1 to [`MAX_CONTROLLERS`], no VM twice, no domain id in the ranges of two.
    pub controllers: Vec<Controller>,
}

/// A VM that may ask db-server for VMs. The order of the fields is the wire format: additions go last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Its name. It has a fixed domain id, outside of all controllers' ranges.
    pub vm: String,
    /// How much it may have:
    /// * memory of its VMs, 1 KiB to [`MAX_MEMORY_KIB`], and their number, 1 to [`MAX_VMS`];
    /// * the domain ids that its boot specs may fix, both ends included; 0 and 0 for none, so that Xen chooses;
    /// * bytes of images in the store, 0 if it may not send any;
    /// * requests under way, 1 to [`MAX_REQUESTS`].
    pub quota: Quota,
    /// Which images of db-server's RAM disk its VMs may be built of.
    pub images: ImageAccess,
    /// What it may give its VMs besides memory.
    pub may: Rights,
    /// What becomes of its VMs when it has ended for good.
    pub orphans: Orphans,
}

/// Images of db-server's RAM disk. The order of the variants is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageAccess {
    /// None of them.
    #[default]
    None,
    /// The entries of these names: 1 to [`MAX_LISTED_IMAGES`], none twice.
    Listed(Vec<String>),
    /// All of them.
    Any,
}

/// What a controller may give its VMs besides memory. The order of the fields is the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The devices. A VM's ranges have to lie in these.
    pub devices: Access,
    /// Whether it may choose where its VMs run: CPUs, weight, cap, pool.
    pub placement: bool,
    /// The security labels that its VMs may run with or be built with: at most [`MAX_LISTED_LABELS`], none twice.
    pub labels: Vec<String>,
}

/// What becomes of the VMs of a controller that has ended, and is not restarted. The order of the variants is the wire format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Orphans {
    /// They run on.
    #[default]
    Keep,
    /// They are destroyed.
    Destroy,
}

/// Why a [`ServerSpec`] is not valid. Each message begins with the controller, where it is about one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServerSpecError {
    /// Nobody may ask, or too many may.
    #[error("{count} controllers: 1 to {MAX_CONTROLLERS} can be named")]
    ControllerCount {
        /// How many there are.
        count: usize,
    },
    /// A VM is named twice.
    #[error("controller {vm:?} is named twice: name it once")]
    ControllerTwice {
        /// The VM.
        vm: String,
    },
    /// The name of a VM or image could not be one, or a domain id.
    #[error("controller {vm:?}: {cause}")]
    Spec {
        /// The controller.
        vm: String,
        /// What is wrong.
        cause: SpecError,
    },
    /// A device could not be one.
    #[error("controller {vm:?}: {cause}")]
    Devices {
        /// The controller.
        vm: String,
        /// What is wrong.
        cause: SettingsError,
    },
    /// A number outside of its range.
    #[error("controller {vm:?}: {what} of {number}: must be {least} to {most}")]
    OutOfRange {
        /// The controller.
        vm: String,
        /// What it is.
        what: &'static str,
        /// The number.
        number: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// More of the store than there is.
    #[error("controller {vm:?}: {bytes} bytes of images, and the whole store has {store_kib} KiB")]
    StoreTooSmall {
        /// The controller.
        vm: String,
        /// What it is to have.
        bytes: u64,
        /// All there is.
        store_kib: u64,
    },
    /// A store beyond what a machine has.
    #[error("a store of {kib} KiB: must be at most {MAX_MEMORY_KIB} KiB")]
    StoreTooLarge {
        /// Its size in KiB.
        kib: u64,
    },
    /// Domain ids the wrong way round.
    #[error("controller {vm:?}: domain ids {first} to {last}: the first must not be above the last")]
    DomidsBackwards {
        /// The controller.
        vm: String,
        /// The first.
        first: u16,
        /// The last.
        last: u16,
    },
    /// Domain ids that two controllers have.
    #[error("controllers {one:?} and {other:?} both have domain id {domid}: give each ids of its own")]
    DomidsOverlap {
        /// The earlier controller.
        one: String,
        /// The later one.
        other: String,
        /// The lowest id that both have.
        domid: u16,
    },
    /// No image, or too many.
    #[error("controller {vm:?}: {count} images: 1 to {MAX_LISTED_IMAGES} can be named")]
    ImageCount {
        /// The controller.
        vm: String,
        /// How many are named.
        count: usize,
    },
    /// Too many labels.
    #[error("controller {vm:?}: {count} labels: {MAX_LISTED_LABELS} at most can be named")]
    LabelCount {
        /// The controller.
        vm: String,
        /// How many are named.
        count: usize,
    },
    /// A label is named twice.
    #[error("controller {vm:?}: label {label:?} is named twice: name it once")]
    LabelTwice {
        /// The controller.
        vm: String,
        /// The label.
        label: String,
    },
    /// A label could not be one.
    #[error("controller {vm:?}: {cause}")]
    Label {
        /// The controller.
        vm: String,
        /// What is wrong.
        cause: SettingsError,
    },
    /// An image is named twice.
    #[error("controller {vm:?}: image {name:?} is named twice: name it once")]
    ImageTwice {
        /// The controller.
        vm: String,
        /// The image.
        name: String,
    },
}

impl ServerSpec {
    /// Checks every field against its range, first to last, and reports the first that is wrong.
    pub fn validate(&self) -> Result<(), ServerSpecError> {
        if self.store_kib > MAX_MEMORY_KIB {
            return Err(ServerSpecError::StoreTooLarge { kib: self.store_kib });
        }
        let count = self.controllers.len();
        if !(1..=MAX_CONTROLLERS).contains(&count) {
            return Err(ServerSpecError::ControllerCount { count });
        }
        for (index, controller) in self.controllers.iter().enumerate() {
            controller.validate()?;
            controller.check_store(self.store_kib)?;
            for earlier in self.controllers.iter().take(index) {
                controller.check_beside(earlier)?;
            }
        }
        Ok(())
    }

    /// The controller that is the VM called `vm`.
    pub fn controller(&self, vm: &str) -> Option<&Controller> {
        self.controllers.iter().find(|controller| controller.vm == vm)
    }
}

impl Controller {
    /// Checks every field on its own.
    pub fn validate(&self) -> Result<(), ServerSpecError> {
        check_name(&self.vm).map_err(|cause| self.spec_error(cause))?;
        let Quota { memory_kib, vms, requests, .. } = self.quota;
        let most_vms = u64::try_from(MAX_VMS).unwrap_or(u64::MAX);
        self.within("memory in KiB", memory_kib, MAX_MEMORY_KIB)?;
        self.within("a number of VMs", u64::from(vms), most_vms)?;
        self.within("a number of requests", u64::from(requests), u64::from(MAX_REQUESTS))?;
        self.check_domids()?;
        self.check_images()?;
        self.check_labels()?;
        self.may.devices.validate().map_err(|cause| ServerSpecError::Devices { vm: self.vm.clone(), cause })
    }

    /// Whether its boot specs may fix `domid`.
    pub fn has_domid(&self, domid: u16) -> bool {
        let Quota { first_domid, last_domid, .. } = self.quota;
        domid != 0 && (first_domid..=last_domid).contains(&domid)
    }

    fn spec_error(&self, cause: SpecError) -> ServerSpecError {
        ServerSpecError::Spec { vm: self.vm.clone(), cause }
    }

    fn within(&self, what: &'static str, number: u64, most: u64) -> Result<(), ServerSpecError> {
        if (1..=most).contains(&number) {
            Ok(())
        } else {
            Err(ServerSpecError::OutOfRange { vm: self.vm.clone(), what, number, least: 1, most })
        }
    }

    fn check_domids(&self) -> Result<(), ServerSpecError> {
        let Quota { first_domid: first, last_domid: last, .. } = self.quota;
        if (first, last) == (0, 0) {
            return Ok(());
        }
        if first > last {
            return Err(ServerSpecError::DomidsBackwards { vm: self.vm.clone(), first, last });
        }
        [first, last]
            .into_iter()
            .try_for_each(|domid| check_domid(Some(domid)))
            .map_err(|e| self.spec_error(e))
    }

    fn check_images(&self) -> Result<(), ServerSpecError> {
        let ImageAccess::Listed(names) = &self.images else { return Ok(()) };
        if !(1..=MAX_LISTED_IMAGES).contains(&names.len()) {
            return Err(ServerSpecError::ImageCount { vm: self.vm.clone(), count: names.len() });
        }
        for (index, name) in names.iter().enumerate() {
            check_image_name(ImageRole::Kernel, name).map_err(|cause| self.spec_error(cause))?;
            if names.iter().take(index).any(|earlier| earlier == name) {
                return Err(ServerSpecError::ImageTwice { vm: self.vm.clone(), name: name.clone() });
            }
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), ServerSpecError> {
        let labels = &self.may.labels;
        if labels.len() > MAX_LISTED_LABELS {
            return Err(ServerSpecError::LabelCount { vm: self.vm.clone(), count: labels.len() });
        }
        for (index, label) in labels.iter().enumerate() {
            check_label(label).map_err(|cause| ServerSpecError::Label { vm: self.vm.clone(), cause })?;
            if labels.iter().take(index).any(|earlier| earlier == label) {
                return Err(ServerSpecError::LabelTwice { vm: self.vm.clone(), label: label.clone() });
            }
        }
        Ok(())
    }

    fn check_store(&self, store_kib: u64) -> Result<(), ServerSpecError> {
        let bytes = self.quota.store_bytes;
        if bytes > store_kib.saturating_mul(1024) {
            return Err(ServerSpecError::StoreTooSmall { vm: self.vm.clone(), bytes, store_kib });
        }
        Ok(())
    }

    fn check_beside(&self, earlier: &Self) -> Result<(), ServerSpecError> {
        if self.vm == earlier.vm {
            return Err(ServerSpecError::ControllerTwice { vm: self.vm.clone() });
        }
        let domid = self.quota.first_domid.max(earlier.quota.first_domid);
        if self.has_domid(domid) && earlier.has_domid(domid) {
            let (one, other) = (earlier.vm.clone(), self.vm.clone());
            return Err(ServerSpecError::DomidsOverlap { one, other, domid });
        }
        Ok(())
    }
}

impl ImageAccess {
    /// Whether VMs may be built of the RAM disk's entry `name`.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            Self::None => false,
            Self::Listed(names) => names.iter().any(|listed| listed == name),
            Self::Any => true,
        }
    }
}

/// Something that a controller may not give its VMs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotGranted {
    /// A device, or a part of one.
    #[error("{device}: the platform does not let this controller give it away")]
    Device {
        /// Which, in words.
        device: String,
    },
    /// A place on the machine.
    #[error(
        "cpus, cpus_soft, cpu_weight, cap or pool: the platform does not let this controller choose them"
    )]
    Placement,
    /// A security label.
    #[error("label {label:?}: the platform does not let this controller give it")]
    Label {
        /// Which.
        label: String,
    },
}

impl Rights {
    /// Whether a VM with these settings may be built; if not, the first thing that may not be given to it.
    pub fn allow(&self, settings: &Settings) -> Result<(), NotGranted> {
        if let Some(device) = self.devices.first_lacking(&settings.access) {
            return Err(NotGranted::Device { device });
        }
        if !self.placement && settings.placement != Placement::default() {
            return Err(NotGranted::Placement);
        }
        let mut labels = [&settings.labels.running, &settings.labels.building].into_iter().flatten();
        match labels.find(|label| !self.labels.contains(label)) {
            Some(label) => Err(NotGranted::Label { label: label.clone() }),
            None => Ok(()),
        }
    }
}

/// The word on a controller's command line for its channel: the page that db-server granted it, and db-server's port.
pub fn channel_word(reference: u32, port: u32) -> ChannelWord {
    ChannelWord { end: End::Client, name: NAME.into(), domid: 0, reference, port }
}
