//! Finding the call, the error number and the release in a line of text.

use xen_abi::Errno;

use crate::{Release, table};

/// What a line asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'t> {
    /// The call, by its name in Xen's headers.
    pub call: &'t str,
    /// Xen's answer.
    pub errno: Errno,
    /// The release, if the text names one as db-boot's first line does (`xen=4.17.5`).
    pub xen: Option<Release>,
}

/// Finds a question in `text`: a line of db-boot's log, a whole log, or just a call and an error number. `None` if it names no call
/// or no error number.
pub fn read(text: &str) -> Option<Question<'_>> {
    let (mut call, mut xen) = (None, None);
    for line in text.lines() {
        for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | '.'))) {
            if let Some(release) = word.strip_prefix("xen=").and_then(release) {
                xen = Some(release);
            } else if is_call(word) {
                call = Some(word);
            } else if let (Some(call), Some(errno)) = (call, errno(word)) {
                return Some(Question { call, errno, xen });
            }
        }
        // A call and its answer stand in one line.
        if line.contains("db-boot:") {
            call = None;
        }
    }
    None
}

/// Whether a word has the form of a call's name.
fn is_call(word: &str) -> bool {
    let families = [
        "XEN_DOMCTL_",
        "XEN_SYSCTL_",
        "XENMEM_",
        "EVTCHNOP_",
        "GNTTABOP_",
        "PHYSDEVOP_",
        "HVMOP_",
        "MMUEXT_",
        "SCHEDOP_",
    ];
    table::calls().any(|call| call == word) || families.iter().any(|family| word.starts_with(family))
}

/// The error number of that name.
fn errno(word: &str) -> Option<Errno> {
    Errno::ALL.iter().copied().find(|errno| errno.name() == Some(word))
}

/// The first two numbers of a version, as 4.17.5.
pub(crate) fn release(version: &str) -> Option<Release> {
    let mut numbers = version.split('.').map(str::parse::<u16>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_understood() {
        let line = "[    2.4] db-boot: error: vm=a step=access: XEN_DOMCTL_irq_permission for domain 1: EPERM (operation not \
                    permitted): Xen keeps this device to itself";
        let question = read(line).unwrap();
        assert_eq!(
            (question.call, question.errno, question.xen),
            ("XEN_DOMCTL_irq_permission", Errno::EPERM, None)
        );
    }

    #[test]
    fn a_whole_log_tells_the_release_too() {
        let log = "(XEN) hello\n[ 2.3] db-boot: info: xen=4.17.5 domctl=0x15\n\
                   [ 2.4] db-boot: error: vm=a step=place: XEN_DOMCTL_setvcpuaffinity for domain 1: EINVAL (x)";
        let question = read(log).unwrap();
        assert_eq!(question.xen, Some((4, 17)));
        assert_eq!(question.errno, Errno::EINVAL);
    }

    #[test]
    fn a_call_and_a_number_are_enough_and_needed() {
        assert_eq!(read("XENMEM_populate_physmap ENOMEM").unwrap().errno, Errno::ENOMEM);
        for text in [
            "",
            "ENOMEM",
            "XENMEM_populate_physmap",
            "ENOMEM XENMEM_populate_physmap",
            "EPERMX XENMEM_x EPERMX",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
