//! The peer's pages.

use alloc::format;

use grant_table::{Access, GrantAddress, GrantError, Mapping};
use hypercall::Xen;
use pv_runtime::{GrantPage, Hypervisor, println, traps};
use verdict::Verdict;
use xen_abi::{DomId, GrantRef, GuestVirt};

use crate::page::{self, Mark};
use crate::{Granter, NOBODY, READABLE, SOMEBODY_ELSES, UNUSED, WRITABLE, until};

type Mapped<'x> = Mapping<'x, Hypervisor, GrantPage>;

/// The peer's two pages.
pub(crate) struct Pages<'x> {
    pub(crate) writable: Mapped<'x>,
    readable: Mapped<'x>,
    me: DomId,
    peer: DomId,
}

fn try_map(
    xen: &Xen<Hypervisor>,
    domain: DomId,
    reference: GrantRef,
    access: Access,
) -> Result<Result<Mapped<'_>, GrantError>, Verdict> {
    let page = GrantPage::new().map_err(Verdict::error)?;
    Ok(Mapping::new(xen, page, domain, reference, access))
}

/// Maps the peer's pages once it has granted them.
pub(crate) fn map(xen: &Xen<Hypervisor>, me: DomId, peer: DomId) -> Result<Pages<'_>, Verdict> {
    let mut mapped = None;
    until("the peer's grant", || {
        mapped = try_map(xen, peer, WRITABLE, Access::ReadWrite).ok().and_then(Result::ok);
        mapped.is_some()
    })?;
    let writable = mapped.ok_or_else(|| Verdict::error("no mapping"))?;
    until("the peer's pages to be ready", || page::is_marked(&writable, Mark::Ready))?;
    let readable = try_map(xen, peer, READABLE, Access::ReadOnly)?.map_err(Verdict::failure)?;
    Ok(Pages { writable, readable, me, peer })
}

/// What is not granted cannot be mapped.
pub(crate) fn refuses(xen: &Xen<Hypervisor>, peer: DomId) -> Result<(), Verdict> {
    let cases = [
        ("a page granted to somebody else", peer, SOMEBODY_ELSES, Access::ReadOnly),
        ("a page that is not granted", peer, UNUSED, Access::ReadOnly),
        ("a reference beyond the table", peer, GrantRef::new(1 << 20), Access::ReadOnly),
        ("writing to a page granted for reading", peer, READABLE, Access::ReadWrite),
        ("a page of a domain that does not exist", NOBODY, WRITABLE, Access::ReadOnly),
    ];
    for (what, domain, reference, access) in cases {
        match try_map(xen, domain, reference, access)? {
            Err(error @ GrantError::Refused { .. }) => println!("refused {what}: {error}"),
            Err(other) => return Err(Verdict::Failure(format!("{what}: {other}"))),
            Ok(_) => return Err(Verdict::Failure(format!("{what} was mapped"))),
        }
    }
    Ok(())
}

/// The pages hold what the peer wrote, and what is written arrives there.
pub(crate) fn works(pages: &Pages<'_>, own: &Granter) -> Result<(), Verdict> {
    let (writable, readable) = (&pages.writable, &pages.readable);
    let me = pages.me;
    for (name, page) in [("writable", writable), ("readable", readable)] {
        if !page::is_filled(page, me) {
            return Err(Verdict::Failure(format!(
                "the peer's {name} page does not hold what it wrote for {me}"
            )));
        }
    }
    let GrantAddress::Virtual(address) = readable.address() else {
        return Err(Verdict::error("the page has no address"));
    };
    // SAFETY: if the page is writable after all, a word of it changes that only the check above has read.
    if unsafe { traps::write(GuestVirt::new(address + 64), 0) }.is_ok() {
        return Err(Verdict::failure("a page mapped for reading can be written"));
    }
    page::answer(writable, pages.peer);
    page::mark(writable, Mark::Written);
    until("the peer's answer", || page::is_marked(&own.writable, Mark::Written))?;
    if !page::is_answered(&own.writable, me) {
        return Err(Verdict::failure("what the peer wrote into this domain's page did not arrive"));
    }
    Ok(())
}

impl Pages<'_> {
    pub(crate) fn unmap(self) -> Result<(), Verdict> {
        self.writable.unmap().map_err(Verdict::failure)?;
        self.readable.unmap().map_err(Verdict::failure)?;
        Ok(())
    }
}
