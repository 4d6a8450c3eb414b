//! Reading input and writing output so that a failure says which file, and never leaves half of one.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::interrupt;

/// An operation on a file that failed.
#[derive(Debug, Error)]
#[error("cannot {operation} {}: {cause}{}", .path.display(), advice(.cause))]
pub struct FileError {
    /// What was tried, as in "cannot ... PATH".
    pub operation: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub cause: io::Error,
}

impl FileError {
    /// Names the operation and the file that `cause` belongs to.
    pub fn new(operation: &'static str, path: &Path, cause: io::Error) -> Self {
        Self { operation, path: path.to_owned(), cause }
    }
}

/// What a user can do about the causes that have a usual remedy.
fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull => "; nothing was written: free some space, or choose another disk",
        _ => "",
    }
}

/// The files that were read.
static INPUTS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Refuses to write to a file that was read: a slip in a command line must not cost somebody a kernel or a VM file.
pub fn not_an_input(path: &Path) -> Result<(), FileError> {
    let inputs = INPUTS.lock().unwrap_or_else(PoisonError::into_inner);
    match path.canonicalize() {
        Ok(target) if inputs.contains(&target) => {
            let text = "this command reads it, and it would be lost: choose another name";
            Err(FileError::new("write", path, io::Error::other(text)))
        }
        _ => Ok(()),
    }
}

/// Reads a whole regular file of at most `limit` bytes, unless the user has asked the program to end.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let fail = |cause| FileError::new("read", path, cause);
    let other = |text: String| fail(io::Error::other(text));
    if interrupt::requested() {
        return Err(other("interrupted".into()));
    }
    let file = open_regular(path)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.len() > limit {
        return Err(other(format!("it has {} bytes, at most {limit} are read", metadata.len())));
    }
    if let Ok(path) = path.canonicalize() {
        INPUTS.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // One byte more than the limit shows a file that has grown since.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(fail)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file for reading; anything else is an error at once. A named pipe, too: opened in the usual way, it would
/// keep the program waiting for somebody who writes to it, whatever the user says.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    let fail = |cause| FileError::new("read", path, cause);
    let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(without_waiting).open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(fail(io::Error::other("it is a folder")));
    }
    if !metadata.is_file() {
        return Err(fail(io::Error::other("it is not a regular file")));
    }
    Ok(file)
}

/// Writes a file that appears whole or not at all: `write` fills a temporary one in the same folder, which
/// takes the name `path` only when everything is on the disk.
///
/// A path that exists and is not a regular file (`/dev/stdout`, a pipe) is written to directly; a file that was read is refused.
pub fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    not_an_input(path)?;
    replace_whole(path, write)
}

/// The same for what may take the place of what it was made from.
pub fn replace_whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), FileError> {
    let fail = |cause| FileError::new("write", path, cause);
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        let mut file = File::options().write(true).open(path).map_err(fail)?;
        return write(&mut Interruptible(&mut file)).map_err(fail);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The mode that any new file gets: the process's umask takes away what it takes away.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".domb-").permissions(Permissions::from_mode(0o666));
    if !folder.is_dir() {
        let there_is_none = format!("there is no folder {}: make it first", folder.display());
        return Err(fail(io::Error::new(io::ErrorKind::NotFound, there_is_none)));
    }
    let mut temporary = builder.tempfile_in(folder).map_err(|cause| fail(plain(cause)))?;
    write(&mut Interruptible(temporary.as_file_mut())).map_err(fail)?;
    temporary.as_file().sync_all().map_err(fail)?;
    persist(temporary, path).map_err(fail)
}

/// What the system says, without the name of a temporary file, which `tempfile` puts behind it and which means nothing to anybody.
pub fn plain(error: io::Error) -> io::Error {
    match error.to_string().split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause.to_owned()),
        None => error,
    }
}

fn persist(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.persist(path).map(|_| ()).map_err(|error| error.error)
}

/// Passes writes on in pieces and stops between two of them when the user has asked the program to end.
struct Interruptible<'a>(&'a mut File);

impl Write for Interruptible<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        const PIECE: usize = 1 << 20;
        if interrupt::requested() {
            return Err(io::Error::other("interrupted"));
        }
        self.0.write(&bytes[..bytes.len().min(PIECE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_whole(&path, |file| file.write_all(b"old")).unwrap();
        let error = write_whole(&path, |file| {
            file.write_all(b"new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(error.to_string().contains("nothing was written"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_beyond_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        fs::write(&path, b"12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert!(read_bounded(&path, 4).unwrap_err().to_string().contains("5 bytes, at most 4"));
        assert!(read_bounded(folder.path(), 4).unwrap_err().to_string().contains("a folder"));
    }

    #[test]
    fn a_named_pipe_is_refused_without_waiting_for_a_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let (sender, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(read_bounded(&path, 5)));
        let error = result.recv_timeout(std::time::Duration::from_secs(10)).unwrap().unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    #[test]
    fn what_was_read_is_not_written_over_unless_that_is_meant() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("in"), folder.path().join("link"));
        fs::write(&path, b"12345").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_whole(&path, |file| file.write_all(b"12")).unwrap();
        read_bounded(&path, 5).unwrap();
        for name in [&path, &link] {
            let error = write_whole(name, |file| file.write_all(b"lost")).unwrap_err();
            assert!(error.to_string().contains("this command reads it"), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"12");
        replace_whole(&path, |file| file.write_all(b"meant")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"meant");
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_is_told_without_the_temporary_file() {
        let error = write_whole(Path::new("/proc/self/out"), |_| Ok(())).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /proc/self/out: ") && !error.contains(".domb-"), "{error}");
    }
}
