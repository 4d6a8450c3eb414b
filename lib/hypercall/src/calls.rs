//! The Xen underneath, and the calls that belong to no other part of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use xen_abi::domctl::{Command, Domctl};
use xen_abi::number::HypercallNumber;
use xen_abi::sched::{SCHEDOP_SHUTDOWN, Shutdown};
use xen_abi::sysctl::{MachineMemory, Sysctl, SysctlVersion, XEN_SYSCTL_PHYSINFO};
use xen_abi::version::{EXTRAVERSION_LEN, XENVER_CAPABILITIES, XENVER_EXTRAVERSION};
use xen_abi::{
    DomId, Errno, console, event_channel, flask, grant_table, hvm, memory, physdev, platform, sysctl,
};
use zerocopy::FromZeros;

use crate::{CallCounts, CallError, Interface, ProbeError, RawHypercall};

/// The Xen underneath: knows which interfaces it speaks, has a method for each call, counts them.
#[derive(Debug)]
pub struct Xen<H> {
    raw: H,
    interface: Interface,
    counts: CallCounts,
    /// Domains that were destroyed and not yet seen to be gone.
    pub(crate) going: RefCell<Vec<DomId>>,
    /// Why domains were not destroyed that are there still, one error for each.
    pub(crate) leaked: RefCell<Vec<CallError>>,
}

/// Address of a value for a hypercall that writes it.
pub(crate) fn address_mut<T: ?Sized>(value: &mut T) -> u64 {
    core::ptr::from_mut(value).cast::<u8>().expose_provenance() as u64
}

/// Address of a value for a hypercall that only reads it.
pub(crate) fn address<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).cast::<u8>().expose_provenance() as u64
}

/// Name of the operation in a raw hypercall, as the public headers have it, for traces and messages.
///
/// `first_word` is the 32-bit word at the first argument where that is an address (domctl, sysctl, platform_op, xsm_op), else the argument.
pub fn call_name(number: HypercallNumber, first_word: u32) -> &'static str {
    match number {
        HypercallNumber::DOMCTL => Command::from_raw(first_word).name(),
        HypercallNumber::SYSCTL => sysctl::name(first_word),
        HypercallNumber::MEMORY_OP => memory::name(first_word & memory::MEMOP_CMD_MASK),
        HypercallNumber::EVENT_CHANNEL_OP => event_channel::name(first_word),
        HypercallNumber::GRANT_TABLE_OP => grant_table::name(first_word),
        HypercallNumber::PLATFORM_OP => platform::name(first_word),
        HypercallNumber::HVM_OP => hvm::name(first_word),
        HypercallNumber::PHYSDEV_OP => physdev::name(first_word),
        HypercallNumber::XSM_OP => flask::name(first_word),
        HypercallNumber::XEN_VERSION if first_word == XENVER_CAPABILITIES => "XENVER_capabilities",
        other => other.name(),
    }
}

impl<H: RawHypercall> Xen<H> {
    /// Finds out which Xen is behind `raw` and that this domain may build others.
    pub fn probe(raw: H) -> Result<Self, ProbeError> {
        let interface = Interface::probe(&raw)?;
        Ok(Self::new(raw, interface))
    }

    /// The same for a domain that may ask about others and no more: that of the XenStore.
    pub fn probe_to_ask(raw: H) -> Result<Self, ProbeError> {
        let interface = Interface::probe_to_ask(&raw)?;
        Ok(Self::new(raw, interface))
    }

    fn new(raw: H, interface: Interface) -> Self {
        Self {
            raw,
            interface,
            counts: CallCounts::new(),
            going: RefCell::default(),
            leaked: RefCell::default(),
        }
    }

    /// For a domain that controls no other: finds out only the release, and asks for no right.
    ///
    /// Xen refuses this domain's calls about others, whatever version they are made in.
    pub fn unprivileged(raw: H) -> Result<Self, ProbeError> {
        let interface = Interface::unprivileged(&raw)?;
        Ok(Self::new(raw, interface))
    }

    /// What was found out.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// How often each hypercall was made through this value.
    pub fn counts(&self) -> &CallCounts {
        &self.counts
    }

    /// The seam, for the few calls that are made below this crate.
    pub fn raw(&self) -> &H {
        &self.raw
    }

    /// Makes a hypercall and turns a negative result into an error that names it.
    ///
    /// # Safety
    ///
    /// As [`RawHypercall::hypercall`].
    pub(crate) unsafe fn call(
        &self,
        number: HypercallNumber,
        args: [u64; 5],
        name: &'static str,
        domain: DomId,
    ) -> Result<i64, CallError> {
        self.counts.record(number);
        // SAFETY: the caller keeps the contract of the seam.
        let result = unsafe { self.raw.hypercall(number, args) };
        Errno::from_result(result).map_or(Ok(result), |errno| Err(CallError { call: name, domain, errno }))
    }

    /// Makes a domctl; OUT fields are in `call` afterwards.
    ///
    /// # Safety
    ///
    /// Addresses in the payload keep the contract of [`RawHypercall::hypercall`].
    pub(crate) unsafe fn domctl(&self, call: &mut Domctl) -> Result<(), CallError> {
        let command = Command::from_raw(call.cmd);
        let domain = DomId::new(call.domain);
        let args = [address_mut(call), 0, 0, 0, 0];
        // SAFETY: a domctl takes the address of one `Domctl`, valid for reads and writes for the length of the call.
        unsafe { self.call(HypercallNumber::DOMCTL, args, command.name(), domain) }.map(|_| ())
    }

    /// A domctl about `domain` without OUT fields that takes `payload`, which holds no address.
    pub(crate) fn set<T>(&self, command: Command, domain: DomId, payload: &T) -> Result<(), CallError>
    where
        T: zerocopy::IntoBytes + zerocopy::Immutable,
    {
        let mut call = Domctl::new(command, self.interface.domctl, domain).with(payload);
        // SAFETY: none of the payloads passed here holds an address.
        unsafe { self.domctl(&mut call) }
    }

    /// Writes `text` to Xen's console.
    pub fn console_write(&self, text: &[u8]) -> Result<(), CallError> {
        let args = [u64::from(console::CONSOLEIO_WRITE), text.len() as u64, address(text), 0, 0];
        // SAFETY: Xen reads as many bytes as the slice has.
        unsafe { self.call(HypercallNumber::CONSOLE_IO, args, "CONSOLEIO_write", DomId::SELF) }.map(|_| ())
    }

    /// Takes what was typed at Xen's console; gives back how many bytes of `buffer` were filled.
    pub fn console_read(&self, buffer: &mut [u8]) -> Result<usize, CallError> {
        let args = [u64::from(console::CONSOLEIO_READ), buffer.len() as u64, address_mut(buffer), 0, 0];
        // SAFETY: Xen writes at most as many bytes as the slice has.
        let read = unsafe { self.call(HypercallNumber::CONSOLE_IO, args, "CONSOLEIO_read", DomId::SELF) }?;
        Ok(usize::try_from(read).unwrap_or(0).min(buffer.len()))
    }

    /// Asks about the machine; `None` when this Xen speaks no sysctl interface that is known here.
    pub(crate) fn physinfo(&self) -> Result<Option<(Sysctl, SysctlVersion)>, CallError> {
        let Some(version) = self.interface.sysctl else { return Ok(None) };
        let mut call = Sysctl::new_zeroed();
        call.cmd = XEN_SYSCTL_PHYSINFO;
        call.interface_version = version.raw();
        let args = [address_mut(&mut call), 0, 0, 0, 0];
        // SAFETY: a sysctl takes the address of one `Sysctl`; physinfo only fills it.
        unsafe { self.call(HypercallNumber::SYSCTL, args, "XEN_SYSCTL_physinfo", DomId::SELF) }?;
        Ok(Some((call, version)))
    }

    /// Memory of the machine; `None` when this Xen speaks no sysctl interface that is known here.
    pub fn machine_memory(&self) -> Result<Option<MachineMemory>, CallError> {
        Ok(self.physinfo()?.and_then(|(call, version)| MachineMemory::decode(&call.payload, version)))
    }

    /// What follows the release number, as the ".5" of 4.17.5.
    pub fn extra_version(&self) -> Result<String, CallError> {
        let mut buffer = Box::new([0_u8; EXTRAVERSION_LEN]);
        let args = [u64::from(XENVER_EXTRAVERSION), address_mut(&mut *buffer), 0, 0, 0];
        // SAFETY: XENVER_extraversion fills 16 bytes, as many as the buffer has.
        unsafe { self.call(HypercallNumber::XEN_VERSION, args, "XENVER_extraversion", DomId::SELF) }?;
        let text = buffer.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Ends the calling domain for `reason`; returns only when Xen refuses.
    pub fn shutdown(&self, reason: u8) -> Result<(), CallError> {
        let mut argument = Shutdown { reason: u32::from(reason) };
        let args = [u64::from(SCHEDOP_SHUTDOWN), address_mut(&mut argument), 0, 0, 0];
        // SAFETY: takes one `Shutdown`; afterwards nothing of this domain runs.
        unsafe { self.call(HypercallNumber::SCHED_OP, args, "SCHEDOP_shutdown", DomId::SELF) }.map(|_| ())
    }
}
