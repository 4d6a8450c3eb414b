//! Asks CPUID for what its VM file says of the processor: `feature=LEAF:REGISTER:BIT=0` or `=1` on the command line, several with
//! commas between; `tsc=` is the mode of the time-stamp counter that Xen is to name, 0 to 2; `msr=` is a model-specific register that is read,
//! in hexadecimal.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::format;

use pv_runtime::processor::{cpuid, model_specific_register};
use pv_runtime::{Boot, println};
use verdict::{Outcome, Verdict, success};

verdict::test!(run);

/// Where Xen's own leaves are looked for: at each multiple of 0x100 from here on.
const FIRST_HYPERVISOR_LEAF: u32 = 0x4000_0000;
/// Xen's name, in EBX, ECX and EDX.
const XEN: [u32; 3] =
    [u32::from_le_bytes(*b"XenV"), u32::from_le_bytes(*b"MMXe"), u32::from_le_bytes(*b"nVMM")];
/// The leaf about time, counted from Xen's first.
const TIME: u32 = 3;

fn run(boot: &mut Boot) -> Outcome {
    let mut count = 0;
    for wish in boot.argument("feature").unwrap_or_default().split(',').filter(|wish| !wish.is_empty()) {
        check_feature(wish)?;
        count += 1;
    }
    if let Some(mode) = boot.argument("tsc") {
        check_tsc(mode.parse().map_err(Verdict::error)?)?;
    }
    if let Some(number) = boot.argument("msr") {
        let number = u32::from_str_radix(number, 16).map_err(Verdict::error)?;
        println!("model-specific register {number:#x} is {:#x}", model_specific_register(number));
    }
    success!("{count} features as given")
}

/// Checks one bit, such as `0x80000007:edx:8=1`.
fn check_feature(wish: &str) -> Result<(), Verdict> {
    let parse = || {
        let (place, wanted) = wish.split_once('=')?;
        let mut parts = place.split(':');
        let leaf = u32::from_str_radix(parts.next()?.strip_prefix("0x")?, 16).ok()?;
        let register =
            ["eax", "ebx", "ecx", "edx"].iter().position(|name| Some(*name) == parts.clone().next())?;
        let bit: u32 = parts.nth(1)?.parse().ok().filter(|bit| *bit < 32)?;
        Some((leaf, register, bit, wanted == "1"))
    };
    let (leaf, register, bit, wanted) =
        parse().ok_or_else(|| Verdict::Failure(format!("{wish:?} is no feature")))?;
    let value = cpuid(leaf, 0)[register];
    println!("{wish}: leaf {leaf:#x} has {value:#x} there");
    if (value >> bit & 1 != 0) == wanted {
        Ok(())
    } else {
        Err(Verdict::Failure(format!("{wish} is not so")))
    }
}

/// Checks the mode that Xen names in its leaf about time.
fn check_tsc(wanted: u32) -> Result<(), Verdict> {
    let bases = (0..0x100).map(|number| FIRST_HYPERVISOR_LEAF + number * 0x100);
    let base = bases.clone().find(|base| cpuid(*base, 0)[1..] == XEN);
    let base = base.ok_or_else(|| Verdict::failure("Xen has no leaves here"))?;
    let [flags, mode, khz, _] = cpuid(base + TIME, 0);
    println!("time-stamp counter: mode {mode}, emulated {}, {khz} kHz", flags & 1);
    // Only a mode that says so settles whether the counter is emulated.
    let emulated = match wanted {
        1 => flags & 1 != 0,
        2 => flags & 1 == 0,
        _ => true,
    };
    if mode == wanted && emulated {
        Ok(())
    } else {
        Err(Verdict::Failure(format!("mode {mode}, flags {flags:#x}, instead of mode {wanted}")))
    }
}
