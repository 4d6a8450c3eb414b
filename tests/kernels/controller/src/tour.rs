//! Everything that a controller may ask for, once, and what it may not.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use protocols::Digest;
use protocols::message::{
    Built, EndReason, ImageSource, MAX_CHUNK_LEN, Quota, Reason, ServerReply, ServerRequest, VmEntry, VmState,
};
use protocols::settings::IoPorts;
use sha2::{Digest as _, Sha256};
use verdict::{Outcome, Verdict, require, success};

use crate::link::now;
use crate::session::Session;
use crate::vm::{self, MEMORY_KIB};

/// An entry of the RAM disk that the platform file does not give to this controller.
const OTHERS: &str = "images/others";

/// Asks for everything; `image` is a kernel.
pub(crate) fn run(mut session: Session<'_>, image: &[u8]) -> Outcome {
    let Quota { memory_kib, vms, first_domid, last_domid, store_bytes, requests } = session.quota;
    require!(memory_kib > 0 && vms >= 2 && first_domid > 0 && store_bytes > 0, "{:?}", session.quota);
    session.get("watching", ServerRequest::WatchExits { watch: true })?;
    let digest = Digest(Sha256::digest(image).into());
    let begin = now();
    let chunks = send(&mut session, digest, image)?;
    let micros = now().saturating_sub(begin) / 1000;
    sends_wrongly(&mut session, image)?;
    runs(&mut session, ImageSource::Store(digest), digest)?;
    runs(&mut session, ImageSource::Ramdisk(vm::WORKER.into()), digest)?;
    lists(&mut session)?;
    beyond_its_quota(&mut session)?;
    not_for_it(&mut session)?;
    let facts = session.get("facts", ServerRequest::Facts)?;
    let ServerReply::Facts(facts) = facts else { return Err(Verdict::Failure(format!("{facts:?}"))) };
    require!(facts.xen_major == 4 && facts.free_kib > 0, "{facts:?}");
    require!(facts.stored_bytes >= image.len() as u64, "{facts:?}");
    session.close()?;
    success!(
        "{} bytes sent in {chunks} parts and {micros} us, domain ids {first_domid} to {last_domid}, {requests} requests at a time, Xen {}.{}",
        image.len(),
        facts.xen_major,
        facts.xen_minor
    )
}

/// Sends an image; how many parts that took.
fn send(session: &mut Session<'_>, digest: Digest, image: &[u8]) -> Result<usize, Verdict> {
    let size = image.len() as u64;
    let begin = || ServerRequest::PutImageBegin { digest, size };
    let mut there = received(session, "beginning an image", begin())?;
    require!(there == (0, false), "a new image is there already: {there:?}");
    let mut chunks = 0;
    while there.0 < size {
        let offset = there.0;
        let rest = usize::try_from(offset).ok().and_then(|offset| image.get(offset..)).unwrap_or_default();
        let bytes: Vec<u8> = rest.iter().take(MAX_CHUNK_LEN).copied().collect();
        there = received(session, "a part", ServerRequest::PutImageChunk { digest, offset, bytes })?;
        require!(there.0 > offset, "the store does not take a part at {offset}");
        chunks += 1;
    }
    there = received(session, "the end of an image", ServerRequest::PutImageEnd { digest })?;
    require!(there == (size, true), "complete, and still {there:?}");
    there = received(session, "an image once more", begin())?;
    require!(there == (size, true), "sent, and not there: {there:?}");
    Ok(chunks)
}

/// What of an image is there, and whether it is complete.
fn received(session: &mut Session<'_>, what: &str, request: ServerRequest) -> Result<(u64, bool), Verdict> {
    match session.get(what, request)? {
        ServerReply::Image { received, complete, .. } => Ok((received, complete)),
        other => Err(Verdict::Failure(format!("{what}: {other:?}"))),
    }
}

/// Parts that do not follow, a digest of something else, an image that nobody sent.
fn sends_wrongly(session: &mut Session<'_>, image: &[u8]) -> Result<(), Verdict> {
    let digest = Digest([7; 32]);
    let bytes: Vec<u8> = image.iter().take(100).copied().collect();
    let chunk = |offset, bytes: &[u8]| ServerRequest::PutImageChunk { digest, offset, bytes: bytes.to_vec() };
    session.refused("a part of nothing", chunk(0, &bytes), &[Reason::NoSuchImage, Reason::WrongOffset])?;
    received(session, "an image", ServerRequest::PutImageBegin { digest, size: 100 })?;
    session.refused("a part in the middle", chunk(50, &bytes), &[Reason::WrongOffset])?;
    received(session, "an image", ServerRequest::PutImageBegin { digest, size: 100 })?;
    session.get("giving an image up", ServerRequest::PutImageCancel { digest })?;
    session.refused("a part of what was given up", chunk(0, &bytes), &[Reason::NoSuchImage])?;
    let cancel = ServerRequest::PutImageCancel { digest };
    session.refused("giving it up twice", cancel, &[Reason::NoSuchImage])?;
    received(session, "an image", ServerRequest::PutImageBegin { digest, size: 100 })?;
    received(session, "all of it", chunk(0, &bytes))?;
    let end = ServerRequest::PutImageEnd { digest };
    session.refused("another digest", end, &[Reason::WrongDigest])?;
    let mut request = vm::build(&vm::spec("absent"), false)?;
    request.kernel = ImageSource::Store(digest);
    session.refused("a VM of it", ServerRequest::Build(request), &[Reason::NoSuchImage])
}

/// Builds a VM that runs, and hears of its end.
fn runs(session: &mut Session<'_>, kernel: ImageSource, digest: Digest) -> Result<(), Verdict> {
    let mut request = vm::build(&vm::spec("runs"), false)?;
    request.kernel = kernel;
    let built = build(session, request)?;
    require!(built.kernel == digest, "built of {}, sent was {digest}", built.kernel);
    let end = session.end_of(built.serial)?;
    require!(end == EndReason::Poweroff, "it ended by {end:?}");
    Ok(())
}

fn build(session: &mut Session<'_>, request: protocols::message::BuildRequest) -> Result<Built, Verdict> {
    match session.get("building", ServerRequest::Build(request))? {
        ServerReply::Built(built) => Ok(built),
        other => Err(Verdict::Failure(format!("building: {other:?}"))),
    }
}

fn list(session: &mut Session<'_>, after: u16) -> Result<Vec<VmEntry>, Verdict> {
    match session.get("listing", ServerRequest::List { after })? {
        ServerReply::Vms { vms, more: false } => Ok(vms),
        other => Err(Verdict::Failure(format!("listing: {other:?}"))),
    }
}

/// Builds paused VMs with the ids of its choice, looks at them, wakes one and destroys all.
fn lists(session: &mut Session<'_>) -> Result<(), Verdict> {
    let first = session.quota.first_domid;
    let mut entries = Vec::new();
    for (name, domid) in [("one", first), ("two", first + 1)] {
        let mut spec = vm::spec(name);
        spec.domid = Some(domid);
        let built = build(session, vm::build(&spec, true)?)?;
        require!(built.domid == domid, "domain {} instead of {domid}", built.domid);
        let (name, state) = (name.into(), VmState::Paused);
        entries.push(VmEntry { domid, name, state, memory_kib: MEMORY_KIB, vcpus: 1, serial: built.serial });
    }
    let all = list(session, 0)?;
    require!(all == entries, "{all:?}");
    let rest = list(session, first)?;
    require!(entries.ends_with(&rest) && rest.len() == 1, "{rest:?}");
    let mut again = vm::spec("one");
    let request = ServerRequest::Build(vm::build(&again, true)?);
    session.refused("a name that is taken", request, &[Reason::Taken])?;
    (again.name, again.domid) = ("other".into(), Some(first));
    let request = ServerRequest::Build(vm::build(&again, true)?);
    session.refused("an id that is taken", request, &[Reason::Taken])?;
    let serials: Vec<u64> = entries.iter().map(|entry| entry.serial).collect();
    let &[one, two] = serials.as_slice() else { return Err(Verdict::error("not two VMs")) };
    require!(one < two, "serial numbers {one} and {two}");
    acts(session, first, one)?;
    session.get("destroying", ServerRequest::Destroy { domid: first + 1, serial: Some(two) })?;
    let left = list(session, 0)?;
    require!(left.is_empty(), "{left:?}");
    let gone = ServerRequest::Destroy { domid: first, serial: None };
    session.refused("destroying what is gone", gone, &[Reason::NoSuchVm])
}

/// Does to a paused VM what can be done, until it ends; somebody else's serial number does nothing to it.
fn acts(session: &mut Session<'_>, domid: u16, serial: u64) -> Result<(), Verdict> {
    let another = ServerRequest::Destroy { domid, serial: Some(serial + 1) };
    session.refused("destroying another VM of that id", another, &[Reason::NoSuchVm])?;
    let named = Some(serial);
    let shutdown = ServerRequest::Shutdown { domid, serial: named };
    session.get("asking a VM to power off that does not listen", shutdown)?;
    let pause = ServerRequest::Pause { domid, serial: named };
    session.refused("pausing what is paused", pause, &[Reason::WrongState])?;
    session.get("unpausing", ServerRequest::Unpause { domid, serial: named })?;
    let end = session.end_of(serial)?;
    require!(end == EndReason::Poweroff, "it ended by {end:?}");
    Ok(())
}

/// More than it may have.
fn beyond_its_quota(session: &mut Session<'_>) -> Result<(), Verdict> {
    let quota = session.quota;
    let mut spec = vm::spec("large");
    (spec.memory_kib, spec.max_memory_kib) = (quota.memory_kib + 4, quota.memory_kib + 4);
    let request = ServerRequest::Build(vm::build(&spec, true)?);
    session.refused("a VM beyond the quota of memory", request, &[Reason::OverQuota])?;
    let begin = ServerRequest::PutImageBegin { digest: Digest([8; 32]), size: quota.store_bytes + 1 };
    session.refused("an image beyond the quota", begin, &[Reason::OverQuota, Reason::OutOfMemory])?;
    let mut all = Vec::new();
    for number in 0..quota.vms {
        let spec = vm::spec(&format!("many-{number}"));
        all.push(build(session, vm::build(&spec, true)?)?);
    }
    let request = ServerRequest::Build(vm::build(&vm::spec("one-more"), true)?);
    session.refused("a VM beyond the quota of VMs", request, &[Reason::OverQuota])?;
    for Built { domid, serial, .. } in all {
        session.get("destroying", ServerRequest::Destroy { domid, serial: Some(serial) })?;
    }
    Ok(())
}

/// What the platform file does not give to this controller.
fn not_for_it(session: &mut Session<'_>) -> Result<(), Verdict> {
    let mut spec = vm::spec("stranger");
    spec.domid = Some(session.quota.last_domid + 1);
    let request = ServerRequest::Build(vm::build(&spec, true)?);
    session.refused("somebody else's domain id", request, &[Reason::NotPermitted])?;
    let mut spec = vm::spec("driver");
    spec.settings.access.io_ports = vec![IoPorts { first: 0x60, last: 0x64 }];
    let request = ServerRequest::Build(vm::build(&spec, true)?);
    session.refused("a device", request, &[Reason::NotPermitted])?;
    let mut spec = vm::spec("heavy");
    spec.settings.placement.weight = Some(512);
    let request = ServerRequest::Build(vm::build(&spec, true)?);
    session.refused("a place", request, &[Reason::NotPermitted])?;
    let mut request = vm::build(&vm::spec("thief"), true)?;
    request.kernel = ImageSource::Ramdisk(OTHERS.into());
    session.refused("somebody else's image", ServerRequest::Build(request), &[Reason::NotPermitted])?;
    let mut request = vm::build(&vm::spec("garbled"), true)?;
    request.spec.pop();
    session.refused("half a boot spec", ServerRequest::Build(request), &[Reason::BadSpec])?;
    // Dom0, this VM itself, and one that there is not.
    for domid in [0, 1, 0x7fef] {
        let request = ServerRequest::Destroy { domid, serial: None };
        session.refused("destroying what is not its own", request, &[Reason::NoSuchVm])?;
    }
    Ok(())
}
