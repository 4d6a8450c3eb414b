//! The platform in the control domain's RAM disk, and what VMs are built of.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use platform::{ReadError, Specs};
use protocols::archive::CONTROL_ENTRY;
use protocols::channel::{ChannelWord, End};
use protocols::control::{self, ControlSpec, ControlSpecError};
use protocols::message::{Failure, ImageSource, Reason};
use protocols::{BootSpec, Digest, ExitAction, PlatformSpec};
use ramdisk::{Archive, RamdiskError};
use thiserror::Error;
use trust::{TrustError, measure, sha256, verify};

use crate::{Options, Terms};

/// What stands on a guest's command line for the control domain's own domain id.
const OWN_DOMID: &str = "$(control)";

/// Why the RAM disk cannot be used.
#[derive(Debug, Error)]
pub enum Refusal {
    /// The settings cannot be followed.
    #[error("step=trust {}; no RAM disk is trusted until this is right", .0.join("; "))]
    Settings(Vec<String>),
    /// It is not the one that was signed.
    #[error("step=trust {0}")]
    Untrusted(#[from] TrustError),
    /// It is no archive, or an entry is not a file.
    #[error("step=ramdisk {0}")]
    Archive(#[from] RamdiskError),
    /// It is not known what holds for all VMs.
    #[error("step=spec {0}")]
    Platform(#[from] ReadError),
    /// The control spec is damaged.
    #[error("step=spec {CONTROL_ENTRY}: {0}; pack the RAM disk again with domb")]
    Control(#[from] ControlSpecError),
    /// VMs, platform spec and control spec do not fit together.
    #[error("step=spec {}", .0.join("; "))]
    Disagree(Vec<String>),
    /// There is no VM.
    #[error("step=spec the RAM disk holds no boot spec; make one with `domb pack --archive-only`")]
    Empty,
}

/// Images in the RAM disk, by the names that specs have for them.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    archive: Archive<'a>,
    digests: BTreeMap<String, Digest>,
}

/// Where an image of a VM comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// It is in this RAM disk, and streamed if db-server has not got it.
    Own(Digest),
    /// db-server has it in its own.
    Servers(String),
}

impl<'a> Images<'a> {
    /// What a spec means by the name of an image.
    fn find(&mut self, name: &str) -> Image {
        if let Some(digest) = self.digests.get(name) {
            return Image::Own(*digest);
        }
        let Ok(bytes) = self.archive.file(name) else { return Image::Servers(name.to_owned()) };
        let digest = sha256(bytes);
        self.digests.insert(name.to_owned(), digest);
        Image::Own(digest)
    }

    /// The bytes of an image of this RAM disk that was found before.
    pub(crate) fn bytes(&self, digest: &Digest) -> Option<&'a [u8]> {
        let (name, _) = self.digests.iter().find(|(_, known)| *known == digest)?;
        self.archive.file(name).ok()
    }
}

impl Image {
    pub(crate) fn source(&self) -> ImageSource {
        match self {
            Self::Own(digest) => ImageSource::Store(*digest),
            Self::Servers(name) => ImageSource::Ramdisk(name.clone()),
        }
    }

    /// The digest by which it is streamed.
    pub(crate) fn own(&self) -> Option<Digest> {
        match self {
            Self::Own(digest) => Some(*digest),
            Self::Servers(_) => None,
        }
    }
}

/// All that a VM is built of.
#[derive(Clone, Debug)]
pub(crate) struct Blueprint {
    /// As its author wrote it.
    pub(crate) spec: BootSpec,
    /// The digest of that.
    pub(crate) digest: Digest,
    /// What db-server is sent: with the words that the control domain adds to the command line, and without restarts, which are
    /// the control domain's.
    pub(crate) wire: Vec<u8>,
    pub(crate) kernel: Image,
    pub(crate) ramdisk: Option<Image>,
}

impl Blueprint {
    /// The images that are streamed.
    pub(crate) fn own_images(&self) -> impl Iterator<Item = Digest> {
        [Some(&self.kernel), self.ramdisk.as_ref()].into_iter().flatten().filter_map(Image::own)
    }
}

/// Makes blueprints of boot specs.
#[derive(Debug)]
pub(crate) struct Drawing<'a> {
    pub(crate) images: Images<'a>,
    own_domid: u16,
    clients: Vec<Terms>,
}

impl Drawing<'_> {
    /// What a VM is built of whose spec is `spec`, encoded as `bytes`; `is_own` says that it is one of the RAM disk's platform, which the
    /// clients are members of.
    pub(crate) fn draw(&mut self, spec: BootSpec, bytes: &[u8], is_own: bool) -> Result<Blueprint, Failure> {
        let mut sent = spec.clone();
        sent.command_line = sent.command_line.replace(OWN_DOMID, &self.own_domid.to_string());
        let client = self.clients.iter().find(|client| is_own && client.vm == spec.name);
        if let Some(Terms { reference, port, .. }) = client {
            let word = ChannelWord {
                end: End::Client,
                name: control::NAME.into(),
                domid: self.own_domid,
                reference: *reference,
                port: *port,
            };
            sent.command_line.push(' ');
            sent.command_line.push_str(&word.to_string());
        }
        for action in
            [&mut sent.on_poweroff, &mut sent.on_reboot, &mut sent.on_crash, &mut sent.life.on_watchdog]
        {
            if *action == ExitAction::Restart {
                *action = ExitAction::Destroy;
            }
        }
        let bad = |error| Failure { reason: Reason::BadSpec, detail: format!("VM {}: {error}", spec.name) };
        let wire = sent.encode().map_err(bad)?;
        let kernel = self.images.find(&spec.kernel);
        let ramdisk = spec.ramdisk.as_ref().map(|name| self.images.find(name));
        Ok(Blueprint { digest: sha256(bytes), spec, wire, kernel, ramdisk })
    }
}

/// The platform in a RAM disk.
#[derive(Debug)]
pub struct Source<'a> {
    archive: Archive<'a>,
    pub(crate) settings: PlatformSpec,
    pub(crate) control: ControlSpec,
    vms: Vec<BootSpec>,
}

impl<'a> Source<'a> {
    /// Reads the RAM disk in `bytes`, which has to be as `options` ask. All or nothing: a platform with one bad VM is refused.
    pub fn read(bytes: &'a [u8], options: &Options) -> Result<Self, Refusal> {
        if !options.faults.is_empty() {
            return Err(Refusal::Settings(options.faults.clone()));
        }
        let archive = Archive::parse(bytes)?;
        if let Some(key) = &options.key {
            let manifest = verify(bytes, &archive, &measure(&archive), key, options.least_version)?;
            log::info!(
                "trust=verified key={} platform={:?} version={}",
                key.id(),
                manifest.platform,
                manifest.version
            );
        }
        let Specs { settings, vms, failures } = Specs::read(&archive)?;
        let control = match archive.entry(CONTROL_ENTRY) {
            Some(_) => ControlSpec::decode(archive.file(CONTROL_ENTRY)?)?,
            None => ControlSpec::default(),
        };
        let mut wrong: Vec<String> =
            failures.iter().map(|failure| format!("vm={} {}", failure.name, failure.fault)).collect();
        if vms.is_empty() && wrong.is_empty() {
            return Err(Refusal::Empty);
        }
        let all: Vec<&BootSpec> = vms.iter().collect();
        wrong.extend(settings.disagreements(&all).iter().map(ToString::to_string));
        wrong.extend(control.disagreements(vms.iter()).iter().map(ToString::to_string));
        if wrong.is_empty() {
            Ok(Self { archive, settings, control, vms })
        } else {
            Err(Refusal::Disagree(wrong))
        }
    }

    /// What it asks of its clients' channels: the name and domain id of each, in order.
    pub fn clients(&self) -> impl Iterator<Item = (&str, u16)> {
        let domid = |name: &str| self.vms.iter().find(|vm| vm.name == name).and_then(|vm| vm.domid);
        self.control.clients.iter().filter_map(move |client| Some((client.vm.as_str(), domid(&client.vm)?)))
    }

    /// What its VMs are built of, when the clients' channels are as `clients` say and this domain's own id is `own_domid`.
    pub(crate) fn draw(
        self,
        own_domid: u16,
        clients: Vec<Terms>,
    ) -> Result<(Drawing<'a>, Vec<Blueprint>, PlatformSpec, ControlSpec), Failure> {
        let Self { archive, settings, control, vms } = self;
        let images = Images { archive, digests: BTreeMap::new() };
        let mut drawing = Drawing { images, own_domid, clients };
        let mut blueprints = Vec::with_capacity(vms.len());
        for spec in vms {
            let bytes = spec.encode().unwrap_or_default();
            blueprints.push(drawing.draw(spec, &bytes, true)?);
        }
        Ok((drawing, blueprints, settings, control))
    }
}
