//! Typed calls about hardware-assisted domains, such as PVH guests.

use alloc::vec;
use alloc::vec::Vec;

use xen_abi::domctl::{
    Command, Domctl, HvmContextArgument, PagingMempool, SHADOW_OP_SET_ALLOCATION, ShadowOp,
};
use xen_abi::hvm::{self, HVMOP_SET_PARAM, Param};
use xen_abi::number::HypercallNumber;
use xen_abi::sysctl::Capabilities;
use xen_abi::{DomId, Errno, PageCount};
use zerocopy::FromBytes;

use crate::calls::{address, address_mut};
use crate::{CallError, RawHypercall, Xen};

/// The most bytes of a domain's state: a few KiB for each of its vCPUs, of which there are at most 128.
const MAX_CONTEXT: u32 = 16 << 20;

impl<H: RawHypercall> Xen<H> {
    /// Sets a parameter (`hvm::PARAM_*`) of a hardware-assisted domain.
    pub fn set_hvm_param(&self, domain: DomId, index: u32, value: u64) -> Result<(), CallError> {
        let mut param = Param::new(domain, index, value);
        let args = [u64::from(HVMOP_SET_PARAM), address_mut(&mut param), 0, 0, 0];
        // SAFETY: takes the address of one `Param`, which holds no address of the caller's.
        unsafe { self.call(HypercallNumber::HVM_OP, args, hvm::name(HVMOP_SET_PARAM), domain) }.map(|_| ())
    }

    /// Sets the memory that Xen keeps for a domain's paging structures. Before Xen 4.17 it is counted in MiB, and rounded up.
    pub fn set_paging_pool(&self, domain: DomId, size: PageCount) -> Result<(), CallError> {
        if self.interface().domctl.has_paging_mempool() {
            let payload = PagingMempool { size: size.kib().saturating_mul(1024) };
            return self.set(Command::SET_PAGING_MEMPOOL_SIZE, domain, &payload);
        }
        let mb = u32::try_from(size.kib().div_ceil(1024)).unwrap_or(u32::MAX);
        self.set(Command::SHADOW_OP, domain, &ShadowOp { op: SHADOW_OP_SET_ALLOCATION, mode: 0, mb })
    }

    /// The state of a hardware-assisted domain, as a stream of records (see [`xen_abi::hvm::save`]).
    pub fn hvm_context(&self, domain: DomId) -> Result<Vec<u8>, CallError> {
        let size = self.hvm_context_op(Command::GETHVMCONTEXT, domain, 0, 0)?;
        if size > MAX_CONTEXT {
            return Err(CallError { call: Command::GETHVMCONTEXT.name(), domain, errno: Errno::E2BIG });
        }
        let mut buffer = vec![0_u8; size as usize];
        let address = address_mut(buffer.as_mut_slice());
        let filled = self.hvm_context_op(Command::GETHVMCONTEXT, domain, size, address)?;
        buffer.truncate(filled as usize);
        Ok(buffer)
    }

    /// Sets the state of a hardware-assisted domain from a stream of records. Every vCPU without a record of its registers is
    /// offline afterwards.
    pub fn set_hvm_context(&self, domain: DomId, stream: &[u8]) -> Result<(), CallError> {
        let too_long = CallError { call: Command::SETHVMCONTEXT.name(), domain, errno: Errno::E2BIG };
        let size = u32::try_from(stream.len()).map_err(|_| too_long)?;
        self.hvm_context_op(Command::SETHVMCONTEXT, domain, size, address(stream)).map(|_| ())
    }

    /// Reads or writes `size` bytes of state at `buffer`; gives back how many there are.
    fn hvm_context_op(
        &self,
        command: Command,
        domain: DomId,
        size: u32,
        buffer: u64,
    ) -> Result<u32, CallError> {
        let argument = HvmContextArgument { size, pad: 0, buffer };
        let mut call = Domctl::new(command, self.interface().domctl, domain).with(&argument);
        // SAFETY: the callers here give the address of as many bytes as they say, for reads or for writes as the command wants.
        unsafe { self.domctl(&mut call) }?;
        Ok(HvmContextArgument::read_from_prefix(&call.payload).map_or(0, |(answer, _)| answer.size))
    }

    /// What this Xen can do on this machine; `None` when it speaks no sysctl interface that is known here.
    pub fn capabilities(&self) -> Result<Option<Capabilities>, CallError> {
        Ok(self.physinfo()?.map(|(call, _)| Capabilities::decode(&call.payload)))
    }
}
