//! Two domains, each of which grants pages to the other (`self=` and `peer=` are their identifiers) and maps the other's. Both run the same program.
//!
//! | reference | what is granted |
//! |---|---|
//! | 8 | a page to write, to the peer |
//! | 9 | a page to read, to the peer |
//! | 10 | a page to write, to a domain that does not exist |
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

mod page;
mod peer;

use alloc::format;

use grant_table::{Access, GrantError, GrantTable};
use hypercall::Xen;
use pv_runtime::{Boot, Hypervisor, OwnPage, SharedFrames, Window, clock};
use verdict::{Outcome, Verdict, success};
use xen_abi::{DomId, GrantRef};

use page::Mark;

verdict::test!(run);

/// What a grant gets as its reference: the first ones that are not reserved, in order.
const WRITABLE: GrantRef = GrantRef::new(8);
const READABLE: GrantRef = GrantRef::new(9);
const SOMEBODY_ELSES: GrantRef = GrantRef::new(10);
/// A reference that nothing is granted by.
const UNUSED: GrantRef = GrantRef::new(11);

/// A domain that does not exist.
const NOBODY: DomId = DomId::new(0x7fe0);

/// How long to wait for the peer: 20 s, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

/// Between two looks at what the peer does: 1 ms, in nanoseconds.
const PAUSE: u64 = 1_000_000;

/// The own side.
struct Granter {
    table: GrantTable<SharedFrames>,
    writable: OwnPage,
}

fn run(boot: &mut Boot) -> Outcome {
    let (Some(me), Some(peer)) = (domain(boot, "self")?, domain(boot, "peer")?) else {
        return Err(Verdict::Skip("there are no self= and peer= on the command line".into()));
    };
    let xen = Xen::unprivileged(Hypervisor).map_err(Verdict::error)?;
    let mut window = boot.window().ok_or_else(|| Verdict::error("no window"))?.map_err(Verdict::error)?;
    let mut own = Granter::grant(&xen, &mut window, peer)?;
    let mapped = peer::map(&xen, me, peer)?;
    peer::refuses(&xen, peer)?;
    peer::works(&mapped, &own)?;
    own.revoke_in_use()?;
    // Both have tried all that needs the other's mappings when both have said so.
    page::mark(&own.writable, Mark::Finished);
    until("the peer to finish", || page::is_marked(&mapped.writable, Mark::Finished))?;
    mapped.unmap()?;
    until("the peer to unmap", || !own.table.is_mapped(WRITABLE) && !own.table.is_mapped(READABLE))?;
    own.revoke()?;
    success!("pages shared with domain {peer} both ways")
}

/// A domain identifier of the command line.
fn domain(boot: &Boot, key: &str) -> Result<Option<DomId>, Verdict> {
    boot.argument(key).map(|number| number.parse().map(DomId::new)).transpose().map_err(Verdict::error)
}

/// Waits for a condition that the peer makes true.
fn until(what: &str, mut condition: impl FnMut() -> bool) -> Result<(), Verdict> {
    let xen = Xen::unprivileged(Hypervisor).map_err(Verdict::error)?;
    let deadline = clock::now().nanos() + PATIENCE;
    while !condition() {
        let now = clock::now().nanos();
        if now > deadline {
            return Err(Verdict::Failure(format!("waited in vain for {what}")));
        }
        xen.poll(&[], Some(now + PAUSE)).map_err(Verdict::error)?;
    }
    Ok(())
}

impl Granter {
    /// Grants three pages, by the references that the peer expects.
    fn grant(xen: &Xen<Hypervisor>, window: &mut Window, peer: DomId) -> Result<Self, Verdict> {
        let page = || OwnPage::new().ok_or_else(|| Verdict::error("no memory for a page"));
        let (writable, readable, other) = (page()?, page()?, page()?);
        page::fill(&writable, peer);
        page::fill(&readable, peer);
        let mut table = GrantTable::open(xen, window, 1).map_err(Verdict::failure)?;
        let grants = [
            (WRITABLE, peer, &writable, Access::ReadWrite),
            (READABLE, peer, &readable, Access::ReadOnly),
            (SOMEBODY_ELSES, NOBODY, &other, Access::ReadWrite),
        ];
        for (expected, domain, page, access) in grants {
            let reference = table.grant(domain, page, access).map_err(Verdict::failure)?;
            if reference != expected {
                return Err(Verdict::Failure(format!(
                    "granted by reference {reference} instead of {expected}"
                )));
            }
        }
        page::mark(&readable, Mark::Ready);
        page::mark(&writable, Mark::Ready);
        Ok(Self { table, writable })
    }

    /// A grant cannot be taken back while the peer has it mapped.
    fn revoke_in_use(&mut self) -> Result<(), Verdict> {
        match self.table.revoke(WRITABLE) {
            Err(GrantError::InUse { .. }) => Ok(()),
            other => Err(Verdict::Failure(format!("revoking a mapped page: {other:?}"))),
        }
    }

    /// A grant can be taken back once.
    fn revoke(&mut self) -> Result<(), Verdict> {
        for reference in [WRITABLE, READABLE, SOMEBODY_ELSES] {
            self.table.revoke(reference).map_err(Verdict::failure)?;
        }
        match self.table.revoke(WRITABLE) {
            Err(GrantError::NotGranted { .. }) => Ok(()),
            other => Err(Verdict::Failure(format!("revoking twice: {other:?}"))),
        }
    }
}
