//! XenStores that one VM serves to others: what each has to do with it, and the words by which the two that run it learn of the
//! rest.
//!
//! Xen's interfaces have a place for all that a client must know; it finds it by itself. The VM that serves the store and the one
//! that is in control of it are told on their command lines, in the words that xenstored and the control domains of such systems
//! take.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::names::check_domid;
use crate::spec_error::SpecError;

/// The port of its XenStore in a VM that is a client: the first is its console's, and Xen gives them out in order.
pub const STORE_PORT: u32 = 2;

/// What a VM has to do with a XenStore. The order of the variants is the wire format: additions go last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreRole {
    /// Nothing: it is told of none.
    #[default]
    None,
    /// It has a ring that another VM serves.
    Client {
        /// The domain id of that VM.
        server: u16,
    },
    /// It serves the others, and hears of their ends. Its own domain id is fixed.
    Server,
    /// It has a ring of a small store of its own, which the builder serves: by it, it can be asked to power off.
    Own,
}

impl StoreRole {
    /// Checks the role of a VM whose own domain id is `domid`.
    pub(crate) fn validate(self, domid: Option<u16>) -> Result<(), SpecError> {
        match self {
            Self::None | Self::Own => Ok(()),
            Self::Server if domid.is_some() => Ok(()),
            Self::Server => Err(SpecError::StoreWithoutDomid),
            Self::Client { server } => {
                check_domid(Some(server))?;
                if domid == Some(server) { Err(SpecError::OwnStore { domid: server }) } else { Ok(()) }
            }
        }
    }

    /// Whether the VM has a ring of a XenStore, hence the port [`STORE_PORT`].
    pub const fn has_ring(self) -> bool {
        matches!(self, Self::Client { .. } | Self::Own)
    }
}

/// A client of a XenStore, as the VM in control introduces it to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its domain id.
    pub domid: u16,
    /// Its port of the ring.
    pub port: u32,
}

/// The word `intros=0xDOMID,0xPORT;...` on the command line of the VM in control: every client but itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introductions(pub Vec<Introduction>);

/// What the word begins with.
const INTROS: &str = "intros=";

/// A number as it is written: hexadecimal behind `0x`, else decimal.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

impl Introductions {
    /// Finds the word on a command line; `None` without one, or when it is damaged.
    pub fn on(command_line: &str) -> Option<Self> {
        let mut words = command_line.split_ascii_whitespace();
        let list = words.find_map(|word| word.strip_prefix(INTROS))?;
        let one = |text: &str| {
            let (domid, port) = text.split_once(',')?;
            let domid = u16::try_from(number(domid)?).ok()?;
            check_domid(Some(domid)).ok()?;
            Some(Introduction { domid, port: number(port)? })
        };
        list.split(';').filter(|text| !text.is_empty()).map(one).collect::<Option<_>>().map(Self)
    }
}

impl fmt::Display for Introductions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(INTROS)?;
        self.0.iter().try_for_each(|Introduction { domid, port }| write!(f, "{domid:#x},{port:#x};"))
    }
}

/// The words `--event PORT --master-domid DOMID` on the command line of the VM that serves the store: its first client, which
/// introduces the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Master(pub Introduction);

/// What they are called.
const EVENT: &str = "--event";
const MASTER_DOMID: &str = "--master-domid";

impl Master {
    /// Finds the words on a command line; `None` unless both are there.
    pub fn on(command_line: &str) -> Option<Self> {
        let value = |name| {
            let mut words = command_line.split_ascii_whitespace().skip_while(move |word| *word != name);
            words.nth(1).and_then(number)
        };
        let domid = u16::try_from(value(MASTER_DOMID)?).ok()?;
        check_domid(Some(domid)).ok()?;
        Some(Self(Introduction { domid, port: value(EVENT)? }))
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Introduction { domid, port }) = self;
        write!(f, "{EVENT} {port} {MASTER_DOMID} {domid}")
    }
}

/// `line` with `words` behind it.
pub fn with_words(line: &str, words: &impl fmt::Display) -> String {
    let space = if line.is_empty() { "" } else { " " };
    alloc::format!("{line}{space}{words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        let list = alloc::vec![Introduction { domid: 5, port: 2 }, Introduction { domid: 0x123, port: 10 }];
        let line = with_words("quiet", &Introductions(list.clone()));
        assert_eq!(line, "quiet intros=0x5,0x2;0x123,0xa;");
        assert_eq!(Introductions::on(&line), Some(Introductions(list)));
        assert_eq!(Introductions::on("intros="), Some(Introductions::default()));
        let line = with_words("", &Master(Introduction { domid: 7, port: 2 }));
        assert_eq!(line, "--event 2 --master-domid 7");
        assert_eq!(Master::on(&line), Some(Master(Introduction { domid: 7, port: 2 })));
        assert_eq!(Master::on("--master-domid 0x9 x --event 12").map(|it| it.0.domid), Some(9));
    }

    #[test]
    fn damaged_words_are_none() {
        for line in ["", "intros", "intros=5", "intros=5,", "intros=0,1;", "intros=32752,1;", "intros=1,-2"] {
            assert_eq!(Introductions::on(line), None, "{line}");
        }
        for line in [
            "",
            "--event 2",
            "--event --master-domid 7",
            "--master-domid 7 --event",
            "--event 2 --master-domid 0",
        ] {
            assert_eq!(Master::on(line), None, "{line}");
        }
    }
}
