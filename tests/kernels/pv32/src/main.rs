//! Looks through what a 32-bit PV guest starts with: registers, start info, p2m list, page tables, console.
//!
//! The crates of this project are for 64-bit guests; this kernel stands alone, and has its own idea of each layout, so that a mistake in
//! theirs does not make itself right here.
#![cfg_attr(target_arch = "x86", no_std, no_main)]

#[cfg(target_arch = "x86")]
mod checks;
#[cfg(target_arch = "x86")]
mod console;
#[cfg(target_arch = "x86")]
mod machine;

#[cfg(not(target_arch = "x86"))]
fn main() {
    eprintln!("pv32 is a kernel for Xen and does not run here. mk/build-kernels pv32 builds it for Xen.");
    std::process::exit(1);
}
