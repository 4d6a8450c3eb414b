//! What a controller may have.

use alloc::format;
use alloc::string::String;

use protocols::message::{BuildRequest, Failure, ImageSource, Reason};
use protocols::server::Controller;
use protocols::spec::check_domid;
use protocols::{BootSpec, StoreRole};

use crate::failure::failure;
use crate::vms::{State, Vms};

/// Whether `controller`, whose number and domain id are `asker`, may have the VM that is described built of what the request names; if not, why.
pub(crate) fn admit(
    controller: &Controller,
    asker: (usize, u16),
    vms: &Vms,
    request: &BuildRequest,
    spec: &BootSpec,
) -> Result<(), Failure> {
    let name = &spec.name;
    let (quota, (owner, own_domid)) = (controller.quota, asker);
    let (memory, count) = vms.used_by(owner);
    let (going_memory, going_count) = vms.going_of(owner);
    // Who waits for an end wants to know that there is one to wait for.
    let going = match going_count {
        0 => String::new(),
        _ => format!(
            "; {going_count} of them with {going_memory} KiB are being destroyed, and count until they are gone"
        ),
    };
    if count >= quota.vms {
        let detail = format!("vm {name}: the controller has {count} VMs and may have {}{going}", quota.vms);
        return Err(failure(Reason::OverQuota, detail));
    }
    let left = quota.memory_kib.saturating_sub(memory);
    if spec.max_memory_kib > left {
        let detail = format!(
            "vm {name}: {} KiB of memory; of the controller's {} KiB {left} are left beside its {count} VMs{going}",
            spec.max_memory_kib, quota.memory_kib
        );
        return Err(failure(Reason::OverQuota, detail));
    }
    let may = controller.may.allow(&spec.settings);
    may.map_err(|error| failure(Reason::NotPermitted, format!("vm {name}: {error}")))?;
    for source in [Some(&request.kernel), request.ramdisk.as_ref()].into_iter().flatten() {
        admit_image(controller, source)?;
    }
    let store = match spec.store {
        StoreRole::None | StoreRole::Own => None,
        StoreRole::Client { server } => Some(server),
        StoreRole::Server => {
            let detail = format!(
                "vm {name}: it is to serve the machine's XenStore, which the platform's VMs only may"
            );
            return Err(failure(Reason::NotPermitted, detail));
        }
    };
    for (what, server) in [("console", request.console), ("XenStore", store)] {
        if let Some(server) = server.filter(|server| *server != own_domid) {
            admit_server(owner, vms, what, server)?;
        }
    }
    Ok(())
}

fn admit_image(controller: &Controller, source: &ImageSource) -> Result<(), Failure> {
    match source {
        ImageSource::Ramdisk(name) if !controller.images.allows(name) => {
            let detail = format!("image {name}: the platform does not let this controller use it");
            Err(failure(Reason::NotPermitted, detail))
        }
        ImageSource::Store(_) if controller.quota.store_bytes == 0 => {
            let detail = "an image of the store: the platform gives this controller no part of it";
            Err(failure(Reason::NotPermitted, detail))
        }
        _ => Ok(()),
    }
}

/// A ring may be served by the controller, or by one of its VMs.
fn admit_server(owner: usize, vms: &Vms, what: &str, server: u16) -> Result<(), Failure> {
    let is_own = vms.of(owner).any(|(domid, vm)| domid == server && matches!(vm.state, State::Live));
    if is_own {
        return Ok(());
    }
    let detail = format!(
        "{what} served by domain {server}: that is neither the controller nor one of its VMs that run"
    );
    Err(failure(Reason::NotPermitted, detail))
}

/// The domain id for a new VM: the one that is `wanted`, or the next one that is free of those the controller may use, after the
/// one before. Without ids of its own it gets those that are nobody's.
pub(crate) fn choose_domid(
    controllers: &[Controller],
    owner: usize,
    wanted: Option<u16>,
    rover: u16,
    is_taken: impl Fn(u16) -> bool,
) -> Result<u16, Failure> {
    let Some(controller) = controllers.get(owner) else {
        return Err(failure(Reason::NotPermitted, "no such controller"));
    };
    if let Some(domid) = wanted {
        return match domid {
            _ if !controller.has_domid(domid) => {
                let detail = format!("domain id {domid}: the platform does not give it to this controller");
                Err(failure(Reason::NotPermitted, detail))
            }
            _ if is_taken(domid) => {
                Err(failure(Reason::Taken, format!("domain id {domid}: a VM has it, or had it a moment ago")))
            }
            _ => Ok(domid),
        };
    }
    let own = controller.quota.first_domid != 0;
    let may = |domid: u16| {
        if own {
            controller.has_domid(domid)
        } else {
            !controllers.iter().any(|other| other.has_domid(domid))
        }
    };
    let (first, last) =
        if own { (controller.quota.first_domid, controller.quota.last_domid) } else { (1, u16::MAX) };
    let valid = |domid: &u16| check_domid(Some(*domid)).is_ok() && may(*domid) && !is_taken(*domid);
    let behind = rover.max(first);
    let free = (behind..=last).chain(first..behind).find(valid);
    free.ok_or_else(|| {
        let detail = "all domain ids that the controller may use are taken; VMs that are destroyed and not gone have theirs still";
        failure(Reason::OverQuota, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocols::message::Quota;
    use protocols::server::{ImageAccess, Orphans, Rights};

    fn controller(first_domid: u16, last_domid: u16) -> Controller {
        let (memory_kib, vms, store_bytes, requests) = (1 << 20, 8, 0, 4);
        let quota = Quota { memory_kib, vms, first_domid, last_domid, store_bytes, requests };
        let (images, may) = (ImageAccess::None, Rights::default());
        Controller { vm: format!("c{first_domid}"), quota, images, may, orphans: Orphans::Keep }
    }

    #[test]
    fn ids_go_round_and_stay_in_their_ranges() {
        let all = [controller(10, 12), controller(0, 0), controller(1, 3)];
        let choose = |owner, wanted, rover| {
            choose_domid(&all, owner, wanted, rover, |domid| domid == 11 || domid == 5)
                .map_err(|it| it.reason)
        };
        assert_eq!((choose(0, None, 0), choose(0, None, 11), choose(0, None, 13)), (Ok(10), Ok(12), Ok(10)));
        assert_eq!((choose(0, Some(12), 0), choose(0, Some(11), 0)), (Ok(12), Err(Reason::Taken)));
        assert_eq!(choose(0, Some(13), 0), Err(Reason::NotPermitted));
        assert_eq!(choose(1, Some(20), 0), Err(Reason::NotPermitted), "it has none to choose from");
        assert_eq!((choose(1, None, 0), choose(1, None, 5), choose(1, None, 9)), (Ok(4), Ok(6), Ok(9)));
        assert_eq!(choose(1, None, 10), Ok(13));
        let full = choose_domid(&all, 0, None, 0, |_| true);
        assert_eq!(full.map_err(|it| it.reason), Err(Reason::OverQuota));
    }
}
