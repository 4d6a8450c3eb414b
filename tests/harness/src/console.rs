//! The machine's console, taken apart: whose line is it, what does db-boot report, is a block complete.

use std::fmt::Write as _;

use protocols::spec::{check_name, is_time_stamp};
use sha2::{Digest, Sha256};

/// What a builder's own lines begin with, behind the time.
const BUILDERS: [&str; 2] = ["db-boot: ", "db-server: "];

/// Everything that a machine printed.
#[derive(Debug)]
pub(crate) struct Console<'a> {
    text: &'a str,
}

/// A line of the builder's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimedLine<'a> {
    /// When it was written: system time in microseconds.
    pub(crate) micros: u64,
    /// What it says behind the time.
    pub(crate) text: &'a str,
}

impl<'a> Console<'a> {
    /// The console whose whole text is `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text }
    }

    fn lines(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text.lines().map(|line| line.trim_end_matches('\r'))
    }

    /// The lines of the VM called `name`, without the `[name] ` that db-boot puts before each, and what it wrote while it had
    /// the keyboard, which comes without.
    pub(crate) fn of_vm(&self, name: &str) -> Vec<&'a str> {
        let prefix = format!("[{name}]");
        let mut has_keyboard = false;
        let mut own = Vec::new();
        for line in self.lines() {
            if let Some(rest) = line.strip_prefix("db-boot: keyboard=") {
                has_keyboard = rest.split(':').next() == Some(name);
            } else if line.starts_with("db-boot> ") {
                // What follows answers a command; the keyboard's next line comes when the prompt is left.
                has_keyboard = false;
            } else if let Some(text) = line.strip_prefix(&prefix) {
                own.push(text.strip_prefix(' ').unwrap_or(text));
            } else if has_keyboard && !is_builder_line(line) && !has_name(line) {
                own.push(line);
            }
        }
        own
    }

    /// The builder's own lines with their times.
    pub(crate) fn of_builder_with_times(&self) -> impl Iterator<Item = TimedLine<'a>> + use<'a> {
        self.lines().filter(|line| is_builder_line(line)).filter_map(|line| {
            let (stamp, text) = line.strip_prefix('[')?.split_once("] ")?;
            let (seconds, micros) = stamp.trim_start().split_once('.')?;
            let micros = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
            Some(TimedLine { micros, text })
        })
    }

    /// The builder's own lines, from its name on.
    pub(crate) fn of_builder(&self) -> Vec<&'a str> {
        let own = self.lines().filter(|line| is_builder_line(line));
        own.filter_map(|line| {
            let at = BUILDERS.iter().find_map(|name| line.find(name))?;
            line.get(at..)
        })
        .collect()
    }

    /// Why db-boot did not start the VM called `name`: its error about the VM, else its last error. `None` for a VM
    /// that was started.
    pub(crate) fn not_started(&self, name: &str) -> Option<&'a str> {
        let builder = self.of_builder();
        let subject = format!("vm={name} ");
        if builder.iter().any(|line| line.contains(&subject) && line.contains("event=started")) {
            return None;
        }
        let errors = || builder.iter().filter_map(|line| line.split_once("error: ")).map(|(_, text)| text);
        Some(
            errors()
                .find(|text| text.contains(&subject))
                .or_else(|| errors().next_back())
                .unwrap_or("db-boot does not say why"),
        )
    }

    /// Xen's free memory before the first VM was built, with what db-boot gave back of its own since, and after the last VM was
    /// gone, in KiB as db-boot reports them; `None` without that report, or when VMs were kept on purpose.
    pub(crate) fn free_memory(&self) -> Option<(u64, u64)> {
        let builder = self.of_builder();
        if builder.iter().any(|line| line.contains("event=preserved")) {
            return None;
        }
        builder.into_iter().find_map(|line| {
            let (_, figures) = line.split_once("event=memory ")?;
            let figure = |name: &str| {
                let (_, value) = figures.split_once(name)?;
                value.split_whitespace().next()?.strip_suffix("KiB")?.parse::<u64>().ok()
            };
            Some((figure("free-before=")? + figure("released=")?, figure("free-after=")?))
        })
    }

    /// What was in use before the first VM and after the last one, in words, where db-boot was asked for it (`usage=`); `None` when VMs were kept on
    /// purpose.
    pub(crate) fn usage(&self) -> Option<(String, String)> {
        let builder = self.of_builder();
        if builder.iter().any(|line| line.contains("event=preserved")) {
            return None;
        }
        // Free memory has a rule of its own, and the heap holds what the platform was read into.
        let words = |line: &&str| {
            let words = line.split_whitespace();
            words
                .filter(|word| ["domains=", "ports="].iter().any(|key| word.starts_with(key)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mut lines = builder.iter().filter(|line| line.contains("event=usage ")).map(words);
        Some((lines.next()?, lines.next_back()?))
    }

    /// How db-boot says that the VM called `name` ended: `poweroff`, `exit status=7`, ... For one that was restarted, the last
    /// time.
    pub(crate) fn end_of_vm(&self, name: &str) -> Option<String> {
        let subject = format!("vm={name} ");
        self.of_builder().into_iter().rev().find_map(|line| {
            let (_, event) = line.split_once(&subject)?;
            let (_, reason) = event.split_once("event=ended reason=")?;
            let words = if reason.starts_with("exit status=") { 2 } else { 1 };
            Some(reason.split_whitespace().take(words).collect::<Vec<_>>().join(" "))
        })
    }
}

/// A builder's lines start with its time stamp; a VM that prints `db-boot: ` has its name in front.
fn is_builder_line(line: &str) -> bool {
    let Some((stamp, rest)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else {
        return BUILDERS.iter().any(|name| line.starts_with(name));
    };
    BUILDERS.iter().any(|name| rest.starts_with(name)) && is_time_stamp(stamp.trim_start())
}

/// Whether a line begins with a VM's name, which a time stamp is not.
fn has_name(line: &str) -> bool {
    let name = line.strip_prefix('[').and_then(|line| line.split_once(']')).map_or("", |(name, _)| name);
    check_name(name).is_ok()
}

/// The first of `texts` that does not follow the ones before it in `lines`.
///
/// Each text is looked for behind the one before it: in the rest of the same line, then in the lines after it.
pub(crate) fn first_missing<'t>(lines: &[&str], texts: &'t [String]) -> Option<&'t str> {
    let mut lines = lines.iter();
    let mut rest = "";
    for text in texts {
        loop {
            if let Some(at) = rest.find(text.as_str()) {
                rest = rest.get(at + text.len()..).unwrap_or("");
                break;
            }
            match lines.next() {
                Some(line) => rest = line,
                None => return Some(text),
            }
        }
    }
    None
}

/// Checks the block that a VM prints with this nonce (tests/README.md says how it looks). `Err` says what is wrong.
pub(crate) fn check_block(lines: &[&str], nonce: &str) -> Result<(), String> {
    let begin = format!("BLOCK {nonce} BEGIN");
    let end = format!("BLOCK {nonce} END ");
    let from = lines.iter().position(|line| line.contains(&begin)).ok_or("no block begins")?;
    let block = lines.get(from..).unwrap_or(&[]);
    let length = block.iter().position(|line| line.contains(&end)).ok_or("the block has no end")?;
    let mut count = 0_usize;
    let mut hasher = Sha256::new();
    for line in block.iter().take(length).filter(|line| line.starts_with("block: ")) {
        count += 1;
        hasher.update(line.as_bytes());
        hasher.update(b"\n");
    }
    let mut seen = format!("lines={count} sha256=");
    for byte in hasher.finalize() {
        let _ = write!(seen, "{byte:02x}");
    }
    let said = block.get(length).and_then(|line| line.split_once(&end)).map_or("", |(_, said)| said.trim());
    if said == seen {
        return Ok(());
    }
    Err(format!("the block arrived as {seen}, sent was {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "(XEN) Xen version 4.17\r\n\
        [    0.000100] db-boot: info: platform=start vms=2\r\n\
        [a] one\r\n\
        [a] [    0.500000] db-boot: info: vm=b event=ended reason=crash\r\n\
        [b] two\r\n\
        [a]\r\n\
        [    0.200000] db-boot: info: vm=a event=ended reason=exit status=7 code=0x87\r\n\
        [    0.300000] db-boot: info: vm=b event=ended reason=poweroff\r\n";

    #[test]
    fn lines_belong_to_whom_the_prefix_says() {
        let console = Console::new(LOG);
        assert_eq!(console.of_vm("b"), ["two"]);
        assert_eq!(console.of_vm("a").len(), 3);
        assert_eq!(console.of_builder().len(), 3);
    }

    #[test]
    fn lines_without_a_name_are_whose_the_keyboard_is() {
        let log = "nobody\ndb-boot: keyboard=a: what you type goes there\none\n[b] two\n[    1.0] linux\n\
            [    2.000000] db-boot: info: x\ndb-boot> list\n  a 1 running\ndb-boot: keyboard=b: what\nthree\n[a] four\n";
        assert_eq!(Console::new(log).of_vm("a"), ["one", "[    1.0] linux", "four"]);
        assert_eq!(Console::new(log).of_vm("b"), ["two", "three"]);
    }

    #[test]
    fn a_vm_with_a_number_for_a_name_is_not_the_builder() {
        let served = Console::new("[    1.500000] db-server: info: vm=a\n[x] db-server: info: vm=b\n");
        assert_eq!(served.of_builder(), ["db-server: info: vm=a"]);
        let log = "[1.5] db-boot: info: one\r\n[inf] db-boot: info: two\r\n[12] db-boot: three\r\n";
        assert_eq!(Console::new(log).of_builder(), Vec::<&str>::new());
    }

    #[test]
    fn ends_are_read_from_db_boots_lines_only() {
        let console = Console::new(LOG);
        assert_eq!(console.end_of_vm("a").as_deref(), Some("exit status=7"));
        assert_eq!(console.end_of_vm("b").as_deref(), Some("poweroff"));
        let again = format!("{LOG}[    0.400000] db-boot: info: vm=b event=ended reason=reboot\r\n");
        assert_eq!(Console::new(&again).end_of_vm("b").as_deref(), Some("reboot"));
        assert_eq!(console.end_of_vm("c"), None);
    }

    #[test]
    fn free_memory_is_read_unless_a_vm_was_kept() {
        let memory =
            "[    0.100000] db-boot: info: event=memory free-before=8KiB free-after=4KiB released=12KiB\n";
        assert_eq!(Console::new(memory).free_memory(), Some((20, 4)));
        let kept = format!("[    0.100000] db-boot: info: vm=a domid=1 event=preserved\n{memory}");
        assert_eq!(Console::new(&kept).free_memory(), None);
    }

    #[test]
    fn a_vm_that_was_not_started_has_a_reason() {
        let started = "[    0.100000] db-boot: info: vm=a domid=1 event=started\n";
        let about_b = "[    0.100000] db-boot: error: vm=b step=image: it is no kernel\n";
        let refused = "[    0.100000] db-boot: error: platform=refused: not every VM can be\n";
        let log = format!("{about_b}{refused}{started}");
        let console = Console::new(&log);
        assert_eq!(console.not_started("a"), None);
        assert_eq!(console.not_started("b"), Some("vm=b step=image: it is no kernel"));
        assert_eq!(console.not_started("c"), Some("platform=refused: not every VM can be"));
        assert_eq!(Console::new("").not_started("a"), Some("db-boot does not say why"));
    }

    #[test]
    fn texts_are_looked_for_in_order() {
        let lines = ["alpha beta", "gamma"];
        let missing = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            first_missing(&lines, &texts).map(str::to_owned)
        };
        assert_eq!(missing(&["alpha", "beta", "gamma"]), None);
        assert_eq!(missing(&["beta", "alpha"]).as_deref(), Some("alpha"));
        assert_eq!(missing(&["alpha", "alpha"]).as_deref(), Some("alpha"));
        assert_eq!(missing(&[]), None);
    }

    /// `printf 'block: 1\nblock: 2\n' | sha256sum`
    const DIGEST: &str = "3e7a47a24cbce0f244d68c1e186ec60e6d8237c8d7fac78d765c03011b7187d9";

    #[test]
    fn a_block_is_complete_or_the_difference_is_told() {
        let digest = {
            let error =
                check_block(&["BLOCK 1 BEGIN", "block: 1", "noise", "block: 2", "BLOCK 1 END x"], "1");
            error.unwrap_err().split("sha256=").nth(1).unwrap().split(',').next().unwrap().to_owned()
        };
        assert_eq!(digest, DIGEST);
        let end = format!("BLOCK 1 END lines=2 sha256={DIGEST}");
        assert_eq!(check_block(&["BLOCK 1 BEGIN", "block: 1", "block: 2", &end], "1"), Ok(()));
        for wrong in [
            vec!["BLOCK 1 BEGIN", "block: 1", &end],
            vec!["BLOCK 1 BEGIN", "block: 1", "block: 3", &end],
            vec!["BLOCK 1 BEGIN", "block: 2", "block: 1", &end],
            vec!["BLOCK 1 BEGIN", "block: 1", "block: 2"],
            vec!["block: 1", "block: 2", &end],
            vec![],
        ] {
            assert!(check_block(&wrong, "1").is_err(), "{wrong:?}");
        }
    }
}
