//! How a run has to end.

use log::Level;
use protocols::MachineStatus;
use xen_abi::{DomId, Errno};
use xen_sim::Call;

use crate::logged::Line;
use crate::trial::{DESTROY, Site};
use crate::{Run, Trial};

/// Says what is wrong with `run`, in which `trial` went wrong; `whole` is the run in which nothing did.
///
/// Every run has to end; in an error that names the call, the error number and the VM; with the status of a platform that was not started, if
/// a VM could not be; and with a machine as it was before, but for what Xen itself refused to take back.
pub fn judge(whole: &Run, trial: &Trial, run: &Result<Run, String>) -> Result<(), String> {
    let run = run.as_ref().map_err(|panic| format!("it ends in a panic: {panic}"))?;
    clean(run)?;
    if let Trial::Held(site) = trial {
        return held(run, site);
    }
    let Some(site) = trial.site() else { return out_of_memory(run) };
    if let Err(error) = &run.status {
        // Before a Xen is found there is no log, and no VM. Where two calls fail, the first may be one that can be done without.
        let mut refused = run.trace.calls().iter().filter(|call| call.result.is_err());
        let named = refused.any(|call| error.contains(call.name)) || error.contains("domctl");
        return if named { Ok(()) } else { Err(format!("the error names no call: {error}")) };
    }
    if !silent(whole, trial, site) {
        told(whole, trial, site, run)?;
    }
    if matches!(trial, Trial::Always(..))
        && site.name == DESTROY
        && run.status != Ok(MachineStatus::BuilderFailed)
    {
        return Err(format!("a domain stays, and the status is {:?}", run.status));
    }
    let may_succeed = site.domain == DomId::new(0) && site.name != "EVTCHNOP_bind_virq"
        || site.index > last_start(whole)
        || trial.errno().is_none() && run.log.iter().all(|line| line.level > Level::Error);
    if run.status == Ok(MachineStatus::Success) && !may_succeed {
        return Err("the platform ends as a success".into());
    }
    Ok(())
}

/// Whether all is as it was before the run, but for what Xen refused to take back.
fn clean(run: &Run) -> Result<(), String> {
    let refused = |name: &str| run.trace.named(name).any(|call| call.result.is_err());
    let logged =
        |text: &str| run.log.iter().any(|line| line.level == Level::Error && line.text.contains(text));
    // Without a way to wait the VMs go on, until the machine goes off with them.
    let lost = run.status == Ok(MachineStatus::BuilderFailed) && refused("SCHEDOP_poll");
    let leaked = logged("event=leaked") && refused(DESTROY);
    for left in &run.left {
        let allowed = if left.starts_with("port ") {
            logged("stays open") && refused("EVTCHNOP_close") || lost
        } else if left.starts_with("interrupt ") {
            refused("PHYSDEVOP_unmap_pirq") || leaked || lost
        } else {
            leaked || lost || logged("event=lingering")
        };
        if !allowed {
            return Err(format!("it leaves {left}"));
        }
    }
    Ok(())
}

/// What a domain that never goes has to lead to.
fn held(run: &Run, site: &Site) -> Result<(), String> {
    if run.status != Ok(MachineStatus::BuilderFailed) {
        return Err(format!("a zombie stays, and the status is {:?}", run.status));
    }
    let told = |line: &Line| {
        let begin = format!("domid={} event=lingering", site.domain);
        line.level == Level::Error && line.text.starts_with(&begin)
    };
    if run.log.iter().any(told) {
        Ok(())
    } else {
        Err(format!("no error says that domain {} lingers", site.domain))
    }
}

/// What memory that runs out has to lead to.
fn out_of_memory(run: &Run) -> Result<(), String> {
    if run.status == Ok(MachineStatus::Success) {
        return Ok(());
    }
    let told = run
        .log
        .iter()
        .any(|line| line.level == Level::Error && line.text.contains("memory") && line.text.contains("vm="));
    if told { Ok(()) } else { Err("no error names memory and the VM".into()) }
}

/// Whether nobody has to be told when the call at `site` fails.
fn silent(whole: &Run, trial: &Trial, site: &Site) -> bool {
    let calls = whole.trace.calls();
    let destroyed =
        |call: &Call| call.name == DESTROY && call.domain == site.domain && call.index < site.index;
    match site.name {
        // Where Xen does not tell how much memory it has, building will show whether it was enough. There is nowhere else to write
        // what cannot be written to the console.
        "XEN_SYSCTL_physinfo" | "CONSOLEIO_write" => true,
        // By this a Xen says that it has no labels; a VM that has one is refused then.
        "FLASK_GETENFORCE" => trial.errno() == Some(Errno::ENOSYS),
        // Looking for the version of the interface, where these are answers like others.
        "XEN_DOMCTL_getdomaininfo" if site.domain == DomId::new(0) => {
            [Some(Errno::EACCES), Some(Errno::EINVAL), Some(Errno::ESRCH)].contains(&trial.errno())
        }
        // A VM that is gone has ended.
        "XEN_DOMCTL_getdomaininfo"
            if trial.errno() == Some(Errno::ESRCH) && site.index > last_start(whole) =>
        {
            true
        }
        // Xen gives the work back in pieces with these, and is called again.
        DESTROY if matches!(trial, Trial::Always(..)) => false,
        DESTROY => [Some(Errno::EAGAIN), Some(Errno::ERESTART)].contains(&trial.errno()),
        // Waiting for Xen to let go of domains that were destroyed: it is asked again.
        "XEN_DOMCTL_getdomaininfo" => calls.iter().any(destroyed),
        "SCHEDOP_poll" => !calls.iter().any(|call| call.name == DESTROY && call.index > site.index),
        _ => false,
    }
}

/// Whether the log names what failed.
fn told(whole: &Run, trial: &Trial, site: &Site, run: &Run) -> Result<(), String> {
    let words = match site.name {
        "map frames" => "mapping frame",
        "unmap RAM disk" => "RAM disk",
        // Done in part; the caller sees how much was.
        "XENMEM_populate_physmap" if trial.errno().is_none() => "pages",
        "XENMEM_decrease_reservation" if trial.errno().is_none() => "does not take",
        name => name,
    };
    let errno = trial.errno().map(|errno| errno.to_string()).unwrap_or_default();
    let vm = name_of(whole, site.domain).map(|name| format!("vm={name} ")).unwrap_or_default();
    let complete = trial.errno().is_none() && run.status == Ok(MachineStatus::Success);
    let found = run.log.iter().any(|line| {
        line.level <= Level::Warn && [words, &errno, &vm].into_iter().all(|part| line.text.contains(part))
    });
    if found || complete {
        return Ok(());
    }
    Err(format!("no line of the log has all of {words:?}, {errno:?} and {vm:?}"))
}

/// The VM that is domain `domid` in `run`.
fn name_of(run: &Run, domid: DomId) -> Option<&str> {
    let field = format!(" domid={domid} ");
    let line = run.log.iter().find(|line| line.text.starts_with("vm=") && line.text.contains(&field))?;
    line.text.strip_prefix("vm=")?.split(' ').next()
}

/// The call by which the last VM was started that does not wait for others.
fn last_start(run: &Run) -> usize {
    let first_wait = run.trace.named("SCHEDOP_poll").next().map_or(usize::MAX, |call| call.index);
    let starts = run.trace.named("XEN_DOMCTL_unpausedomain").map(|call| call.index);
    starts.take_while(|index| *index < first_wait).last().unwrap_or(usize::MAX)
}
