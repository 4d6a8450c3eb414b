//! A simulated machine behind the seam to Xen, for tests on the host.
//!
//! [`Machine`] is a computer that runs one of the [releases](Release) of Xen, with Dom0 already there. [`Machine::dom0`] and
//! [`Machine::window`] are the two halves of the seam, to be used like those of a real machine:
//!
//! ```
//! use hypercall::Xen;
//! use xen_sim::{Machine, Release};
//!
//! let machine = Machine::with_release(Release::V4_20);
//! let xen = Xen::probe(machine.dom0()).unwrap();
//! assert_eq!(xen.interface().xen.to_string(), "4.20");
//! machine.assert_clean();
//! ```
//!
//! It models what building and keeping domains depends on, by the rules of Xen itself: who owns each frame and as what it is
//! used, what may become a page table, limits and claims, the life of domains down to zombies, event channels, grants, the
//! layouts and the habits of each interface version. It executes no instructions: a test acts as a domain through
//! [`Guest`], either directly or in a script that goes on whenever Dom0 sleeps ([`Machine::when_idle`]).
//!
//! To test what happens when things go wrong there are [faults](Fault): calls that fail, or fail and leave rubbish behind, or
//! do only part of their work, and memory that runs out. To see what happened there are the [trace](Trace) of calls, the
//! [first view](GuestView) of a domain, and [`Machine::assert_clean`].
//!
//! `tests/real_answers.rs` compares it with what real releases answered to the same questions.
//!
//! Hardware-assisted domains are modelled as far as building PVH guests takes. What is not modelled: devices, timers beyond the
//! deadline of a poll, scheduling. A domain's event
//! bits are in [`SimHypervisor::pending_words`], not in its shared info frame.

#![expect(clippy::missing_panics_doc, reason = "where a test is to stop, the text says so without a heading")]
#![expect(clippy::cast_possible_truncation, reason = "runs on 64-bit hosts only, where usize is u64")]

const _: () = assert!(usize::BITS == 64);

mod access;
mod control;
mod cpu_policy;
mod dispatch;
mod domains;
mod events;
mod faults;
mod frames;
mod grants;
mod guest;
mod hvm;
mod hypervisor;
mod labels;
mod machine;
mod memory;
mod mmu;
mod pagetables;
mod pvh_view;
mod ramdisk;
mod release;
mod request;
mod scheduling;
mod settings;
mod state;
mod trace;
mod vcpus;
mod view;
mod window;

pub use faults::{CallSite, Effect, Fault};
pub use guest::Guest;
pub use hypervisor::SimHypervisor;
pub use machine::{Builder, Machine};
pub use pvh_view::PvhView;
pub use ramdisk::{SimKept, SimRamdisk};
pub use release::Release;
pub use trace::{Call, Trace};
pub use view::{GuestView, Mapping};
pub use window::{SimOwnPage, SimPage, SimShared, SimSlot, SimWindow};

/// The control domain's identifier.
pub(crate) const DOM0: xen_abi::DomId = xen_abi::DomId::new(0);
