//! VMs of several sizes, one after the other: what one costs whoever asks for it.

use alloc::format;

use protocols::BootSpec;
use protocols::message::{ServerReply, ServerRequest};
use pv_runtime::println;
use verdict::{Outcome, Verdict, success};

use crate::link::now;
use crate::session::Session;
use crate::vm;

/// Asks for a paused VM of each of `sizes`, numbers of MiB with commas between them, and prints for each how long it took from
/// the spec's encoding to the answer, in nanoseconds. They stay until the conversation ends: Xen clears memory that a domain has
/// given back when the next one gets it, and that is another matter.
pub(crate) fn run(mut session: Session<'_>, sizes: &str) -> Outcome {
    let mut count = 0;
    for size in sizes.split(',') {
        let mib: u64 = size.parse().map_err(Verdict::error)?;
        let spec = BootSpec::new(&format!("m{mib}"), "-", mib << 10);
        let begin = now();
        let request = ServerRequest::Build(vm::build(&spec, true)?);
        let reply = session.get("building", request)?;
        let took = now().saturating_sub(begin);
        let ServerReply::Built(_) = reply else {
            return Err(Verdict::Failure(format!("an answer to something else: {reply:?}")));
        };
        println!("BENCH name=request memory={mib} took={took}");
        count += 1;
    }
    session.close()?;
    success!("{count} VMs built on request")
}
