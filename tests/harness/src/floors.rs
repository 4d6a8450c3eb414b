//! The import direction: a crate may depend on crates of its own and of lower floors only.
//!
//! Every crate says its floor in `[package.metadata.floor] level`. Development dependencies are free: a test may use
//! what it likes.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;
use thiserror::Error;

/// The floor of the images: complete programs, which do not use each other.
const IMAGES: u8 = 5;
/// What runs on the host: tools and tests, above every floor.
const HOST: u8 = 9;
/// What a host tool (not a test) may use below it: words, bytes and pure logic, nothing that speaks to Xen.
const TOOLS_REACH: u8 = 1;
/// Crates that exist for tests alone.
const TESTS_ONLY: [&str; 1] = ["xen-sim"];

/// The rules could not be checked.
#[derive(Debug, Error)]
pub(crate) enum FloorsError {
    /// cargo could not be started.
    #[error("cannot run cargo metadata: {0}")]
    Cargo(#[from] std::io::Error),
    /// cargo failed; its message.
    #[error("cargo metadata failed: {0}")]
    Metadata(String),
    /// cargo's answer is not what was expected.
    #[error("cargo metadata's answer: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    metadata: Option<serde_json::Value>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal one, else `dev` or `build`.
    kind: Option<String>,
    /// Where it is, if it is in the workspace.
    path: Option<String>,
}

impl Package {
    fn floor(&self) -> Option<u8> {
        let level = self.metadata.as_ref()?.get("floor")?.get("level")?.as_u64()?;
        u8::try_from(level).ok().filter(|level| *level <= IMAGES || *level == HOST)
    }

    fn is_tool(&self) -> bool {
        self.is_below("tools")
    }

    /// Whether it is a test that runs on the host.
    fn is_host_test(&self) -> bool {
        self.is_below("tests") && self.floor() == Some(HOST)
    }

    /// Whether its folder lies in `folder`.
    fn is_below(&self, folder: &str) -> bool {
        Path::new(&self.manifest_path)
            .components()
            .rev()
            .nth(2)
            .is_some_and(|part| part.as_os_str() == folder)
    }
}

/// Checks the workspace at `top`, prints what it found; the exit status.
pub(crate) fn check(top: &Path) -> Result<u8, FloorsError> {
    let packages = packages(top)?;
    let complaints = complaints(&packages);
    for complaint in &complaints {
        say!("floors: {complaint}");
    }
    if complaints.is_empty() {
        say!("floors: {} crates, every dependency points down", packages.len());
    }
    Ok(u8::from(!complaints.is_empty()))
}

/// The name, the floor and the folder of every crate of the workspace at `top`.
pub(crate) fn crates(top: &Path) -> Result<Vec<(String, Option<u8>, String)>, FloorsError> {
    let packages = packages(top)?.into_iter();
    let folder = |package: &Package| package.manifest_path.trim_end_matches("/Cargo.toml").to_owned();
    Ok(packages.map(|package| (package.name.clone(), package.floor(), folder(&package))).collect())
}

fn packages(top: &Path) -> Result<Vec<Package>, FloorsError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(top)
        .output()?;
    if !output.status.success() {
        return Err(FloorsError::Metadata(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let workspace: Workspace = serde_json::from_slice(&output.stdout)?;
    Ok(workspace.packages)
}

/// Every breach of the rules, one sentence each.
fn complaints(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages {
        let name = &package.name;
        let Some(floor) = package.floor() else {
            complaints.push(format!(
                "{name} has no floor: add [package.metadata.floor] with level = 0..={IMAGES}, or {HOST} on the host"
            ));
            continue;
        };
        let used = package.dependencies.iter().filter(|used| used.path.is_some());
        for used in used.filter(|used| used.kind.as_deref() != Some("dev")) {
            let Some(target) = packages.iter().find(|package| package.name == used.name) else { continue };
            if let Some(reason) = breach(package, floor, target) {
                complaints.push(format!("{name} (floor {floor}) must not depend on {}: {reason}", used.name));
            }
        }
    }
    complaints
}

/// Why `package` on `floor` must not use `target`, if it must not.
fn breach(package: &Package, floor: u8, target: &Package) -> Option<String> {
    let below = target.floor()?;
    if TESTS_ONLY.contains(&target.name.as_str()) && !package.is_host_test() {
        return Some("it is for tests; make it a development dependency".into());
    }
    if below > floor {
        return Some(format!("that is floor {below}, above it"));
    }
    if below == IMAGES && floor == IMAGES {
        return Some("images do not use each other; move what they share to a library".into());
    }
    if package.is_tool() && below > TOOLS_REACH && below != HOST {
        return Some(format!("that is floor {below}; host tools use floors 0 to {TOOLS_REACH}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A package in `folder` with normal dependencies, and development ones that start with `dev:`.
    fn package(folder: &str, name: &str, floor: Option<u8>, uses: &[&str]) -> Package {
        let dependencies = uses.iter().map(|used| {
            let (kind, name) =
                used.strip_prefix("dev:").map_or((None, *used), |name| (Some("dev".into()), name));
            Dependency { name: name.into(), kind, path: Some("/somewhere".into()) }
        });
        Package {
            name: name.into(),
            manifest_path: format!("/src/{folder}/{name}/Cargo.toml"),
            metadata: floor.map(|level| serde_json::json!({ "floor": { "level": level } })),
            dependencies: dependencies.collect(),
        }
    }

    fn complaints_about(package_in_question: Package) -> Vec<String> {
        let packages = [
            package("lib", "abi", Some(0), &[]),
            package("lib", "plan", Some(1), &["abi"]),
            package("lib", "calls", Some(2), &["plan"]),
            package("lib", "xen-sim", Some(2), &["calls"]),
            package("image", "boot", Some(5), &["calls"]),
            package_in_question,
        ];
        complaints(&packages)
    }

    #[test]
    fn down_and_sideways_is_allowed() {
        for good in [
            package("lib", "good", Some(2), &["abi", "plan", "calls", "dev:xen-sim", "dev:boot"]),
            package("tools", "good", Some(9), &["abi", "plan", "dev:calls"]),
            package("tests", "good", Some(9), &["calls", "boot", "xen-sim"]),
            package("image", "good", Some(5), &["calls", "outside-the-workspace"]),
        ] {
            assert_eq!(complaints_about(good), [""; 0]);
        }
    }

    #[test]
    fn every_breach_is_named() {
        for (bad, reason) in [
            (
                package("lib", "bad", Some(1), &["calls"]),
                "bad (floor 1) must not depend on calls: that is floor 2",
            ),
            (package("image", "bad", Some(5), &["boot"]), "images do not use each other"),
            (package("lib", "bad", Some(3), &["xen-sim"]), "make it a development dependency"),
            (package("tools", "bad", Some(9), &["calls"]), "host tools use floors 0 to 1"),
            (package("lib", "bad", None, &[]), "bad has no floor"),
            (package("lib", "bad", Some(7), &[]), "bad has no floor"),
        ] {
            let complaints = complaints_about(bad);
            assert!(matches!(&complaints[..], [one] if one.contains(reason)), "{complaints:?}");
        }
    }

    #[test]
    fn this_checkout_keeps_the_rules() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(complaints(&packages(&top).unwrap()), [""; 0]);
    }
}
