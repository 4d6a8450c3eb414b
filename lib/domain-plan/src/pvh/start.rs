//! The contents of a PVH guest's memory and registers at its start.

use alloc::string::String;
use alloc::vec::Vec;

use xen_abi::hvm::save::{ACCESS_CODE, ACCESS_DATA, ACCESS_TASK, Cpu};
use xen_abi::hvm::start_info::{
    HvmStartInfo, MAGIC, MEMORY_ACPI, MEMORY_RAM, MEMORY_RESERVED, MemoryRange, Module, VERSION,
};
use xen_abi::{PAGE_SHIFT, PAGE_SIZE};
use zerocopy::{FromZeros, IntoBytes};

use super::{ACPI_END, ACPI_START, HIGH_START, SPECIAL_PAGES, acpi, low_memory, special_frame};
use crate::kernel::{copy_and_clear, fill_loads};
use crate::{Area, AreaKind, GuestRequest, PvhPlan};

/// The most ranges of a memory map.
const MEMORY_RANGES: u64 = 5;

/// CR0 of a processor in protected mode without paging: protection enable, extension type.
const CR0_PROTECTED: u64 = 0x11;
/// RFLAGS with the bit that is always set.
const RFLAGS_RESET: u64 = 1 << 1;
/// Reset values of the debug registers.
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;
/// Limit of a segment that is the whole of 4 GiB.
const FLAT: u32 = u32::MAX;
/// Limit of an empty task state segment.
const TASK_LIMIT: u32 = 0x67;

/// Flags of an entry of the identity table: present, writable, user, accessed, dirty, 4 MiB.
const IDENTITY_ENTRY: u32 = 0xe7;

/// Bytes that start info, memory map, module list and command line take at most.
pub(super) fn start_info_size(request: &GuestRequest<'_>) -> u64 {
    let info = size_of::<HvmStartInfo>() as u64;
    let map = MEMORY_RANGES.saturating_mul(size_of::<MemoryRange>() as u64);
    let list = (request.modules.len().max(1) as u64).saturating_mul(size_of::<Module>() as u64);
    let lines = request.modules.iter().map(|module| module.command_line).chain([request.command_line]);
    let lines = lines.map(|line| (line.len() as u64).saturating_add(1));
    lines.fold(info.saturating_add(map).saturating_add(list), u64::saturating_add)
}

impl PvhPlan<'_> {
    /// Fills `bytes`, whole pages, with what `area` holds from its page `first_page` on.
    ///
    /// Every byte is written: what nothing is loaded into is zero, whatever was in the memory before.
    pub fn fill(&self, area: &Area, first_page: u64, bytes: &mut [u8], ramdisk: &[u8]) {
        let offset = first_page << PAGE_SHIFT;
        let rest = |from: &[u8]| {
            let rest = usize::try_from(offset).ok().and_then(|offset| from.get(offset..));
            rest.unwrap_or_default().to_vec()
        };
        match area.kind {
            AreaKind::Kernel => {
                fill_loads(
                    &self.kernel.loads,
                    (area.first.raw() << PAGE_SHIFT).saturating_add(offset),
                    bytes,
                );
            }
            AreaKind::Ramdisk => {
                let rest = usize::try_from(offset).ok().and_then(|offset| ramdisk.get(offset..));
                copy_and_clear(bytes, rest.unwrap_or_default());
            }
            AreaKind::StartInfo => copy_and_clear(bytes, &rest(&self.start_info)),
            AreaKind::AcpiTables => copy_and_clear(bytes, &rest(&self.acpi)),
            AreaKind::IdentityTable => fill_identity_table(bytes),
            _ => bytes.fill(0),
        }
    }

    /// The guest's memory map, by ascending address.
    pub fn memory_map(&self) -> Vec<MemoryRange> {
        let range = |first: u64, end: u64, kind| MemoryRange {
            addr: first << PAGE_SHIFT,
            size: end.saturating_sub(first) << PAGE_SHIFT,
            kind,
            reserved: 0,
        };
        let low = low_memory(self.memory);
        let high = HIGH_START.saturating_add(self.memory.raw().saturating_sub(low));
        let special = special_frame(0);
        let ranges = [
            range(0, ACPI_START, MEMORY_RAM),
            range(ACPI_START, ACPI_END, MEMORY_ACPI),
            range(ACPI_END, low, MEMORY_RAM),
            range(special, special.saturating_add(SPECIAL_PAGES.len() as u64), MEMORY_RESERVED),
            range(HIGH_START, high, MEMORY_RAM),
        ];
        ranges.into_iter().filter(|range| range.size != 0).collect()
    }

    /// Guest-physical address of an area; 0 when the plan does not have it.
    fn address(&self, kind: AreaKind) -> u64 {
        self.area(kind).map_or(0, |area| area.first.raw() << PAGE_SHIFT)
    }

    /// The start info with everything it points to but the ACPI tables: memory map, module list, command line.
    pub(super) fn start_info_bytes(&self, command_line: &str) -> Vec<u8> {
        let map = self.memory_map();
        let base = self.address(AreaKind::StartInfo);
        let memmap_paddr = base.saturating_add(size_of::<HvmStartInfo>() as u64);
        let modlist_paddr = memmap_paddr.saturating_add(size_of_val(map.as_slice()) as u64);
        let list = (self.modules.len() as u64).saturating_mul(size_of::<Module>() as u64);
        let cmdline_paddr = modlist_paddr.saturating_add(list);
        let (modules, lines) = self.module_list(cmdline_paddr, command_line);
        let info = HvmStartInfo {
            magic: MAGIC,
            version: VERSION,
            flags: self.claims.bits(),
            nr_modules: u32::try_from(modules.len()).unwrap_or(0),
            modlist_paddr: if modules.is_empty() { 0 } else { modlist_paddr },
            cmdline_paddr,
            rsdp_paddr: acpi::root_address(ACPI_END << PAGE_SHIFT),
            memmap_paddr,
            memmap_entries: u32::try_from(map.len()).unwrap_or(0),
            ..HvmStartInfo::default()
        };
        let mut bytes = info.as_bytes().to_vec();
        bytes.extend_from_slice(map.as_slice().as_bytes());
        bytes.extend_from_slice(modules.as_slice().as_bytes());
        bytes.extend_from_slice(&lines);
        bytes
    }

    /// The list of modules, and what stands at `address`: the kernel's command line, then those of the modules that have one.
    fn module_list(&self, address: u64, command_line: &str) -> (Vec<Module>, Vec<u8>) {
        let ramdisk = self.address(AreaKind::Ramdisk);
        let mut lines = command_line.as_bytes().to_vec();
        lines.push(0);
        let entry = |(start, size, line): &(u64, u64, String)| {
            let cmdline_paddr = if line.is_empty() { 0 } else { address.saturating_add(lines.len() as u64) };
            if !line.is_empty() {
                lines.extend_from_slice(line.as_bytes());
                lines.push(0);
            }
            Module { paddr: ramdisk.saturating_add(*start), size: *size, cmdline_paddr, reserved: 0 }
        };
        (self.modules.iter().map(entry).collect(), lines)
    }

    /// The registers the boot vCPU starts with: flat 32-bit mode, the start info's address in EBX. Other vCPUs are started by
    /// the guest.
    pub fn boot_cpu(&self) -> Cpu {
        let mut cpu = Cpu::new_zeroed();
        cpu.rip = u64::from(self.kernel.entry);
        cpu.rbx = self.address(AreaKind::StartInfo);
        cpu.rflags = RFLAGS_RESET;
        cpu.cr0 = CR0_PROTECTED;
        (cpu.dr6, cpu.dr7) = (DR6_RESET, DR7_RESET);
        cpu.cs_arbytes = ACCESS_CODE;
        (cpu.ds_arbytes, cpu.es_arbytes, cpu.ss_arbytes) = (ACCESS_DATA, ACCESS_DATA, ACCESS_DATA);
        cpu.tr_arbytes = ACCESS_TASK;
        (cpu.cs_limit, cpu.ds_limit, cpu.es_limit, cpu.ss_limit) = (FLAT, FLAT, FLAT, FLAT);
        cpu.tr_limit = TASK_LIMIT;
        cpu
    }
}

/// Fills a page with a 32-bit page directory that maps all of 4 GiB onto itself. Processors that cannot run a guest with paging
/// switched off run it on this.
fn fill_identity_table(bytes: &mut [u8]) {
    let (entries, _) = bytes.as_chunks_mut::<4>();
    for (entry, number) in entries.iter_mut().take(PAGE_SIZE / 4).zip(0_u32..) {
        *entry = (number << 22 | IDENTITY_ENTRY).to_le_bytes();
    }
}
