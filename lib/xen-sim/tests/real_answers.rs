//! The simulated Xen answers as the real ones do.
//!
//! `answers/4.14.txt` and its siblings hold what real releases answered to the questions of `answers/questions.rs`, one line for
//! each, recorded in boots of Debian's packages, and of what `mk/build-xen` makes of Xen's own releases, in QEMU with the same
//! questions asked by an image that runs as Dom0. The simulated releases have to give the same answers. To record those of
//! another release, let an image call [`Asker::ask`] with the seam of `pv-runtime`, and log the lines.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise, in its helpers too")]

extern crate alloc;

#[path = "answers/questions.rs"]
mod questions;

use hypercall::Xen;
use questions::Asker;
use xen_abi::PageCount;
use xen_sim::{Machine, Release};

fn simulated(release: Release) -> Vec<String> {
    let machine = Machine::builder().release(release).memory(PageCount::new(0x1_8000)).build();
    let xen = Xen::probe(machine.dom0()).unwrap();
    let own_frame = machine.dom0_frames()[100];
    let mut asker = Asker { xen: &xen, window: machine.window(), own_frame, answers: Vec::new() };
    asker.ask();
    asker.answers
}

fn assert_same(release: Release, recorded: &str) {
    let simulated = simulated(release);
    let recorded: Vec<&str> = recorded.lines().collect();
    let pairs = recorded.iter().zip(&simulated).filter(|(real, simulated)| real != simulated);
    let different: Vec<String> =
        pairs.map(|(real, simulated)| format!("real: {real}\n  simulated: {simulated}")).collect();
    assert!(different.is_empty(), "Xen {release} answers otherwise:\n  {}", different.join("\n  "));
    assert_eq!(recorded.len(), simulated.len(), "{release}");
}

/// A test for each release whose answers are recorded.
macro_rules! releases {
    ($($test:ident: $release:ident = $answers:literal;)*) => {
        $(#[test]
        fn $test() {
            assert_same(Release::$release, include_str!($answers));
        })*
    };
}

releases! {
    xen_4_14_is_simulated_as_it_is: V4_14 = "answers/4.14.txt";
    xen_4_15_is_simulated_as_it_is: V4_15 = "answers/4.15.txt";
    xen_4_16_is_simulated_as_it_is: V4_16 = "answers/4.16.txt";
    xen_4_17_is_simulated_as_it_is: V4_17 = "answers/4.17.txt";
    xen_4_18_is_simulated_as_it_is: V4_18 = "answers/4.18.txt";
    xen_4_19_is_simulated_as_it_is: V4_19 = "answers/4.19.txt";
    xen_4_20_is_simulated_as_it_is: V4_20 = "answers/4.20.txt";
    xen_4_21_is_simulated_as_it_is: V4_21 = "answers/4.21.txt";
    xen_4_22_is_simulated_as_it_is: V4_22 = "answers/4.22.txt";
    xen_4_23_is_simulated_as_it_is: V4_23 = "answers/4.23.txt";
}
