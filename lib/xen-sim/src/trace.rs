//! What was asked of Xen, and what it answered.

use std::fmt;

use xen_abi::number::HypercallNumber;
use xen_abi::{DomId, Errno};

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// How many calls were made before it.
    pub index: usize,
    /// The hypercall.
    pub number: HypercallNumber,
    /// The operation's name in the public headers; `map frames` for a mapping through a window.
    pub name: &'static str,
    /// Who made the call.
    pub caller: DomId,
    /// The domain that the call was about.
    pub domain: DomId,
    /// Its most telling numbers, with names; given before the call, or filled in by it.
    pub numbers: Vec<(&'static str, u64)>,
    /// The result: what the hypercall gave back, or the error.
    pub result: Result<i64, Errno>,
}

impl fmt::Display for Call {
    /// One line without the index, so that a call more or less does not change all lines after it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.caller != crate::DOM0 {
            write!(f, "[from {}] ", self.caller)?;
        }
        write!(f, "{}", self.name)?;
        if self.domain != self.caller {
            write!(f, " domain={}", self.domain)?;
        }
        for (name, number) in &self.numbers {
            write!(f, " {name}={number:#x}")?;
        }
        match self.result {
            Ok(0) => Ok(()),
            Ok(result) => write!(f, " -> {result}"),
            Err(errno) => write!(f, " -> {errno:?}"),
        }
    }
}

/// The calls that were made, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace(Vec<Call>);

impl Trace {
    pub(crate) fn push(&mut self, call: Call) {
        self.0.push(call);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The calls.
    pub fn calls(&self) -> &[Call] {
        &self.0
    }

    /// The calls of that name.
    pub fn named(&self, name: &str) -> impl Iterator<Item = &Call> {
        self.0.iter().filter(move |call| call.name == name)
    }
}

impl fmt::Display for Trace {
    /// One call a line; the same for the same calls, so fit for a snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|call| writeln!(f, "{call}"))
    }
}
