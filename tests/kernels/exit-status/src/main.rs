//! Ends as the command line says: `end=poweroff`, `reboot`, `suspend`, `crash`, `watchdog`, `soft_reset`, or a status of 0 to 127.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::format;

use pv_runtime::{Boot, Ending};
use verdict::Verdict;

pv_runtime::entry!(run);

fn run(boot: &mut Boot) -> Ending {
    verdict::prepare(boot);
    let wanted = boot.argument("end").unwrap_or_default();
    let ending = ending(wanted);
    verdict::report(match ending {
        Some(_) => Ok(format!("now ending with {wanted}")),
        None => Err(Verdict::Error(format!("end={wanted}: no such way to end"))),
    });
    ending.unwrap_or(Ending::Poweroff)
}

fn ending(word: &str) -> Option<Ending> {
    Some(match word {
        "poweroff" => Ending::Poweroff,
        "reboot" => Ending::Reboot,
        "suspend" => Ending::Suspend,
        "crash" => Ending::Crash,
        "watchdog" => Ending::Watchdog,
        "soft_reset" => Ending::SoftReset,
        status => Ending::Status(status.parse().ok().filter(|status| *status < 128)?),
    })
}
