//! What every test run tries: inputs that did harm once, the seeds, and a few hundred changed ones.

use std::time::Duration;

use fuzz::{Counting, check, fuzz, seeds, targets};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_input_that_did_harm_does_so_again() {
    for target in targets() {
        for (name, input) in seeds::regressions(target.name) {
            assert_eq!(check(&target, &input).err(), None, "{} {name}", target.name);
        }
    }
}

#[test]
fn every_target_has_seeds_and_survives_a_few_hundred_inputs() {
    for target in targets() {
        assert!(!(target.seeds)().is_empty(), "{} has no seeds", target.name);
        let outcome = fuzz(&target, 7, 300, Duration::from_secs(3600));
        let finding = outcome.finding.map(|finding| (finding.what, finding.input));
        assert_eq!(finding, None, "{}", target.name);
    }
}

#[test]
fn a_target_that_does_harm_is_found_out_and_the_input_made_short() {
    let [first, ..] = &targets()[..] else { return };
    let harm = fuzz::Target {
        run: |input| assert!(!input.contains(&0x7f), "seven f"),
        seeds: || vec![vec![0; 4000]],
        ..*first
    };
    let finding = fuzz(&harm, 1, 100_000, Duration::from_secs(3600)).finding;
    assert!(finding.as_ref().is_some_and(|finding| finding.what.contains("seven f")), "{finding:?}");
    assert_eq!(finding.map(|finding| finding.input), Some(vec![0x7f]));
    let greedy = fuzz::Target { run: |_| drop(vec![0_u8; 8 << 20]), ..*first };
    assert!(check(&greedy, b"x").is_err_and(|what| what.contains("bytes of memory")));
}
