//! What a domain was given besides memory, for a test to look at.

use xen_abi::domctl::CreateDomain;
use xen_abi::{Mfn, Pfn, VcpuId};

use crate::domains::Domain;
use crate::guest::Guest;

impl Guest {
    /// Looks at the domain; `None` when it is gone.
    fn look<T>(&self, what: impl FnOnce(&Domain) -> T) -> Option<T> {
        self.machine.state().domains.get(&self.domain).map(what)
    }

    /// What it was created with.
    pub fn creation(&self) -> Option<CreateDomain> {
        self.look(|domain| domain.request.clone())
    }

    /// Whether it may map a frame of I/O memory.
    pub fn may_map(&self, frame: Mfn) -> bool {
        self.look(|domain| domain.devices.has_frame(frame.raw())).unwrap_or(false)
    }

    /// The machine frame of a device that a hardware-assisted domain has at a guest frame.
    pub fn device_at(&self, guest: Pfn) -> Option<Mfn> {
        self.look(|domain| domain.devices.frame_at(guest.raw())).flatten().map(Mfn::new)
    }

    /// Whether a hardware-assisted domain reaches an I/O port of the machine.
    pub fn reaches_port(&self, port: u16) -> bool {
        self.look(|domain| domain.devices.reaches_port(u64::from(port))).unwrap_or(false)
    }

    /// Whether it may use an I/O port.
    pub fn may_use_port(&self, port: u16) -> bool {
        self.look(|domain| domain.devices.has_port(u64::from(port))).unwrap_or(false)
    }

    /// Whether it may use an interrupt line, and knows it by that number.
    pub fn may_use_interrupt(&self, line: u32) -> bool {
        self.look(|domain| domain.devices.has_line(line)).unwrap_or(false)
    }

    /// The CPUs that a vCPU may run on; `None` for all.
    pub fn cpus(&self, vcpu: VcpuId) -> Option<Vec<u32>> {
        self.look(|domain| domain.vcpus.get(vcpu.raw() as usize)?.hard.clone())?
    }

    /// The CPUs that a vCPU runs on rather than on others; `None` for all.
    pub fn preferred_cpus(&self, vcpu: VcpuId) -> Option<Vec<u32>> {
        self.look(|domain| domain.vcpus.get(vcpu.raw() as usize)?.soft.clone())?
    }

    /// Its weight and its cap.
    pub fn share(&self) -> Option<(u16, u16)> {
        self.look(|domain| (domain.share.weight, domain.share.cap))
    }

    /// What CPUID answers: EAX to EDX of a leaf without subleaves; `None` for a leaf that there is not.
    pub fn cpuid(&self, leaf: u32) -> Option<[u32; 4]> {
        self.look(|domain| domain.cpu.leaves.iter().find(|it| it.leaf == leaf).map(|it| it.registers))?
    }

    /// How it reads the time-stamp counter (`xen_abi::cpu_policy::TSC_*`).
    pub fn tsc_mode(&self) -> Option<u32> {
        self.look(|domain| domain.cpu.tsc_mode)
    }

    /// The text of its security label; `None` without FLASK.
    pub fn label(&self) -> Option<&'static str> {
        let number = self.look(|domain| domain.label)?;
        self.machine.state().label_text(number)
    }

    /// Its CPU pool.
    pub fn pool(&self) -> Option<u32> {
        self.look(|domain| domain.pool)
    }
}
