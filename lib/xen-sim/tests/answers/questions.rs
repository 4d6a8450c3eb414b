//! Questions to a Xen: calls whose answers depend on Xen's rules, most of them calls that it refuses.
//!
//! Written against the seam alone, so that the same questions can be put to a simulated Xen and to a real one.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use hypercall::{CallError, FrameWindow, RawHypercall, WindowError, Xen};
use xen_abi::domctl::{Command, CreateDomain, CreateFlags, DomainInfo, Domctl};
use xen_abi::event_channel::VIRQ_DOM_EXC;
use xen_abi::mmu::{MMUEXT_UNPIN_TABLE, MmuextOp, Pte, PteFlags};
use xen_abi::number::HypercallNumber;
use xen_abi::vcpu::{VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext};
use xen_abi::{DomId, Errno, Mfn, PageCount, Port, VcpuId};

/// Pages of the domains that the questions are about.
const PAGES: u64 = 32;
/// The page of the level-1 table; those of the other levels follow.
const TABLES: usize = 19;
/// A domain that does not exist.
const ABSENT: DomId = DomId::new(55);
/// A frame beyond the memory of any machine that is asked.
const NO_FRAME: Mfn = Mfn::new(0xf_ffff);
const BOTH: PteFlags = PteFlags::PRESENT.union(PteFlags::RW);

/// A domain with memory.
struct Subject {
    domain: DomId,
    frames: Vec<Mfn>,
}

/// Who asks: Dom0, freshly started, with nobody else there.
pub(crate) struct Asker<'x, H: RawHypercall, W: FrameWindow> {
    pub(crate) xen: &'x Xen<H>,
    pub(crate) window: W,
    /// A frame of Dom0's.
    pub(crate) own_frame: Mfn,
    /// A line for each question, `question = answer`.
    pub(crate) answers: Vec<String>,
}

/// A call's answer in few words.
fn call<T: Debug>(result: Result<T, CallError>) -> String {
    result.map_or_else(|error| format!("{:?}", error.errno), |value| format!("{value:?}"))
}

/// A mapping's answer in few words.
fn mapping<T: Debug>(result: Result<T, WindowError>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(WindowError::Refused { errno, .. }) => format!("{errno:?}"),
        Err(other) => format!("{other}"),
    }
}

fn request() -> CreateDomain {
    CreateDomain {
        ssidref: 0,
        handle: [0x11; 16],
        flags: CreateFlags::empty(),
        max_vcpus: 1,
        max_evtchn_port: 1023,
        max_grant_frames: 32,
        max_maptrack_frames: 1024,
        max_grant_version: 1,
        emulation_flags: 0,
        misc_flags: 0,
    }
}

fn context(subject: &Subject) -> Box<VcpuGuestContext> {
    let mut context = Box::new(VcpuGuestContext::zeroed());
    context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
    context.user_regs.rip = 0x1000;
    context.user_regs.rsp = 0x2000;
    context.ctrlreg[3] = subject.root().raw() << 12;
    context
}

impl Subject {
    fn root(&self) -> Mfn {
        self.frames[TABLES + 3]
    }
}

impl<H: RawHypercall, W: FrameWindow> Asker<'_, H, W> {
    /// Asks everything.
    pub(crate) fn ask(&mut self) {
        self.ask_about_identifiers();
        self.ask_about_creation();
        let subject = self.subject();
        self.ask_about_memory(&subject);
        self.ask_about_vcpus(&subject);
        self.ask_about_tables(&subject);
        self.ask_about_frames(&subject);
        self.ask_about_initialised_vcpus(&subject);
        self.ask_about_ports(&subject);
        self.ask_about_resources(&subject);
        self.ask_about_the_end(&subject);
        self.ask_about_an_empty_domain();
    }

    fn answer(&mut self, question: &str, answer: impl Into<String>) {
        self.answers.push(format!("{question} = {}", answer.into()));
    }

    /// The answer of getdomaininfo, without the help of the typed call.
    fn info(&self, domain: DomId) -> String {
        let mut argument = Domctl::new(Command::GETDOMAININFO, self.xen.interface().domctl, domain);
        let args = [core::ptr::from_mut(&mut argument).expose_provenance() as u64, 0, 0, 0, 0];
        // SAFETY: a domctl takes the address of one `Domctl`; getdomaininfo only fills it.
        let result = unsafe { self.xen.raw().hypercall(HypercallNumber::DOMCTL, args) };
        match Errno::from_result(result) {
            Some(errno) => format!("{errno:?}"),
            None => format!("domain {}", DomainInfo::decode(&argument.payload).domain),
        }
    }

    /// Takes the pin of a table back.
    fn unpin(&self, domain: DomId, table: Mfn) {
        let mut op = MmuextOp { cmd: MMUEXT_UNPIN_TABLE, pad: 0, arg1: table.raw(), arg2: 0 };
        let mut done = 0_u32;
        let op_address = core::ptr::from_mut(&mut op).expose_provenance() as u64;
        let done_address = core::ptr::from_mut(&mut done).expose_provenance() as u64;
        let args = [op_address, 1, done_address, u64::from(domain.raw()), 0];
        // SAFETY: one operation and a count; the table is another domain's.
        let _result = unsafe { self.xen.raw().hypercall(HypercallNumber::MMUEXT_OP, args) };
    }

    fn ask_about_identifiers(&mut self) {
        let nine = DomId::new(9);
        self.answer("info of DOMID_SELF", self.info(DomId::SELF));
        self.answer("info of nobody", self.info(DomId::new(4)));
        self.answer("create with a number", call(self.xen.create_domain(Some(nine), &request())));
        self.answer("info of nobody, with 9 there", self.info(DomId::new(4)));
        self.answer("info of DOMID_INVALID", self.info(DomId::INVALID));
        for wanted in [nine, DomId::new(0), DomId::ANY, DomId::IO] {
            let created = self.xen.create_domain(Some(wanted), &request());
            self.answer(&format!("create with the number {:#x}", wanted.raw()), call(created));
        }
        for domain in [1, 2, 3, 9].map(DomId::new) {
            let _result = self.xen.destroy_domain(domain);
        }
        self.answer("destroy nobody", call(self.xen.destroy_domain(ABSENT)));
        self.answer("destroy oneself", call(self.xen.destroy_domain(DomId::new(0))));
        self.answer("pause oneself", call(self.xen.pause_domain(DomId::new(0))));
        self.answer("unpause oneself", call(self.xen.unpause_domain(DomId::new(0))));
    }

    fn ask_about_creation(&mut self) {
        // Another number each time: some releases lose the one that a refused request named.
        let mut numbers = (100..).map(DomId::new);
        let lost = DomId::new(100);
        let mut create = |what: &str, change: &dyn Fn(&mut CreateDomain)| {
            let mut request = request();
            change(&mut request);
            let number = numbers.next().unwrap_or(DomId::INVALID);
            let created = call(self.xen.create_domain(Some(number), &request));
            let _result = self.xen.destroy_domain(number);
            self.answer(&format!("create with {what}"), created);
        };
        create("no vCPU", &|it| it.max_vcpus = 0);
        create("8193 vCPUs", &|it| it.max_vcpus = 8193);
        create("grant version 0", &|it| it.max_grant_version = 0);
        create("grant version 3", &|it| it.max_grant_version = 3);
        create("no grant frame", &|it| it.max_grant_frames = 0);
        create("-1 grant frames", &|it| it.max_grant_frames = -1);
        create("65 grant frames", &|it| it.max_grant_frames = 65);
        create("HAP for PV", &|it| it.flags = CreateFlags::HAP);
        create("an unknown flag", &|it| it.flags = CreateFlags::from_bits_retain(1 << 12));
        create("an I/O MMU", &|it| it.flags = CreateFlags::IOMMU);
        create("S3 integrity", &|it| it.flags = CreateFlags::S3_INTEGRITY);
        create("a local APIC for PV", &|it| it.emulation_flags = 1);
        create("a timer for PV", &|it| it.emulation_flags = 1 << 8);
        let again = self.xen.create_domain(Some(lost), &request());
        let _result = self.xen.destroy_domain(lost);
        self.answer("create with the number of a refused one", call(again));
    }

    /// A new domain with memory, which no question was asked of.
    fn subject(&mut self) -> Subject {
        let domain = self.xen.create_domain(None, &request()).unwrap();
        self.xen.set_max_vcpus(domain, 1).unwrap();
        self.xen.set_max_memory(domain, PageCount::new(PAGES)).unwrap();
        let mut extents: Vec<u64> = (0..PAGES).collect();
        self.xen.populate(domain, 0, &mut extents).unwrap();
        self.answer("the next number", format!("{domain}"));
        Subject { domain, frames: extents.into_iter().map(Mfn::new).collect() }
    }

    fn ask_about_memory(&mut self, subject: &Subject) {
        let (xen, domain) = (self.xen, subject.domain);
        let populate = |domain, order, extents: &mut [u64]| {
            call(xen.populate(domain, order, extents).map(|populated| populated.extents))
        };
        self.answer("other number of vCPUs", call(xen.set_max_vcpus(domain, 2)));
        self.answer("populate beyond the limit", populate(domain, 0, &mut [1, 2]));
        self.answer("populate order 19", populate(domain, 19, &mut [1]));
        self.answer("populate nobody", populate(ABSENT, 0, &mut [1]));
        let claim = |domain, pages| call(xen.claim_pages(domain, PageCount::new(pages)));
        self.answer("claim what one has", claim(domain, 5));
        self.answer("claim beyond the limit", claim(domain, PAGES + 1));
        xen.set_max_memory(domain, PageCount::new(1 << 30)).unwrap();
        self.answer("claim more than there is", claim(domain, 1 << 29));
        self.answer("claim", claim(domain, 64));
        self.answer("claim twice", claim(domain, 65));
        self.answer("end a claim", claim(domain, 0));
        self.answer("claim for nobody", claim(ABSENT, 5));
    }

    /// Asks for a vCPU state that is right but for one thing.
    fn set_context(&mut self, what: &str, subject: &Subject, change: &dyn Fn(&mut VcpuGuestContext)) {
        let mut context = context(subject);
        change(&mut context);
        let set = call(self.xen.set_vcpu_context(subject.domain, VcpuId::BOOT, &context));
        self.answer(&format!("vCPU with {what}"), set);
    }

    fn ask_about_vcpus(&mut self, subject: &Subject) {
        self.write(subject, TABLES + 3, &[(0, 1)]);
        self.set_context("tables that are none", subject, &|_| ());
        self.write_tables(subject);
        let second = self.xen.set_vcpu_context(subject.domain, VcpuId::new(1), &context(subject));
        self.answer("a vCPU there is not", call(second));
        self.set_context("RIP not canonical", subject, &|it| it.user_regs.rip = 1 << 47);
        self.set_context("a trap not canonical", subject, &|it| {
            it.trap_ctxt[14].address = 0x1234_5678_9abc_def0;
        });
        self.set_context("an LDT not aligned", subject, &|it| it.ldt_base = 8);
        self.set_context("a GDT too large", subject, &|it| it.gdt_ents = 8192);
        self.set_context("an unknown assist", subject, &|it| it.vm_assist = 1 << 9);
        self.set_context("CR3 not the domain's", subject, &|it| it.ctrlreg[3] = 0x1000);
        self.set_context("user mode without tables", subject, &|it| it.flags = 0);
        self.set_context("a GDT not the domain's", subject, &|it| {
            it.gdt_ents = 1;
            it.gdt_frames[0] = 1;
        });
    }

    /// Writes a page of the subject's: zero but for some words.
    fn write(&mut self, subject: &Subject, page: usize, words: &[(usize, u64)]) {
        let write = |bytes: &mut [u8]| {
            bytes.fill(0);
            for (slot, word) in words {
                bytes[slot * 8..][..8].copy_from_slice(&word.to_le_bytes());
            }
        };
        self.window.with_frames(subject.domain, &[subject.frames[page]], write).unwrap();
    }

    /// Writes page tables that are as they should be.
    fn write_tables(&mut self, subject: &Subject) {
        let flags = |page| if (TABLES..TABLES + 4).contains(&page) { PteFlags::PRESENT } else { BOTH };
        let pages = subject.frames.iter().enumerate();
        let entries: Vec<_> =
            pages.map(|(page, frame)| (page, Pte::new(*frame, flags(page)).raw())).collect();
        self.write(subject, TABLES, &entries);
        for level in 1..4 {
            let below = Pte::new(subject.frames[TABLES + level - 1], BOTH);
            self.write(subject, TABLES + level, &[(0, below.raw())]);
        }
    }

    /// Asks whether tables are taken whose page `page` has `words` and nothing else.
    fn pin(&mut self, what: &str, subject: &Subject, page: usize, words: &[(usize, u64)]) {
        self.write(subject, page, words);
        let pinned = self.xen.pin_l4(subject.domain, subject.root());
        if pinned.is_ok() {
            self.unpin(subject.domain, subject.root());
        }
        self.write_tables(subject);
        self.answer(&format!("pin with {what}"), call(pinned));
    }

    fn ask_about_tables(&mut self, subject: &Subject) {
        let (frames, own, present) = (&subject.frames, self.own_frame, PteFlags::PRESENT);
        for level in 1..=4 {
            let entry = Pte::new(frames[TABLES + level - 1], BOTH).raw();
            self.pin(&format!("a table of level {level} writable"), subject, TABLES, &[(0, entry)]);
        }
        let page = Pte::new(frames[0], BOTH).raw();
        let cases = [
            ("the first megabyte", Pte::new(Mfn::new(1), present).raw()),
            ("what is no memory", Pte::new(NO_FRAME, present).raw()),
            ("another domain's page", Pte::new(own, present).raw()),
            ("another domain's page writable", Pte::new(own, BOTH).raw()),
            ("a cache attribute", page | 1 << 3),
            ("a global page", page | 1 << 8),
            ("bits for software, and no-execute", page | 1 << 9 | 1 << 55 | 1 << 63),
        ];
        for (what, entry) in cases {
            self.pin(what, subject, TABLES, &[(0, entry)]);
        }
        let large = Pte::new(frames[TABLES], BOTH).raw() | 1 << 7;
        self.pin("a superpage", subject, TABLES + 1, &[(0, large)]);
        let below = Pte::new(frames[TABLES + 2], BOTH).raw();
        let linear = Pte::new(subject.root(), present).raw();
        self.pin("a linear slot", subject, TABLES + 3, &[(0, below), (5, linear)]);
        self.pin("a linear slot writable", subject, TABLES + 3, &[(0, below), (5, linear | 2)]);
    }

    fn ask_about_frames(&mut self, subject: &Subject) {
        let (xen, domain, table) = (self.xen, subject.domain, subject.frames[TABLES]);
        let mapped = self.window.map_shared(domain, &[table]).unwrap();
        self.answer("pin what the builder has mapped", call(xen.pin_l4(domain, subject.root())));
        drop(mapped);
        self.answer("pin", call(xen.pin_l4(domain, subject.root())));
        self.answer("pin twice", call(xen.pin_l4(domain, subject.root())));
        let cases = [
            ("a page table", domain, table),
            ("what is no memory", domain, NO_FRAME),
            ("one's own page as another's", domain, self.own_frame),
            ("a page of nobody", ABSENT, table),
        ];
        for (what, owner, frame) in cases {
            let answer = self.window.with_frames(owner, &[frame], |_| ());
            self.answer(&format!("map {what}"), mapping(answer));
        }
        let fill = |frame| call(xen.init_hypercall_page(domain, frame));
        self.answer("hypercall page", fill(subject.frames[0]));
        self.answer("hypercall page in a page table", fill(table));
        self.answer("hypercall page in no memory", fill(NO_FRAME));
        self.answer("hypercall page in another's", fill(self.own_frame));
    }

    fn ask_about_initialised_vcpus(&mut self, subject: &Subject) {
        self.set_context("all that is right", subject, &|_| ());
        self.set_context("another RIP, later", subject, &|it| it.user_regs.rip = 0x2000);
        self.set_context("a wide DR7, later", subject, &|it| it.debugreg[7] = 1 << 40);
        let other = subject.frames[0].raw() << 12;
        self.set_context("another CR3, later", subject, &|it| it.ctrlreg[3] = other);
        let info = self.xen.domain_info(subject.domain).unwrap();
        let vcpus = (info.nr_online_vcpus, info.max_vcpu_id);
        self.answer("info of the whole", format!("{:#x} {vcpus:?} {}", info.flags, info.tot_pages));
    }

    fn ask_about_ports(&mut self, subject: &Subject) {
        let (xen, domain) = (self.xen, subject.domain);
        self.answer("port of a domain", call(xen.alloc_unbound(domain, DomId::SELF)));
        self.answer("port of nobody", call(xen.alloc_unbound(ABSENT, DomId::SELF)));
        self.answer("port for nobody", call(xen.alloc_unbound(domain, ABSENT)));
        self.answer("connect to no port", call(xen.bind_interdomain(domain, Port::new(40))));
        self.answer("connect to nobody", call(xen.bind_interdomain(ABSENT, Port::new(1))));
        self.answer("connect to another's port", call(xen.bind_interdomain(domain, Port::new(2))));
        let local = xen.bind_interdomain(domain, Port::new(1)).unwrap();
        self.answer("connect twice", call(xen.bind_interdomain(domain, Port::new(1))));
        self.answer("close", call(xen.close_port(local)));
        self.answer("close twice", call(xen.close_port(local)));
        self.answer("send by a closed port", call(xen.send(local)));
        self.answer("close port 0", call(xen.close_port(Port::new(0))));
        self.answer("poll a closed port", call(xen.poll(&[local], Some(1))));
        self.answer("poll port 100000", call(xen.poll(&[Port::new(100_000)], Some(1))));
        let virq = xen.bind_virq(VIRQ_DOM_EXC, VcpuId::BOOT).unwrap();
        self.answer("bind a global interrupt twice", call(xen.bind_virq(VIRQ_DOM_EXC, VcpuId::BOOT)));
        self.answer("bind it on another vCPU", call(xen.bind_virq(VIRQ_DOM_EXC, VcpuId::new(1))));
        self.answer("bind no interrupt", call(xen.bind_virq(24, VcpuId::BOOT)));
        self.answer("bind a timer there is not", call(xen.bind_virq(0, VcpuId::new(1))));
        self.answer("bind an IPI to nowhere", call(xen.bind_ipi(VcpuId::new(1))));
        self.answer("send by an interrupt", call(xen.send(virq)));
        let _result = xen.close_port(virq);
    }

    fn ask_about_resources(&mut self, subject: &Subject) {
        let frame = |domain| call(self.xen.grant_table_frame(domain).map(|_| ()));
        let answers = [subject.domain, ABSENT, DomId::new(0)].map(frame);
        for (whose, answer) in ["a domain", "nobody", "oneself"].into_iter().zip(answers) {
            self.answer(&format!("grant table of {whose}"), answer);
        }
    }

    fn ask_about_the_end(&mut self, subject: &Subject) {
        let (xen, domain) = (self.xen, subject.domain);
        let mapped = self.window.map_shared(domain, &[subject.frames[0]]).unwrap();
        self.answer("destroy", call(xen.destroy_domain(domain)));
        let info = xen.domain_info(domain).map(|it| (it.flags & 0xffff, it.tot_pages, it.nr_online_vcpus));
        self.answer("zombie: info", call(info));
        self.answer("zombie: destroy", call(xen.destroy_domain(domain)));
        self.answer("zombie: port", call(xen.alloc_unbound(domain, DomId::SELF)));
        self.answer("zombie: connect", call(xen.bind_interdomain(domain, Port::new(1))));
        self.answer("zombie: populate", call(xen.populate(domain, 0, &mut [1]).map(|it| it.extents)));
        self.answer("zombie: grant table", call(xen.grant_table_frame(domain).map(|_| ())));
        for (what, page) in [("still mapped", 0), ("gone", 1)] {
            let answer = self.window.with_frames(domain, &[subject.frames[page]], |_| ());
            self.answer(&format!("zombie: map a page {what}"), mapping(answer));
        }
        self.answer("zombie: create another", call(xen.create_domain(Some(domain), &request())));
        drop(mapped);
        self.answer("info of who was", self.info(domain));
    }

    fn ask_about_an_empty_domain(&mut self) {
        let subject = self.subject();
        self.answer("unpause without vCPU state", call(self.xen.unpause_domain(subject.domain)));
        self.answer("unpause once too often", call(self.xen.unpause_domain(subject.domain)));
        let flags = self.xen.domain_info(subject.domain).map(|info| format!("{:#x}", info.flags));
        self.answer("info of the empty", call(flags));
        self.answer("destroy the empty", call(self.xen.destroy_domain(subject.domain)));
    }
}
