//! A PV domain built by hand: the smallest that Xen accepts.
#![allow(dead_code, reason = "each test file uses another part")]
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

use hypercall::{CallError, FrameWindow, Xen};
use xen_abi::domctl::{CreateDomain, CreateFlags};
use xen_abi::mmu::{Pte, PteFlags};
use xen_abi::start_info::{MAGIC, StartInfo};
use xen_abi::vcpu::{VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext};
use xen_abi::{DomId, Mfn, PageCount, VcpuId};
use xen_sim::{Machine, SimHypervisor};
use zerocopy::IntoBytes;

/// Pages of the domain.
pub(crate) const PAGES: usize = 32;
/// What stands in which page: the p2m list, start info, console ring, the four levels of page tables, the stack.
pub(crate) const P2M: usize = 16;
pub(crate) const START_INFO: usize = 17;
pub(crate) const CONSOLE: usize = 18;
pub(crate) const TABLES: usize = 19;
pub(crate) const STACK: usize = 23;

/// A create request for a PV domain with one vCPU.
pub(crate) fn request() -> CreateDomain {
    CreateDomain {
        ssidref: 0,
        handle: *b"by hand by hand ",
        flags: CreateFlags::empty(),
        max_vcpus: 1,
        max_evtchn_port: 1023,
        max_grant_frames: 32,
        max_maptrack_frames: 1024,
        max_grant_version: 1,
        emulation_flags: 0,
        misc_flags: 0,
    }
}

/// A domain on its way.
pub(crate) struct ByHand {
    pub(crate) machine: Machine,
    pub(crate) xen: Xen<SimHypervisor>,
    pub(crate) domain: DomId,
    pub(crate) frames: Vec<Mfn>,
}

impl ByHand {
    /// Creates the domain and gives it memory.
    pub(crate) fn populated(machine: Machine) -> Self {
        let xen = Xen::probe(machine.dom0()).unwrap();
        let domain = xen.create_domain(None, &request()).unwrap();
        xen.set_max_vcpus(domain, 1).unwrap();
        xen.set_max_memory(domain, PageCount::new(PAGES as u64)).unwrap();
        let mut frames: Vec<u64> = (0..PAGES as u64).collect();
        assert_eq!(xen.populate(domain, 0, &mut frames).unwrap().extents, PAGES);
        let frames = frames.into_iter().map(Mfn::new).collect();
        Self { machine, xen, domain, frames }
    }

    /// Writes one page.
    pub(crate) fn write(&self, page: usize, bytes: &[u8]) {
        let frame = self.frames[page];
        let write = |page: &mut [u8]| {
            page.fill(0);
            page[..bytes.len()].copy_from_slice(bytes);
        };
        self.machine.window().with_frames(self.domain, &[frame], write).unwrap();
    }

    /// Writes a page of entries.
    pub(crate) fn write_table(&self, page: usize, entries: &[(usize, Pte)]) {
        let mut table = [0_u64; 512];
        for (slot, pte) in entries {
            table[*slot] = pte.raw();
        }
        self.write(page, table.as_bytes());
    }

    /// Fills in the start-of-day picture: every page mapped at its own number from address 0, the tables read-only.
    pub(crate) fn load(&self) {
        let both = PteFlags::PRESENT | PteFlags::RW;
        let level_1: Vec<(usize, Pte)> = (0..PAGES)
            .map(|page| {
                let flags = if (TABLES..TABLES + 4).contains(&page) { PteFlags::PRESENT } else { both };
                (page, Pte::new(self.frames[page], flags))
            })
            .collect();
        self.write_table(TABLES, &level_1);
        for level in 1..4 {
            self.write_table(TABLES + level, &[(0, Pte::new(self.frames[TABLES + level - 1], both))]);
        }
        let p2m: Vec<u64> = self.frames.iter().map(|frame| frame.raw()).collect();
        self.write(P2M, p2m.as_bytes());
        self.write(CONSOLE, &[]);
        self.write(START_INFO, self.start_info().as_bytes());
    }

    fn start_info(&self) -> StartInfo {
        let mut info = StartInfo::zeroed();
        info.magic[..MAGIC.len()].copy_from_slice(MAGIC);
        info.nr_pages = PAGES as u64;
        info.mfn_list = P2M as u64 * 4096;
        info.console_mfn = self.frames[CONSOLE].raw();
        info.console_evtchn = self.xen.alloc_unbound(self.domain, DomId::new(0)).unwrap().raw();
        info.pt_base = (TABLES as u64 + 3) * 4096;
        info.nr_pt_frames = 4;
        info
    }

    /// The top page table.
    pub(crate) fn root(&self) -> Mfn {
        self.frames[TABLES + 3]
    }

    /// What the boot vCPU is to start with.
    pub(crate) fn context(&self) -> Box<VcpuGuestContext> {
        let mut context = Box::new(VcpuGuestContext::zeroed());
        context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
        context.user_regs.rip = 0x1000;
        context.user_regs.rsp = (STACK as u64 + 1) * 4096;
        context.user_regs.rsi = START_INFO as u64 * 4096;
        context.ctrlreg[3] = self.root().raw() << 12;
        context
    }

    /// Pins the tables and sets the vCPU.
    pub(crate) fn seal(&self) -> Result<(), CallError> {
        self.xen.pin_l4(self.domain, self.root())?;
        self.xen.set_vcpu_context(self.domain, VcpuId::BOOT, &self.context())
    }

    /// A domain that runs.
    pub(crate) fn running(machine: Machine) -> Self {
        let this = Self::populated(machine);
        this.load();
        this.seal().unwrap();
        this.xen.unpause_domain(this.domain).unwrap();
        this
    }
}
