//! Pictures of boots, compared with those beside the logs, and looked over for what no picture may have.
//!
//! `UPDATE_EXPECTED=1 cargo test -p image --test chart` draws them anew: look at them in a browser.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use image::chart::{Timeline, html, svg};

/// The log of a boot of `count` VMs, of which every fifth crashes.
fn log(count: usize) -> String {
    let mut log = String::from("[    1.000000] db-boot: info: xen=4.17.5 domctl=0x15\n");
    let mut time = 1_000_000;
    let mut line = |micros: usize, text: &str| {
        time += micros;
        let _ = writeln!(log, "[{:>5}.{:06}] db-boot: info: {text}", time / 1_000_000, time % 1_000_000);
    };
    line(500, &format!("platform=planned vms={count} failed=0 took=400us"));
    for vm in 0..count {
        for (step, took) in [("create", 300), ("populate", 9000), ("load", 2000), ("seal", 900)] {
            line(took, &format!("vm=vm-{vm} domid={vm} step={step} took={took}us"));
        }
        line(10, &format!("vm=vm-{vm} domid={vm} event=built memory=1KiB took=12210us"));
    }
    for vm in 0..count {
        line(100, &format!("vm=vm-{vm} domid={vm} event=started"));
    }
    line(10, &format!("platform=started vms={count} took=1us"));
    for vm in 0..count {
        let reason = if vm % 5 == 4 { "crash" } else { "poweroff" };
        line(70_000, &format!("vm=vm-{vm} domid={vm} event=ended reason={reason}"));
        line(900, &format!("vm=vm-{vm} domid={vm} event=destroyed"));
    }
    line(1000, &format!("platform=ended status=success vms={count} preserved=0"));
    log
}

#[test]
fn pictures_are_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/chart");
    for name in ["three_vms", "restarts", "refused", "log_cut_short"] {
        let log = fs::read_to_string(folder.join(name).with_extension("log")).unwrap();
        let timeline = Timeline::read(&log).unwrap();
        for (extension, picture) in [("svg", svg(&timeline)), ("html", html(&timeline))] {
            let path = folder.join(name).with_extension(extension);
            if std::env::var_os("UPDATE_EXPECTED").is_some() {
                fs::write(&path, &picture).unwrap();
            }
            assert!(fs::read_to_string(&path).unwrap_or_default() == picture, "{} differs", path.display());
        }
    }
}

/// The value of an attribute in the text of a tag, in tenths of a pixel.
fn tenths(tag: &str, attribute: &str) -> Option<u64> {
    let value = tag.split_once(&format!(" {attribute}=\""))?.1.split_once('"')?.0;
    let (whole, tenth) = value.split_once('.').unwrap_or((value, "0"));
    Some(whole.parse::<u64>().unwrap() * 10 + tenth.parse::<u64>().unwrap())
}

/// Fails unless every tag is closed, in order, and nothing is drawn outside of the picture.
fn look_over(picture: &str) {
    let mut open = Vec::new();
    let mut size = None;
    for tag in picture.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name.to_owned()));
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap();
        if !tag.ends_with('/') {
            open.push(name.to_owned());
        }
        if name == "svg" {
            size = Some((tenths(tag, "width").unwrap(), tenths(tag, "height").unwrap()));
        } else if let (Some(size), "rect" | "text") = (size, name) {
            let right = tenths(tag, "x").unwrap_or(0) + tenths(tag, "width").unwrap_or(0);
            let bottom = tenths(tag, "y").unwrap_or(0) + tenths(tag, "height").unwrap_or(0);
            assert!(right <= size.0 && bottom <= size.1, "<{tag}> is outside of {size:?}");
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}

#[test]
fn from_one_vm_to_a_thousand_every_vm_has_its_row_and_everything_is_within_the_picture() {
    for count in [1, 8, 31, 32, 150, 1000] {
        let timeline = Timeline::read(&log(count)).unwrap();
        let picture = svg(&timeline);
        look_over(&picture);
        for vm in [0, count / 2, count - 1] {
            assert!(picture.contains(&format!(">vm-{vm}<title>vm-{vm}, domain {vm}</title>")), "{count}");
        }
        assert_eq!(picture.matches("class=\"bad\"").count(), count / 5 + usize::from(count >= 5));
    }
}

#[test]
fn nothing_is_fetched_and_nothing_is_executed() {
    let log = log(2).replace("vm-1", "<script>alert(1)</script>\"&amp;");
    let timeline = Timeline::read(&log).unwrap();
    look_over(&svg(&timeline));
    for picture in [svg(&timeline), html(&timeline)] {
        assert!(!picture.contains("<script") && !picture.contains("href") && !picture.contains("url("));
        assert_eq!(picture.matches("http").count(), 1, "the name space of SVG, no more");
        assert!(picture.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }
}

#[test]
fn what_the_platform_and_its_vms_are_is_shown() {
    let text = "[    1.000400] db-server: info: platform=settings policy=each ends=web\n\
                [    1.000500] db-server: info: platform=planned vms=1 failed=0 took=400us\n\
                [    1.100000] db-server: info: vm=web domid=7 event=built type=pvh vcpus=2 memory=8192KiB hypercalls=9 mapped=84 took=9us\n";
    let timeline = Timeline::read(text).unwrap();
    assert_eq!(timeline.builder.name, "db-server");
    let page = html(&timeline);
    for shown in [
        "Platform: policy=each ends=web",
        "<td>pvh</td><td>2</td><td>8 MiB</td><td>9</td><td>84</td>",
        ">db-server<",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    look_over(&svg(&timeline));
    // A log of an older builder does not say so: the columns are not there.
    assert!(!html(&Timeline::read(&log(1)).unwrap()).contains("<th>mapped</th>"));
}

#[test]
fn a_vm_that_is_built_later_has_no_row_in_the_start() {
    let later = log(8) + "[  900.000000] db-boot: info: vm=later domid=99 step=create took=1us\n";
    let picture = svg(&Timeline::read(&later).unwrap());
    let rows = |name: &str| picture.matches(&format!("<title>{name}, domain")).count();
    assert_eq!((rows("vm-0"), rows("later")), (2, 1));
}

#[test]
fn a_short_start_has_its_own_panel() {
    let panels = |log: &str| svg(&Timeline::read(log).unwrap()).matches("class=\"heading\"").count();
    assert_eq!(panels(&log(8)), 2);
    let started: String = log(8)
        .lines()
        .filter(|line| !line.contains("platform=started"))
        .map(|l| l.to_owned() + "\n")
        .collect();
    assert_eq!(panels(&started), 1);
}
