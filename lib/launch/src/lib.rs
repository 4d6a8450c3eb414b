//! A platform of VMs: read from a RAM disk, planned as a whole, built, started, and looked after until it ends.
//!
//! The life of a platform has five parts, each a module: `trust` finds out whether the RAM disk may be used at all;
//! [`Platform`] reads it and plans every VM before any is built; `build` builds them paused and starts them together; `supervisor` relays their consoles, sees them end, and starts
//! those again that are to come back (`restart` keeps those meanwhile, `held` VMs that start after others, `readiness` those late that
//! they wait for, `ends` knows when it is over, `shutdown` stops in order those that can be asked, by `guest_store`);
//! `operator` lets somebody at Xen's console type for them and command the builder (`keyboard`, `prompt` and `screen` know how).
//! [`launch`] puts these in order and says how it all ended; with [`launch_serving`] a [`Service`] takes part in it, which may have VMs
//! built while the platform runs, a step at a time. [`power_off`] switches the machine off after that.
//!
//! Everything is written against the seam of `hypercall`, and runs on the host over a simulated Xen as it does in db-boot.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod build;
mod channels;
mod console;
mod counted;
mod ends;
mod environment;
mod event_log;
mod guest_store;
mod held;
mod images;
mod keyboard;
mod operator;
mod options;
mod packed;
mod planned;
mod platform;
mod poweroff;
mod prompt;
mod readiness;
mod refused;
mod restart;
mod run;
mod running;
mod screen;
mod service;
mod settings;
mod shutdown;
mod store;
mod supervisor;
mod terminal;
mod trust;
mod usage;

pub use self::images::{Images, UnpackingKernel};
pub use self::planned::{PlannedVm, Recipe, VmError};
pub use self::platform::{Platform, VmFailure};
pub use build::{Building, BuiltVm};
pub use console::{ConsoleRing, LineBuffer};
pub use environment::Environment;
pub use keyboard::{EscapeKey, Keyboard, Press, Typed};
pub use options::Options;
pub use poweroff::power_off;
pub use prompt::{Command, CommandError};
pub use run::{launch, launch_serving};
pub use screen::Cursor;
pub use service::{End, Fate, Host, Image, Service};
pub use supervisor::AttachError;
pub use trust::Trust;
