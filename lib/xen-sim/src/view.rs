//! What a domain sees when it starts.

use std::collections::BTreeMap;

use xen_abi::mmu::PteFlags;
use xen_abi::pv32::{self, StartInfo32};
use xen_abi::start_info::StartInfo;
use xen_abi::vcpu::{UserRegs, VcpuGuestContext};
use xen_abi::{DomId, GuestVirt, Mfn, PAGE_SIZE, Pfn};
use zerocopy::FromBytes;

use crate::frames::{Frames, Use};
use crate::machine::Machine;
use crate::pagetables::{frame_of_cr3, height};

/// What a virtual address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The page's virtual address.
    pub address: GuestVirt,
    /// The frame behind it.
    pub frame: Mfn,
    /// Whether it can be written.
    pub writable: bool,
}

/// A vCPU's first view: its registers, and memory through its own page tables.
#[derive(Clone, Debug)]
pub struct GuestView {
    machine: Machine,
    domain: DomId,
    context: Box<VcpuGuestContext>,
    is_32_bit: bool,
}

impl GuestView {
    pub(crate) fn new(
        machine: Machine,
        domain: DomId,
        context: Box<VcpuGuestContext>,
        is_32_bit: bool,
    ) -> Self {
        Self { machine, domain, context, is_32_bit }
    }

    /// Whether the domain is a 32-bit one.
    pub fn is_32_bit(&self) -> bool {
        self.is_32_bit
    }

    /// All that the vCPU starts with, as Xen corrected it.
    pub fn context(&self) -> &VcpuGuestContext {
        &self.context
    }

    /// The general registers.
    pub fn registers(&self) -> &UserRegs {
        &self.context.user_regs
    }

    /// The top page table.
    pub fn root(&self) -> Mfn {
        let [_, _, _, cr3, ..] = self.context.ctrlreg;
        if self.is_32_bit { Mfn::new(pv32::frame_of_cr3(cr3)) } else { frame_of_cr3(cr3) }
    }

    /// What `address` stands for; `None` for a page fault.
    pub fn translate(&self, address: GuestVirt) -> Option<Mapping> {
        let (frame, flags) = self.machine.state().frames.walk(self.root(), address)?;
        let page = GuestVirt::new(address.raw() & !0xfff);
        Some(Mapping { address: page, frame, writable: flags.contains(PteFlags::RW) })
    }

    /// `length` bytes from `address`; `None` when any of them is not mapped.
    pub fn read(&self, address: GuestVirt, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            let at = address.checked_add(done as u64)?;
            let within = (at.raw() & 0xfff) as usize;
            let count = (PAGE_SIZE - within).min(length - done);
            let frame = self.translate(at)?.frame;
            self.machine.state().frames.read_at(frame, within, &mut bytes[done..done + count]);
            done += count;
        }
        Some(bytes)
    }

    /// A structure at `address`; `None` when any of it is not mapped.
    pub fn read_value<T: FromBytes>(&self, address: GuestVirt) -> Option<T> {
        T::read_from_bytes(&self.read(address, size_of::<T>())?).ok()
    }

    /// The bytes of a frame of the domain, mapped or not.
    pub fn read_frame(&self, frame: Mfn) -> Vec<u8> {
        self.machine.state().frames.read(frame).to_vec()
    }

    /// The start info, which RSI points to; a 32-bit domain's with wider fields than it has.
    pub fn start_info(&self) -> Option<StartInfo> {
        let address = GuestVirt::new(self.context.user_regs.rsi);
        if self.is_32_bit {
            return self.read_value(address).map(|info: StartInfo32| info.widen());
        }
        self.read_value(address)
    }

    /// The p2m list that the start info names: the frame of each page of the domain.
    ///
    /// `None` when it cannot be read.
    pub fn p2m(&self) -> Option<Vec<Mfn>> {
        let info = self.start_info()?;
        let pages = usize::try_from(info.nr_pages).ok()?;
        let word = if self.is_32_bit { 4 } else { 8 };
        let bytes = self.read(GuestVirt::new(info.mfn_list), pages.checked_mul(word)?)?;
        let frame = |entry: &[u8]| {
            // All ones stay all ones: no frame.
            let mut wide = if entry.iter().all(|byte| *byte == 0xff) { [0xff; 8] } else { [0; 8] };
            wide[..entry.len()].copy_from_slice(entry);
            Mfn::new(u64::from_le_bytes(wide))
        };
        Some(bytes.chunks_exact(word).map(frame).collect())
    }

    /// The page that the machine-to-physical table has for a frame.
    pub fn m2p(&self, frame: Mfn) -> Option<Pfn> {
        self.machine.state().frames.get(frame)?.pfn.map(Pfn::new)
    }

    /// Every page that is mapped, by address.
    pub fn mappings(&self) -> Vec<Mapping> {
        let found = self.machine.state().frames.mappings(self.root());
        found.into_iter().map(|(address, frame, writable)| Mapping { address, frame, writable }).collect()
    }

    /// The domain's frames that are page tables, with their levels.
    pub fn page_tables(&self) -> BTreeMap<Mfn, u8> {
        let state = self.machine.state();
        let table = |frames: &Frames, mfn: Mfn| match frames.get(mfn)?.usage {
            Use::Table(level) if frames.get(mfn)?.uses > 0 => Some(height(level)),
            _ => None,
        };
        let own = state.frames.all().filter(|(_, frame)| frame.owner() == Some(self.domain));
        own.filter_map(|(mfn, _)| Some((mfn, table(&state.frames, mfn)?))).collect()
    }

    /// What in this view contradicts itself or the rules for PV guests, in words; empty when all is well.
    ///
    /// The start info can be read and has its magic; the p2m list has one frame of the domain for each page, each once, and
    /// the machine-to-physical table agrees; the entry point and the stack are mapped; start info, p2m list, module and page
    /// tables are where it says; what is mapped writable is no page table.
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        let Some(info) = self.start_info() else {
            return vec![format!("RSI {:#x} does not point to a start info", self.context.user_regs.rsi)];
        };
        let magic = if self.is_32_bit { pv32::MAGIC } else { xen_abi::start_info::MAGIC };
        if !info.magic.starts_with(magic) || info.magic.get(magic.len()) != Some(&0) {
            found.push(format!("the start info has the magic {:?}", String::from_utf8_lossy(&info.magic)));
        }
        self.check_registers(&mut found);
        self.check_p2m(&info, &mut found);
        self.check_tables(&info, &mut found);
        found
    }

    fn check_registers(&self, found: &mut Vec<String>) {
        let regs = self.registers();
        if self.translate(GuestVirt::new(regs.rip)).is_none() {
            found.push(format!("the entry point {:#x} is not mapped", regs.rip));
        }
        let below_stack = GuestVirt::new(regs.rsp.wrapping_sub(8));
        if !self.translate(below_stack).is_some_and(|mapping| mapping.writable) {
            found.push(format!("the stack below {:#x} is not mapped writable", regs.rsp));
        }
    }

    fn check_p2m(&self, info: &StartInfo, found: &mut Vec<String>) {
        let Some(p2m) = self.p2m() else {
            found.push(format!("the p2m list at {:#x} cannot be read", info.mfn_list));
            return;
        };
        let mut seen = BTreeMap::new();
        let state = self.machine.state();
        for (pfn, mfn) in p2m.into_iter().enumerate().filter(|(_, mfn)| *mfn != Mfn::INVALID) {
            let frame = state.frames.get(mfn);
            if frame.and_then(crate::frames::Frame::owner) != Some(self.domain) {
                found.push(format!("page {pfn:#x} has frame {mfn}, which is not the domain's"));
            }
            if frame.and_then(|frame| frame.pfn) != Some(pfn as u64) {
                found.push(format!("the machine-to-physical table does not have {pfn:#x} for frame {mfn}"));
            }
            if let Some(other) = seen.insert(mfn, pfn) {
                found.push(format!("pages {other:#x} and {pfn:#x} have the same frame {mfn}"));
            }
        }
    }

    fn check_tables(&self, info: &StartInfo, found: &mut Vec<String>) {
        let tables = self.page_tables();
        if self.translate(GuestVirt::new(info.pt_base)).map(|mapping| mapping.frame) != Some(self.root()) {
            found.push(format!("pt_base {:#x} is not the top page table", info.pt_base));
        }
        // Tables that map a p2m list of its own place are counted with the list.
        let with_list = info.first_p2m_pfn..info.first_p2m_pfn.saturating_add(info.nr_p2m_frames);
        let counted = |table: &&Mfn| !self.m2p(**table).is_some_and(|pfn| with_list.contains(&pfn.raw()));
        let count = tables.keys().filter(counted).count() as u64;
        if count != info.nr_pt_frames {
            found.push(format!("{count} page tables, where nr_pt_frames is {}", info.nr_pt_frames));
        }
        for mapping in self.mappings().iter().filter(|mapping| mapping.writable) {
            if tables.contains_key(&mapping.frame) {
                found.push(format!(
                    "the page table {} is mapped writable at {}",
                    mapping.frame, mapping.address
                ));
            }
        }
        let module_mapped = info.flags & xen_abi::start_info::StartFlags::MOD_START_PFN.bits() == 0;
        if info.mod_len > 0 && module_mapped {
            let last = info.mod_start.wrapping_add(info.mod_len - 1);
            if [info.mod_start, last].into_iter().any(|at| self.translate(GuestVirt::new(at)).is_none()) {
                found.push(format!("the module [{:#x}..{:#x}] is not mapped", info.mod_start, last));
            }
        }
    }

    /// Panics, with a list, unless [`complaints`](Self::complaints) is empty.
    #[track_caller]
    pub fn assert_sane(&self) {
        let found = self.complaints();
        assert!(found.is_empty(), "domain {} starts into trouble:\n  {}", self.domain, found.join("\n  "));
    }
}
