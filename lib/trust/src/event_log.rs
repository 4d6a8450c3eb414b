//! What was measured, in TCG's layout for crypto-agile event logs ("PC Client Platform Firmware Profile", chapter "Event Logging"), which
//! TPM software reads: a first event that says which digests follow, then events of this form, little endian:
//!
//! | size | field |
//! |---|---|
//! | 4 | register (PCR) that the digest extends |
//! | 4 | kind of event |
//! | 4 | number of digests: 1 |
//! | 2 | algorithm: 0x000b, SHA-256 |
//! | 32 | digest |
//! | 4 | length of the event's data |
//! | | data: what was measured, in words |
//!
//! There is no TPM behind it: the registers are values that whoever reads the log can compute again ([`replay`]).

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use protocols::Digest;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::measure::sha256;

/// TCG's number of SHA-256.
const SHA256: u16 = 0x000b;
/// The kind of the first event: it extends nothing.
const EV_NO_ACTION: u32 = 3;
/// Nothing comes behind it in its register.
const EV_SEPARATOR: u32 = 4;
/// Something that a boot loader loads.
const EV_IPL: u32 = 13;
/// Bytes of the first event's data, with one algorithm and nothing of the vendor's.
const SPEC_ID_LEN: u32 = 33;
/// The most data of an event: longer names are those of no file.
const MAX_DATA_LEN: usize = 8192;
/// The data of a separator without an error.
const SEPARATOR: [u8; 4] = [0; 4];

/// The number of a register. The two are those in which GRUB measures the same things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegisterIndex(u32);

impl RegisterIndex {
    /// Command line and policy: PCR 8.
    pub const SETTINGS: Self = Self(8);
    /// Files: PCR 9.
    pub const FILES: Self = Self(9);

    /// The number.
    pub fn raw(self) -> u32 {
        self.0
    }
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Something that was read.
    Loaded,
    /// The end of a register.
    Separator,
    /// Any other of TCG's.
    Other(u32),
}

impl EventKind {
    fn from_raw(raw: u32) -> Self {
        match raw {
            EV_IPL => Self::Loaded,
            EV_SEPARATOR => Self::Separator,
            other => Self::Other(other),
        }
    }

    fn raw(self) -> u32 {
        match self {
            Self::Loaded => EV_IPL,
            Self::Separator => EV_SEPARATOR,
            Self::Other(raw) => raw,
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register that it extends.
    pub register: RegisterIndex,
    /// Its kind.
    pub kind: EventKind,
    /// The digest.
    pub sha256: Digest,
    /// What was measured, in words, with a NUL behind them; four zeros of a separator.
    pub data: Vec<u8>,
}

/// An event log under construction, with the registers as far as it goes.
#[derive(Clone, Debug)]
pub struct EventLog {
    bytes: Vec<u8>,
    registers: BTreeMap<RegisterIndex, Digest>,
    events: usize,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

impl EventLog {
    /// A log with its first event.
    pub fn new() -> Self {
        Self { bytes: first_event(), registers: BTreeMap::new(), events: 0 }
    }

    /// Adds something that was read: its digest, and what it is in words (cut where they are too long).
    pub fn loaded(&mut self, register: RegisterIndex, sha256: Digest, what: &str) {
        let words = what.as_bytes().get(..what.len().min(MAX_DATA_LEN.saturating_sub(1))).unwrap_or_default();
        let data = [words, b"\0"].concat();
        self.add(&Event { register, kind: EventKind::Loaded, sha256, data });
    }

    /// Ends a register: what is extended later can be told from what was extended by us.
    pub fn close(&mut self, register: RegisterIndex) {
        let data = SEPARATOR.to_vec();
        self.add(&Event { register, kind: EventKind::Separator, sha256: sha256(&SEPARATOR), data });
    }

    fn add(&mut self, event: &Event) {
        let length = u32::try_from(event.data.len()).unwrap_or(u32::MAX);
        for field in [event.register.0, event.kind.raw(), 1] {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        self.bytes.extend_from_slice(&SHA256.to_le_bytes());
        self.bytes.extend_from_slice(&event.sha256.0);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(&event.data);
        extend(&mut self.registers, event);
        self.events = self.events.saturating_add(1);
    }

    /// The log as TPM software reads it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many events there are, without the first.
    pub fn events(&self) -> usize {
        self.events
    }

    /// What a register would hold in a TPM that started at zero.
    pub fn register(&self, register: RegisterIndex) -> Digest {
        self.registers.get(&register).copied().unwrap_or(Digest([0; 32]))
    }
}

/// TCG's extend: the digest of what the register holds and the event's digest.
fn extend(registers: &mut BTreeMap<RegisterIndex, Digest>, event: &Event) {
    let register = registers.entry(event.register).or_insert(Digest([0; 32]));
    let digest = Sha256::new().chain_update(register.0).chain_update(event.sha256.0).finalize();
    *register = Digest(digest.into());
}

/// The registers after `events`.
pub fn replay(events: &[Event]) -> BTreeMap<RegisterIndex, Digest> {
    let mut registers = BTreeMap::new();
    for event in events {
        extend(&mut registers, event);
    }
    registers
}

/// The first event, which is in the older layout: it says that SHA-256 digests follow.
fn first_event() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&EV_NO_ACTION.to_le_bytes());
    bytes.extend_from_slice(&[0; 20]);
    bytes.extend_from_slice(&SPEC_ID_LEN.to_le_bytes());
    bytes.extend_from_slice(b"Spec ID Event03\0");
    // A client platform; version 2.0 of the profile, errata 0; numbers of 64 bits.
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&[0, 2, 0, 2]);
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&SHA256.to_le_bytes());
    bytes.extend_from_slice(&32_u16.to_le_bytes());
    bytes.push(0);
    bytes
}

/// Why bytes are not such a log.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EventLogError {
    /// The first event is not that of a log with SHA-256 alone.
    #[error("event log: it does not begin as one with SHA-256 digests alone does")]
    Beginning,
    /// An event is cut short.
    #[error("event log: event {index} at offset {offset:#x} is cut short")]
    Truncated {
        /// Its number, from 1.
        index: usize,
        /// Where it begins.
        offset: usize,
    },
    /// An event has another digest than one SHA-256.
    #[error(
        "event log: event {index} at offset {offset:#x} has {count} digests, the first by algorithm {algorithm:#06x}, not one SHA-256"
    )]
    Digests {
        /// Its number, from 1.
        index: usize,
        /// Where it begins.
        offset: usize,
        /// How many digests it says it has.
        count: u32,
        /// The first one's algorithm.
        algorithm: u16,
    },
    /// An event has more data than any of ours.
    #[error(
        "event log: event {index} at offset {offset:#x} has {length} bytes of data, at most {MAX_DATA_LEN} are read"
    )]
    DataTooLong {
        /// Its number, from 1.
        index: usize,
        /// Where it begins.
        offset: usize,
        /// The length it says.
        length: u32,
    },
}

/// Reads a log back, all but its first event. Total: any bytes give events or an error.
pub fn read_event_log(bytes: &[u8]) -> Result<Vec<Event>, EventLogError> {
    let mut rest = bytes.strip_prefix(first_event().as_slice()).ok_or(EventLogError::Beginning)?;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let index = events.len().saturating_add(1);
        let (event, behind) = read_event(rest, index, bytes.len().saturating_sub(rest.len()))?;
        events.push(event);
        rest = behind;
    }
    Ok(events)
}

fn read_event(bytes: &[u8], index: usize, offset: usize) -> Result<(Event, &[u8]), EventLogError> {
    let short = || EventLogError::Truncated { index, offset };
    let (register, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let (kind, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (count, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (algorithm, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (count, algorithm) = (u32::from_le_bytes(*count), u16::from_le_bytes(*algorithm));
    if (count, algorithm) != (1, SHA256) {
        return Err(EventLogError::Digests { index, offset, count, algorithm });
    }
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let length = u32::from_le_bytes(*length);
    let size = usize::try_from(length).ok().filter(|size| *size <= MAX_DATA_LEN);
    let size = size.ok_or(EventLogError::DataTooLong { index, offset, length })?;
    let (data, rest) = rest.split_at_checked(size).ok_or_else(short)?;
    let event = Event {
        register: RegisterIndex(u32::from_le_bytes(*register)),
        kind: EventKind::from_raw(u32::from_le_bytes(*kind)),
        sha256: Digest(*digest),
        data: data.to_owned(),
    };
    Ok((event, rest))
}
