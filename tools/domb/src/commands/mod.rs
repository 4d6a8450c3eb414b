//! The commands, one module each, and what they share.

pub(crate) mod chart;
pub(crate) mod check;
pub(crate) mod compile;
pub(crate) mod documents;
pub(crate) mod explain;
pub(crate) mod inspect;
pub(crate) mod keygen;
pub(crate) mod new;
pub(crate) mod pack;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod sign;
mod stack;
mod trusted;
pub(crate) mod verify;

use std::path::PathBuf;

use image::config::VmFile;
use image::memory::{self, Fit};
use image::platform::Platform;
use image::platform_file::{PlatformFile, is_platform_file};
use protocols::BootSpec;

use crate::messages::{self, Failure};

/// What VMs are described by.
enum Inputs {
    /// VM files.
    Vms(Vec<VmFile>),
    /// A platform file, with the VM files that it names.
    Platform(Box<PlatformFile>),
}

/// Reads VM files, or one platform file; shows their warnings, and reports the mistakes of all of them at once.
fn read_inputs(paths: &[PathBuf]) -> Result<Inputs, Failure> {
    match paths {
        [path] if is_platform_file(path) => {
            let file = PlatformFile::read(path)?;
            file.warning_texts().for_each(|text| messages::warn(&text));
            return Ok(Inputs::Platform(Box::new(file)));
        }
        _ => {}
    }
    if let Some(platform) = paths.iter().find(|path| is_platform_file(path)) {
        return Err(Failure::new(format!(
            "{}: a platform file is given alone; name the other VM files in it, as file = \"...\" below a line [[vm]]",
            platform.display()
        )));
    }
    let mut files = Vec::new();
    let mut failures = Vec::new();
    for path in paths {
        match VmFile::read(path) {
            Ok(file) => {
                file.warning_texts().for_each(|text| messages::warn(&text));
                files.push(file);
            }
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    if failures.is_empty() { Ok(Inputs::Vms(files)) } else { Err(Failure::all(failures)) }
}

/// Whether the VMs of a platform, those that its controllers may have built, and a Dom0 of `dom0_mib` fit a machine of `machine_mib`; `warn`
/// is told if they only just do.
fn fits(
    platform: &Platform,
    dom0_mib: u64,
    machine_mib: u64,
    warn: &mut dyn FnMut(String),
) -> Result<(), Failure> {
    let specs: Vec<&BootSpec> = platform.specs().collect();
    match memory::fit(&specs, dom0_mib, machine_mib) {
        Fit::Fine => {}
        Fit::Close(text) => warn(format!("the VMs may not fit the machine: {text}")),
        Fit::TooMuch(text) => return Err(Failure::new(format!("the VMs do not fit the machine: {text}"))),
    }
    let Some(server) = platform.settings().and_then(|settings| settings.server.as_ref()) else {
        return Ok(());
    };
    match memory::quotas_fit(&specs, server, dom0_mib, machine_mib) {
        Fit::Fine => Ok(()),
        Fit::Close(text) => {
            warn(text);
            Ok(())
        }
        Fit::TooMuch(text) => Err(Failure::new(text)),
    }
}

/// Reads VM files, or a platform file, and their images, and unpacks packed kernels unless they are to be kept as they are.
fn load_platform(paths: &[PathBuf], keep_packed: bool) -> Result<Platform, Failure> {
    let mut platform = match read_inputs(paths)? {
        Inputs::Vms(files) => Platform::load(files)?,
        Inputs::Platform(file) => Platform::load_file(*file)?,
    };
    if !keep_packed {
        platform.unpack_kernels();
    }
    Ok(platform)
}
