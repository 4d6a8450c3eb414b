//! One boot: the files it needs, the `domb run` that does it, the log it leaves.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::console::Console;
use crate::damage::DamageError;
use crate::judge::{self, Finding, Outcome, RunVm};
use crate::process::{self, End};
use crate::suite::{Boot, SigningKey, Test};
use crate::verdict::Verdict;
use crate::vmfile::{self, VmFileError};

/// The RAM disk that is packed of a test's inner platform.
const INNER_RAMDISK: &str = "inner.cpio";

/// How much longer than its own time limit `domb run` may take (packing, starting QEMU) before it is ended.
const GRACE: Duration = Duration::from_secs(60);

/// Something on the host that keeps a test from running at all.
#[derive(Debug, Error)]
pub(crate) enum HostError {
    /// A file cannot be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Its name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program's output cannot be had, or the program not be started.
    #[error("{source} (its output goes to {})", .log.display())]
    Program {
        /// The log.
        log: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program that makes files failed; it said why itself.
    #[error("{command} failed ({status})")]
    Prepare {
        /// The program and its arguments.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
    },
    /// A test's VM file is not one that the runner can use.
    #[error("{}: {source}", .path.display())]
    VmFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: VmFileError,
    },
    /// A RAM disk cannot be damaged as test.toml says.
    #[error("damage of {}: {source}", .path.display())]
    Damage {
        /// The RAM disk.
        path: PathBuf,
        /// Why.
        source: DamageError,
    },
    /// `XEN` is neither a version nor a file.
    #[error("XEN={0}: there is no such file; give a version like 4.17 or the absolute path of a xen.gz")]
    NoXen(String),
}

/// The Xen that is booted when none is asked for.
const USUAL_XEN: &str = "4.17";

/// A Xen to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Xen {
    /// What the user called it.
    given: String,
    /// What it is called in the names of logs and in tables.
    pub(crate) label: String,
    /// The file, relative to the top of the checkout unless absolute.
    file: PathBuf,
}

impl Xen {
    /// From the value of `XEN`: a version, one with a name of how it was built (`4.17-full`), or a path. Nothing is the usual one.
    pub(crate) fn new(given: &str) -> Self {
        let given = if given.is_empty() { USUAL_XEN } else { given };
        let (number, build) = given.split_once('-').unwrap_or((given, "usual"));
        let version = !number.is_empty()
            && number.chars().all(|c| c.is_ascii_digit() || c == '.')
            && build.chars().all(|c| c.is_ascii_alphanumeric());
        let file = if version { format!("build/xen/{given}/xen.gz") } else { given.to_owned() };
        let file = PathBuf::from(file);
        let label = if version {
            given.to_owned()
        } else {
            file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
        };
        Self { given: given.to_owned(), label, file }
    }

    fn is_version(&self) -> bool {
        self.given == self.label
    }

    /// Whether it was built otherwise than Xens usually are: only tests that name it are for it.
    fn is_unusual(&self) -> bool {
        self.is_version() && self.given.contains('-')
    }

    /// The file, relative to the top of the checkout unless absolute: one that is there, or that can be fetched.
    pub(crate) fn file(&self, top: &Path) -> Result<PathBuf, HostError> {
        if self.is_version() || top.join(&self.file).is_file() {
            return Ok(self.file.clone());
        }
        Err(HostError::NoXen(self.given.clone()))
    }
}

/// One boot of one test.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The test.
    pub(crate) test: Test,
    /// The Xen that runs it.
    pub(crate) xen: Xen,
    /// How that Xen is started.
    pub(crate) boot: Boot,
}

impl Job {
    /// Whether the test is for this Xen; one given as a file is always tried.
    pub(crate) fn applies(&self) -> bool {
        let xens = &self.test.spec.xens;
        !self.xen.is_version() || xens.contains(&self.xen.given) || xens.is_empty() && !self.xen.is_unusual()
    }

    /// `NAME-XEN-BOOT`: names the log and the folder of generated files.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}-{}", self.test.name, self.xen.label, self.boot.name())
    }

    /// The command that does this again.
    pub(crate) fn make_command(&self) -> String {
        format!("make -C tests {}.run XEN={} BOOT={}", self.test.name, self.xen.given, self.boot.name())
    }
}

/// What a job came to.
#[derive(Debug)]
pub(crate) struct Report {
    /// Why it is not a success, the severest first; empty for a success.
    pub(crate) findings: Vec<Finding>,
    /// Wall-clock time of `domb run`.
    pub(crate) took: Duration,
    /// The console and domb's messages.
    pub(crate) log: PathBuf,
    /// The `domb` command, to be run at the top of the checkout.
    pub(crate) command: String,
}

impl Report {
    /// The test's verdict.
    pub(crate) fn verdict(&self) -> Verdict {
        self.findings.first().map_or(Verdict::Success, |finding| finding.verdict)
    }
}

/// Builds and fetches whatever the jobs need: one call for all kernels, one for all files.
pub(crate) fn prepare(top: &Path, jobs: &[Job]) -> Result<(), HostError> {
    let mut kernels = BTreeSet::new();
    let mut files = BTreeSet::new();
    for job in jobs {
        kernels.extend(job.test.spec.kernels.iter().cloned());
        kernels.insert(job.test.spec.builder.name().to_owned());
        files.insert(job.xen.file(top)?);
        for flavour in &job.test.spec.linux {
            files.insert(PathBuf::from(format!("build/linux/{flavour}/vmlinuz")));
            files.insert(PathBuf::from("build/linux/initramfs.cpio.gz"));
        }
        files.extend(job.test.spec.files.iter().cloned());
        if job.boot != Boot::Direct {
            files.insert(PathBuf::from("build/grub"));
        }
    }
    fetch(top, kernels, files)
}

/// Builds these kernels, and makes or downloads these files.
pub(crate) fn fetch(
    top: &Path,
    kernels: impl IntoIterator<Item = impl AsRef<OsStr>>,
    files: impl IntoIterator<Item = PathBuf>,
) -> Result<(), HostError> {
    run_here(Command::new(top.join("mk/build-kernels")).args(kernels).current_dir(top))?;
    // Only an initramfs is made from files that change; the rest is fetched once.
    let files: Vec<_> = files
        .into_iter()
        .filter(|file| file.ends_with("initramfs.cpio.gz") || !top.join(file).exists())
        .collect();
    if files.is_empty() {
        return Ok(());
    }
    run_here(Command::new("make").arg("--no-print-directory").arg("-C").arg(top).args(files))
}

fn run_here(command: &mut Command) -> Result<(), HostError> {
    let text = format!("{command:?}").replace('"', "");
    let started = command.stdin(Stdio::null()).status();
    let status = started.map_err(|source| HostError::Start { program: text.clone(), source })?;
    if status.success() { Ok(()) } else { Err(HostError::Prepare { command: text, status }) }
}

/// Runs a job whose files are there, as often as its test allows until it succeeds; each failure is told, and its log stays. `echo` shows the
/// console while it runs. `factor` stretches the time limit.
pub(crate) fn run(top: &Path, job: &Job, factor: f64, echo: bool) -> Result<Report, HostError> {
    let mut report = attempt(top, job, factor, echo)?;
    for number in 1..job.test.spec.attempts {
        let Some(finding) = report.findings.first() else { break };
        let kept = report.log.with_extension(format!("{number}.log"));
        let kept = std::fs::rename(&report.log, &kept).map_or(report.log.clone(), |()| kept);
        eprintln!("{}: attempt {number} failed ({}); its log is {}", job.id(), finding.text, kept.display());
        report = attempt(top, job, factor, echo)?;
    }
    Ok(report)
}

/// Runs a job once.
fn attempt(top: &Path, job: &Job, factor: f64, echo: bool) -> Result<Report, HostError> {
    let folder = top.join("build/run").join(job.id());
    let (vms, configs) = write_vm_files(&job.test, &folder)?;
    if let Some(inner) = &job.test.spec.inner {
        pack_inner(&job.test.folder.join(inner), &folder.join(INNER_RAMDISK))?;
    }
    let limit = Duration::from_secs(job.test.spec.timeout).mul_f64(factor);
    let mut command = domb_command(top, job, &configs, limit);
    if let Some(key) = job.test.spec.sign {
        sign(&mut command, key, &folder)?;
    }
    let mut text = command_text(top, &command);
    let log = top.join("build/logs").join(format!("{}.log", job.id()));
    let in_log = |source| HostError::Program { log: log.clone(), source };
    let started = Instant::now();
    let inputs = &job.test.spec.inputs;
    let (outcome, captured) = if job.test.spec.damage.is_empty() {
        let captured = process::capture(&mut command, &log, echo, limit + GRACE, inputs).map_err(in_log)?;
        (outcome_of_domb(captured.end, &captured.output), captured)
    } else {
        text = damaged_machine(&mut command, job, &folder)?;
        let mut qemu = Command::new("sh");
        qemu.current_dir(top).arg("-c").arg(format!("exec {text}"));
        let captured = process::capture(&mut qemu, &log, echo, limit, inputs).map_err(in_log)?;
        (outcome_of_qemu(captured.end), captured)
    };
    let took = started.elapsed();
    let console = Console::new(&captured.output);
    let findings = judge::judge(&job.test.spec, &vms, &console, outcome, captured.untyped.as_deref());
    Ok(Report { findings, took, log, command: text })
}

/// Packs the platform that a VM of the test brings up. Kernels stay packed: they are sent to db-server as they are.
fn pack_inner(platform: &Path, ramdisk: &Path) -> Result<(), HostError> {
    let mut domb = Command::new(folder_of_tools().join("domb"));
    run_here(domb.arg("pack").arg(platform).arg("--keep-packed").arg("--archive-only").arg(ramdisk))
}

/// Has `domb run` sign the RAM disk with a key that is made for this boot.
fn sign(domb: &mut Command, key: SigningKey, folder: &Path) -> Result<(), HostError> {
    let required = folder.join("required");
    let signing = match key {
        SigningKey::Required => required.clone(),
        SigningKey::Other => folder.join("other"),
    };
    for pair in BTreeSet::from([&required, &signing]) {
        let mut keygen = Command::new(folder_of_tools().join("domb"));
        run_here(keygen.arg("keygen").arg(pair).stdout(Stdio::null()).stderr(Stdio::null()))?;
    }
    domb.arg("--sign").arg(signing.with_extension("key"));
    domb.arg("--trust").arg(required.with_extension("pub"));
    Ok(())
}

/// How a machine ended that `domb run` ran.
fn outcome_of_domb(end: End, output: &str) -> Outcome {
    let panicked = Console::new(output).of_builder().iter().any(|line| line.contains("panic"));
    match end {
        End::Late => Outcome::TimedOut,
        End::Code(code) => Outcome::from_domb(Some(code), panicked),
        End::Killed => Outcome::from_domb(None, panicked),
    }
}

/// How a machine ended whose QEMU we ran.
fn outcome_of_qemu(end: End) -> Outcome {
    match end {
        End::Late => Outcome::TimedOut,
        End::Code(code) => Outcome::from_qemu(code),
        End::Killed => Outcome::Vanished,
    }
}

/// Has domb prepare the machine, damages its RAM disk; the QEMU command.
fn damaged_machine(domb: &mut Command, job: &Job, folder: &Path) -> Result<String, HostError> {
    let text = format!("{domb:?}");
    let machine = folder.join("machine");
    let output =
        domb.arg("--print-command").arg("--keep").arg(&machine).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = output.output().map_err(|source| HostError::Start { program: text.clone(), source })?;
    if !output.status.success() {
        return Err(HostError::Prepare { command: text, status: output.status });
    }
    let path = machine.join("ramdisk.cpio");
    let file = |source| HostError::File { path: path.clone(), source };
    let mut archive = fs::read(&path).map_err(file)?;
    for damage in &job.test.spec.damage {
        archive =
            damage.apply(&archive).map_err(|source| HostError::Damage { path: path.clone(), source })?;
    }
    fs::write(&path, archive).map_err(file)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Writes this run's copy of every VM file into `folder`, and of the platform file; gives the VMs, and what domb is to be given.
fn write_vm_files<'a>(test: &'a Test, folder: &Path) -> Result<(Vec<RunVm<'a>>, Vec<PathBuf>), HostError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| HostError::File { path, source }
    };
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(at(folder))?;
    }
    fs::create_dir_all(folder).map_err(at(folder))?;
    let (mut vms, mut configs) = (Vec::new(), Vec::new());
    for spec in &test.spec.vms {
        let path = test.folder.join(&spec.config);
        let original = fs::read_to_string(&path).map_err(at(&path))?;
        for number in 1..=spec.count {
            let nonce = nonce();
            let number = (spec.count > 1).then_some(number);
            let file = vmfile::derive(&original, &test.folder, number, &nonce)
                .map_err(|source| HostError::VmFile { path: path.clone(), source })?;
            let copy = folder.join(format!("{}.cfg", file.name));
            let written = match &test.spec.inner {
                Some(_) => vmfile::moved(&file.text, &test.folder, folder, INNER_RAMDISK),
                None => file.text,
            };
            fs::write(&copy, &written).map_err(at(&copy))?;
            configs.push(copy);
            let test = spec.test.clone().unwrap_or(file.kernel);
            vms.push(RunVm { name: file.name, test, nonce, spec });
        }
    }
    if let Some(platform) = &test.spec.platform {
        let (from, to) = (test.folder.join(platform), folder.join(platform));
        fs::copy(&from, &to).map_err(at(&from))?;
        return Ok((vms, vec![to]));
    }
    Ok((vms, configs))
}

/// Eight hexadecimal digits that no earlier run has had, as far as chance goes.
fn nonce() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("{:08x}", random >> 32)
}

/// Where this program is, and `domb` beside it.
pub(crate) fn folder_of_tools() -> PathBuf {
    std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned)).unwrap_or_default()
}

fn domb_command(top: &Path, job: &Job, configs: &[PathBuf], limit: Duration) -> Command {
    let relative = |path: &Path| path.strip_prefix(top).unwrap_or(path).to_owned();
    let mut command = Command::new(relative(&folder_of_tools().join("domb")));
    command.current_dir(top).arg("run");
    let builder = job.test.spec.builder.name();
    command.arg("--xen").arg(&job.xen.file);
    command.arg(format!("--{builder}")).arg(format!("build/kernels/{builder}"));
    command.arg("--timeout").arg(limit.as_secs().max(1).to_string());
    if job.boot != Boot::Direct {
        command.arg("--disk").arg(job.boot.name());
    }
    if let Some(words) = &job.test.spec.db_boot_args {
        command.arg("--dom0-args").arg(words);
    }
    if let Some(words) = &job.test.spec.xen_args {
        command.arg("--xen-args").arg(words);
    }
    if let Some(model) = &job.test.spec.cpu {
        command.arg("--cpu").arg(model);
    }
    if !job.test.spec.inputs.is_empty() {
        command.arg("--interactive");
    }
    if job.test.spec.compress {
        command.arg("--compress");
    }
    if !job.test.spec.exit_port {
        command.arg("--no-exit-port");
    }
    command.args(configs.iter().map(|path| relative(path)));
    command
}

/// The command as one types it at the top of the checkout.
pub(crate) fn command_text(top: &Path, command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| {
        let word = word.to_string_lossy();
        let word = word.strip_prefix(&format!("{}/", top.display())).unwrap_or(&word).to_owned();
        if word.contains(char::is_whitespace) { format!("'{word}'") } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_xen_is_a_version_or_a_file() {
        let xen = Xen::new("4.17");
        assert_eq!((xen.label.as_str(), xen.file.to_str()), ("4.17", Some("build/xen/4.17/xen.gz")));
        assert!(xen.is_version());
        let xen = Xen::new("/boot/xen-4.19-amd64.gz");
        assert_eq!(
            (xen.label.as_str(), xen.file.to_str()),
            ("xen-4.19-amd64", Some("/boot/xen-4.19-amd64.gz"))
        );
        assert!(!xen.is_version());
    }

    #[test]
    fn nonces_differ() {
        let nonces: BTreeSet<String> = (0..100).map(|_| nonce()).collect();
        assert!(nonces.len() > 95);
        assert!(nonces.iter().all(|nonce| nonce.len() == 8));
    }
}
