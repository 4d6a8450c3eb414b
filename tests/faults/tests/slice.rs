//! A slice of the fault sweep; `make fault-sweep` runs all of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use faults::{Plan, judge, scenarios};
use xen_sim::Release;

/// Tries the slice on a release.
fn sweep(release: Release) {
    for scenario in scenarios() {
        let whole = Plan::whole(&scenario, release).unwrap();
        for trial in Plan::SLICE.trials(&whole) {
            let machine = scenario.machine(release);
            trial.prepare(&machine);
            if let Err(reason) = judge(&whole, &trial, &scenario.launch(&machine)) {
                panic!("{} on Xen {release}: {trial}: {reason}", scenario.name);
            }
        }
    }
}

#[test]
fn every_run_on_4_14_ends_in_an_error_that_names_the_call_and_leaves_nothing() {
    sweep(Release::V4_14);
}

#[test]
fn every_run_on_4_17_ends_in_an_error_that_names_the_call_and_leaves_nothing() {
    sweep(Release::V4_17);
}

#[test]
fn every_run_on_4_23_ends_in_an_error_that_names_the_call_and_leaves_nothing() {
    sweep(Release::V4_23);
}

#[test]
fn every_scenario_succeeds_on_every_release_when_nothing_goes_wrong() {
    for release in Release::ALL {
        for scenario in scenarios() {
            if let Err(reason) = Plan::whole(&scenario, release) {
                panic!("{} on Xen {release}: {reason}", scenario.name);
            }
        }
    }
}

/// The judge is not blind: a launch that fails for another reason than the trial's, leaves something or says nothing is found out.
#[test]
fn a_run_that_ends_badly_is_found_out() {
    let scenario = &scenarios()[0];
    let whole = Plan::whole(scenario, Release::V4_17).unwrap();
    let trials = Plan::SLICE.trials(&whole);
    let refused = trials.iter().find(|trial| trial.to_string().contains("XEN_DOMCTL_max_mem")).unwrap();
    // Nothing goes wrong although it should have: a success.
    let machine = scenario.machine(Release::V4_17);
    let complaint = judge(&whole, refused, &scenario.launch(&machine)).unwrap_err();
    assert!(complaint.contains("XEN_DOMCTL_max_mem"), "{complaint}");
    // Something is left.
    let machine = scenario.machine(Release::V4_17);
    refused.prepare(&machine);
    let mut run = scenario.launch(&machine);
    assert_eq!(judge(&whole, refused, &run), Ok(()));
    run.as_mut().unwrap().left.push("domain 9 with 3 frames".into());
    assert_eq!(judge(&whole, refused, &run).unwrap_err(), "it leaves domain 9 with 3 frames");
    // A panic.
    assert!(judge(&whole, refused, &Err("index out of bounds".into())).unwrap_err().contains("index out of"));
    // Silence.
    let mut run = run.unwrap();
    run.left.clear();
    run.log.clear();
    assert!(judge(&whole, refused, &Ok(run)).unwrap_err().starts_with("no line of the log"));
}
