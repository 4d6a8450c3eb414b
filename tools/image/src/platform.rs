//! A set of VMs with all their images: what db-boot's RAM disk is made from.

mod images;
mod modules;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use kernel_image::{UnpackingCost, Unwrapped};
use protocols::archive::{CONTROL_ENTRY, PLATFORM_ENTRY, spec_entry};
use protocols::control::{ControlSpec, ControlSpecError};
use protocols::module::Module;
use protocols::order::{self, OrderError};
use protocols::platform::PlatformSpecError;
use protocols::spec::{BootSpec, ImageRole, SpecError};
use protocols::{Channels, Digest, PlatformSpec};
use thiserror::Error;

use self::images::{ImageStore, entry_name, ramdisk_name};
use crate::channels;
use crate::config::keys::Key;
use crate::config::{VmConfig, VmFile};
use crate::kernel::{MAX_UNPACKED, unpacking_cost};
use crate::memory;
use crate::platform_file::{PlatformFile, TrustTable};
use crate::source::{Diagnostic, Severity, Spanned, nearest};

/// A file that VMs boot from. VMs that name files of equal contents share one.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name in the archive.
    pub entry: String,
    /// The file it was read from; the first one if several are equal, or are joined.
    pub path: PathBuf,
    /// The SHA-256 of the file as it was read, joined if it is several.
    pub file_sha256: Digest,
    /// Its contents, as they go into the archive.
    pub bytes: Vec<u8>,
    /// What the file was before it was unpacked, if it was.
    pub unpacked_from: Option<String>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Image({}: {} bytes)", self.entry, self.bytes.len())
    }
}

/// One VM of a [`Platform`].
#[derive(Clone, Debug)]
pub struct Vm {
    /// The file that describes it.
    pub file: VmFile,
    /// What db-boot will read about it.
    pub spec: BootSpec,
    /// Index of its kernel in the platform's images.
    pub(crate) kernel: usize,
    ramdisk: Option<usize>,
}

/// VMs in the order in which they start, with their images.
#[derive(Clone, Debug, Default)]
pub struct Platform {
    settings: Option<PlatformSpec>,
    trust: TrustTable,
    control: Option<ControlSpec>,
    warnings: Vec<String>,
    vms: Vec<Vm>,
    images: Vec<Image>,
    /// How many of the images, from the first on, are there for controllers to build VMs of.
    named: usize,
}

/// Everything that is wrong with a set of VM files that are right one by one.
#[derive(Debug, Error)]
#[error("{}", .problems.join("\n"))]
pub struct PlatformError {
    /// The problems; at least one, each with the place in the VM file.
    pub problems: Vec<String>,
}

impl PlatformError {
    /// The single messages.
    pub fn messages(&self) -> Vec<(Severity, String)> {
        self.problems.iter().map(|problem| (Severity::Error, problem.clone())).collect()
    }
}

/// Why a RAM disk could not be put together.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// A VM's spec cannot be encoded.
    #[error("VM {vm:?}: {cause}")]
    Spec {
        /// The VM.
        vm: String,
        /// What is wrong with it.
        cause: SpecError,
    },
    /// The platform spec cannot be encoded.
    #[error(transparent)]
    Platform(#[from] PlatformSpecError),
    /// The control spec cannot be encoded.
    #[error(transparent)]
    Control(#[from] ControlSpecError),
    /// An entry cannot be added.
    #[error(transparent)]
    Entry(#[from] ramdisk::WriterError),
}

impl Platform {
    /// Reads the images of all VMs and checks what the VMs must not share: names and domain ids.
    pub fn load(files: Vec<VmFile>) -> Result<Self, PlatformError> {
        let platform = Self::load_vms(files, ImageStore::default())?;
        let vms: Vec<_> = platform.specs().collect();
        let problems = PlatformSpec::default().disagreements(&vms).iter().map(ToString::to_string).collect();
        platform.unless(problems)
    }

    /// The same for the VMs of a platform file, which also must agree with what that says of all of them.
    pub fn load_file(file: PlatformFile) -> Result<Self, PlatformError> {
        let store = ImageStore::with_named(&file).map_err(|problems| PlatformError { problems })?;
        let mut platform = Self::load_vms(file.vms.clone(), store)?;
        let problems = file.disagreements(&platform.specs().collect::<Vec<_>>());
        platform.warnings = file.warning_texts().collect();
        platform.settings = Some(file.spec);
        platform.trust = file.trust;
        platform.control = file.control;
        platform.unless(problems)
    }

    /// The platform, unless there are problems with it.
    fn unless(self, problems: Vec<String>) -> Result<Self, PlatformError> {
        if problems.is_empty() { Ok(self) } else { Err(PlatformError { problems }) }
    }

    fn load_vms(files: Vec<VmFile>, mut store: ImageStore) -> Result<Self, PlatformError> {
        let mut problems = conflicts(&files);
        problems.extend(disorders(&files));
        let warnings = files.iter().flat_map(VmFile::warning_texts).collect();
        let mut vms = Vec::new();
        for file in files {
            let config = &file.config;
            let kernel = store.add(&file, ImageRole::Kernel, &config.kernel);
            let ramdisk = store.add_ramdisk(&file);
            let ramdisk = ramdisk.and_then(|index| Ok((index, modules::table(&file)?)));
            match (kernel, ramdisk) {
                (Ok(kernel), Ok((ramdisk, modules))) => {
                    let expected = [(&config.kernel_hash, Some(kernel)), (&config.ramdisk_hash, ramdisk)];
                    problems.extend(expected.into_iter().filter_map(|(expected, index)| {
                        wrong_hash(&file, expected.as_ref()?, store.images.get(index?)?)
                    }));
                    let name_of = |index: usize| store.images[index].entry.clone();
                    let spec = spec_of(config, name_of(kernel), ramdisk.map(name_of), modules);
                    vms.push(Vm { file, spec, kernel, ramdisk });
                }
                (kernel, ramdisk) => problems.extend(kernel.err().into_iter().chain(ramdisk.err())),
            }
        }
        if problems.is_empty() {
            problems = channels::settle(&mut vms);
        }
        let ImageStore { images, named, .. } = store;
        let trust = TrustTable::default();
        Self { settings: None, trust, control: None, warnings, vms, images, named }.unless(problems)
    }

    /// What a platform file says of all VMs, if there is one.
    pub fn settings(&self) -> Option<&PlatformSpec> {
        self.settings.as_ref()
    }

    /// What a platform file says it is signed with.
    pub fn trust(&self) -> &TrustTable {
        &self.trust
    }

    /// What a platform file tells the control domain, if it does.
    pub fn control(&self) -> Option<&ControlSpec> {
        self.control.as_ref()
    }

    /// What the authors of the files should know, although it stops nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The boot specs, in the order of the VMs.
    pub fn specs(&self) -> impl Iterator<Item = &BootSpec> {
        self.vms.iter().map(|vm| &vm.spec)
    }

    /// The VMs, in the order in which they start.
    pub fn vms(&self) -> &[Vm] {
        &self.vms
    }

    /// The images, each once, in the order of their first use.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// Those of them that controllers know by name.
    pub fn named_images(&self) -> &[Image] {
        self.images.get(..self.named).unwrap_or_default()
    }

    /// The kernel of a VM of this platform.
    pub fn kernel(&self, vm: &Vm) -> &Image {
        &self.images[vm.kernel]
    }

    /// The RAM disk of a VM of this platform.
    pub fn ramdisk(&self, vm: &Vm) -> Option<&Image> {
        vm.ramdisk.map(|index| &self.images[index])
    }

    /// Unpacks the kernels that are packed, so that db-boot need not: unpacking is most of the time and of the memory that
    /// starting a Linux takes.
    ///
    /// A kernel that cannot be unpacked stays as it is, for the check of the VMs to say why; so does one that is some VM's
    /// RAM disk too, and an image for controllers that is no kernel.
    pub fn unpack_kernels(&mut self) {
        let ramdisks: BTreeSet<usize> = self.vms.iter().filter_map(|vm| vm.ramdisk).collect();
        let kernels = self.kernels().into_iter().chain(0..self.named).collect::<BTreeSet<usize>>();
        for index in kernels.difference(&ramdisks) {
            let image = &mut self.images[*index];
            if let Ok(Unwrapped { elf: Cow::Owned(elf), format, .. }) =
                kernel_image::unwrap(&image.bytes, MAX_UNPACKED)
            {
                image.unpacked_from = Some(format.to_string());
                image.bytes = elf;
            }
        }
    }

    /// The images that are kernels.
    fn kernels(&self) -> BTreeSet<usize> {
        self.vms.iter().map(|vm| vm.kernel).collect()
    }

    /// What unpacking all kernels that are stored packed costs: all outputs, as db-boot plans every VM before it builds the
    /// first and keeps each kernel, once, until then; and the largest workspace, as they are unpacked one after the other.
    pub fn unpacking_cost(&self) -> UnpackingCost {
        let costs = self.kernels().into_iter().map(|index| unpacking_cost(&self.images[index].bytes));
        costs.fold(UnpackingCost::default(), |sum, cost| UnpackingCost {
            output: sum.output.saturating_add(cost.output),
            workspace: sum.workspace.max(cost.workspace),
        })
    }

    /// What serving controllers takes of the builder's memory, in bytes; 0 when nobody is served.
    pub fn serving_need(&self) -> u64 {
        let Some(server) = self.settings.as_ref().and_then(|settings| settings.server.as_ref()) else {
            return 0;
        };
        let costs = self.named_images().iter().map(|image| match unpacking_cost(&image.bytes) {
            nothing if nothing.total() == 0 => nothing,
            // db-server takes a copy of what it unpacks.
            cost => UnpackingCost { output: cost.output.saturating_add(image.bytes.len()), ..cost },
        });
        memory::serving(server, costs.max_by_key(|cost| cost.total()).unwrap_or_default())
    }

    /// The RAM disk of db-boot: the platform spec, the control spec, the specs in the order of the VMs, then the images.
    pub fn archive(&self) -> Result<Vec<u8>, ArchiveError> {
        let mut writer = ramdisk::Writer::new();
        if let Some(settings) = &self.settings {
            writer.file(PLATFORM_ENTRY, &settings.encode()?)?;
        }
        if let Some(control) = &self.control {
            writer.file(CONTROL_ENTRY, &control.encode()?)?;
        }
        for vm in &self.vms {
            let spec =
                vm.spec.encode().map_err(|cause| ArchiveError::Spec { vm: vm.spec.name.clone(), cause })?;
            writer.file(&spec_entry(&vm.spec.name), &spec)?;
        }
        for image in &self.images {
            writer.file(&image.entry, &image.bytes)?;
        }
        Ok(writer.finish())
    }
}

/// The boot spec of one VM file, with the names its images have when it is the only VM.
///
/// The images are not looked at, which may be made later, or elsewhere; but for the lengths of modules.
pub fn compile(file: &VmFile) -> Result<BootSpec, PlatformError> {
    let name = |role, path: &Spanned<PathBuf>| entry_name(file, role, path);
    let kernel = name(ImageRole::Kernel, &file.config.kernel);
    let ramdisk = ramdisk_name(file).and_then(|name| Ok((name, modules::table(file)?)));
    match (kernel, ramdisk) {
        (Ok(kernel), Ok((ramdisk, modules))) => match channels::refuse_alone(file) {
            None => Ok(spec_of(&file.config, kernel, ramdisk, modules)),
            Some(problem) => Err(PlatformError { problems: vec![problem] }),
        },
        (kernel, ramdisk) => {
            Err(PlatformError { problems: kernel.err().into_iter().chain(ramdisk.err()).collect() })
        }
    }
}

fn spec_of(config: &VmConfig, kernel: String, ramdisk: Option<String>, modules: Vec<Module>) -> BootSpec {
    BootSpec {
        name: config.name.value.clone(),
        kind: config.kind,
        domid: config.domid.as_ref().map(|domid| domid.value),
        uuid: config.uuid,
        vcpus: config.vcpus,
        memory_kib: config.memory_kib.value,
        max_memory_kib: config.max_memory_kib,
        kernel,
        ramdisk,
        command_line: config.command_line.clone(),
        on_poweroff: config.on_poweroff,
        on_reboot: config.on_reboot,
        on_crash: config.on_crash,
        life: config.life.clone(),
        channels: Channels::default(),
        settings: config.settings.clone(),
        store: config.store,
        modules,
    }
}

/// The message for an image that is not the file that the VM file means.
fn wrong_hash(file: &VmFile, expected: &Spanned<Digest>, image: &Image) -> Option<String> {
    let found = image.file_sha256;
    let message = format!("{} has the SHA-256 {found}, not {}", image.path.display(), expected.value);
    let problem = Diagnostic::error(expected.span, message)
        .with_help("it is another file than the one that was meant: get that one, or change the line");
    (found != expected.value).then(|| problem.render(&file.source))
}

/// Names and domain ids that two VMs want.
fn conflicts(files: &[VmFile]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut names: BTreeMap<&str, &VmFile> = BTreeMap::new();
    let mut domids: BTreeMap<u16, &VmFile> = BTreeMap::new();
    let mut uuids: BTreeMap<[u8; 16], &VmFile> = BTreeMap::new();
    for file in files {
        let name = &file.config.name;
        if let Some(first) = names.insert(&name.value, file) {
            let message = format!(
                "two VMs are called {:?}; the other is in {}",
                name.value,
                first.source_of(Key::Name).name()
            );
            let mut problem = Diagnostic::error(name.span, message);
            if file.is_in_platform_file() {
                problem = problem
                    .with_help("give one another `name` in the platform file, or make them by `count`");
            }
            problems.push(problem.render(file.source_of(Key::Name)));
        }
        problems.extend(same_uuid(file, uuids.insert(file.config.uuid, file)));
        let Some(domid) = &file.config.domid else { continue };
        if let Some(first) = domids.insert(domid.value, file) {
            let message = format!(
                "two VMs want domain id {}; the other is {:?} in {}",
                domid.value,
                first.config.name.value,
                first.source_of(Key::Domid).name()
            );
            problems.push(Diagnostic::error(domid.span, message).render(file.source_of(Key::Domid)));
        }
    }
    problems
}

/// The problem of a VM that has the UUID of one before it. VMs of one name have one anyway, and their name is the problem.
fn same_uuid(file: &VmFile, first: Option<&VmFile>) -> Option<String> {
    let first = first.filter(|first| first.config.name.value != file.config.name.value)?;
    let message = format!(
        "VM {:?} has the UUID of {:?} in {}",
        file.config.name.value,
        first.config.name.value,
        first.source_of(Key::Uuid).name()
    );
    let help = "leave `uuid` out: one is derived from the name; or write another";
    let problem = Diagnostic::error(file.config.uuid_span, message).with_help(help);
    Some(problem.render(file.source_of(Key::Uuid)))
}

/// VMs that could never start because of those that they start after.
fn disorders(files: &[VmFile]) -> Vec<String> {
    let nodes: Vec<_> = files
        .iter()
        .map(|file| (file.config.name.value.as_str(), file.config.life.after.as_slice()))
        .collect();
    let render = |(index, error): (usize, OrderError)| {
        let file = files.get(index)?;
        let wanted = match &error {
            OrderError::Unknown { after } => Some(after),
            OrderError::Cycle { path } => path.get(1),
        };
        let place = file.config.after.iter().find(|name| Some(&name.value) == wanted)?;
        let mut problem = Diagnostic::error(place.span, format!("VM {:?}: {error}", file.config.name.value));
        if let OrderError::Unknown { after } = &error
            && let Some(near) = nearest(after, nodes.iter().map(|(name, _)| *name))
        {
            problem = problem.with_help(format!("did you mean {near:?}?"));
        }
        Some(problem.render(file.source_of(Key::After)))
    };
    order::disorders(&nodes).into_iter().filter_map(render).collect()
}

/// The digits of `bytes`, two for each.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;
    use sha2::{Digest as _, Sha256};
    use std::fs;
    use std::path::Path;

    fn vm(folder: &Path, name: &str, kernel: &str, more: &str) -> VmFile {
        let text = format!("name = '{name}'\nkernel = '{kernel}'\nmemory = 16\n{more}");
        VmFile::parse(SourceFile::new(format!("{name}.cfg"), text), folder).unwrap()
    }

    #[test]
    fn equal_files_are_stored_once_and_equal_names_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        for (path, contents) in [("a/k", "one"), ("b/k", "two"), ("c/k", "one")] {
            fs::create_dir(folder.path().join(path).parent().unwrap()).unwrap();
            fs::write(folder.path().join(path), contents).unwrap();
        }
        let files = ["a", "b", "c"]
            .map(|name| vm(folder.path(), name, &format!("{name}/k"), "ramdisk = 'a/k'"))
            .to_vec();
        let platform = Platform::load(files).unwrap();
        let entries: Vec<_> = platform.images().iter().map(|image| image.entry.as_str()).collect();
        assert_eq!(entries, ["images/k", "images/k.3fc4ccfe"]);
        let kernels: Vec<_> = platform.vms().iter().map(|vm| vm.spec.kernel.as_str()).collect();
        assert_eq!(kernels, ["images/k", "images/k.3fc4ccfe", "images/k"]);

        let archive = platform.archive().unwrap();
        let archive = ramdisk::Archive::parse(&archive).unwrap();
        let names: Vec<_> = archive.entries().iter().map(ramdisk::Entry::name).collect();
        assert_eq!(names, ["vms/a.spec", "vms/b.spec", "vms/c.spec", "images/k", "images/k.3fc4ccfe"]);
        assert_eq!(archive.file("images/k.3fc4ccfe").unwrap(), b"two");
        let spec = BootSpec::decode(archive.file("vms/b.spec").unwrap()).unwrap();
        assert_eq!(spec, platform.vms()[1].spec);
    }

    #[test]
    fn a_ramdisk_of_several_files_is_joined_at_multiples_of_four_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for (path, contents) in [("k", "kernel"), ("one", "12345"), ("two", "1234"), ("three", "1")] {
            fs::write(folder.path().join(path), contents).unwrap();
        }
        let vms = ["ramdisk = ['one', 'two', 'three']", "ramdisk = ['one']", "ramdisk = 'one'"];
        let files: Vec<_> =
            ["a", "b", "c"].iter().zip(vms).map(|(name, line)| vm(folder.path(), name, "k", line)).collect();
        let alone = compile(&files[0]).unwrap();
        let platform = Platform::load(files).unwrap();
        let ramdisks: Vec<_> = platform.vms().iter().map(|vm| platform.ramdisk(vm).unwrap()).collect();
        assert_eq!(ramdisks[0].bytes, b"12345\0\0\x001234\x31");
        assert_eq!(ramdisks[0].entry, "images/one+two+three");
        assert_eq!(alone.ramdisk.as_deref(), Some("images/one+two+three"));
        assert_eq!(ramdisks[1].bytes, b"12345");
        assert_eq!(ramdisks[1], ramdisks[2]);
        let missing = vm(folder.path(), "a", "k", "ramdisk = ['one', 'four']");
        let error = Platform::load(vec![missing]).unwrap_err().to_string();
        assert!(error.contains("a.cfg:4:19: ") && error.contains("four"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_the_one_that_was_meant_is_refused_with_both_digests() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("k"), "kernel").unwrap();
        fs::write(folder.path().join("r"), "RAM disk").unwrap();
        let [kernel, ramdisk] = ["kernel", "RAM disk"].map(|text| Digest(Sha256::digest(text).into()));
        let right = format!("kernel_hash = 'sha256:{kernel}'\nramdisk = 'r'\nramdisk_hash = '{ramdisk}'");
        assert!(Platform::load(vec![vm(folder.path(), "a", "k", &right)]).is_ok());
        let wrong = format!("kernel_hash = '{ramdisk}'\nramdisk = 'r'\nramdisk_hash = '{kernel}'");
        let problems = Platform::load(vec![vm(folder.path(), "a", "k", &wrong)]).unwrap_err().problems;
        for (problem, place, found, expected) in
            [(&problems[0], "a.cfg:4:15: ", kernel, ramdisk), (&problems[1], "a.cfg:6:16: ", ramdisk, kernel)]
        {
            let words = format!(" has the SHA-256 {found}, not {expected}");
            assert!(problem.starts_with(place) && problem.contains(&words), "{problem}");
        }
    }

    #[test]
    fn vms_that_could_never_start_are_found_where_they_say_after_whom() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("k"), "kernel").unwrap();
        let files = vec![
            vm(folder.path(), "web", "k", "after = ['cache', 'dp']"),
            vm(folder.path(), "db", "k", "after = 'db'"),
            vm(folder.path(), "cache", "k", ""),
        ];
        let problems = Platform::load(files).unwrap_err().problems;
        assert_eq!(problems.len(), 2, "{problems:#?}");
        let unknown =
            "web.cfg:4:19: VM \"web\": it is to start after \"dp\", and there is no VM of that name";
        assert!(problems[0].starts_with(unknown), "{}", problems[0]);
        assert!(problems[0].ends_with("did you mean \"db\"?"), "{}", problems[0]);
        let cycle = "db.cfg:4:9: VM \"db\": it would wait for itself: db starts after db";
        assert!(problems[1].starts_with(cycle), "{}", problems[1]);
    }

    #[test]
    fn all_problems_of_all_files_are_reported() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("k"), "kernel").unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        let files = vec![
            vm(folder.path(), "a", "k", "domid = 7"),
            vm(folder.path(), "b", "absent", "domid = 7\nramdisk = 'empty'"),
            vm(folder.path(), "a", "..", ""),
        ];
        let problems = Platform::load(files).unwrap_err().problems;
        let expected = [
            "b.cfg:4:9: two VMs want domain id 7; the other is \"a\" in a.cfg",
            "a.cfg:1:8: two VMs are called \"a\"; the other is in a.cfg",
            "b.cfg:2:10: kernel: cannot read ",
            "b.cfg:5:11: ramdisk: ",
            "a.cfg:2:10: kernel: ",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
