//! Asks for its own symbols (note BSD_SYMTAB), and looks itself up in what the builder loaded behind it.
#![cfg_attr(target_os = "none", no_std, no_main)]

use core::{ptr, slice};

use goblin::elf::Elf;
use pv_runtime::{Boot, pages, println};
use verdict::{Outcome, Verdict, require, success};
use xen_abi::elfnote;

verdict::test!(run);

// Sizes of owner and text, type, owner, text.
pv_runtime::note!(
    [u32; 5],
    [4, 4, elfnote::BSD_SYMTAB, u32::from_le_bytes(*b"Xen\0"), u32::from_le_bytes(*b"yes\0")]
);

/// Something with a name that the compiler leaves as it is.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn a_function_to_look_for() -> u32 {
    0x5eed
}

fn run(_: &mut Boot) -> Outcome {
    let image_end = pages::address_of(pages::memory_map().image_end).raw();
    let file = symbols(image_end)?;
    let elf = Elf::parse(file).map_err(Verdict::failure)?;
    println!("{} symbols behind the image, in {} bytes", elf.syms.len(), file.len());
    let address_of = |name: &str| {
        let symbol = elf.syms.iter().find(|symbol| elf.strtab.get_at(symbol.st_name) == Some(name));
        symbol.map(|symbol| symbol.st_value)
    };
    let function = a_function_to_look_for as extern "C" fn() -> u32;
    for (name, expected) in [("a_function_to_look_for", function as usize as u64), ("__image_end", image_end)]
    {
        let found = address_of(name).unwrap_or_default();
        println!("{name} is at {found:#x}");
        require!(found == expected, "the symbol {name} says {found:#x}, and it is at {expected:#x}");
    }
    require!(address_of("no_such_symbol").is_none(), "there is a symbol that nobody has defined");
    success!("{} symbols, those looked for are where they say", elf.syms.len())
}

/// What looks like a file with the symbols, behind its size at `start`.
fn symbols(start: u64) -> Result<&'static [u8], Verdict> {
    const MOST: u32 = 1 << 20;
    #[expect(clippy::cast_possible_truncation, reason = "an address of a 64-bit machine")]
    let start = ptr::with_exposed_provenance::<u32>(start as usize);
    // SAFETY: behind the image there is memory that the builder mapped and that is not free: at least the p2m list is there.
    let size = unsafe { start.read() };
    require!(size > 64 && size < MOST, "there is no size behind the image, but {size:#x}");
    // SAFETY: the builder put so many bytes there before all that is free, and nobody changes them.
    Ok(unsafe { slice::from_raw_parts(start.wrapping_add(1).cast::<u8>(), size as usize) })
}
