//! What makes domb comfortable: results for programs, reports, folders to start from, completions, manual pages.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod support;

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Workshop, entries, stderr, stdout};

/// The only object on standard output.
fn object(text: &str) -> Value {
    let parsed: Result<Value, _> = serde_json::from_str(text);
    assert!(parsed.is_ok(), "{parsed:?}: {text}");
    parsed.unwrap()
}

fn sha256sum(shop: &Workshop, name: &str) -> String {
    let output = Command::new("sha256sum").arg(shop.path(name)).output().unwrap();
    stdout(&output).split(' ').next().unwrap().to_owned()
}

#[test]
fn a_check_can_be_read_by_programs() {
    let shop = Workshop::new();
    shop.vm("web", "domid = 7\ncmdline = 'a'\nroot = 'b'\n");
    let output = shop.domb(&["check", "--json", "web.cfg"]);
    assert_eq!(output.status.code(), Some(0));
    let result = object(&stdout(&output));
    assert_eq!((&result["schema"], &result["ok"]), (&json!("domb-check-1"), &json!(true)));
    let mut vm = result["vms"][0].clone();
    let uuid = vm["uuid"].take();
    assert_eq!(uuid.as_str().unwrap().len(), 36);
    let expected = json!({
        "name": "web", "kind": "pv", "domid": 7, "uuid": null, "vcpus": 1, "memory_kib": 16384,
        "max_memory_kib": 16384, "kernel": "images/kernel", "kernel_format": "ELF", "ramdisk": null,
        "command_line": "a"
    });
    assert_eq!(vm, expected);
    let warning = &result["messages"][0];
    assert_eq!(warning["severity"], "warning");
    assert!(warning["text"].as_str().unwrap().starts_with("web.cfg:6:8: this has no effect"), "{warning}");
}

#[test]
fn the_mistakes_are_in_the_result_too() {
    let shop = Workshop::new();
    shop.vm("web", "memroy = 1\n");
    for command in ["check", "report"] {
        let output = shop.domb(&[command, "--json", "web.cfg", "absent.cfg"]);
        assert_eq!(output.status.code(), Some(1));
        let result = object(&stdout(&output));
        assert_eq!(result["schema"], format!("domb-{command}-1"));
        assert_eq!((&result["ok"], result.get("vms")), (&json!(false), None));
        let texts: Vec<_> =
            result["messages"].as_array().unwrap().iter().map(|m| m["text"].as_str().unwrap()).collect();
        assert!(texts[0].starts_with("web.cfg:4:1: unknown key \"memroy\""), "{texts:?}");
        assert!(texts[1].starts_with("cannot read absent.cfg"), "{texts:?}");
        assert!(stderr(&output).contains("domb: error: web.cfg:4:1"), "people see them as well");
    }
}

#[test]
fn how_a_run_ended_can_be_read_by_programs() {
    let shop = Workshop::new();
    shop.vm("web", "");
    shop.write(
        "console",
        b"[    1.000000] db-boot: info: xen=4.17.5\r\n\
          [    1.100000] db-boot: info: vm=web domid=4 step=load took=42us\r\n\
          [    1.200000] db-boot: info: vm=web domid=4 event=started\r\n\
          [web] bye \xff\r\n\
          [    1.900000] db-boot: info: vm=web domid=4 event=ended reason=exit status=3\r\n",
    );
    shop.qemu("cat console; exit 35");
    let output = shop.domb(&["run", "--json", "web.cfg", "--log", "boot.log"]);
    assert_eq!(output.status.code(), Some(2));
    let result = object(&stdout(&output));
    for (field, value) in [
        ("schema", json!("domb-run-1")),
        ("ok", json!(false)),
        ("status", json!("vm-failed")),
        ("exit_status", json!(2)),
        (
            "vms",
            json!([{
                "name": "web", "domid": 4, "state": "exit status=3", "bad": true,
                "building_us": 42, "running_us": 700_000
            }]),
        ),
    ] {
        assert_eq!(result[field], value, "{field}");
    }
    assert!(result["messages"][0]["text"].as_str().unwrap().starts_with("a VM ended badly"));
    assert!(result["command"].as_str().unwrap().starts_with("qemu-system-x86_64 "));
    assert!(stderr(&output).contains("[web] bye"), "the console is on standard error");
    assert_eq!(shop.read("boot.log"), shop.read("console"));

    shop.qemu("exit 33");
    let output = shop.domb(&["run", "--json", "web.cfg"]);
    let result = object(&stdout(&output));
    assert_eq!(
        (output.status.code(), &result["ok"], &result["status"]),
        (Some(0), &json!(true), &json!("success"))
    );
    shop.qemu("exit 0");
    let output = shop.domb(&["run", "--json", "--no-exit-port", "web.cfg"]);
    let result = object(&stdout(&output));
    assert_eq!((output.status.code(), &result["status"]), (Some(0), &json!("switched-off")));
    let output = shop.domb(&["run", "--json", "absent.cfg"]);
    let result = object(&stdout(&output));
    assert_eq!((output.status.code(), &result["status"]), (Some(1), &json!("not-run")));
    assert!(result["messages"][0]["text"].as_str().unwrap().starts_with("cannot read absent.cfg"));
}

#[test]
fn what_is_in_a_file_can_be_read_by_programs() {
    let shop = Workshop::new();
    shop.vm("web", "domid = 7\non_crash = 'preserve'\n");
    shop.domb(&["pack", "web.cfg", "-o", "disk.img", "--archive-only", "ram.cpio"]);
    shop.domb(&["compile", "web.cfg"]);
    shop.write("text", b"hello, I am a text file");
    let files = ["kernel", "web.spec", "ram.cpio", "disk.img", "xen", "text"];
    let output = shop.domb(&[&["inspect", "--json"][..], &files].concat());
    assert_eq!(output.status.code(), Some(1));
    let result = object(&stdout(&output));
    assert_eq!((&result["schema"], &result["ok"]), (&json!("domb-inspect-1"), &json!(false)));
    assert!(result["messages"][0]["text"].as_str().unwrap().starts_with("text: a text: `domb check` reads"));
    let found = result["files"].as_array().unwrap();
    let kinds: Vec<_> = found.iter().map(|file| file["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["kernel", "boot-spec", "archive", "disk-image", "xen"]);
    for (file, name) in found.iter().zip(files) {
        assert_eq!((&file["path"], &file["sha256"]), (&json!(name), &json!(sha256sum(&shop, name))));
    }
    let [kernel, spec, archive, disk, _] = found.as_slice() else { return assert_eq!(found.len(), 5) };
    assert_eq!(
        (&kernel["format"], &kernel["pv_least_mib"], &kernel["pv_problem"]),
        (&json!("ELF"), &json!(4), &json!(null))
    );
    assert_eq!(kernel["notes"][0], json!({ "name": "XEN_VERSION", "value": "\"xen-3.0\"" }));
    assert_eq!(kernel["segments"][0]["flags"], "rwx");
    assert_eq!((&spec["name"], &spec["domid"]), (&json!("web"), &json!(7)));
    assert_eq!((&spec["on_crash"], &spec["critical"]), (&json!("preserve"), &json!(false)));
    let entries = archive["entries"].as_array().unwrap();
    assert_eq!((&entries[0]["path"], &entries[0]["spec"]["domid"]), (&json!("vms/web.spec"), &json!(7)));
    assert_eq!((&entries[1]["path"], &entries[1]["sha256"]), (&json!("images/kernel"), &kernel["sha256"]));
    assert_eq!(disk["archive"], archive["entries"]);
    assert_eq!(disk["partitions"][0]["name"], "BIOS boot");
    assert!(disk["menu"].as_str().unwrap().contains("/boot/xen"), "{disk}");
}

#[test]
fn a_report_has_the_digests_that_other_programs_find() {
    let shop = Workshop::new();
    shop.write("ram", &[7; 3000]);
    shop.vm("web", "ramdisk = 'ram'\n");
    shop.vm("db", "");
    let output = shop.domb(&["report", "--json", "web.cfg", "db.cfg"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let result = object(&stdout(&output));
    shop.domb(&["pack", "web.cfg", "db.cfg", "--archive-only", "ram.cpio"]);
    assert_eq!(result["archive"]["sha256"], sha256sum(&shop, "ram.cpio"));
    assert_eq!(result["archive"]["bytes"], shop.read("ram.cpio").len());
    let images = result["images"].as_array().unwrap();
    assert_eq!(images.len(), 2, "equal files are packed once");
    for (image, file) in images.iter().zip(["kernel", "ram"]) {
        assert_eq!(image["file"], file);
        assert_eq!(image["original"]["sha256"], sha256sum(&shop, file));
        assert_eq!(image["original"], image["stored"]);
    }
    assert_eq!(images[0]["segments"][0]["physical"], 0x10_0000);
    assert_eq!(images[1]["segments"], json!([]));
    shop.domb(&["compile", "db.cfg"]);
    assert_eq!(result["vms"][1]["spec"]["sha256"], sha256sum(&shop, "db.spec"));

    let layout = &result["vms"][0]["layout"];
    assert_eq!(layout["pages"], 4096);
    let areas = layout["areas"].as_array().unwrap();
    let mut next = 0;
    for area in areas {
        assert_eq!(area["first_pfn"], next, "areas leave no gap");
        next += area["pages"].as_u64().unwrap();
    }
    assert!(next <= 4096 && areas.iter().any(|area| area["area"] == "RAM disk"), "{layout}");

    let text = stdout(&shop.domb(&["report", "web.cfg", "db.cfg"]));
    for digest in [&result["archive"], &images[0]["stored"], &images[1]["stored"], &result["vms"][1]["spec"]]
    {
        assert!(text.contains(digest["sha256"].as_str().unwrap()), "{digest} is not in\n{text}");
    }
    assert!(text.contains("segment 0: physical [0x100000..") && text.contains("page tables"), "{text}");
}

#[test]
fn a_packed_kernel_has_two_digests() {
    let shop = Workshop::new();
    shop.vm("web", "");
    let packed = Command::new("gzip").arg("-nc").arg(shop.path("kernel")).output().unwrap().stdout;
    let plain = sha256sum(&shop, "kernel");
    shop.write("kernel", &packed);
    let image = |arguments: &[&str]| object(&stdout(&shop.domb(arguments)))["images"][0].clone();
    let unpacked = image(&["report", "--json", "web.cfg"]);
    assert_eq!(unpacked["original"]["sha256"], sha256sum(&shop, "kernel"));
    assert_eq!(unpacked["stored"]["sha256"], plain);
    let kept = image(&["report", "--json", "--keep-packed", "web.cfg"]);
    assert_eq!(kept["stored"], unpacked["original"]);
    assert_eq!(kept["segments"], unpacked["segments"]);
}

#[test]
fn a_new_folder_passes_the_check_wherever_it_is_moved() {
    let shop = Workshop::new();
    let output = shop.domb(&["new", "mine", "--kernel", "kernel"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("domb check mine/*.cfg"));
    std::fs::rename(shop.path("mine"), shop.path("moved")).unwrap();
    std::fs::remove_file(shop.path("kernel")).unwrap();
    let output = shop.domb(&["check", "moved/first.cfg", "moved/second.cfg"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));

    shop.write("vmlinuz", &support::kernel(b"Linux"));
    shop.write("initrd", &[1; 5000]);
    let new = ["new", "tux", "--linux", "--kernel", "vmlinuz", "--ramdisk", "initrd"];
    assert_eq!(shop.domb(&new).status.code(), Some(0));
    let output = shop.domb(&["check", "tux/linux.cfg"]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

/// The commands that it prints are run as they are printed.
#[test]
fn a_new_folder_with_a_control_domain_does_what_it_says() {
    let shop = Workshop::new();
    shop.write("db-server", &support::kernel(b"db-server"));
    shop.write("control-domain", &support::kernel(b"control-domain"));
    let output =
        shop.domb(&["new", "mine", "--control", "--kernel", "kernel", "--control-domain", "control-domain"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    std::fs::remove_file(shop.path("kernel")).unwrap();
    let printed = stdout(&output);
    let commands: Vec<_> = printed.lines().filter_map(|line| line.strip_prefix("    domb ")).collect();
    assert_eq!(commands.len(), 3, "{printed}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let output = shop.command(&words).env("DOMB_DB_SERVER", "db-server").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}: {}{}", stdout(&output), stderr(&output));
        assert!(!stderr(&output).contains("warning"), "{command}: {}", stderr(&output));
    }
    let inspected = stdout(&shop.domb(&["inspect", "mine/served.cpio"]));
    assert!(inspected.contains("served") && inspected.contains("10000 ms"), "{inspected}");
    for other in ["--linux", "--platform"] {
        assert_eq!(shop.domb(&["new", "two", "--control", other]).status.code(), Some(1));
    }
    assert!(!shop.path("two").exists());
}

#[test]
fn a_new_folder_overwrites_nothing() {
    let shop = Workshop::new();
    shop.write("mine/first.cfg", b"precious");
    let output = shop.domb(&["new", "mine", "--kernel", "kernel"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "domb: error: mine: it exists and is not empty; name a new folder\n");
    assert_eq!((shop.read("mine/first.cfg"), entries(&shop.path("mine")).len()), (b"precious".to_vec(), 1));
    let output = shop.domb(&["new", "other", "--kernel", "absent"]);
    assert!(stderr(&output).starts_with("domb: error: cannot read absent: "), "{}", stderr(&output));
    assert!(!shop.path("other").exists());
}

#[test]
fn completions_know_every_command() {
    let shop = Workshop::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&shop.domb(&["completions", shell]));
        for word in ["check", "compile", "pack", "inspect", "run", "chart", "report", "new", "json"] {
            assert!(script.contains(word), "{word} is not in the script for {shell}");
        }
    }
    shop.write("domb.bash", &shop.domb(&["completions", "bash"]).stdout);
    let ask =
        ". ./domb.bash; COMP_WORDS=(domb ch); COMP_CWORD=1; _domb domb ch domb; echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash").args(["-c", ask]).current_dir(shop.path("")).output().unwrap();
    assert_eq!(stdout(&bash), "check chart\n", "{}", stderr(&bash));
    assert_eq!(shop.domb(&["completions", "tcsh"]).status.code(), Some(1));
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let shop = Workshop::new();
    assert!(stdout(&shop.domb(&["man"])).contains(".TH domb 1"));
    assert_eq!(shop.domb(&["man", "pages/man1"]).status.code(), Some(0));
    let page = |name: &str| String::from_utf8(shop.read(&format!("pages/man1/{name}.1"))).unwrap();
    for name in ["domb", "domb-check", "domb-run", "domb-report", "domb-completions", "domb-man"] {
        let page = page(name);
        assert!(page.contains(&format!(".TH {name} 1")) && page.contains(".nf\n"), "{page}");
    }
    assert!(page("domb-run").contains("130  interrupted"), "{}", page("domb-run"));
    let Ok(groff) = Command::new("groff")
        .args(["-man", "-Tutf8", "-ww"])
        .arg(shop.path("pages/man1/domb-run.1"))
        .stdin(Stdio::null())
        .output()
    else {
        eprintln!("groff is not installed: the pages were not rendered");
        return;
    };
    assert_eq!(stderr(&groff), "");
    assert!(stdout(&groff).contains("every VM ended well"), "{}", stdout(&groff));
}

#[test]
fn the_commands_that_a_new_folder_shows_can_be_pasted() {
    let shop = Workshop::new();
    let output = shop.domb(&["new", "two words", "--kernel", "kernel"]);
    assert!(stdout(&output).contains("domb check 'two words'/*.cfg"), "{}", stdout(&output));
}
