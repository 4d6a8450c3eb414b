//! Which names an entry may have.
use crate::error::NameFault;

/// The name under which an entry is kept: without the leading `./` that `find . | cpio -o` may leave.
///
/// `.` alone, the archive's root directory, is kept as it is.
pub(crate) fn normalise(name: &str) -> &str {
    let mut rest = name;
    while let Some(shorter) = rest.strip_prefix("./") {
        if shorter.is_empty() {
            return ".";
        }
        rest = shorter;
    }
    rest
}

/// Refuses a (normalised) name that could mean two things or point out of the archive.
pub(crate) fn check(name: &str) -> Result<(), NameFault> {
    if name.is_empty() {
        return Err(NameFault::Empty);
    }
    if name.len() >= crate::MAX_NAME_SIZE {
        return Err(NameFault::TooLong { size: name.len().saturating_add(1) });
    }
    if name.contains('\0') {
        return Err(NameFault::NulInside);
    }
    if name.starts_with('/') {
        return Err(NameFault::Absolute);
    }
    if name == "." {
        return Ok(());
    }
    for component in name.split('/') {
        match component {
            "" => return Err(NameFault::EmptyComponent),
            "." => return Err(NameFault::DotComponent),
            ".." => return Err(NameFault::ParentComponent),
            _ => {}
        }
    }
    Ok(())
}
