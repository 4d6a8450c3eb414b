//! What a PVH domain sees when it starts.

use xen_abi::hvm::save::{ACCESS_CODE, ACCESS_DATA, Cpu, MTRR_ENABLE, MTRR_WRITE_BACK};
use xen_abi::hvm::start_info::{HvmStartInfo, MAGIC, MEMORY_ACPI, MEMORY_RAM, MemoryRange, Module, VERSION};
use xen_abi::hvm::{PARAM_CONSOLE_PFN, PARAM_IDENT_PT};
use xen_abi::{DomId, PAGE_SIZE};
use zerocopy::FromBytes;

use crate::machine::Machine;

/// The boot vCPU's first view of a PVH domain: its registers, and memory by guest-physical address.
#[derive(Clone, Debug)]
pub struct PvhView {
    machine: Machine,
    domain: DomId,
    cpu: Box<Cpu>,
}

impl PvhView {
    pub(crate) fn new(machine: Machine, domain: DomId, cpu: Box<Cpu>) -> Self {
        Self { machine, domain, cpu }
    }

    /// The registers.
    pub fn registers(&self) -> &Cpu {
        &self.cpu
    }

    /// A parameter (`hvm::PARAM_*`); 0 as long as nobody has set it.
    pub fn param(&self, index: u32) -> u64 {
        let state = self.machine.state();
        let hvm = state.domains.get(&self.domain).and_then(|domain| domain.hvm.as_ref());
        hvm.and_then(|hvm| hvm.params.get(&index).copied()).unwrap_or(0)
    }

    /// Copies `length` bytes from guest-physical `address`; `None` where there is no memory.
    pub fn read(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let state = self.machine.state();
        let hvm = state.domains.get(&self.domain)?.hvm.as_ref()?;
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = address.checked_add(bytes.len() as u64)?;
            let within = usize::try_from(at % PAGE_SIZE as u64).ok()?;
            let count = (PAGE_SIZE - within).min(length - bytes.len());
            let page = state.frames.read(*hvm.frames.get(&(at / PAGE_SIZE as u64))?);
            bytes.extend_from_slice(&page[within..within + count]);
        }
        Some(bytes)
    }

    fn read_as<T: FromBytes>(&self, address: u64) -> Option<T> {
        T::read_from_bytes(&self.read(address, size_of::<T>())?).ok()
    }

    fn read_list<T: FromBytes>(&self, address: u64, count: u32) -> Option<Vec<T>> {
        let size = size_of::<T>() as u64;
        (0..u64::from(count)).map(|index| self.read_as(address.checked_add(index * size)?)).collect()
    }

    /// What EBX points to.
    pub fn start_info(&self) -> Option<HvmStartInfo> {
        self.read_as(self.cpu.rbx)
    }

    /// The memory map.
    pub fn memory_map(&self) -> Option<Vec<MemoryRange>> {
        let info = self.start_info()?;
        self.read_list(info.memmap_paddr, info.memmap_entries)
    }

    /// The modules, with their bytes.
    pub fn modules(&self) -> Option<Vec<Vec<u8>>> {
        let info = self.start_info()?;
        let modules: Vec<Module> = self.read_list(info.modlist_paddr, info.nr_modules)?;
        modules.iter().map(|module| self.read(module.paddr, usize::try_from(module.size).ok()?)).collect()
    }

    /// The command line, without its NUL.
    pub fn command_line(&self) -> Option<Vec<u8>> {
        let start = self.start_info()?.cmdline_paddr;
        let bytes = (start..).map_while(|at| self.read_as::<u8>(at));
        Some(bytes.take_while(|byte| *byte != 0).collect())
    }

    /// What in this view contradicts itself or the rules of a PVH guest's start, in words; empty when all is well.
    ///
    /// The registers are those of flat 32-bit mode without paging, the start info can be read and is of version 1, the memory
    /// map says memory where there is memory and only there, memory is cached by default on every vCPU, and the special pages
    /// are there: the console ring empty, the identity table mapping 4 MiB pages onto themselves.
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        let cpu = &self.cpu;
        let flat = (cpu.cr0, cpu.cs_arbytes, cpu.ss_arbytes) == (0x11, ACCESS_CODE, ACCESS_DATA)
            && [cpu.ds_arbytes, cpu.es_arbytes] == [ACCESS_DATA; 2]
            && [cpu.cs_limit, cpu.ds_limit, cpu.es_limit, cpu.ss_limit] == [u32::MAX; 4];
        if !flat {
            found.push(format!("the boot vCPU is not in flat 32-bit mode: cr0 is {:#x}", cpu.cr0));
        }
        let info = self.start_info();
        if info.is_none_or(|info| (info.magic, info.version) != (MAGIC, VERSION)) {
            found.push(format!("EBX {:#x} does not point to a start info of version 1", cpu.rbx));
        }
        self.check_memory(&mut found);
        self.check_special(&mut found);
        found
    }

    fn check_memory(&self, found: &mut Vec<String>) {
        let map = self.memory_map().unwrap_or_default();
        let usable = |range: &&MemoryRange| [MEMORY_RAM, MEMORY_ACPI].contains(&range.kind);
        let pages: u64 = map.iter().filter(usable).map(|range| range.size / PAGE_SIZE as u64).sum();
        let state = self.machine.state();
        let Some(hvm) = state.domains.get(&self.domain).and_then(|domain| domain.hvm.as_ref()) else {
            return;
        };
        for range in map.iter().filter(usable) {
            let frames = range.addr / PAGE_SIZE as u64..(range.addr + range.size) / PAGE_SIZE as u64;
            let there = hvm.frames.range(frames.clone()).count() as u64;
            if there != frames.end - frames.start {
                found.push(format!("of the frames {frames:#x?} in the memory map only {there} are there"));
            }
        }
        let reserved = map.iter().filter(|range| !usable(range));
        let reserved: u64 = reserved.map(|range| range.size / PAGE_SIZE as u64).sum();
        if hvm.frames.len() as u64 != pages + reserved {
            found.push(format!(
                "{} frames, {} of them in the memory map",
                hvm.frames.len(),
                pages + reserved
            ));
        }
        let cached =
            |vcpu: &crate::hvm::HvmVcpu| vcpu.mtrr.msr_mtrr_def_type == MTRR_ENABLE | MTRR_WRITE_BACK;
        if !hvm.vcpus.iter().all(cached) {
            found.push("memory is not cached by default on every vCPU".into());
        }
    }

    fn check_special(&self, found: &mut Vec<String>) {
        let ring = self.read(self.param(PARAM_CONSOLE_PFN) * PAGE_SIZE as u64, PAGE_SIZE);
        if ring.is_none_or(|ring| ring.iter().any(|byte| *byte != 0)) {
            found.push("the console ring is not there, or not empty".into());
        }
        let table = self.read_list::<u32>(self.param(PARAM_IDENT_PT), 1024).unwrap_or_default();
        let onto_itself = |(number, entry): (u32, &u32)| entry >> 22 == number && entry & 0x83 == 0x83;
        if table.len() != 1024 || !(0..).zip(&table).all(onto_itself) {
            found.push("the identity table is not there, or maps something else".into());
        }
    }

    /// Panics, with a list, unless [`complaints`](Self::complaints) is empty.
    #[track_caller]
    pub fn assert_sane(&self) {
        let found = self.complaints();
        assert!(found.is_empty(), "domain {} starts into trouble:\n  {}", self.domain, found.join("\n  "));
    }
}
