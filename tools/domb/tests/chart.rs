//! `domb chart` as its users meet it.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod support;

use support::{Workshop, stderr, stdout};

const LOG: &[u8] = b"\
(XEN) hello \xff\r\n\
[    1.000000] db-boot: info: xen=4.17.5 domctl=0x15\r\n\
[    1.100000] db-boot: info: vm=web domid=1 step=load took=42us\r\n\
[    1.200000] db-boot: info: vm=web domid=1 event=started\r\n\
[    1.900000] db-boot: info: vm=web domid=1 event=ended reason=poweroff\r\n";

#[test]
fn the_name_of_the_picture_says_what_it_is() {
    let shop = Workshop::new();
    shop.write("boot.log", LOG);
    let shown = stdout(&shop.domb(&["chart", "boot.log"]));
    assert!(
        shown.starts_with("<svg xmlns=") && shown.contains(">web<title>web, domain 1</title>"),
        "{shown}"
    );
    for (name, start) in [("a.svg", "<svg"), ("a.html", "<!DOCTYPE html>"), ("a.HTM", "<!DOCTYPE html>")] {
        let output = shop.domb(&["chart", "boot.log", "-o", name]);
        assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), ""), "{}", stderr(&output));
        assert!(shop.read(name).starts_with(start.as_bytes()));
    }
    let output = shop.domb(&["chart", "boot.log", "-o", "a.png"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "domb: error: a.png: the name of a picture ends with .svg, .html or .htm\n");
}

#[test]
fn a_log_of_something_else_is_refused_with_the_way_to_get_one() {
    let shop = Workshop::new();
    shop.write("boot.log", b"(XEN) hello\n");
    let output = shop.domb(&["chart", "boot.log", "-o", "a.svg"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("`domb run --log FILE`"), "{}", stderr(&output));
    assert!(!shop.path("a.svg").exists());
}

#[test]
fn a_log_of_domb_run_can_be_drawn() {
    let shop = Workshop::new();
    shop.write("boot.log", LOG);
    shop.vm("web", "");
    shop.qemu("cat boot.log; exit 33");
    assert_eq!(shop.domb(&["run", "web.cfg", "--log", "run.log"]).status.code(), Some(0));
    assert_eq!(shop.domb(&["chart", "run.log"]).stdout, shop.domb(&["chart", "boot.log"]).stdout);
}
