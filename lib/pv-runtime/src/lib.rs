//! Runs a Rust program as a 64-bit PV guest of Xen: as Dom0 or as any other domain, on Xen 4.14 and newer.
//!
//! ```ignore
//! #![cfg_attr(target_os = "none", no_std, no_main)]
//! use pv_runtime::{Boot, Ending, println};
//!
//! pv_runtime::entry!(main);
//!
//! fn main(boot: &mut Boot) -> Ending {
//!     println!("{} pages", boot.start_info().nr_pages);
//!     Ending::Poweroff
//! }
//! ```
//!
//! Before `main` the runtime has set up: a stack with a guard page, handlers for all exceptions, the heap, the console with a
//! back end for `log`, the clock, and an area for mapping frames. There is one vCPU and upcalls stay masked: nothing
//! interrupts the program, and it waits by polling ports.
//!
//! All assembly of the libraries is in `entry`, where Xen comes in, and `machine`, which is called.
#![cfg_attr(not(test), no_std)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "addresses and sizes: usize has the 64 bits of u64 on the one architecture there is"
)]

extern crate alloc;

mod boot;
pub mod clock;
pub mod console;
mod ending;
#[cfg(target_os = "none")]
mod entry;
pub mod events;
mod heap;
mod hypervisor;
mod layout;
mod logger;
mod machine;
mod memory;
pub mod pages;
pub mod processor;
mod ramdisk;
pub mod rtc;
mod slots;
pub mod traps;
mod window;

pub use boot::{Boot, SparePages};
pub use ending::{Ending, end, exit_port, on_failure};
pub use heap::{HeapUse, heap_use};
pub use hypervisor::{Hypervisor, UpdateError};
pub use logger::{before_each_line, name};
pub use memory::MemoryError;
pub use ramdisk::{KeptModule, Module};
pub use window::{
    GrantPage, KEPT_FRAMES, OwnPage, ReservedPages, SharedBytes, SharedFrames, WINDOW_FRAMES, Window,
};

/// Makes `fn main(boot: &mut Boot) -> Ending` the program of a kernel.
///
/// On a host, where a kernel cannot run, the program says so instead.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        fn __kernel_main(boot: &mut $crate::Boot) -> $crate::Ending {
            $main(boot)
        }

        #[cfg(target_os = "none")]
        #[unsafe(no_mangle)]
        fn __kernel_name() -> &'static str {
            env!("CARGO_PKG_NAME")
        }

        #[cfg(not(target_os = "none"))]
        fn main() {
            let _: fn(&mut $crate::Boot) -> $crate::Ending = $main;
            ::std::eprintln!(
                "{0} is a kernel for Xen and does not run here. mk/build-kernels {0} builds it for Xen.",
                env!("CARGO_PKG_NAME")
            );
            ::std::process::exit(1);
        }
    };
}

/// Puts a note of the kernel's own beside Xen's into its file: a constant of the given type, which holds the whole note and is aligned
/// to four bytes. Nothing reads it at run time; there is one in a kernel at most.
#[macro_export]
macro_rules! note {
    ($kind:ty, $note:expr) => {
        #[cfg(target_os = "none")]
        #[used]
        #[unsafe(link_section = ".note.own")]
        static __KERNEL_NOTE: $kind = $note;

        #[cfg(not(target_os = "none"))]
        const _: $kind = $note;
    };
}
