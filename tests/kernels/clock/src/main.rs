//! Compares the PV clock with Xen's own: it never goes back, and timers wake this domain when the clock says that it is time.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::format;

use event_channel::LocalPort;
use hypercall::Xen;
use pv_runtime::clock::{self, SystemTime, WallClock};
use pv_runtime::{Boot, Hypervisor, events, println};
use verdict::{Outcome, Verdict, success};
use xen_abi::VcpuId;
use xen_abi::event_channel::VIRQ_TIMER;

verdict::test!(run);

const MILLISECOND: u64 = 1_000_000;

/// How long to sleep, in nanoseconds.
const SLEEPS: [u64; 4] = [MILLISECOND, 5 * MILLISECOND, 20 * MILLISECOND, 50 * MILLISECOND];

/// How late a timer may be, in nanoseconds: the emulator's host can be busy.
const LATE: u64 = 500 * MILLISECOND;

/// Readings of the clock.
const READINGS: u64 = 100_000;

/// 2020 and 2100, in seconds since 1970.
const PLAUSIBLE: core::ops::Range<u64> = 1_577_836_800..4_102_444_800;

fn run(_boot: &mut Boot) -> Outcome {
    let xen = Xen::unprivileged(Hypervisor).map_err(Verdict::error)?;
    let step = never_goes_back()?;
    let mut latest = 0;
    for sleep in SLEEPS {
        latest = latest.max(sleeps_by_poll(&xen, sleep)?);
        latest = latest.max(sleeps_by_timer(&xen, sleep)?);
    }
    wall_clock_advances(&xen)?;
    success!("{READINGS} readings {step} ns apart; timers were at most {latest} ns late")
}

/// Reads the clock many times; gives back the mean distance in nanoseconds.
fn never_goes_back() -> Result<u64, Verdict> {
    let first = clock::now();
    require(first > SystemTime::default(), || "the clock stands at 0".into())?;
    let mut last = first;
    for _ in 0..READINGS {
        let now = clock::now();
        require(now >= last, || format!("the clock went back from {last} to {now}"))?;
        last = now;
    }
    require(last > first, || format!("the clock stood at {first} for {READINGS} readings"))?;
    Ok(last.since(first) / READINGS)
}

fn require(condition: bool, message: impl FnOnce() -> alloc::string::String) -> Result<(), Verdict> {
    if condition { Ok(()) } else { Err(Verdict::Failure(message())) }
}

/// How late `now` is after `deadline`.
fn lateness(what: &str, deadline: u64) -> Result<u64, Verdict> {
    let now = clock::now().nanos();
    require(now >= deadline, || format!("{what} woke {} ns too early", deadline - now))?;
    let late = now - deadline;
    println!("{what}: {late} ns late");
    require(late < LATE, || format!("{what} woke {late} ns too late"))?;
    Ok(late)
}

/// Lets Xen's poll time out.
fn sleeps_by_poll(xen: &Xen<Hypervisor>, sleep: u64) -> Result<u64, Verdict> {
    let deadline = clock::now().nanos() + sleep;
    xen.poll(&[], Some(deadline)).map_err(Verdict::error)?;
    lateness(&format!("poll of {sleep} ns"), deadline)
}

/// Waits for the timer's virtual interrupt.
fn sleeps_by_timer(xen: &Xen<Hypervisor>, sleep: u64) -> Result<u64, Verdict> {
    let words = events::words().ok_or_else(|| Verdict::error("no event bitmaps"))?;
    let timer = LocalPort::bind_virq(xen, VIRQ_TIMER, VcpuId::BOOT).map_err(Verdict::error)?;
    words.take(timer.port());
    let deadline = clock::now().nanos() + sleep;
    Hypervisor.set_timer(SystemTime::from_nanos(deadline)).map_err(Verdict::error)?;
    let time = || clock::now().nanos();
    // Xen may end a poll without a reason.
    while !words.take(timer.port()) {
        require(time() < deadline + LATE, || "the timer's event does not come".into())?;
        event_channel::wait(xen, words, &[timer.port()], Some(deadline + LATE), time)
            .map_err(Verdict::error)?;
    }
    lateness(&format!("timer of {sleep} ns"), deadline)
}

/// Nanoseconds from one moment to a later one.
fn between(earlier: WallClock, later: WallClock) -> u64 {
    let seconds = later.seconds.saturating_sub(earlier.seconds);
    (seconds * 1_000_000_000 + u64::from(later.nanos)).saturating_sub(u64::from(earlier.nanos))
}

/// The wall clock is in a plausible year and advances as the system time does.
fn wall_clock_advances(xen: &Xen<Hypervisor>) -> Result<(), Verdict> {
    let sleep = 20 * MILLISECOND;
    let read = || clock::wall_clock().ok_or_else(|| Verdict::error("no wall clock"));
    let (system, wall) = (clock::now(), read()?);
    println!("wall clock: {} s since 1970", wall.seconds);
    require(PLAUSIBLE.contains(&wall.seconds), || format!("the wall clock says {wall:?}"))?;
    xen.poll(&[], Some(system.nanos() + sleep)).map_err(Verdict::error)?;
    let (wall_passed, system_passed) = (between(wall, read()?), clock::now().since(system));
    let difference = wall_passed.abs_diff(system_passed);
    // One reading is a little after the other, both times.
    require(wall_passed >= sleep - MILLISECOND && difference < LATE, || {
        format!("the wall clock advanced by {wall_passed} ns, the system time by {system_passed} ns")
    })
}
