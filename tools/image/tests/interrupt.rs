//! The wish to stop, while VMs are planned. It is one for the whole process, so this has a program of its own.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

use image::config::VmFile;
use image::platform::Platform;
use image::source::SourceFile;
use image::{check, interrupt};

#[test]
fn a_check_that_is_interrupted_has_no_result() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("k"), sample_kernel::inert()).unwrap();
    let source = SourceFile::new("a.cfg", "name = 'a'\nkernel = 'k'\nmemory = 8\n");
    let platform = Platform::load(vec![VmFile::parse(source, folder.path()).unwrap()]).unwrap();
    assert_eq!(check::check(&platform).unwrap().len(), 1);
    interrupt::request();
    assert_eq!(check::check(&platform).unwrap_err().to_string(), "interrupted");
}
