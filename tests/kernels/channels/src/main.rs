//! An end of each channel that the command line names (`vchan=...`, from the VM files' `channels`). What it does there is `role=`:
//!
//! | role | does | ends when |
//! |---|---|---|
//! | `echo` | sends back whatever comes on any of its channels | every peer has closed its channel or is gone |
//! | `client` | sends 1 MiB and checks that it comes back whole | that is done, and the channel closed |
//! | `quit` | sends and receives a little | then at once, in mid-stream, without closing anything |
//! | `witness` | reads | the peer is gone without having closed the channel |
//! | `keeper` | tells its client which of its lives this is, and renews the channel after each | the client has closed it |
//! | `phoenix` | asks which life this is | at once by a crash, in all lives before the third |
//!
//! A server's rings are `left=` and `right=` bytes.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod ends;
mod roles;

use pv_runtime::Boot;
use verdict::{Outcome, Verdict};

use ends::{Machine, open_all};

verdict::test!(run);

fn run(boot: &mut Boot) -> Outcome {
    let machine = Machine::new()?;
    let (channels, mut table) = open_all(&machine, boot)?;
    if channels.is_empty() {
        return Err(Verdict::Skip("there is no vchan= on the command line".into()));
    }
    match boot.argument("role") {
        Some("echo") => roles::echo(&machine, channels),
        Some("client") => roles::client(&machine, channels),
        Some("quit") => roles::quit(&machine, channels),
        Some("keeper") => roles::keeper(&machine, channels, &mut table),
        Some("phoenix") => roles::phoenix(&machine, channels),
        Some("witness") => roles::witness(&machine, channels),
        other => Err(Verdict::Error(alloc::format!(
            "role={}: echo, client, quit, witness, keeper or phoenix",
            other.unwrap_or("-")
        ))),
    }
}
