//! The section `__xen_guest`: one text of `NAME=VALUE` fields with commas between them, which notes have replaced.
use crate::{ImageError, MAX_NOTE_TEXT, NoteSource, XenNotes};

/// Size of a page, the unit of HYPERCALL_PAGE here.
const PAGE_SHIFT: u32 = 12;

/// Reads the section's text.
pub(crate) fn parse(section: &[u8]) -> Result<XenNotes<'_>, ImageError> {
    let end = section.iter().position(|byte| *byte == 0).unwrap_or(section.len());
    let text = section.get(..end.min(MAX_NOTE_TEXT)).unwrap_or_default();
    let text = core::str::from_utf8(text).map_err(|_| ImageError::BadGuestSection {
        field: text.escape_ascii().take(64).map(char::from).collect(),
        expected: "text",
    })?;
    let mut notes = XenNotes { source: NoteSource::GuestSection, ..XenNotes::default() };
    let mut hypercall_page_number = None;
    for field in text.split(',').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        match name {
            "LOADER" => notes.loader = Some(value),
            "GUEST_OS" => notes.guest_os = Some(value),
            "GUEST_VER" => notes.guest_version = Some(value),
            "XEN_VER" => notes.xen_version = Some(value),
            "PAE" => notes.pae_mode = Some(value),
            // Being there is what counts; the note that replaced it says "yes".
            "BSD_SYMTAB" => notes.bsd_symtab = Some("yes"),
            "VIRT_BASE" => notes.virt_base = Some(number(field, value)?),
            "VIRT_ENTRY" => notes.entry = Some(number(field, value)?),
            "ELF_PADDR_OFFSET" => notes.paddr_offset = Some(number(field, value)?),
            "HYPERCALL_PAGE" => hypercall_page_number = Some(number(field, value)?),
            "FEATURES" => notes.add_features(Some(value))?,
            _ => {}
        }
    }
    notes.hypercall_page = hypercall_page(hypercall_page_number, notes.virt_base)?;
    Ok(notes)
}

/// The page's address: here it is given as a number of pages behind VIRT_BASE.
fn hypercall_page(number: Option<u64>, virt_base: Option<u64>) -> Result<Option<u64>, ImageError> {
    let Some(number) = number else { return Ok(None) };
    let address =
        number.checked_mul(1 << PAGE_SHIFT).and_then(|offset| offset.checked_add(virt_base.unwrap_or(0)));
    match address {
        Some(address) => Ok(Some(address)),
        None => Err(ImageError::BadGuestSection {
            field: alloc::format!("HYPERCALL_PAGE={number:#x}"),
            expected: "the number of a page",
        }),
    }
}

/// A number as C writes it: hexadecimal behind 0x, octal behind 0, else decimal.
fn number(field: &str, value: &str) -> Result<u64, ImageError> {
    let digits = value.trim_start_matches("0x").trim_start_matches("0X");
    let parsed = if digits.len() != value.len() {
        u64::from_str_radix(digits, 16)
    } else if value.len() > 1 && value.starts_with('0') {
        u64::from_str_radix(value, 8)
    } else {
        value.parse()
    };
    parsed.map_err(|_| ImageError::BadGuestSection {
        field: field.chars().take(64).collect(),
        expected: "a number of 64 bits",
    })
}
