//! Typed calls that create domains, set them up and run them.

use xen_abi::domctl::{
    Command, CreateDomain, Domctl, HypercallInit, MaxMem, MaxVcpus, SetVirqHandler, VcpuContextArgument,
};
use xen_abi::vcpu::VcpuGuestContext;
use xen_abi::{DomId, Errno, Mfn, PageCount, VcpuId};

use crate::calls::address;
use crate::{CallError, RawHypercall, Xen};

impl<H: RawHypercall> Xen<H> {
    /// Creates a domain, paused and without memory; Xen chooses the identifier unless `domid` names one.
    pub fn create_domain(&self, domid: Option<DomId>, request: &CreateDomain) -> Result<DomId, CallError> {
        let version = self.interface().domctl;
        let mut call =
            Domctl::new(Command::CREATEDOMAIN, version, domid.unwrap_or_else(|| version.automatic_domid()));
        call.payload = request.encode(version);
        // SAFETY: the payload of a create call holds no address.
        unsafe { self.domctl(&mut call) }?;
        let domain = DomId::new(call.domain);
        // Whoever had the identifier before is gone.
        self.forget(domain);
        Ok(domain)
    }

    /// Pauses a domain; pauses count.
    pub fn pause_domain(&self, domain: DomId) -> Result<(), CallError> {
        self.set(Command::PAUSEDOMAIN, domain, &[0_u8; 0])
    }

    /// Takes one pause back; the domain runs when none is left.
    pub fn unpause_domain(&self, domain: DomId) -> Result<(), CallError> {
        self.set(Command::UNPAUSEDOMAIN, domain, &[0_u8; 0])
    }

    /// Limits the memory a domain may have.
    pub fn set_max_memory(&self, domain: DomId, pages: PageCount) -> Result<(), CallError> {
        self.set(Command::MAX_MEM, domain, &MaxMem::new(pages))
    }

    /// Makes the vCPUs; the number has to repeat the one that the domain was created with.
    pub fn set_max_vcpus(&self, domain: DomId, max: u32) -> Result<(), CallError> {
        self.set(Command::MAX_VCPUS, domain, &MaxVcpus { max })
    }

    /// Has a global virtual interrupt (`VIRQ_*`) raised with `domain` instead of Dom0, until that domain is destroyed.
    pub fn set_virq_handler(&self, domain: DomId, virq: u32) -> Result<(), CallError> {
        self.set(Command::SET_VIRQ_HANDLER, domain, &SetVirqHandler { virq })
    }

    /// Fills a frame of the domain, which is not Dom0, with the hypercall stubs of its kind.
    pub fn init_hypercall_page(&self, domain: DomId, frame: Mfn) -> Result<(), CallError> {
        if domain == DomId::SELF || domain == DomId::DOM0 {
            // Xen would write over whatever the caller's own frame holds.
            return Err(CallError { call: "XEN_DOMCTL_hypercall_init", domain, errno: Errno::EINVAL });
        }
        self.set(Command::HYPERCALL_INIT, domain, &HypercallInit { gmfn: frame.raw() })
    }

    /// Sets what a vCPU starts with.
    pub fn set_vcpu_context(
        &self,
        domain: DomId,
        vcpu: VcpuId,
        context: &VcpuGuestContext,
    ) -> Result<(), CallError> {
        let mut call = Domctl::new(Command::SETVCPUCONTEXT, self.interface().domctl, domain)
            .with(&VcpuContextArgument::new(vcpu, address(context)));
        // SAFETY: the one address in the payload is that of `context`, which Xen only reads.
        unsafe { self.domctl(&mut call) }
    }
}
