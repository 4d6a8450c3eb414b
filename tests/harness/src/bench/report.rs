//! The figures as a table: ratios first.

use std::fmt::Write as _;

use super::Choice;
use super::boots::{KERNELS, NTHS};
use super::figures::Figures;
use super::history::Past;

/// Names of the figures that a run must have.
pub(super) fn needed(choice: &Choice) -> Vec<String> {
    let mut names = Vec::new();
    for what in rows(choice) {
        names.push(format!("{what}.db-boot.time"));
        if choice.has_xl() {
            names.push(format!("{}.xl.time", unpacked(&what)));
        }
    }
    for system in ["floor", "db-server"] {
        names.extend(choice.sizes().iter().map(|mib| format!("build-{mib}.{system}.time")));
    }
    if !choice.quick {
        names.extend(NTHS.map(|nth| format!("nth-{nth}.db-boot.time")));
    }
    names
}

/// What both systems do.
pub(super) fn rows(choice: &Choice) -> Vec<String> {
    let mut rows: Vec<String> = choice.sizes().iter().map(|mib| format!("build-{mib}")).collect();
    if !choice.quick {
        rows.extend(["build-linux".into(), "build-linux-packed".into()]);
    }
    rows.extend(["first-guest".into(), "tenth-guest".into()]);
    rows
}

/// What a row is called for people.
pub(super) fn title(row: &str) -> String {
    match row {
        "build-linux" => "build Debian's Linux, unpacked when packing".into(),
        "build-linux-packed" => "build Debian's Linux, as Debian packs it".into(),
        "first-guest" => "power-on to the first guest".into(),
        "tenth-guest" => "power-on to the tenth guest".into(),
        other => match other.strip_prefix("build-") {
            Some(mib) => format!("build a VM of {mib} MiB"),
            None => other.to_owned(),
        },
    }
}

/// xl has only one way to build Linux.
pub(super) fn unpacked(row: &str) -> &str {
    row.strip_suffix("-packed").unwrap_or(row)
}

/// All that is shown.
pub(super) fn text(figures: &Figures, choice: &Choice, past: &Past) -> String {
    let mut out = format!(
        "Xen {}, times of the emulated machine; xl is Debian 12's in a Linux Dom0\n\n",
        choice.xen.label
    );
    let _ = writeln!(
        out,
        "{:44} {:>9} {:>9} {:>11} {:>11} {:>11} {:>11}  since the last record",
        "", "xl/ours", "ours/floor", "db-boot", "db-server", "xl", "floor"
    );
    for row in rows(choice) {
        let ours = format!("{row}.db-boot.time");
        let time = |system: &str, row: &str| figures.get(&format!("{row}.{system}.time"));
        let (db_boot, xl, floor) = (time("db-boot", &row), time("xl", unpacked(&row)), time("floor", &row));
        let _ = writeln!(
            out,
            "{:44} {:>9} {:>9} {:>11} {:>11} {:>11} {:>11}  {}",
            title(&row),
            ratio(xl, db_boot),
            ratio(db_boot, floor),
            shown(db_boot),
            shown(time("db-server", &row)),
            shown(xl),
            shown(floor),
            change(past.last(&choice.xen.label, &ours), figures.get(&ours)),
        );
    }
    out += &others(figures);
    out += &goals(figures);
    out
}

/// The figures that are not times of both systems.
fn others(figures: &Figures) -> String {
    let mut out = String::new();
    if figures.get("nth-10.db-boot.time").is_some() {
        out += "\nthe n-th VM of 4 MiB in one boot of db-boot:";
        for nth in NTHS {
            let _ = write!(out, "  {nth}th {}", shown(figures.get(&format!("nth-{nth}.db-boot.time"))));
        }
        out.push('\n');
    }
    let mib = |name: &str| {
        figures.get(name).map_or_else(|| "-".into(), |kib| format!("{} MiB", kib.div_ceil(1024)))
    };
    let kib =
        |name: &str| figures.get(name).map_or_else(|| "-".into(), |bytes| format!("{} KiB", bytes / 1024));
    let _ = writeln!(
        out,
        "\nDom0's memory: db-boot {} with the RAM disk, Linux and xl {}\nsize of the files: {}, Linux and xl {} (compressed)\npower-on to Xen's first instruction {}, to the toolstack's readiness {} (xl)",
        mib("dom0.db-boot.memory"),
        mib("dom0.xl.memory"),
        KERNELS.map(|kernel| format!("{kernel} {}", kib(&format!("{kernel}.size")))).join(", "),
        kib("xl.size"),
        shown(figures.get("firmware.time")),
        shown(figures.get("toolstack.xl.time")),
    );
    out
}

/// The project's goals, met or not. They never make a run fail.
fn goals(figures: &Figures) -> String {
    let time = |name: &str| figures.get(&format!("{name}.time"));
    let mut out = String::from("\n");
    let mut goal = |what: &str, met: Option<bool>| {
        let word = match met {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "not measured",
        };
        let _ = writeln!(out, "goal: {what}: {word}");
    };
    // In words of "a is at least n times b".
    let times = |a: Option<u64>, n: u64, b: Option<u64>| Some(a? >= b? * n);
    goal(
        "a small VM costs xl at least 50 times as much",
        times(time("build-8.xl"), 50, time("build-8.db-boot")),
    );
    let (ours, floor) = (time("build-8.db-boot"), time("build-8.floor"));
    goal(
        "a small VM costs at most 1.5 times the floor",
        floor.map(|floor| floor * 3).zip(ours).map(|(f, o)| o * 2 <= f),
    );
    let (tenth, last) = (time("nth-10.db-boot"), time("nth-1000.db-boot"));
    goal(
        "the 1,000th VM costs at most 10 % more than the 10th",
        tenth.zip(last).map(|(t, l)| l * 10 <= t * 11),
    );
    goal(
        "ten VMs run at least 10 times sooner than with xl",
        times(time("tenth-guest.xl"), 10, time("tenth-guest.db-boot")),
    );
    let memory = figures.get("dom0.db-boot.memory");
    goal("Dom0 takes at most 16 MiB", memory.map(|kib| kib <= 16 << 10));
    goal(
        "a MiB more costs at most 1.2 times what it costs the floor",
        slope(figures).map(|(ours, floor)| ours * 10 <= floor * 12),
    );
    out
}

/// What 1016 MiB more cost, in nanoseconds: db-boot, the floor.
fn slope(figures: &Figures) -> Option<(u64, u64)> {
    let of = |system: &str| {
        let large = figures.get(&format!("build-1024.{system}.time"))?;
        large.checked_sub(figures.get(&format!("build-8.{system}.time"))?)
    };
    Some((of("db-boot")?, of("floor")?))
}

/// How many times `b` is in `a`, with three figures.
fn ratio(a: Option<u64>, b: Option<u64>) -> String {
    let (Some(a), Some(b @ 1..)) = (a, b) else { return "-".into() };
    let hundredths = (a * 100 + b / 2) / b;
    match hundredths {
        0..1000 => format!("{}.{:02}", hundredths / 100, hundredths % 100),
        1000..10000 => format!("{}.{}", hundredths / 100, hundredths % 100 / 10),
        _ => format!("{}", hundredths / 100),
    }
}

/// A time in milliseconds, with three figures and more.
pub(super) fn shown(nanos: Option<u64>) -> String {
    let Some(micros) = nanos.map(|nanos| (nanos + 500) / 1000) else { return "-".into() };
    match micros {
        0..10_000 => format!("{}.{:03} ms", micros / 1000, micros % 1000),
        10_000..1_000_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{}.{:03} s", micros / 1_000_000, micros % 1_000_000 / 1000),
    }
}

/// By how much a figure has changed.
fn change(before: Option<(u64, &str)>, now: Option<u64>) -> String {
    let (Some((before @ 1.., commit)), Some(now)) = (before, now) else { return String::new() };
    let sign = if now < before { '-' } else { '+' };
    let thousandths = (now.abs_diff(before) * 1000 + before / 2) / before;
    format!("{sign}{}.{} % since {commit}", thousandths / 10, thousandths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_and_times_have_three_figures() {
        assert_eq!(ratio(Some(44_500_000), Some(820_000)), "54.2");
        assert_eq!(ratio(Some(820), Some(732)), "1.12");
        assert_eq!(ratio(Some(4_100_000), Some(1000)), "4100");
        assert_eq!(ratio(Some(1), None), "-");
        assert_eq!(shown(Some(820_400)), "0.820 ms");
        assert_eq!(shown(Some(44_560_000)), "44.5 ms");
        assert_eq!(shown(Some(9_034_068_480)), "9.034 s");
    }

    #[test]
    fn a_change_is_told_with_its_direction() {
        assert_eq!(change(Some((1000, "abc")), Some(820)), "-18.0 % since abc");
        assert_eq!(change(Some((1000, "abc")), Some(1015)), "+1.5 % since abc");
        assert_eq!(change(None, Some(1)), "");
    }

    #[test]
    fn goals_say_what_is_met() {
        let mut figures = Figures::default();
        figures.enter("build-8.xl.time", 50);
        figures.enter("build-8.db-boot.time", 1);
        figures.enter("dom0.db-boot.memory", 17 << 10);
        let text = goals(&figures);
        assert!(text.contains("50 times as much: met"), "{text}");
        assert!(text.contains("16 MiB: NOT MET"), "{text}");
        assert!(text.contains("1,000th VM costs at most 10 % more than the 10th: not measured"), "{text}");
    }
}
