//! The control interfaces: domctl and sysctl.

use xen_abi::cpu_policy::{DomainPolicy, SystemPolicy, XEN_SYSCTL_GET_CPU_POLICY};
use xen_abi::device_access::IrqPermission;
use xen_abi::domctl::{
    Command, CreateDomain, CreateFlags, Domctl, DomctlVersion, HvmContextArgument, HypercallInit, MaxMem,
    MaxVcpus, SetVirqHandler, VcpuContextArgument,
};
use xen_abi::pv32::{AddressSizeArgument, VcpuGuestContext32};
use xen_abi::scheduling::{CpupoolOp, SchedulerOp, XEN_SYSCTL_CPUPOOL_OP};
use xen_abi::sysctl::{
    DomainInfoList, PHYSINFO_CAPABILITIES_OFFSET, ReadConsole, Sysctl, SysctlVersion,
    XEN_SYSCTL_GETDOMAININFOLIST, XEN_SYSCTL_PHYSINFO, XEN_SYSCTL_READCONSOLE,
};
use xen_abi::vcpu::VcpuGuestContext;
use xen_abi::{DomId, Errno, Mfn, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::frames::{Frame, Use};
use crate::hypervisor::Outcome;
use crate::state::State;

impl State {
    /// `domctl`.
    pub(crate) fn domctl(
        &mut self,
        caller: DomId,
        call: &mut Domctl,
        context: Option<&VcpuGuestContext>,
        buffer: &mut Vec<u8>,
    ) -> Outcome {
        if call.interface_version != self.release.domctl() {
            return Err(Errno::EACCES);
        }
        let hidden =
            self.release.hides_unknown_domains() && !self.domains.contains_key(&DomId::new(call.domain));
        let may_ask = || self.may_ask(caller, Command::from_raw(call.cmd));
        if !self.is_privileged(caller) && (hidden || !may_ask()) {
            return Err(Errno::EPERM);
        }
        let version = DomctlVersion::from_raw(call.interface_version).ok_or(Errno::EACCES)?;
        let domain = DomId::new(call.domain);
        match Command::from_raw(call.cmd) {
            Command::CREATEDOMAIN => {
                let request = CreateDomain::decode(&call.payload, version).ok_or(Errno::EINVAL)?;
                call.domain = self.create_domain(domain, &request)?.raw();
            }
            Command::GETDOMAININFO => {
                let info = self.domain_info(domain)?;
                call.domain = info.domain;
                let bytes = info.as_bytes();
                call.payload[..bytes.len()].copy_from_slice(bytes);
            }
            Command::DESTROYDOMAIN => self.destroy(caller, domain)?,
            Command::PAUSEDOMAIN => self.pause(caller, domain)?,
            Command::UNPAUSEDOMAIN => self.unpause(domain)?,
            Command::MAX_MEM => self.set_max_memory(domain, payload::<MaxMem>(call)?.max_memkb)?,
            Command::MAX_VCPUS => self.set_max_vcpus(caller, domain, payload::<MaxVcpus>(call)?.max)?,
            Command::SETVCPUCONTEXT => {
                let vcpu = payload::<VcpuContextArgument>(call)?.vcpu;
                let context = context.ok_or(Errno::EINVAL)?;
                // A 32-bit domain's has another layout.
                let is_32_bit = self.domain(domain)?.is_32_bit;
                let narrow = VcpuGuestContext32::read_from_prefix(context.as_bytes()).ok();
                let wide = narrow.filter(|_| is_32_bit).map(|(narrow, _)| narrow.widen());
                self.set_context(caller, domain, vcpu, wide.as_ref().unwrap_or(context))?;
            }
            Command::SET_ADDRESS_SIZE => {
                self.set_address_size(domain, payload::<AddressSizeArgument>(call)?.size)?;
            }
            Command::SET_VIRQ_HANDLER => {
                self.set_virq_handler(domain, payload::<SetVirqHandler>(call)?.virq)?;
            }
            Command::HYPERCALL_INIT => {
                let frame = Mfn::new(payload::<HypercallInit>(call)?.gmfn);
                self.fill_hypercall_page(domain, frame)?;
            }
            Command::SHADOW_OP => self.shadow_op(domain, &payload(call)?)?,
            Command::SET_PAGING_MEMPOOL_SIZE => self.set_mempool(domain, payload(call)?)?,
            Command::GETHVMCONTEXT => {
                let mut argument = payload::<HvmContextArgument>(call)?;
                self.get_hvm_context(domain, &mut argument, buffer)?;
                let bytes = argument.as_bytes();
                call.payload[..bytes.len()].copy_from_slice(bytes);
            }
            Command::SETHVMCONTEXT => self.set_hvm_context(domain, buffer)?,
            Command::IOMEM_PERMISSION => self.permit_io_memory(caller, domain, &payload(call)?)?,
            Command::IOPORT_PERMISSION => self.permit_io_ports(caller, domain, &payload(call)?)?,
            Command::MEMORY_MAPPING => {
                let mapped = self.map_io_memory(caller, domain, &payload(call)?)?;
                return Ok(i64::try_from(mapped).unwrap_or(i64::MAX));
            }
            Command::IOPORT_MAPPING => self.map_io_ports(caller, domain, &payload(call)?)?,
            Command::IRQ_PERMISSION => {
                self.permit_interrupt(caller, domain, IrqPermission::decode(&call.payload, version))?;
            }
            Command::GET_CPU_POLICY => {
                let mut argument = payload::<DomainPolicy>(call)?;
                self.get_cpu_policy(domain, &mut argument, buffer)?;
                answer(call, &argument);
            }
            Command::SET_CPU_POLICY => {
                let mut argument = payload::<DomainPolicy>(call)?;
                let outcome = self.set_cpu_policy(domain, &mut argument, buffer);
                answer(call, &argument);
                outcome?;
            }
            Command::SETTSCINFO => self.set_tsc_info(domain, payload(call)?)?,
            Command::DISABLE_MIGRATE => self.disable_migrate(domain, payload(call)?)?,
            Command::SETVCPUAFFINITY => self.set_affinity(domain, &payload(call)?, buffer)?,
            Command::SCHEDULER_OP => {
                let mut argument = payload::<SchedulerOp>(call)?;
                self.scheduler_op(domain, &mut argument)?;
                let bytes = argument.as_bytes();
                call.payload[..bytes.len()].copy_from_slice(bytes);
            }
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }

    /// Whether a domain without privilege may make a call about others: the XenStore's may ask what became of them.
    fn may_ask(&self, caller: DomId, command: Command) -> bool {
        let flags = self.domains.get(&caller).map(|domain| domain.flags);
        command == Command::GETDOMAININFO && flags.is_some_and(|flags| flags.contains(CreateFlags::XS_DOMAIN))
    }

    /// Fills a frame with hypercall stubs: 32 bytes for each of the 128 numbers.
    fn fill_hypercall_page(&mut self, domain: DomId, frame: Mfn) -> Result<(), Errno> {
        self.domain(domain)?;
        let owned = self.frames.get(frame).and_then(Frame::owner) == Some(domain);
        let refused = if owned { Errno::EPERM } else { Errno::EINVAL };
        self.frames.use_as(frame, domain, Use::Writable).map_err(|_| refused)?;
        let mut page = [0xcc; PAGE_SIZE];
        for (number, stub) in (0_u32..).zip(page.chunks_exact_mut(32)) {
            // mov eax, number; syscall; ret: enough of the real stub to be told from anything else.
            stub[0] = 0xb8;
            stub[1..5].copy_from_slice(&number.to_le_bytes());
            stub[5..8].copy_from_slice(&[0x0f, 0x05, 0xc3]);
        }
        self.frames.write_at(frame, 0, &page);
        self.frames.end_use(frame);
        Ok(())
    }

    /// `sysctl`.
    pub(crate) fn sysctl(&mut self, caller: DomId, call: &mut Sysctl, buffer: &mut Vec<u8>) -> Outcome {
        if call.interface_version != self.release.sysctl() {
            return Err(Errno::EACCES);
        }
        if !self.is_privileged(caller) {
            return Err(Errno::EPERM);
        }
        match call.cmd {
            XEN_SYSCTL_PHYSINFO => self.physinfo(call),
            XEN_SYSCTL_READCONSOLE => self.read_console_ring(call, buffer),
            XEN_SYSCTL_GETDOMAININFOLIST => self.list_domains(call, buffer),
            XEN_SYSCTL_GET_CPU_POLICY => {
                let mut argument =
                    SystemPolicy::read_from_prefix(&call.payload).map_err(|_| Errno::EINVAL)?.0;
                Self::system_cpu_policy(&mut argument, buffer)?;
                let bytes = argument.as_bytes();
                call.payload[..bytes.len()].copy_from_slice(bytes);
                Ok(0)
            }
            XEN_SYSCTL_CPUPOOL_OP => {
                let mut argument = CpupoolOp::read_from_prefix(&call.payload).map_err(|_| Errno::EINVAL)?.0;
                self.cpupool_op(&mut argument)?;
                let bytes = argument.as_bytes();
                call.payload[..bytes.len()].copy_from_slice(bytes);
                Ok(0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// `XEN_SYSCTL_readconsole`, of a ring that has not gone round. Clearing it is not modelled: nobody here does.
    fn read_console_ring(&self, call: &mut Sysctl, buffer: &mut Vec<u8>) -> Outcome {
        let (mut request, _) = ReadConsole::read_from_prefix(&call.payload).map_err(|_| Errno::EINVAL)?;
        if request.clear != 0 {
            return Err(Errno::ENOSYS);
        }
        let from = if request.incremental == 0 { 0 } else { request.index as usize };
        let text = self.said.get(from..).unwrap_or_default();
        let text = &text[..buffer.len().min(text.len())];
        buffer.clear();
        buffer.extend_from_slice(text);
        let end = from + buffer.len();
        request.count = u32::try_from(buffer.len()).map_err(|_| Errno::EINVAL)?;
        request.index = u32::try_from(end).map_err(|_| Errno::EINVAL)?;
        let bytes = request.as_bytes();
        call.payload[..bytes.len()].copy_from_slice(bytes);
        Ok(0)
    }

    /// `XEN_SYSCTL_getdomaininfolist`.
    fn list_domains(&self, call: &mut Sysctl, buffer: &mut Vec<u8>) -> Outcome {
        let (mut request, _) = DomainInfoList::read_from_prefix(&call.payload).map_err(|_| Errno::EINVAL)?;
        let version = DomctlVersion::from_raw(self.release.domctl()).ok_or(Errno::EACCES)?;
        let most = usize::try_from(request.max_domains).map_err(|_| Errno::EINVAL)?;
        buffer.clear();
        let listed = self.domains.range(DomId::new(request.first_domain)..).take(most);
        request.num_domains = 0;
        for (domid, domain) in listed {
            let entry = buffer.len();
            buffer.extend_from_slice(domain.info(*domid).as_bytes());
            buffer.resize(entry + version.domain_info_size(), 0);
            request.num_domains += 1;
        }
        let bytes = request.as_bytes();
        call.payload[..bytes.len()].copy_from_slice(bytes);
        Ok(0)
    }

    /// `XEN_SYSCTL_physinfo`.
    fn physinfo(&self, call: &mut Sysctl) -> Outcome {
        let version = SysctlVersion::from_raw(call.interface_version).ok_or(Errno::EACCES)?;
        let claimed = self.domains.values().map(|domain| domain.claimed).sum();
        let counts: [u64; 4] = [self.frames.total(), self.frames.free_count(), 0, claimed];
        let offset = version.physinfo_pages_offset();
        call.payload[offset..offset + size_of_val(&counts)].copy_from_slice(counts.as_bytes());
        let capabilities = self.capabilities.bits().to_le_bytes();
        call.payload[PHYSINFO_CAPABILITIES_OFFSET..][..capabilities.len()].copy_from_slice(&capabilities);
        Ok(0)
    }
}

/// Puts OUT fields into a domctl.
fn answer<T: IntoBytes + Immutable>(call: &mut Domctl, argument: &T) {
    let bytes = argument.as_bytes();
    call.payload[..bytes.len()].copy_from_slice(bytes);
}

/// The payload of a domctl as the structure that its command takes.
fn payload<T: FromBytes>(call: &Domctl) -> Result<T, Errno> {
    T::read_from_prefix(&call.payload).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}
