//! Acting as a domain.

use xen_abi::console::{IN_RING, OUT_RING};
use xen_abi::hvm::{PARAM_CONSOLE_EVTCHN, PARAM_CONSOLE_PFN};
use xen_abi::memory::MapEntry;
use xen_abi::sched::SHUTDOWN_CRASH;
use xen_abi::{DomId, Mfn, Port, VcpuId};

use crate::frames::{Frames, Holder};
use crate::hypervisor::SimHypervisor;
use crate::machine::Machine;
use crate::pvh_view::PvhView;
use crate::view::GuestView;
use crate::window::{SimOwnPage, SimSlot, SimWindow};

/// Offsets of the indices in a console ring's page.
mod ring {
    pub(super) const OUTPUT: usize = super::IN_RING;
    pub(super) const IN_CONS: usize = OUTPUT + super::OUT_RING;
    pub(super) const IN_PROD: usize = IN_CONS + 4;
    pub(super) const OUT_CONS: usize = IN_PROD + 4;
    pub(super) const OUT_PROD: usize = OUT_CONS + 4;
}

/// A domain, for a test to look into and to act as.
#[derive(Clone, Debug)]
pub struct Guest {
    pub(crate) machine: Machine,
    pub(crate) domain: DomId,
}

impl Guest {
    pub(crate) fn new(machine: Machine, domain: DomId) -> Self {
        Self { machine, domain }
    }

    /// The memory map that Xen hands out when it asks for one (`XENMEM_memory_map`); nothing as long as nobody has set it.
    pub fn memory_map(&self) -> Vec<MapEntry> {
        let state = self.machine.state();
        state.domains.get(&self.domain).map(|domain| domain.memory_map.clone()).unwrap_or_default()
    }

    /// The machine that it is on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its identifier.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// Its seam: what it asks of Xen by this is asked in its name, with its rights.
    pub fn hypervisor(&self) -> SimHypervisor {
        self.machine.hypervisor(self.domain)
    }

    /// Its access to its own frames.
    pub fn window(&self) -> SimWindow {
        self.machine.window_of(self.domain)
    }

    /// A page of its memory, for its program to use and to share.
    ///
    /// Panics when the frame is not its own.
    pub fn own_page(&self, frame: Mfn) -> SimOwnPage {
        let page = SimOwnPage::new(&self.window(), frame);
        assert!(page.is_ok(), "domain {} cannot use frame {frame}: {page:?}", self.domain);
        #[expect(clippy::unwrap_used, reason = "just asserted")]
        page.unwrap()
    }

    /// A page of its address space that a grant can be mapped at.
    pub fn grant_slot(&self) -> SimSlot {
        self.machine.grant_slot(self.domain)
    }

    /// Whether it executes: unpaused, with a vCPU that was started, and not ended.
    pub fn runs(&self) -> bool {
        self.machine.state().domains.get(&self.domain).is_some_and(crate::domains::Domain::runs)
    }

    /// The frames of its memory, by the pages that the machine-to-physical table has for them.
    pub fn frames(&self) -> Vec<Mfn> {
        let state = self.machine.state();
        let own = state.frames.all().filter(|(_, frame)| frame.holder == Holder::Domain(self.domain));
        let mut found: Vec<_> = own.map(|(mfn, frame)| (frame.pfn, mfn)).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, mfn)| mfn).collect()
    }

    /// A byte of its memory, as its own program reads it.
    pub fn byte(&self, frame: Mfn, offset: usize) -> u8 {
        let mut byte = [0];
        self.machine.state().frames.read_at(frame, offset, &mut byte);
        byte[0]
    }

    /// Writes a byte of its memory, as its own program does.
    pub fn set_byte(&self, frame: Mfn, offset: usize, value: u8) {
        self.machine.state().frames.write_at(frame, offset, &[value]);
    }

    /// Pages it has.
    pub fn pages(&self) -> u64 {
        self.machine.state().domains.get(&self.domain).map_or(0, |domain| domain.pages)
    }

    /// What the boot vCPU sees when it starts; `None` as long as it was given nothing to start with.
    pub fn view(&self) -> Option<GuestView> {
        self.view_of(VcpuId::BOOT)
    }

    /// The same for any vCPU.
    pub fn view_of(&self, vcpu: VcpuId) -> Option<GuestView> {
        let state = self.machine.state();
        let domain = state.domains.get(&self.domain)?;
        let is_32_bit = domain.is_32_bit;
        let context = domain.vcpus.get(vcpu.raw() as usize)?.context.clone()?;
        drop(state);
        Some(GuestView::new(self.machine.clone(), self.domain, context, is_32_bit))
    }

    /// What the boot vCPU of a PVH domain sees when it starts; `None` for a PV domain, and without registers.
    pub fn pvh_view(&self) -> Option<PvhView> {
        let state = self.machine.state();
        let cpu = state.domains.get(&self.domain)?.hvm.as_ref()?.vcpus.first()?.cpu.clone()?;
        drop(state);
        Some(PvhView::new(self.machine.clone(), self.domain, cpu))
    }

    /// Panics when the domain does not run: a test must not let it act then.
    #[track_caller]
    fn assert_runs(&self) {
        assert!(self.runs(), "domain {} cannot act: it does not run", self.domain);
    }

    /// The console ring's frame and port, from its start info or its parameters.
    #[track_caller]
    fn console(&self) -> (Mfn, Port) {
        self.assert_runs();
        if let Some(view) = self.pvh_view() {
            let frame = Mfn::new(view.param(PARAM_CONSOLE_PFN));
            let ring = self.machine.state().machine_frame(self.domain, frame);
            let port = u32::try_from(view.param(PARAM_CONSOLE_EVTCHN)).unwrap_or(0);
            return (ring.unwrap_or(Mfn::INVALID), Port::new(port));
        }
        let info = self.view().and_then(|view| view.start_info());
        assert!(info.is_some(), "domain {} has no start info, so no console", self.domain);
        info.map_or((Mfn::INVALID, Port::new(0)), |info| {
            (Mfn::new(info.console_mfn), Port::new(info.console_evtchn))
        })
    }

    /// Writes to its console as much of `text` as the ring has room for, wakes whoever shows it, and says how many bytes went.
    pub fn write_console(&self, text: &[u8]) -> usize {
        let (page, port) = self.console();
        let mut state = self.machine.state();
        let frames = &mut state.frames;
        let consumed = load(frames, page, ring::OUT_CONS);
        let mut produced = load(frames, page, ring::OUT_PROD);
        let mut written = 0;
        while written < text.len() && (produced.wrapping_sub(consumed) as usize) < OUT_RING {
            let at = ring::OUTPUT + produced as usize % OUT_RING;
            frames.write_at(page, at, &text[written..=written]);
            produced = produced.wrapping_add(1);
            written += 1;
        }
        frames.write_at(page, ring::OUT_PROD, &produced.to_le_bytes());
        // A guest does not care whether anybody listens.
        let _sent = state.send(self.domain, port);
        written
    }

    /// Sets the producer index of its console output to anything, as a hostile guest may.
    pub fn forge_console_producer(&self, produced: u32) {
        let (page, port) = self.console();
        let mut state = self.machine.state();
        state.frames.write_at(page, ring::OUT_PROD, &produced.to_le_bytes());
        let _sent = state.send(self.domain, port);
    }

    /// Takes what was typed for it.
    pub fn read_console(&self) -> Vec<u8> {
        let (page, _) = self.console();
        let mut state = self.machine.state();
        let frames = &mut state.frames;
        let produced = load(frames, page, ring::IN_PROD);
        let mut consumed = load(frames, page, ring::IN_CONS);
        let mut taken = Vec::new();
        while consumed != produced {
            let mut byte = [0];
            frames.read_at(page, consumed as usize % IN_RING, &mut byte);
            taken.extend(byte);
            consumed = consumed.wrapping_add(1);
        }
        frames.write_at(page, ring::IN_CONS, &consumed.to_le_bytes());
        taken
    }

    /// Ends for `reason` (`SHUTDOWN_*`, or a reason of our own), which raises `VIRQ_DOM_EXC` with Dom0.
    #[track_caller]
    pub fn shut_down(&self, reason: u8) {
        self.assert_runs();
        let ended = self.machine.state().shut_down(self.domain, reason);
        assert!(ended.is_ok(), "domain {} cannot end: {ended:?}", self.domain);
    }

    /// Crashes.
    #[track_caller]
    pub fn crash(&self) {
        self.shut_down(SHUTDOWN_CRASH);
    }
}

fn load(frames: &Frames, page: Mfn, offset: usize) -> u32 {
    let mut bytes = [0; 4];
    frames.read_at(page, offset, &mut bytes);
    u32::from_le_bytes(bytes)
}
