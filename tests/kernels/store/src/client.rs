//! A VM that a XenStore is served to.

use alloc::format;
use alloc::string::String;

use hypercall::Xen;
use pv_runtime::{Boot, Hypervisor, println};
use verdict::{Outcome, Verdict, success};
use xen_abi::DomId;
use xenstore::Kind;

use crate::Machine;
use crate::asking::Asking;

pub(crate) fn run(machine: &Machine, boot: &mut Boot) -> Outcome {
    let mut store = Asking::new(machine, boot)?;
    let domid = store.ask(Kind::Read, &["domid", ""])?;
    println!("this is domain {domid}, says the store");
    // What only the store's domain may ask is not this one's to ask. The probe alone does not show it: newer Xens miss the domain
    // that it names before they look at who asks.
    let asks = Xen::probe_to_ask(Hypervisor).is_ok_and(|xen| xen.domain_info(DomId::DOM0).is_ok());
    if asks {
        return Err(Verdict::Failure("Xen answers this domain's question about Dom0".into()));
    }
    for (kind, strings) in [
        (Kind::Write, ["domid", "1"].as_slice()),
        (Kind::Introduce, ["9", "0", "2", ""].as_slice()),
        (Kind::Directory, ["/local/domain", ""].as_slice()),
    ] {
        match store.try_ask(kind, strings)? {
            Err(error) if error == "EACCES" => {}
            other => return Err(Verdict::Failure(format!("{kind:?} {strings:?}: {other:?}"))),
        }
    }
    let long = "x".repeat(2000);
    store.write("data/long", &long)?;
    if store.ask(Kind::Read, &["data/long", ""])? != long {
        return Err(Verdict::Failure("what was written is not what is read".into()));
    }
    let names = store.ask(Kind::Directory, &["", ""]);
    if names.is_ok() {
        return Err(Verdict::Failure("a path that is none is taken".into()));
    }
    store.ask(Kind::Watch, &["control/shutdown", "down", ""])?;
    store.write("ready", "1")?;
    loop {
        let news: String = store.news()?;
        if news != "control/shutdown down " {
            return Err(Verdict::Failure(format!("news of {news:?}")));
        }
        match store.try_ask(Kind::Read, &["control/shutdown", ""])? {
            Ok(wish) if wish == "poweroff" => return success!("asked to power off"),
            // The watch tells at once that it is there.
            _ => {}
        }
    }
}
