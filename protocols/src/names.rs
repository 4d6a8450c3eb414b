//! Checks of single values that several formats have: names, domain ids, memory, command lines.

use crate::limits::{
    FIRST_RESERVED_DOMID, MAX_COMMAND_LINE_LEN, MAX_IMAGE_NAME_LEN, MAX_MEMORY_KIB, MAX_NAME_LEN,
    NAME_PUNCTUATION,
};
use crate::spec_error::{ImageRole, SpecError};

/// Checks a VM's name; see [`BootSpec::name`](crate::BootSpec::name).
pub fn check_name(name: &str) -> Result<(), SpecError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || NAME_PUNCTUATION.contains(c);
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if is_time_stamp(name) {
        Err(SpecError::NameIsTime { name: name.into() })
    } else if starts_well && name.len() <= MAX_NAME_LEN && name.chars().all(allowed) {
        Ok(())
    } else {
        Err(SpecError::BadName { name: name.into() })
    }
}

/// Whether `text` is the time in seconds that db-boot's log lines begin with: digits, a dot, six digits.
///
/// A guest's lines begin with the guest's name at that place, so no name has this form.
pub fn is_time_stamp(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.')
        .is_some_and(|(seconds, micros)| digits(seconds) && digits(micros) && micros.len() == 6)
}

/// Checks a domain id; see [`BootSpec::domid`](crate::BootSpec::domid).
pub fn check_domid(domid: Option<u16>) -> Result<(), SpecError> {
    match domid {
        Some(domid) if !(1..FIRST_RESERVED_DOMID).contains(&domid) => Err(SpecError::BadDomid { domid }),
        _ => Ok(()),
    }
}

/// Checks start and maximum memory, both in KiB; see [`BootSpec::memory_kib`](crate::BootSpec::memory_kib).
pub fn check_memory(kib: u64, max_kib: u64) -> Result<(), SpecError> {
    let whole_pages = |kib: u64| kib.is_multiple_of(4);
    if !(4..=MAX_MEMORY_KIB).contains(&kib) || !whole_pages(kib) {
        return Err(SpecError::BadMemory { kib });
    }
    if !(kib..=MAX_MEMORY_KIB).contains(&max_kib) || !whole_pages(max_kib) {
        return Err(SpecError::BadMaxMemory { kib, max_kib });
    }
    Ok(())
}

/// Checks the name of an archive entry; see [`SpecError::BadImageName`] for the rule.
pub fn check_image_name(role: ImageRole, name: &str) -> Result<(), SpecError> {
    let bad_part = |part: &str| matches!(part, "" | "." | "..");
    if name.len() > MAX_IMAGE_NAME_LEN || name.chars().any(char::is_control) || name.split('/').any(bad_part)
    {
        return Err(SpecError::BadImageName { role, name: name.into() });
    }
    Ok(())
}

/// Checks a command line; see [`BootSpec::command_line`](crate::BootSpec::command_line).
pub fn check_command_line(command_line: &str) -> Result<(), SpecError> {
    if let Some(at) = command_line.find('\0') {
        return Err(SpecError::CommandLineHasNul { at });
    }
    if command_line.len() > MAX_COMMAND_LINE_LEN {
        return Err(SpecError::CommandLineTooLong { length: command_line.len() });
    }
    Ok(())
}
