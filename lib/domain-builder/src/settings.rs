//! What a new domain may do and get besides memory.

use alloc::string::String;

use hypercall::{AffinityKind, RawHypercall, Xen};
use protocols::Settings;
use protocols::settings::{Access, Affinity, CpuSet, Placement};
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::{DomId, Mfn, PageCount, Pfn, VcpuId};

use crate::processor::{self, Topology};
use crate::{BuildError, DomainSpec, Step};

/// Fails unless this Xen is new enough for what is asked for.
pub(crate) fn check_release<H: RawHypercall>(xen: &Xen<H>, settings: &Settings) -> Result<(), BuildError> {
    let interface = xen.interface();
    let too_old = |setting, since| Err(BuildError::TooOld { setting, xen: interface.xen, since });
    if settings.limits.grant_version == Some(1) && !interface.domctl.has_grant_options() {
        return too_old("max_grant_version", "4.16");
    }
    if settings.processor.relaxed_msrs && !interface.domctl.has_misc_flags() {
        return too_old("msr_relaxed", "4.15");
    }
    Ok(())
}

/// Gives a domain that was just created what its settings say; its vCPUs must be there, and need not have registers.
pub(crate) fn apply<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    spec: &DomainSpec,
    topology: Topology,
    translated: Translated,
) -> Result<(), BuildError> {
    processor::apply(xen, domain, &spec.settings.processor, topology)?;
    if spec.serves_store {
        let refused = BuildError::call(Step::Access);
        xen.set_virq_handler(domain, VIRQ_DOM_EXC).map_err(refused)?;
    }
    give_access(xen, domain, &spec.settings.access, translated)?;
    place(xen, domain, &spec.settings.placement, spec.vcpus)
}

/// Whether a domain numbers its memory and ports itself, so that Xen has to be told where its devices are: PVH guests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Translated {
    No,
    Yes,
}

fn give_access<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    access: &Access,
    translated: Translated,
) -> Result<(), BuildError> {
    let refused = BuildError::call(Step::Access);
    for range in &access.io_memory {
        let pages = PageCount::new(range.pages);
        xen.allow_io_memory(domain, Mfn::new(range.first), pages).map_err(&refused)?;
        if translated == Translated::Yes {
            let guest = Pfn::new(range.guest_first());
            xen.map_io_memory(domain, guest, Mfn::new(range.first), pages).map_err(&refused)?;
        }
    }
    for range in &access.io_ports {
        xen.allow_io_ports(domain, u32::from(range.first), range.count()).map_err(&refused)?;
        if translated == Translated::Yes {
            xen.map_io_ports(domain, u32::from(range.first), range.count()).map_err(&refused)?;
        }
    }
    for interrupt in &access.interrupts {
        xen.allow_interrupt(domain, *interrupt).map_err(&refused)?;
    }
    if !access.is_empty() {
        let (memory, ports, interrupts) =
            (access.io_memory.len(), access.io_ports.len(), access.interrupts.len());
        log::info!(
            "domid={domain} event=access io-memory-ranges={memory} io-port-ranges={ports} interrupts={interrupts}"
        );
    }
    Ok(())
}

fn place<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    placement: &Placement,
    vcpus: u32,
) -> Result<(), BuildError> {
    let refused = BuildError::call(Step::Place);
    let Placement { hard, soft, weight, cap, pool } = placement;
    if *pool != 0 {
        xen.move_to_pool(domain, *pool).map_err(&refused)?;
    }
    if weight.is_some() || cap.is_some() {
        let found = xen.cpu_pool(*pool).map_err(&refused)?;
        if !found.has_shares() {
            return Err(BuildError::NoShares { scheduler: found.scheduler, pool: *pool });
        }
        xen.set_share(domain, found.scheduler, *weight, *cap).map_err(&refused)?;
    }
    for (kind, name, affinity) in
        [(AffinityKind::Hard, "cpus", hard), (AffinityKind::Soft, "preferred-cpus", soft)]
    {
        set_affinity(xen, domain, vcpus, kind, name, affinity)?;
    }
    Ok(())
}

/// Sets one kind of affinity of all vCPUs that have one, and logs what of it Xen can follow.
fn set_affinity<H: RawHypercall>(
    xen: &Xen<H>,
    domain: DomId,
    vcpus: u32,
    kind: AffinityKind,
    name: &str,
    affinity: &Affinity,
) -> Result<(), BuildError> {
    for vcpu in 0..vcpus {
        let Some(set) = affinity.of(vcpu) else { continue };
        let cpus = xen.set_affinity(domain, VcpuId::new(vcpu), kind, set.cpus());
        let cpus = cpus.map_err(BuildError::call(Step::Place))?;
        let cpus: Option<String> = CpuSet::new(cpus).map(|cpus| alloc::format!("{cpus}"));
        match cpus {
            Some(cpus) => log::info!("domid={domain} event=placed vcpu={vcpu} {name}={cpus}"),
            // Xen keeps a wish that it can never follow, and so does not say so.
            None => log::warn!(
                "domid={domain} event=placed vcpu={vcpu} {name}=none: the machine has none of CPUs {set}"
            ),
        }
    }
    Ok(())
}
