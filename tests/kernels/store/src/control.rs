//! The VM in control of the XenStore.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use protocols::store::Introductions;
use pv_runtime::{Boot, println};
use verdict::{Outcome, Verdict, success};
use xenstore::Kind;

use crate::Machine;
use crate::asking::Asking;

pub(crate) fn run(machine: &Machine, boot: &mut Boot) -> Outcome {
    let Some(Introductions(clients)) = Introductions::on(boot.command_line()) else {
        return Err(Verdict::Skip("there is no intros= on the command line".into()));
    };
    let to_ask = boot.argument("ask").unwrap_or_default().split(',').filter(|number| !number.is_empty());
    let to_ask: Vec<u16> = to_ask.map(str::parse).collect::<Result<_, _>>().map_err(Verdict::error)?;
    let mut store = Asking::new(machine, boot)?;
    store.ask(Kind::Watch, &["@releaseDomain", "gone", ""])?;
    for client in &clients {
        let (number, port) = (client.domid.to_string(), client.port.to_string());
        store.ask(Kind::Introduce, &[&number, "0", &port, ""])?;
        let home = format!("/local/domain/{number}");
        store.ask(Kind::Mkdir, &[&home, ""])?;
        store.ask(Kind::SetPerms, &[&home, &format!("n{number}"), ""])?;
        store.write(&format!("{home}/domid"), &number)?;
        store.ask(Kind::SetPerms, &[&format!("{home}/domid"), "n0", &format!("r{number}"), ""])?;
    }
    for domid in &to_ask {
        store.ask(Kind::Watch, &[&format!("/local/domain/{domid}/ready"), "ready", ""])?;
    }
    println!("store is ready for {} domains", clients.len());
    let mut left: Vec<u16> = clients.iter().map(|client| client.domid).collect();
    let mut asked = Vec::new();
    while !left.is_empty() {
        let _what = store.news()?;
        for domid in &to_ask {
            let home = format!("/local/domain/{domid}");
            let is_ready =
                !asked.contains(domid) && store.try_ask(Kind::Read, &[&format!("{home}/ready"), ""])?.is_ok();
            if is_ready {
                println!("asking domain {domid} to power off");
                store.write(&format!("{home}/control/shutdown"), "poweroff")?;
                asked.push(*domid);
            }
        }
        let mut served = Vec::new();
        for domid in left {
            if store.ask(Kind::IsIntroduced, &[&domid.to_string(), ""])?.starts_with('T') {
                served.push(domid);
            }
        }
        left = served;
    }
    success!("{} domains introduced, {} asked to power off, all gone", clients.len(), asked.len())
}
