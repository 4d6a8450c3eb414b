//! The tests of a checkout: which there are, and what each one's `test.toml` says (tests/README.md documents it).

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::Deserialize;
use thiserror::Error;

use crate::damage::Damage;
use crate::verdict::ExpectedVerdict;

/// The folders below the top of the checkout whose children are tests.
const TEST_FOLDERS: [&str; 2] = ["tests/kernels", "tests/platforms"];

/// A test that cannot be used.
#[derive(Debug, Error)]
pub(crate) enum SuiteError {
    /// No folder of that name holds a `test.toml`.
    #[error("there is no test {name:?}{}; `make -C tests list` shows all", near_text(.near.as_deref()))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The test whose name is nearest.
        near: Option<String>,
    },
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A `test.toml` is not what tests/README.md says.
    #[error("{}: {source}", .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        source: Box<toml::de::Error>,
    },
    /// A `test.toml` is well formed and still means nothing.
    #[error("{}: {what}", .path.display())]
    Meaning {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
}

fn near_text(near: Option<&str>) -> String {
    near.map(|name| format!(" (did you mean {name:?}?)")).unwrap_or_default()
}

/// One test.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    /// Its name: that of its folder.
    pub(crate) name: String,
    /// Where `test.toml` and the VM files are.
    pub(crate) folder: PathBuf,
    /// What `test.toml` says.
    pub(crate) spec: TestSpec,
}

/// The contents of a `test.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TestSpec {
    /// One line for the list.
    pub(crate) description: String,
    /// The kernels that the VM files use.
    #[serde(default)]
    pub(crate) kernels: Vec<String>,
    /// The Linux flavours that the VM files use.
    #[serde(default)]
    pub(crate) linux: Vec<String>,
    /// What the VM files use besides, as targets of the Makefile.
    #[serde(default)]
    pub(crate) files: Vec<PathBuf>,
    /// What Xen starts as Dom0.
    #[serde(default)]
    pub(crate) builder: Builder,
    /// Wall-clock limit of the boot in seconds.
    #[serde(default = "default_timeout")]
    pub(crate) timeout: u64,
    /// How often it is tried until it succeeds, at most.
    #[serde(default = "once")]
    pub(crate) attempts: u32,
    /// How the machine must end.
    #[serde(default)]
    pub(crate) status: Status,
    /// The platform file beside `test.toml`, if the VMs have one.
    pub(crate) platform: Option<String>,
    /// The platform file beside `test.toml` of the VMs that a VM of the test brings up: packed as `inner.cpio`, which a VM file may name
    /// as its RAM disk.
    pub(crate) inner: Option<String>,
    /// More for db-boot's command line.
    pub(crate) db_boot_args: Option<String>,
    /// More for Xen's command line.
    pub(crate) xen_args: Option<String>,
    /// QEMU's model of the processor.
    pub(crate) cpu: Option<String>,
    /// Whether the machine has the device that takes its status; without it, the machine must switch itself off.
    #[serde(default = "yes")]
    pub(crate) exit_port: bool,
    /// The ways of booting that a run of all tests tries.
    #[serde(default = "default_boots")]
    pub(crate) boots: Vec<Boot>,
    /// The Xen versions that the test is for; empty means all.
    #[serde(default)]
    pub(crate) xens: Vec<String>,
    /// Texts that must appear in db-boot's lines, in this order.
    #[serde(default)]
    pub(crate) log: Vec<String>,
    /// Free memory in KiB that Xen itself may keep for what it has to remember of so many VMs.
    #[serde(default)]
    pub(crate) kept_memory: u64,
    /// Whether the RAM disk is compressed.
    #[serde(default)]
    pub(crate) compress: bool,
    /// Whether the RAM disk is signed, and with which key.
    pub(crate) sign: Option<SigningKey>,
    /// What is done to the RAM disk before the boot, in this order.
    #[serde(default)]
    pub(crate) damage: Vec<Damage>,
    /// What is typed at the console, in this order.
    #[serde(default, rename = "input")]
    pub(crate) inputs: Vec<InputSpec>,
    /// The VMs.
    #[serde(rename = "vm")]
    pub(crate) vms: Vec<VmSpec>,
}

fn once() -> u32 {
    1
}

fn default_timeout() -> u64 {
    60
}

fn yes() -> bool {
    true
}

fn default_boots() -> Vec<Boot> {
    vec![Boot::Direct]
}

/// Something that is typed when the console has shown a text.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct InputSpec {
    /// The text, looked for behind the one that the input before it waited for.
    pub(crate) after: String,
    /// What is typed then.
    pub(crate) send: String,
}

/// A VM file of a test, and what is expected of each VM made from it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct VmSpec {
    /// The VM file's name, beside `test.toml`.
    pub(crate) config: String,
    /// How many VMs are made from it.
    #[serde(default = "default_count")]
    pub(crate) count: u32,
    /// The first word in its verdict lines, if not the kernel's file name.
    pub(crate) test: Option<String>,
    /// The verdict it must give.
    #[serde(default = "default_verdict")]
    pub(crate) verdict: ExpectedVerdict,
    /// How it must end, in db-boot's words; `none` for a VM that is never started. By default `poweroff` or
    /// `exit status=0`.
    pub(crate) end: Option<String>,
    /// Texts that must appear in its console lines, in this order.
    #[serde(default)]
    pub(crate) console: Vec<String>,
    /// Texts that must not appear in them.
    #[serde(default)]
    pub(crate) absent: Vec<String>,
    /// Whether it must print a checked block.
    #[serde(default)]
    pub(crate) block: bool,
}

fn default_count() -> u32 {
    1
}

fn default_verdict() -> ExpectedVerdict {
    ExpectedVerdict::Success
}

/// What Xen starts as Dom0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Builder {
    /// For platforms without controllers.
    #[default]
    DbBoot,
    /// For those with.
    DbServer,
}

impl Builder {
    /// Its kernel's name, which its lines on the console begin with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::DbBoot => "db-boot",
            Self::DbServer => "db-server",
        }
    }
}

/// How the machine ends: the names of [`protocols::MachineStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Every VM ended well.
    #[default]
    Success,
    /// A VM ended badly.
    VmFailed,
    /// A VM could not be planned or built.
    BuildFailed,
    /// The builder failed.
    BuilderFailed,
}

/// The key that a RAM disk is signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SigningKey {
    /// The one that db-boot requires.
    Required,
    /// Another one.
    Other,
}

/// How Xen gets started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Boot {
    /// QEMU loads Xen itself (multiboot).
    Direct,
    /// From a disk image, by SeaBIOS and GRUB.
    Seabios,
    /// From a disk image, by OVMF and GRUB.
    Ovmf,
}

impl Boot {
    /// The word for it on command lines.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Seabios => "seabios",
            Self::Ovmf => "ovmf",
        }
    }
}

/// All tests below `top`, by name.
pub(crate) fn all(top: &Path) -> Result<Vec<Test>, SuiteError> {
    let mut tests = Vec::new();
    for folder in TEST_FOLDERS.map(|folder| top.join(folder)) {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(SuiteError::Read { path: folder, source }),
        };
        for entry in entries {
            let entry = entry.map_err(|source| SuiteError::Read { path: folder.clone(), source })?;
            if entry.path().join("test.toml").exists() {
                tests.push(load(&entry.path())?);
            }
        }
    }
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = tests.windows(2).find(|pair| matches!(pair, [a, b] if a.name == b.name)) {
        let [_, second] = pair else { return Ok(tests) };
        let what = format!("{:?} is also the name of another test; rename one", second.name);
        return Err(SuiteError::Meaning { path: second.folder.join("test.toml"), what });
    }
    Ok(tests)
}

/// The test called `name`.
pub(crate) fn find(top: &Path, name: &str) -> Result<Test, SuiteError> {
    for folder in TEST_FOLDERS {
        let folder = top.join(folder).join(name);
        if !name.is_empty() && folder.join("test.toml").exists() {
            return load(&folder);
        }
    }
    let near = all(top)?
        .into_iter()
        .map(|test| (common_prefix(&test.name, name), test.name))
        .max()
        .filter(|(common, _)| *common >= 2)
        .map(|(_, near)| near);
    Err(SuiteError::Unknown { name: name.to_owned(), near })
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// Reads and checks the test in `folder`.
fn load(folder: &Path) -> Result<Test, SuiteError> {
    let path = folder.join("test.toml");
    let toml = fs::read_to_string(&path).map_err(|source| SuiteError::Read { path: path.clone(), source })?;
    let spec: TestSpec = toml::from_str(&toml)
        .map_err(|source| SuiteError::Syntax { path: path.clone(), source: Box::new(source) })?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let test = Test { name, folder: folder.to_owned(), spec };
    match nonsense(&test) {
        Some(what) => Err(SuiteError::Meaning { path, what }),
        None => Ok(test),
    }
}

/// What is wrong with a test.toml that is well formed.
fn nonsense(test: &Test) -> Option<String> {
    let spec = &test.spec;
    if spec.vms.is_empty() {
        return Some("a test needs at least one [[vm]]".into());
    }
    if spec.timeout == 0 || spec.boots.is_empty() {
        return Some("timeout = 0 and boots = [] leave nothing to run".into());
    }
    if !spec.damage.is_empty() && spec.boots != [Boot::Direct] {
        return Some("a RAM disk in a disk image cannot be damaged: leave boots out".into());
    }
    if !spec.inputs.is_empty() && (!spec.damage.is_empty() || spec.boots != [Boot::Direct]) {
        return Some("only machines that are neither damaged nor booted from a disk are typed at".into());
    }
    if let Some(platform) = spec.platform.as_ref().filter(|name| !test.folder.join(name).is_file()) {
        return Some(format!("platform = {platform:?}: there is no such file beside it"));
    }
    spec.vms.iter().find_map(|vm| {
        if spec.platform.is_some() && vm.count > 1 {
            return Some(format!("{}: the VMs of a platform file are counted there", vm.config));
        }
        if vm.count == 0 {
            return Some(format!("{}: count = 0 makes no VM; leave the entry out", vm.config));
        }
        let config = test.folder.join(&vm.config);
        (!config.is_file()).then(|| format!("config = {:?}: there is no such file beside it", vm.config))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_test_has_the_documented_defaults() {
        let spec: TestSpec = toml::from_str("description = \"d\"\n[[vm]]\nconfig = \"a.cfg\"\n").unwrap();
        assert_eq!((spec.timeout, spec.status, spec.builder), (60, Status::Success, Builder::DbBoot));
        assert_eq!(spec.boots, [Boot::Direct]);
        let vm = &spec.vms[0];
        assert_eq!((vm.count, vm.verdict, vm.block), (1, ExpectedVerdict::Success, false));
        assert!(vm.end.is_none() && vm.test.is_none());
    }

    #[test]
    fn every_key_of_the_manual_is_known() {
        let manual = include_str!("../../README.md");
        let (_, example) = manual.split_once("### All keys of test.toml\n\n```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let spec: TestSpec = toml::from_str(example).unwrap();
        assert_eq!(spec.vms[0].end.as_deref(), Some("exit status=7"));
        assert_eq!(spec.db_boot_args.as_deref(), Some("policy=each"));
        assert_eq!((spec.xen_args.as_deref(), spec.cpu.as_deref()), (Some("mem=512M"), Some("qemu64")));
        assert!(!spec.exit_port);
        assert_eq!(spec.platform.as_deref(), Some("platform.toml"));
    }

    #[test]
    fn unknown_keys_and_values_are_errors() {
        for (text, expected) in [
            ("description = \"d\"\nvm = []\nkernel = \"a\"\n", "unknown field `kernel`"),
            ("description = \"d\"\n[[vm]]\nconfig = \"a\"\nverdict = \"fine\"\n", "unknown variant `fine`"),
            ("description = \"d\"\nboots = [\"pxe\"]\n[[vm]]\nconfig = \"a\"\n", "unknown variant `pxe`"),
            ("[[vm]]\nconfig = \"a\"\n", "missing field `description`"),
        ] {
            let error = toml::from_str::<TestSpec>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_test_of_this_checkout_loads() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        all(&top).unwrap();
    }

    #[test]
    fn a_test_that_is_not_there_is_named() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let error = find(&top, "zzz-no-such-test").unwrap_err().to_string();
        assert!(error.starts_with("there is no test \"zzz-no-such-test\"; "), "{error}");
    }
}
