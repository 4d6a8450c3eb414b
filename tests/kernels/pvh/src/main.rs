//! A PVH guest without a runtime: shows what its start info says, and checks that its modules lie in memory as they should: each on
//! a page of its own, none over another, all within what the memory map calls memory. `modules=` says how many there are to be;
//! with `has=devices` it uses the real-time clock and two pages of firmware.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod machine;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("this is a kernel: make -C tests pvh.run");
}

#[cfg(target_os = "none")]
use kernel::run;

#[cfg(target_os = "none")]
mod kernel {
    use core::fmt::Write;

    use xen_abi::PAGE_SIZE;
    use xen_abi::hvm::start_info::{HvmStartInfo, MAGIC, MEMORY_RAM, MemoryRange, Module};
    use zerocopy::{FromBytes, IntoBytes};

    use crate::machine::{Console, byte, clock_register};

    /// The longest text of which anything is shown.
    const SHOWN: u64 = 64;

    /// A text that ends with a NUL, by its address.
    #[derive(Clone, Copy)]
    struct Text(u64);

    impl Text {
        fn bytes(self) -> impl Iterator<Item = u8> + Clone {
            (self.0..).map(byte).take_while(|byte| *byte != 0)
        }

        /// What stands behind `key` and an equals sign, up to the next blank.
        fn argument(self, key: &str) -> Option<impl Iterator<Item = u8> + Clone> {
            let mut rest = self.bytes();
            loop {
                let mut word = rest.clone();
                if key.bytes().chain(*b"=").all(|wanted| word.next() == Some(wanted)) {
                    return Some(word.take_while(|byte| *byte != b' '));
                }
                rest.find(|byte| *byte == b' ')?;
            }
        }

        /// The decimal number behind `key`.
        fn number(self, key: &str) -> Option<u32> {
            let digits = self.argument(key)?;
            digits
                .map(|digit| char::from(digit).to_digit(10))
                .try_fold(0_u32, |sum, digit| sum.checked_mul(10)?.checked_add(digit?))
        }
    }

    /// A value at an address.
    fn read<T: FromBytes + IntoBytes>(address: u64) -> T {
        let mut value = T::new_zeroed();
        for (to, at) in value.as_mut_bytes().iter_mut().zip(address..) {
            *to = byte(at);
        }
        value
    }

    fn show(console: &mut Console, bytes: impl Iterator<Item = u8>) {
        for byte in bytes {
            let _ = console.write_char(char::from(byte));
        }
    }

    /// The whole of this kernel.
    pub(crate) fn run(start_info: u64) {
        let Some(mut console) = Console::open() else { return };
        let info: HvmStartInfo = read(start_info);
        let line = Text(info.cmdline_paddr);
        let verdict = check(&mut console, &info, line);
        let _ = write!(console, "TEST pvh ");
        if let Some(nonce) = line.argument("nonce") {
            show(&mut console, nonce);
        }
        let _ = match verdict {
            Ok(count) => writeln!(console, " VERDICT SUCCESS: {count} modules, each where it should be"),
            Err(reason) => writeln!(console, " VERDICT FAILURE: {reason}"),
        };
    }

    fn check(console: &mut Console, info: &HvmStartInfo, line: Text) -> Result<u32, &'static str> {
        if (info.magic, info.version) != (MAGIC, 1) {
            return Err("the start info is not version 1 of its kind");
        }
        for index in 0..info.memmap_entries {
            let MemoryRange { addr, size, kind, .. } = range(info, index);
            let _ = writeln!(console, "memory [{addr:#x}..{:#x}) is of kind {kind}", addr.wrapping_add(size));
        }
        let _ = writeln!(console, "flags of the start info: {:#x}", info.flags);
        let mut end = 0;
        for index in 0..info.nr_modules {
            let module: Module = read(info.modlist_paddr + u64::from(index) * size_of::<Module>() as u64);
            show_module(console, index, &module);
            if !module.paddr.is_multiple_of(PAGE_SIZE as u64) || module.paddr < end {
                return Err("a module is not on pages of its own");
            }
            end = module.paddr.saturating_add(module.size);
            if !(0..info.memmap_entries).any(|index| holds(&range(info, index), module.paddr, end)) {
                return Err("a module does not lie in memory");
            }
        }
        if line.argument("has").is_some() {
            devices(console)?;
        }
        match line.number("modules") {
            Some(wanted) if wanted != info.nr_modules => {
                Err("there are more or fewer modules than the command line says")
            }
            _ => Ok(info.nr_modules),
        }
    }

    /// The real-time clock by its ports, and the firmware's last page by its own number and by another: it has a far jump at its end.
    fn devices(console: &mut Console) -> Result<(), &'static str> {
        const VALIDITY: u8 = 13;
        const POWERED: u8 = 0x80;
        const RESET: u64 = 0xff0;
        const FAR_JUMP: u8 = 0xea;
        if clock_register(VALIDITY) != POWERED {
            return Err("the clock's ports are not the machine's");
        }
        if [0xfffff, 0xfd000].iter().any(|frame| byte((frame << 12) + RESET) != FAR_JUMP) {
            return Err("the firmware is not where it should be");
        }
        let _ = writeln!(console, "the clock and the firmware are there");
        Ok(())
    }

    fn range(info: &HvmStartInfo, index: u32) -> MemoryRange {
        read(info.memmap_paddr + u64::from(index) * size_of::<MemoryRange>() as u64)
    }

    fn holds(range: &MemoryRange, start: u64, end: u64) -> bool {
        range.kind == MEMORY_RAM && range.addr <= start && end <= range.addr.saturating_add(range.size)
    }

    /// A line with a module's size, command line, the sum of its bytes, and the beginning of its text.
    fn show_module(console: &mut Console, index: u32, module: &Module) {
        let bytes = || (module.paddr..module.paddr.saturating_add(module.size)).map(byte);
        let sum = bytes().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(byte)));
        let _ = write!(console, "module {index}: {} bytes, sum {sum}, command line \"", module.size);
        if module.cmdline_paddr != 0 {
            show(console, Text(module.cmdline_paddr).bytes());
        }
        let _ = write!(console, "\": ");
        let text =
            bytes().take(usize::try_from(SHOWN).unwrap_or(0)).take_while(|byte| (b' '..=b'~').contains(byte));
        show(console, text);
        let _ = writeln!(console);
    }
}
