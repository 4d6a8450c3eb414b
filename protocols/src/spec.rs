//! The boot spec: everything db-boot needs to know about one VM, apart from its images.
//!
//! On the wire: a [header](crate::header) with [`MAGIC`] and [`VERSION`], a body of at most [`MAX_BODY_LEN`] bytes, then
//! nothing. The body is a [`BootSpec`] in the postcard encoding, fields in the order of the struct.
//!
//! Postcard's wire format is published and stable: integers are LEB128 varints, strings carry their length,
//! options a tag byte, enums the index of their variant. Only the shortest encoding of a value is accepted,
//! so two specs are equal exactly when their bytes are.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::channel::{Channels, first_channel_port};
pub use crate::header::HEADER_LEN;
use crate::header::Header;
pub use crate::kind::{ExitAction, GuestKind};
use crate::life::Life;
pub use crate::limits::{
    FIRST_RESERVED_DOMID, MAX_COMMAND_LINE_LEN, MAX_IMAGE_NAME_LEN, MAX_MEMORY_KIB, MAX_NAME_LEN, MAX_VCPUS,
    NAME_PUNCTUATION,
};
use crate::module::{self, Module};
pub use crate::names::{
    check_command_line, check_domid, check_image_name, check_memory, check_name, is_time_stamp,
};
use crate::settings::{Paging, Settings};
pub use crate::spec_error::{ImageRole, SpecError};
use crate::store::StoreRole;

/// The first eight bytes of an encoded spec.
pub const MAGIC: [u8; 8] = *b"DBSPEC\0\0";
/// The format version that this crate writes, and the only one that it reads.
pub const VERSION: u16 = 1;
/// The longest body. The bounds of the single fields add up to less than 17000 bytes; the rest is room to
/// grow within the version.
pub const MAX_BODY_LEN: usize = 32768;

const HEADER: Header = Header { magic: MAGIC, version: VERSION, max_body_len: MAX_BODY_LEN };

/// One VM. The order of the fields is the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSpec {
    /// 1 to [`MAX_NAME_LEN`] of `A-Z a-z 0-9` and [`NAME_PUNCTUATION`], the first a letter or digit, and not in the form of
    /// db-boot's time stamps, `1.234567`. Unique in a platform.
    pub name: String,
    /// What kind of guest it is.
    pub kind: GuestKind,
    /// The domain id it must get, `1..`[`FIRST_RESERVED_DOMID`]; `None` lets Xen choose.
    pub domid: Option<u16>,
    /// The domain's handle (UUID bytes in the order they are written); all zero for none.
    pub uuid: [u8; 16],
    /// vCPUs, `1..=`[`MAX_VCPUS`], those that are off when it starts included; see [`Processor::online`](crate::settings::Processor::online).
    pub vcpus: u32,
    /// Memory it starts with in KiB: a multiple of 4, `4..=`[`MAX_MEMORY_KIB`].
    pub memory_kib: u64,
    /// Memory it may grow to in KiB: a multiple of 4, at least `memory_kib`, at most [`MAX_MEMORY_KIB`].
    pub max_memory_kib: u64,
    /// The archive entry that holds its kernel.
    pub kernel: String,
    /// The archive entry that holds its RAM disk, if it has one. db-boot does not look into it.
    pub ramdisk: Option<String>,
    /// The kernel's command line: at most [`MAX_COMMAND_LINE_LEN`] bytes, none of them NUL.
    pub command_line: String,
    /// What happens when it powers off.
    pub on_poweroff: ExitAction,
    /// What happens when it asks for a reboot.
    pub on_reboot: ExitAction,
    /// What happens when it crashes.
    pub on_crash: ExitAction,
    /// How it lives besides.
    pub life: Life,
    /// The channels that it serves; a VM with channels has a `domid`.
    pub channels: Channels,
    /// What it may do and get besides.
    pub settings: Settings,
    /// What it has to do with a XenStore.
    pub store: StoreRole,
    /// The modules that its RAM disk consists of, if that is not one module: at most [`MAX_MODULES`](crate::module::MAX_MODULES), only of a PVH guest.
    pub modules: Vec<Module>,
}

impl BootSpec {
    /// A PV VM of one vCPU and `memory_kib` KiB, with the archive entry `kernel` as its kernel, and nothing that need not be said:
    /// Xen chooses its domain id, and it is destroyed however it ends.
    #[must_use]
    pub fn new(name: &str, kernel: &str, memory_kib: u64) -> Self {
        Self {
            name: name.into(),
            kind: GuestKind::Pv,
            domid: None,
            uuid: [0; 16],
            vcpus: 1,
            memory_kib,
            max_memory_kib: memory_kib,
            kernel: kernel.into(),
            ramdisk: None,
            command_line: String::new(),
            on_poweroff: ExitAction::Destroy,
            on_reboot: ExitAction::Destroy,
            on_crash: ExitAction::Destroy,
            life: Life::default(),
            channels: Channels::default(),
            settings: Settings::default(),
            store: StoreRole::None,
            modules: Vec::new(),
        }
    }

    /// Checks every field against its range, first to last, and reports the first that is wrong.
    pub fn validate(&self) -> Result<(), SpecError> {
        check_name(&self.name)?;
        check_domid(self.domid)?;
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(SpecError::BadVcpus { vcpus: self.vcpus });
        }
        if let Some(online) = self.settings.processor.online
            && !(1..self.vcpus).contains(&online)
        {
            return Err(SpecError::BadOnline { online, vcpus: self.vcpus });
        }
        check_memory(self.memory_kib, self.max_memory_kib)?;
        check_image_name(ImageRole::Kernel, &self.kernel)?;
        if let Some(ramdisk) = &self.ramdisk {
            check_image_name(ImageRole::Ramdisk, ramdisk)?;
        }
        check_command_line(&self.command_line)?;
        self.life.validate()?;
        self.channels.validate(self.domid)?;
        self.settings.validate()?;
        self.store.validate(self.domid)?;
        self.check_kind_of_settings()?;
        module::validate(&self.modules, self.kind, self.ramdisk.is_some())?;
        Ok(())
    }

    /// Checks the settings that only some guests can have.
    fn check_kind_of_settings(&self) -> Result<(), SpecError> {
        let Settings { claims, processor, .. } = &self.settings;
        if claims.module_list && (self.kind != GuestKind::Pv || self.ramdisk.is_none()) {
            return Err(SpecError::BadModuleList);
        }
        let any_paging = processor.paging == Paging::Any
            && !processor.shadows_in_sync
            && processor.paging_pool_mib.is_none();
        if self.kind != GuestKind::Pvh && !any_paging {
            return Err(SpecError::PagingOfPv);
        }
        Ok(())
    }

    /// The clients of its channels with the port that the builder opens for each.
    pub fn channel_ports(&self) -> impl Iterator<Item = (u16, u32)> {
        self.channels.clients.iter().copied().zip(first_channel_port(self.store)..)
    }

    /// vCPUs that are on when it starts.
    pub fn online_vcpus(&self) -> u32 {
        self.settings.processor.online.unwrap_or(self.vcpus)
    }

    /// The bytes of the spec, header included; a spec that is not valid is not encoded.
    pub fn encode(&self) -> Result<Vec<u8>, SpecError> {
        self.validate()?;
        Ok(HEADER.wrap(&self.encode_body()?)?)
    }

    /// Reads a spec back. Total: any bytes give a spec that [`validate`](Self::validate)s, or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, SpecError> {
        let body = HEADER.unwrap(bytes)?;
        let bad_body = |cause| SpecError::BadBody { length: body.len(), cause };
        let (spec, rest) = postcard::take_from_bytes::<Self>(body).map_err(bad_body)?;
        if !rest.is_empty() {
            return Err(SpecError::TrailingBytes { count: rest.len() });
        }
        spec.validate()?;
        if spec.encode_body()? != body {
            return Err(SpecError::NotCanonical);
        }
        Ok(spec)
    }

    fn encode_body(&self) -> Result<Vec<u8>, SpecError> {
        postcard::to_allocvec(self).map_err(|cause| SpecError::Encode { cause })
    }
}
