//! The copy of a VM file that one run uses: absolute paths, the VM's final name, a fresh nonce.
//!
//! The copy is kept below `build/run/`, so that the command that the runner prints boots the same again. Reading
//! line by line is enough: the files are the tests' own, and one that is written otherwise is refused.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

/// A VM file that this module cannot copy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum VmFileError {
    /// A key's line is not `key = "value"`.
    #[error("line {line}: write {key} = \"value\" on a line of its own: the runner changes it")]
    Form {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: &'static str,
    },
    /// A key is missing that the runner needs.
    #[error("there is no line {key} = \"value\", which every test's VM file needs")]
    Missing {
        /// The key.
        key: &'static str,
    },
}

/// The copy, and what the runner has to know of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunFile {
    /// The VM's name.
    pub(crate) name: String,
    /// The kernel's file name: by convention the test's name in verdict lines.
    pub(crate) kernel: String,
    /// The text to write.
    pub(crate) text: String,
}

/// The keys whose lines are changed.
const KEYS: [&str; 6] = ["name", "kernel", "ramdisk", "modules", "extra", "cmdline"];

/// Derives one VM's file from `text`, which lies in `folder`. `number` is appended to the name when the file makes several VMs.
pub(crate) fn derive(
    text: &str,
    folder: &Path,
    number: Option<u32>,
    nonce: &str,
) -> Result<RunFile, VmFileError> {
    let nonce = format!("nonce={nonce}");
    let (mut name, mut kernel, mut has_nonce) = (None, None, false);
    let mut copy = String::new();
    for (index, line) in text.lines().enumerate() {
        let Some((key, value)) = assignment(line, index)? else {
            copy.push_str(line);
            copy.push('\n');
            continue;
        };
        let value = match key {
            "name" => name.insert(numbered(value, number)).clone(),
            "kernel" => {
                kernel = Path::new(value).file_name().map(|file| file.to_string_lossy().into_owned());
                absolute(folder, value)
            }
            "ramdisk" | "modules" if value.starts_with('[') => {
                let paths = quoted_paths(value, index, key)?;
                let paths: Vec<_> =
                    paths.iter().map(|path| format!("\"{}\"", absolute(folder, path))).collect();
                let _ = writeln!(copy, "{key} = [{}]", paths.join(", "));
                continue;
            }
            // A module's command line follows its file.
            "ramdisk" | "modules" => absolute(folder, value),
            // `extra` and `cmdline` are both part of what the kernel sees; xl ignores `extra` beside `cmdline`.
            _ => {
                has_nonce = true;
                format!("{value} {nonce}").trim_start().to_owned()
            }
        };
        let _ = writeln!(copy, "{key} = \"{value}\"");
    }
    if !has_nonce {
        let _ = writeln!(copy, "extra = \"{nonce}\"");
    }
    let name = name.ok_or(VmFileError::Missing { key: "name" })?;
    let kernel = kernel.ok_or(VmFileError::Missing { key: "kernel" })?;
    Ok(RunFile { name, kernel, text: copy })
}

/// The copy's text with the file `name`, which the runner makes, looked for in `to` and not beside the test's own files in `from`.
pub(crate) fn moved(text: &str, from: &Path, to: &Path, name: &str) -> String {
    text.replace(&absolute(from, name), &to.join(name).to_string_lossy())
}

/// The key and the value of a line that assigns one of [`KEYS`]; `None` for every other line.
fn assignment(line: &str, index: usize) -> Result<Option<(&'static str, &str)>, VmFileError> {
    let Some((word, value)) = line.split_once('=') else { return Ok(None) };
    let Some(key) = KEYS.into_iter().find(|key| word.trim() == *key) else { return Ok(None) };
    let value = value.trim();
    if matches!(key, "ramdisk" | "modules") && value.starts_with('[') {
        return Ok(Some((key, value)));
    }
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match value {
        Some(value) if !value.contains(['"', '\\']) => Ok(Some((key, value))),
        _ => Err(VmFileError::Form { line: index + 1, key }),
    }
}

/// The paths in `["PATH", "PATH"]`, all on one line.
fn quoted_paths<'l>(list: &'l str, index: usize, key: &'static str) -> Result<Vec<&'l str>, VmFileError> {
    let form = VmFileError::Form { line: index + 1, key };
    let inside =
        list.strip_prefix('[').and_then(|list| list.strip_suffix(']')).ok_or_else(|| form.clone())?;
    inside.split(',').map(|item| quoted(item).ok_or_else(|| form.clone())).collect()
}

/// The path in `"PATH"`.
fn quoted(item: &str) -> Option<&str> {
    item.trim().strip_prefix('"')?.strip_suffix('"').filter(|path| !path.contains(['"', '\\']))
}

fn numbered(name: &str, number: Option<u32>) -> String {
    number.map_or_else(|| name.to_owned(), |number| format!("{name}-{number}"))
}

fn absolute(folder: &Path, path: &str) -> String {
    let mut whole = PathBuf::new();
    for part in folder.join(path).components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            part => whole.push(part),
        }
    }
    whole.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# a VM\nname = \"hello\"\nkernel = \"../../../build/kernels/hello\"\nmemory = 16\n";

    #[test]
    fn a_ram_disk_that_the_runner_makes_is_looked_for_where_it_makes_it() {
        let (from, to) = (Path::new("/src/tests/platforms/inner"), Path::new("/src/build/run/inner-4.17"));
        let text = derive(&format!("{FILE}ramdisk = \"inner.cpio\"\n"), from, None, "ab12").unwrap().text;
        assert!(text.contains("ramdisk = \"/src/tests/platforms/inner/inner.cpio\""), "{text}");
        let text = moved(&text, from, to, "inner.cpio");
        assert!(text.contains("ramdisk = \"/src/build/run/inner-4.17/inner.cpio\""), "{text}");
        assert!(text.contains("kernel = \"/src/build/kernels/hello\""), "{text}");
    }

    #[test]
    fn paths_become_absolute_and_the_nonce_is_added() {
        let run = derive(FILE, Path::new("/src/tests/kernels/hello"), None, "ab12").unwrap();
        assert_eq!((run.name.as_str(), run.kernel.as_str()), ("hello", "hello"));
        assert_eq!(
            run.text,
            "# a VM\nname = \"hello\"\nkernel = \"/src/build/kernels/hello\"\nmemory = 16\nextra = \"nonce=ab12\"\n"
        );
    }

    #[test]
    fn an_extra_or_a_cmdline_keeps_its_words() {
        for key in ["extra", "cmdline"] {
            let text = format!("{FILE}{key} = \"console=hvc0 quiet\"\n");
            let run = derive(&text, Path::new("/src/tests/kernels/hello"), None, "1").unwrap();
            assert!(run.text.ends_with(&format!("{key} = \"console=hvc0 quiet nonce=1\"\n")), "{}", run.text);
        }
    }

    #[test]
    fn the_paths_of_a_list_become_absolute() {
        let list =
            |value: &str| derive(&format!("{FILE}ramdisk = {value}\n"), Path::new("/src/a"), None, "1");
        let run = list("[\"../b\", \"c\"]").unwrap();
        assert!(run.text.contains("ramdisk = [\"/src/b\", \"/src/a/c\"]\n"), "{}", run.text);
        for wrong in ["[\"b\"", "[b]", "[]"] {
            assert_eq!(list(wrong), Err(VmFileError::Form { line: 5, key: "ramdisk" }), "{wrong}");
        }
    }

    #[test]
    fn several_vms_of_a_file_are_numbered() {
        assert_eq!(derive(FILE, Path::new("/"), Some(3), "1").unwrap().name, "hello-3");
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        let folder = Path::new("/");
        for (text, error) in [
            ("name = 'hello'\n", VmFileError::Form { line: 1, key: "name" }),
            ("\nname = \"a\"; kernel = \"b\"\n", VmFileError::Form { line: 2, key: "name" }),
            ("memory = 16\n", VmFileError::Missing { key: "name" }),
            ("name = \"a\"\n", VmFileError::Missing { key: "kernel" }),
        ] {
            assert_eq!(derive(text, folder, None, "1"), Err(error), "{text}");
        }
    }
}
