//! The contents of a guest's memory and registers at its start.

use alloc::vec::Vec;

use xen_abi::mmu::{Pte, TABLE_ENTRIES};
use xen_abi::pv32::{self, StartInfo32};
use xen_abi::shared_info::SharedInfo;
use xen_abi::start_info::{MAGIC, StartFlags, StartInfo};
use xen_abi::vcpu::{
    FLAT_KERNEL_CS, FLAT_KERNEL_DS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext,
};
use xen_abi::{GuestVirt, MachineAddr, Mfn, PAGE_SHIFT, PAGE_SIZE, PageCount, Pfn, Port};
use zerocopy::{FromBytes, IntoBytes};

use crate::kernel::{copy_and_clear, fill_loads};
use crate::{AddressSize, Area, AreaKind, FrameRange, P2m, PvPlan};

/// Reset values of the debug registers.
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;

/// RFLAGS with interrupts enabled, which for a PV guest is all that is kept there.
const RFLAGS_IF: u64 = 1 << 9;

/// The first machine address that a word of 32 bits cannot hold.
const FOUR_GIB: u64 = 1 << 32;

/// What has to be known besides the plan to write a guest's memory.
#[derive(Clone, Copy, Debug)]
pub struct StartOfDay<'a> {
    /// The guest's memory.
    pub p2m: &'a P2m,
    /// The RAM disk; empty without one.
    pub ramdisk: &'a [u8],
    /// The page that Xen shares with the guest.
    pub shared_info: MachineAddr,
    /// The guest's port of the console ring.
    pub console: Port,
    /// The guest's port of the XenStore ring, if somebody serves it.
    pub store: Option<Port>,
}

impl PvPlan<'_> {
    /// Fills `bytes`, whole pages, with what `area` holds from its page `first_page` on.
    ///
    /// Every byte is written: what nothing is loaded into is zero, whatever was in the memory before.
    pub fn fill(&self, area: &Area, first_page: u64, bytes: &mut [u8], start: &StartOfDay<'_>) {
        let offset = first_page << PAGE_SHIFT;
        match area.kind {
            AreaKind::Kernel => {
                fill_loads(
                    &self.kernel.loads,
                    (area.first.raw() << PAGE_SHIFT).saturating_add(offset),
                    bytes,
                );
            }
            AreaKind::Ramdisk => {
                let rest = usize::try_from(offset).ok().and_then(|offset| start.ramdisk.get(offset..));
                copy_and_clear(bytes, rest.unwrap_or_default());
            }
            AreaKind::P2m => match self.kernel.address_size {
                AddressSize::Bits64 => start.p2m.fill::<8>(Pfn::new(offset >> 3), bytes),
                AddressSize::Bits32 { .. } => start.p2m.fill::<4>(Pfn::new(offset >> 2), bytes),
            },
            AreaKind::StartInfo => {
                let info = self.start_info(start);
                match self.kernel.address_size {
                    AddressSize::Bits64 => copy_and_clear(bytes, info.as_bytes()),
                    AddressSize::Bits32 { .. } => {
                        copy_and_clear(bytes, StartInfo32::narrow(&info).as_bytes());
                    }
                }
            }
            AreaKind::PageTables | AreaKind::P2mTables => {
                self.fill_tables(area, first_page, bytes, start.p2m);
            }
            _ => bytes.fill(0),
        }
    }

    /// Fills `bytes` with the tables in `area` from its page `first_page` on.
    fn fill_tables(&self, area: &Area, first_page: u64, bytes: &mut [u8], p2m: &P2m) {
        let read_only: Vec<_> = self.table_frames().collect();
        let (pages, _) = bytes.as_chunks_mut::<PAGE_SIZE>();
        for (page, number) in pages.iter_mut().zip(first_page..) {
            let frame = area.first.checked_add(PageCount::new(number));
            let table = frame.and_then(|frame| self.tables.table_in(frame));
            let entries = table
                .map_or([Pte::EMPTY; TABLE_ENTRIES], |table| self.tables.entries(table, p2m, &read_only));
            copy_and_clear(page, entries.as_bytes());
        }
    }

    /// The frames that hold page tables.
    fn table_frames(&self) -> impl Iterator<Item = FrameRange> {
        let areas =
            self.areas.iter().filter(|area| matches!(area.kind, AreaKind::PageTables | AreaKind::P2mTables));
        areas.map(|area| FrameRange { first: area.first, pages: area.pages })
    }

    /// Whether a frame holds a page table.
    pub fn is_table(&self, frame: Pfn) -> bool {
        let behind = |range: &FrameRange| range.first.raw().saturating_add(range.pages.raw());
        self.table_frames().any(|range| range.first <= frame && frame.raw() < behind(&range))
    }

    /// The virtual address of an area's first byte; 0 when the plan does not have it or does not map it.
    fn virt(&self, kind: AreaKind) -> u64 {
        self.area(kind).and_then(|area| area.virt).map_or(0, GuestVirt::raw)
    }

    /// The machine frame of an area's first page; 0 when the plan does not have it.
    fn mfn(&self, kind: AreaKind, p2m: &P2m) -> u64 {
        self.area(kind).and_then(|area| p2m.mfn(area.first)).map_or(0, Mfn::raw)
    }

    /// What the guest is told (public/xen.h, `struct start_info`); a 32-bit guest gets it narrowed ([`StartInfo32`]).
    pub fn start_info(&self, start: &StartOfDay<'_>) -> StartInfo {
        let mut info = StartInfo::zeroed();
        let magic = if self.kernel.address_size.is_32_bit() { pv32::MAGIC } else { MAGIC };
        copy_and_clear(&mut info.magic, magic);
        copy_and_clear(&mut info.cmd_line, &self.command_line);
        info.nr_pages = self.memory.raw();
        info.shared_info = start.shared_info.raw();
        info.store_mfn = self.mfn(AreaKind::XenStore, start.p2m);
        info.store_evtchn = start.store.map_or(0, Port::raw);
        // The initial domain reads the place of the machine's screen there instead; there is none for this one.
        if !self.claims.contains(StartFlags::INITDOMAIN) {
            info.console_mfn = self.mfn(AreaKind::Console, start.p2m);
            info.console_evtchn = start.console.raw();
        }
        info.pt_base = self.virt(AreaKind::PageTables);
        info.nr_pt_frames = self.area(AreaKind::PageTables).map_or(0, |area| area.pages.raw());
        let mut flags = StartFlags::VIRT_P2M_4TOOLS | self.claims;
        if let Some((area, length)) = self.area(AreaKind::Ramdisk).zip(self.ramdisk) {
            info.mod_len = length;
            info.mod_start = area.virt.map_or(area.first.raw(), GuestVirt::raw);
            flags.set(StartFlags::MOD_START_PFN, area.virt.is_none());
        }
        info.flags = flags.bits();
        self.tell_p2m(&mut info);
        info
    }

    /// Tells the guest where its p2m list is.
    fn tell_p2m(&self, info: &mut StartInfo) {
        let Some(list) = self.area(AreaKind::P2m) else { return };
        if let Some(virt) = list.virt {
            info.mfn_list = virt.raw();
            return;
        }
        let tables = self.area(AreaKind::P2mTables).map_or(PageCount::ZERO, |area| area.pages);
        info.mfn_list = self.kernel.usable_init_p2m().map_or(0, GuestVirt::raw);
        info.first_p2m_pfn = list.first.raw();
        info.nr_p2m_frames = list.pages.raw().saturating_add(tables.raw());
    }

    /// What the boot vCPU starts with (public/xen.h; other vCPUs are started by the guest); that of a 32-bit guest is to be narrowed
    /// ([`pv32::VcpuGuestContext32`]).
    pub fn vcpu_context(&self, p2m: &P2m) -> VcpuGuestContext {
        let mut context = VcpuGuestContext::zeroed();
        let stack = self.virt(AreaKind::BootStack).wrapping_add(PAGE_SIZE as u64);
        context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
        context.user_regs.rip = self.kernel.entry.raw();
        context.user_regs.rsp = stack;
        context.user_regs.rsi = self.virt(AreaKind::StartInfo);
        context.user_regs.rflags = RFLAGS_IF;
        let (cs, ss, data) = match self.kernel.address_size {
            AddressSize::Bits64 => (FLAT_KERNEL_CS, FLAT_KERNEL_SS, FLAT_KERNEL_DS),
            AddressSize::Bits32 { .. } => (pv32::FLAT_KERNEL_CS, pv32::FLAT_KERNEL_DS, pv32::FLAT_KERNEL_DS),
        };
        (context.user_regs.cs, context.user_regs.ss) = (cs, ss);
        for segment in [
            &mut context.user_regs.ds,
            &mut context.user_regs.es,
            &mut context.user_regs.fs,
            &mut context.user_regs.gs,
        ] {
            *segment = data;
        }
        context.kernel_ss = u64::from(ss);
        context.kernel_sp = stack;
        let [_, _, _, cr3, ..] = &mut context.ctrlreg;
        *cr3 = self.cr3(p2m);
        if self.kernel.address_size == (AddressSize::Bits32 { extended_cr3: true }) {
            context.vm_assist = pv32::VM_ASSIST_PAE_EXTENDED_CR3;
        }
        let [.., dr6, dr7] = &mut context.debugreg;
        (*dr6, *dr7) = (DR6_RESET, DR7_RESET);
        context
    }

    /// The register that holds the top-level page table.
    fn cr3(&self, p2m: &P2m) -> u64 {
        let top = self.top_table(p2m);
        match self.kernel.address_size {
            AddressSize::Bits64 => top.and_then(Mfn::address).map_or(0, MachineAddr::raw),
            AddressSize::Bits32 { .. } => top.map_or(0, |top| pv32::cr3_of_frame(top.raw())),
        }
    }

    /// What a 32-bit guest cannot be told of, because the machine's memory it is in is out of the reach of its words.
    pub fn out_of_reach(&self, p2m: &P2m, shared_info: MachineAddr) -> Option<&'static str> {
        let AddressSize::Bits32 { extended_cr3 } = self.kernel.address_size else { return None };
        let top = self.top_table(p2m).and_then(Mfn::address).map_or(0, MachineAddr::raw);
        if shared_info.raw() >= FOUR_GIB {
            Some("the page that Xen shares with it")
        } else if top >= FOUR_GIB && !extended_cr3 {
            Some("its top page table, and the kernel's PAE_MODE has no extended CR3")
        } else {
            None
        }
    }

    /// The machine frame of the top-level page table.
    pub fn top_table(&self, p2m: &P2m) -> Option<Mfn> {
        p2m.mfn(self.tables.top()?.frame)
    }
}

/// Masks the upcalls of every vCPU in a domain's shared info page.
///
/// A PV guest starts with upcalls masked and unmasks them when it can take them (public/xen.h, `evtchn_upcall_mask`). Xen leaves
/// this to the builder; a guest that is not masked dies of the first event, such as its console's.
pub fn mask_upcalls(shared_info: &mut [u8]) {
    if let Ok((info, _)) = SharedInfo::mut_from_prefix(shared_info) {
        for vcpu in &mut info.vcpu_info {
            vcpu.evtchn_upcall_mask = 1;
        }
    }
}
