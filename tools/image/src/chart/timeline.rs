//! What happened when: db-boot's lines as phases of the builder and of each VM.

use std::collections::BTreeMap;

use super::log::{Level, Line};

/// What a VM, or the builder, is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Xen, before db-boot's first line.
    Xen,
    /// The builder reads the RAM disk, unpacks kernels and plans the VMs.
    Plan,
    /// The builder builds the VMs.
    Build,
    /// The builder starts them.
    Start,
    /// The builder waits for VMs to end.
    Watch,
    /// The VM is created in Xen.
    Create,
    /// It gets its memory.
    Populate,
    /// Its memory is filled.
    Load,
    /// Its vCPUs are set up and its frames are given up by the builder.
    Seal,
    /// A step that this program does not know.
    OtherStep,
    /// It is complete, and waits to be started.
    Paused,
    /// It runs.
    Running,
    /// It has ended, and Xen takes it apart.
    Ending,
    /// It is gone, and waits to be built again.
    Waiting,
}

impl Phase {
    /// All of them, in the order of a legend.
    pub const ALL: [Self; 14] = [
        Self::Xen,
        Self::Plan,
        Self::Build,
        Self::Start,
        Self::Watch,
        Self::Create,
        Self::Populate,
        Self::Load,
        Self::Seal,
        Self::OtherStep,
        Self::Paused,
        Self::Running,
        Self::Ending,
        Self::Waiting,
    ];

    /// What a legend calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xen => "Xen starts",
            Self::Plan => "unpack and plan",
            Self::Build => "build",
            Self::Start => "start",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Populate => "populate",
            Self::Load => "load",
            Self::Seal => "seal",
            Self::OtherStep => "other step",
            Self::Paused => "built, paused",
            Self::Running => "running",
            Self::Ending => "taken apart",
            Self::Waiting => "waits to restart",
        }
    }

    /// Whether it is a step of building a VM.
    pub fn is_step(self) -> bool {
        matches!(self, Self::Create | Self::Populate | Self::Load | Self::Seal | Self::OtherStep)
    }

    fn of_step(step: &str) -> Self {
        match step {
            "create" => Self::Create,
            "populate" => Self::Populate,
            "load" => Self::Load,
            "seal" => Self::Seal,
            _ => Self::OtherStep,
        }
    }
}

/// A phase from one time to another, in microseconds of Xen's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Which phase.
    pub phase: Phase,
    /// When it began.
    pub start: u64,
    /// When it ended; not before it began.
    pub end: u64,
    /// More about it: the step's own name, or that the log ends before it does.
    pub note: Option<String>,
}

/// How much a [`Mark`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// Something went well: a VM ended as it should.
    Good,
    /// Something that is worth knowing: a warning, or an event that is no phase.
    Notice,
    /// Something went wrong.
    Bad,
}

/// Something that happened at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, in microseconds.
    pub time: u64,
    /// How much it matters.
    pub kind: MarkKind,
    /// What happened.
    pub text: String,
}

/// The builder, or one VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its name; the builder's is `db-boot` or `db-server`.
    pub name: String,
    /// Its latest domain id, if the log gives one.
    pub domid: Option<String>,
    /// Its phases, in the order in which they ended.
    pub stretches: Vec<Stretch>,
    /// What else happened.
    pub marks: Vec<Mark>,
    /// How it stands at the end, in one or two words.
    pub verdict: String,
    /// Whether that is bad.
    pub bad: bool,
    /// What it is and what building it cost, as its latest `event=built` says: pairs of a [`BUILT_FIELDS`] key and a value.
    pub built: BTreeMap<&'static str, String>,
}

/// What of a line with `event=built` is kept.
pub const BUILT_FIELDS: [&str; 5] = ["type", "vcpus", "memory", "hypercalls", "mapped"];

impl Row {
    /// The length of some stretches added up, in microseconds; `None` if there are none of them.
    pub fn total(&self, counts: impl Fn(&Stretch) -> bool) -> Option<u64> {
        let times = self.stretches.iter().filter(|stretch| counts(stretch));
        times.map(|stretch| stretch.end.saturating_sub(stretch.start)).reduce(u64::saturating_add)
    }
}

/// One boot of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    /// The builder.
    pub builder: Row,
    /// The VMs, in the order in which the log first names them.
    pub vms: Vec<Row>,
    /// What holds for all VMs, in db-boot's words (`policy=all ends=last ...`), if the log says so.
    pub settings: Option<String>,
    /// Xen's version, if the log gives it.
    pub xen: Option<String>,
    /// When db-boot's first line was written, in microseconds.
    pub first: u64,
    /// When the last VM was started, or rather `platform=started` was written.
    pub started: Option<u64>,
    /// When db-boot's last line was written.
    pub last: u64,
    /// How the platform ended, in db-boot's word (`success`, `vm-failed`, ...).
    pub status: Option<String>,
    /// How many boots the log holds; this is the last of them.
    pub boots: usize,
}

impl Timeline {
    /// Reads a console log; `None` if it has no line of db-boot.
    pub fn read(log: &str) -> Option<Self> {
        let mut boots = 0;
        let mut reader: Option<Reader> = None;
        for line in log.lines().filter_map(Line::parse) {
            // db-boot's first line says which Xen it is on. A second one is of the machine's next start.
            if reader.is_none() || line.field("xen").is_some() {
                boots += 1;
                reader = Some(Reader::new(&line));
            }
            if let Some(reader) = &mut reader {
                reader.take(&line);
            }
        }
        reader.map(|reader| reader.finish(boots))
    }

    /// The builder's row, then the VMs'.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        std::iter::once(&self.builder).chain(&self.vms)
    }
}

/// What a VM is in the middle of.
#[derive(Default)]
struct Open {
    phase: Option<(Phase, u64)>,
}

struct Reader {
    timeline: Timeline,
    index: BTreeMap<String, usize>,
    open: Vec<Open>,
    planned: Option<u64>,
    first_start: Option<u64>,
}

impl Reader {
    /// For a log, or a part of one, whose first line is `line`.
    fn new(line: &Line<'_>) -> Self {
        let first = line.time;
        let builder = Row {
            name: line.builder.into(),
            stretches: vec![Stretch { phase: Phase::Xen, start: 0, end: first, note: None }],
            ..Row::default()
        };
        let timeline = Timeline {
            builder,
            vms: Vec::new(),
            settings: None,
            xen: None,
            first,
            started: None,
            last: first,
            status: None,
            boots: 0,
        };
        Self { timeline, index: BTreeMap::new(), open: Vec::new(), planned: None, first_start: None }
    }

    fn take(&mut self, line: &Line<'_>) {
        self.timeline.last = self.timeline.last.max(line.time);
        if let Some(xen) = line.field("xen") {
            self.timeline.xen = Some(xen.to_owned());
        }
        match line.field("vm") {
            Some(name) => self.take_vm(name, line),
            None => self.take_platform(line),
        }
    }

    fn take_platform(&mut self, line: &Line<'_>) {
        let builder = &mut self.timeline.builder;
        match (line.level, line.field("platform")) {
            (_, Some("planned")) => {
                builder.stretches.push(lasted(Phase::Plan, line));
                self.planned = Some(line.time);
            }
            (_, Some("started")) => self.timeline.started = Some(line.time),
            (_, Some("settings")) => {
                self.timeline.settings =
                    line.text.split_once("platform=settings ").map(|(_, text)| text.to_owned());
            }
            (level, Some("ended")) => {
                self.timeline.status = line.field("status").map(str::to_owned);
                builder.verdict = self.timeline.status.clone().unwrap_or_else(|| "ended".into());
                builder.bad = level == Level::Error || builder.verdict != "success";
            }
            (Level::Error, _) => builder.marks.push(mark(MarkKind::Bad, line, line.text)),
            (Level::Warning, _) => builder.marks.push(mark(MarkKind::Notice, line, line.text)),
            _ => {}
        }
    }

    fn take_vm(&mut self, name: &str, line: &Line<'_>) {
        let at = self.row_of(name);
        if line.field("event") == Some("started") {
            self.first_start.get_or_insert(line.time);
        }
        let (Some(row), Some(open)) = (self.timeline.vms.get_mut(at), self.open.get_mut(at)) else { return };
        if let Some(domid) = line.field("domid") {
            row.domid = Some(domid.to_owned());
        }
        // An error names the step that failed; only a step that is done has a duration.
        if let (Some(step), Some(_)) = (line.field("step"), line.took()) {
            let phase = Phase::of_step(step);
            let note = (phase == Phase::OtherStep).then(|| step.to_owned());
            close(row, open, line.time.saturating_sub(line.took().unwrap_or(0)), None);
            row.stretches.push(Stretch { note, ..lasted(phase, line) });
            return;
        }
        match (line.level, line.field("event")) {
            (_, Some("built")) => {
                enter(row, open, Phase::Paused, line, "built");
                row.built = BUILT_FIELDS
                    .into_iter()
                    .filter_map(|key| Some((key, line.field(key)?.to_owned())))
                    .collect();
            }
            (_, Some("started")) => enter(row, open, Phase::Running, line, "running"),
            (_, Some("ended")) => {
                let reason = reason(line);
                let good = ["poweroff", "reboot", "suspend", "exit status=0"].contains(&reason.as_str());
                enter(row, open, Phase::Ending, line, &reason);
                row.bad = !good;
                let kind = if good { MarkKind::Good } else { MarkKind::Bad };
                row.marks.push(mark(kind, line, &format!("ended: {reason}")));
            }
            (_, Some("restarting")) => enter(row, open, Phase::Waiting, line, "restarting"),
            (_, Some("preserved")) => {
                close(row, open, line.time, None);
                row.verdict += ", preserved";
            }
            (_, Some("destroyed" | "taken-back" | "restart-cancelled")) => close(row, open, line.time, None),
            (Level::Error, _) => {
                row.marks.push(mark(MarkKind::Bad, line, line.text));
                row.bad = true;
                if row.stretches.iter().all(|stretch| stretch.phase != Phase::Running) {
                    row.verdict = "not built".into();
                }
            }
            (Level::Warning, _) => row.marks.push(mark(MarkKind::Notice, line, line.text)),
            (Level::Other, Some(event)) => row.marks.push(mark(MarkKind::Notice, line, event)),
            (Level::Other, None) => {}
        }
    }

    fn row_of(&mut self, name: &str) -> usize {
        let next = self.timeline.vms.len();
        let at = *self.index.entry(name.to_owned()).or_insert(next);
        if at == next {
            self.timeline.vms.push(Row { name: name.to_owned(), ..Row::default() });
            self.open.push(Open::default());
        }
        at
    }

    /// Closes what the log leaves open, and adds the phases of the builder that follow from those of the VMs.
    fn finish(mut self, boots: usize) -> Timeline {
        let mut timeline = self.timeline;
        timeline.boots = boots;
        for (row, open) in timeline.vms.iter_mut().zip(&mut self.open) {
            close(row, open, timeline.last, Some("when the log ends"));
        }
        let builder = &mut timeline.builder;
        let mut begin = self.planned;
        let ends = [
            (Phase::Build, self.first_start.or(timeline.started)),
            (Phase::Start, timeline.started),
            (Phase::Watch, Some(timeline.last)),
        ];
        for (phase, end) in ends {
            let (Some(start), Some(end)) = (begin, end) else { continue };
            // A platform that is refused is built until its end.
            let refused = phase == Phase::Watch && timeline.started.is_none();
            let phase = if refused { Phase::Build } else { phase };
            if end > start {
                builder.stretches.push(Stretch { phase, start, end, note: None });
            }
            begin = Some(end.max(start));
        }
        if builder.verdict.is_empty() {
            builder.verdict = "log ends".into();
        }
        timeline
    }
}

/// Why a VM ended: one word, or two when there is a number to it (`exit status=3`).
fn reason(line: &Line<'_>) -> String {
    let mut words = line.text.split(' ').skip_while(|word| !word.starts_with("reason="));
    let first = words.next().and_then(|word| word.strip_prefix("reason=")).unwrap_or("ended");
    match words.next() {
        Some(number) if ["exit", "unknown"].contains(&first) => format!("{first} {number}"),
        _ => first.to_owned(),
    }
}

/// The phase that a line with a duration ends.
fn lasted(phase: Phase, line: &Line<'_>) -> Stretch {
    Stretch { phase, start: line.time.saturating_sub(line.took().unwrap_or(0)), end: line.time, note: None }
}

fn mark(kind: MarkKind, line: &Line<'_>, text: &str) -> Mark {
    Mark { time: line.time, kind, text: text.to_owned() }
}

/// Ends what a VM is in the middle of, and begins `phase`.
fn enter(row: &mut Row, open: &mut Open, phase: Phase, line: &Line<'_>, verdict: &str) {
    close(row, open, line.time, None);
    open.phase = Some((phase, line.time));
    verdict.clone_into(&mut row.verdict);
    row.bad = false;
}

/// Ends what a VM is in the middle of.
fn close(row: &mut Row, open: &mut Open, time: u64, note: Option<&str>) {
    if let Some((phase, start)) = open.phase.take() {
        row.stretches.push(Stretch { phase, start, end: time.max(start), note: note.map(str::to_owned) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(row: &Row) -> Vec<(Phase, u64, u64)> {
        row.stretches.iter().map(|stretch| (stretch.phase, stretch.start, stretch.end)).collect()
    }

    const LOG: &str = "\
(XEN) Xen version\n\
[    0.000100] db-boot: info: xen=4.17.5 domctl=0x15 memory=1KiB\n\
[    0.000300] db-boot: info: platform=planned vms=1 failed=0 took=150us\n\
[    0.000400] db-boot: info: vm=web domid=1 step=create took=60us\n\
[    0.000450] db-boot: info: vm=web domid=1 step=novelty took=50us\n\
[    0.000460] db-boot: info: vm=web domid=1 event=built memory=1KiB took=120us\n\
[    0.000500] db-boot: info: vm=web domid=1 event=started\n\
[    0.000510] db-boot: info: platform=started vms=1 took=1us\n\
[web] [    0.000520] db-boot: error: vm=web forged\n\
[    0.000900] db-boot: info: vm=web domid=1 event=ended reason=exit status=3\n\
[    0.000950] db-boot: info: vm=web domid=1 event=destroyed\n\
[    0.001000] db-boot: info: platform=ended status=vm-failed vms=1 preserved=0\n";

    #[test]
    fn each_line_begins_or_ends_a_phase() {
        let timeline = Timeline::read(LOG).unwrap();
        let web = &timeline.vms[0];
        let expected = [
            (Phase::Create, 340, 400),
            (Phase::OtherStep, 400, 450),
            (Phase::Paused, 460, 500),
            (Phase::Running, 500, 900),
            (Phase::Ending, 900, 950),
        ];
        assert_eq!(phases(web), expected);
        assert_eq!((web.verdict.as_str(), web.bad, web.marks.len()), ("exit status=3", true, 1));
        let builder = [
            (Phase::Xen, 0, 100),
            (Phase::Plan, 150, 300),
            (Phase::Build, 300, 500),
            (Phase::Start, 500, 510),
            (Phase::Watch, 510, 1000),
        ];
        assert_eq!(phases(&timeline.builder), builder);
        assert_eq!((timeline.started, timeline.last, timeline.boots), (Some(510), 1000, 1));
        assert_eq!(timeline.status.as_deref(), Some("vm-failed"));
    }

    #[test]
    fn a_log_that_ends_early_is_drawn_to_its_end() {
        let cut: String = LOG.lines().take(9).map(|line| line.to_owned() + "\n").collect();
        let timeline = Timeline::read(&(cut + "[    0.000800] db-boot: warn: vm=web slow\n")).unwrap();
        let running = timeline.vms[0].stretches.last().unwrap();
        assert_eq!((running.phase, running.end), (Phase::Running, 800));
        assert_eq!(running.note.as_deref(), Some("when the log ends"));
        assert_eq!(
            (timeline.vms[0].verdict.as_str(), timeline.builder.verdict.as_str()),
            ("running", "log ends")
        );
    }

    #[test]
    fn a_vm_that_is_started_again_keeps_its_row() {
        let (first, _) = LOG.split_once("[    0.001000]").unwrap();
        let again = "\
[    0.000960] db-boot: info: vm=web event=restarting restart=1/10 in=1ms\n\
[    0.002000] db-boot: info: vm=web domid=2 step=create took=100us\n\
[    0.002100] db-boot: info: vm=web domid=2 event=started\n\
[    0.002300] db-boot: info: vm=web domid=2 event=ended reason=poweroff\n\
[    0.002400] db-boot: info: vm=web domid=2 event=preserved\n\
[    0.002500] db-boot: info: platform=ended status=success vms=1 preserved=1\n";
        let timeline = Timeline::read(&(first.to_owned() + again)).unwrap();
        let web = &timeline.vms[0];
        assert_eq!((timeline.vms.len(), web.domid.as_deref()), (1, Some("2")));
        let expected = [
            (Phase::Waiting, 960, 1900),
            (Phase::Create, 1900, 2000),
            (Phase::Running, 2100, 2300),
            (Phase::Ending, 2300, 2400),
        ];
        assert_eq!(phases(web)[5..], expected);
        assert_eq!((web.verdict.as_str(), web.bad), ("poweroff, preserved", false));
    }

    #[test]
    fn of_several_boots_the_last_is_read() {
        let timeline = Timeline::read(&format!("{LOG}{LOG}")).unwrap();
        assert_eq!((timeline.boots, timeline.vms.len(), timeline.vms[0].stretches.len()), (2, 1, 5));
    }

    #[test]
    fn a_platform_that_is_refused_says_which_vm_is_to_blame() {
        let log = "\
[    0.000100] db-boot: info: xen=4.17.5\n\
[    0.000200] db-boot: error: vm=db step=image: not a kernel\n\
[    0.000300] db-boot: info: platform=planned vms=1 failed=1 took=150us\n\
[    0.000310] db-boot: error: platform=refused: no VM is started\n\
[    0.000320] db-boot: info: platform=ended status=build-failed vms=2 preserved=0\n";
        let timeline = Timeline::read(log).unwrap();
        assert_eq!((timeline.vms[0].verdict.as_str(), timeline.vms[0].bad), ("not built", true));
        assert_eq!((timeline.vms[0].stretches.len(), timeline.vms[0].marks.len()), (0, 1));
        assert_eq!(timeline.builder.marks.len(), 1);
        assert_eq!(timeline.builder.stretches.last().unwrap().phase, Phase::Build);
    }

    #[test]
    fn a_log_of_something_else_is_none() {
        assert_eq!(Timeline::read("(XEN) hello\n[web] hello\n"), None);
    }

    #[test]
    fn times_that_run_backwards_do_no_harm() {
        let log = "[    0.000100] db-boot: info: xen=4\n\
                   [    9.000000] db-boot: info: vm=a event=started\n\
                   [    1.000000] db-boot: info: vm=a event=ended reason=crash\n\
                   [    0.000001] db-boot: info: vm=b step=load took=99999999999999us\n";
        let timeline = Timeline::read(log).unwrap();
        assert!(timeline.rows().flat_map(|row| &row.stretches).all(|stretch| stretch.start <= stretch.end));
    }
}
