//! `domb inspect --json`: everything that a file says, for programs.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

mod support;

use serde_json::{Value, json};
use support::{Workshop, pvh_kernel, stderr, stdout};

fn inspect(shop: &Workshop, name: &str) -> Value {
    let output = shop.domb(&["inspect", "--json", name]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let result: Value = serde_json::from_str(&stdout(&output)).unwrap();
    result["files"][0].clone()
}

#[test]
fn a_spec_is_shown_field_by_field() {
    let shop = Workshop::new();
    shop.vm("db", "domid = 9\n");
    shop.vm(
        "web",
        "domid = 7\nafter = 'db'\nready = 'serving'\nchannels = 'db'\non_watchdog = 'restart'\nrestart_limit = 3\nrestart_delay = 20\n\
         iomem = ['fe000,2']\nioports = ['3f8-3ff']\nirqs = [4]\nmax_event_channels = 100\nmax_grant_frames = 8\n\
         max_maptrack_frames = 0\nmax_grant_version = 1\ncpus = ['0-1']\ncpus_soft = '0,2'\ncpu_weight = 512\ncap = 50\npool = 1\n\
         seclabel = 'u:r:runs'\ninit_seclabel = 'u:r:built'\ntsc_mode = 'native'\nnomigrate = 1\ncpuid = 'host,sse3=0'\ndom_flags = ['Privileged']\n",
    );
    let packed = shop.domb(&["pack", "web.cfg", "db.cfg", "--archive-only", "ram.cpio"]);
    assert_eq!(packed.status.code(), Some(0), "{}", stderr(&packed));
    let archive = inspect(&shop, "ram.cpio");
    assert_eq!(archive["signed"], false);
    let spec = &archive["entries"][0]["spec"];
    let settings = json!({
        "io_memory": [{ "first_page": 0xfe000, "pages": 2, "guest_page": null }],
        "io_ports": [{ "first": 0x3f8, "last": 0x3ff }],
        "interrupts": [4],
        "max_event_channels": 100, "max_grant_frames": 8, "max_maptrack_frames": 0, "max_grant_version": 1,
        "cpus": ["0-1"], "cpus_soft": "0,2", "cpu_weight": 512, "cap": 50, "pool": 1,
        "label": "u:r:runs", "build_label": "u:r:built", "tsc_mode": "native", "nomigrate": true, "msr_relaxed": false,
        "cpuid": [{ "leaf": 1, "subleaf": null, "register": "ecx", "ones": 0, "zeros": 1, "host": 0 }],
        "hap": null, "oos": true, "shadow_memory": null, "dom_flags": ["privileged"],
    });
    assert_eq!(
        *spec,
        json!({
            "name": "web", "guest_kind": "pv", "domid": 7, "uuid": spec["uuid"], "vcpus": 1, "online_vcpus": 1, "modules": [], "memory_kib": 16384,
            "max_memory_kib": 16384, "kernel": "images/kernel", "ramdisk": null, "command_line": spec["command_line"],
            "on_poweroff": "destroy", "on_reboot": spec["on_reboot"], "on_crash": "destroy", "on_watchdog": "restart",
            "restart_limit": 3, "restart_delay_ms": 20, "critical": false, "after": ["db"], "ready": "serving",
            "channels": [{ "client": 9, "port": 2 }],
            "xenstore": null, "serves_xenstore": false, "own_xenstore": false, "settings": settings,
        })
    );
    assert!(spec["command_line"].as_str().unwrap().starts_with("vchan=server:db:9:"), "{spec}");
    let other = &archive["entries"][1]["spec"];
    assert_eq!((&other["ready"], &other["settings"]["cpus"]), (&json!(null), &json!(null)));
}

#[test]
fn a_kernel_is_planned_as_both_kinds_of_guest() {
    let shop = Workshop::new();
    shop.write("both", &pvh_kernel(b"both"));
    let both = inspect(&shop, "both");
    let (pv, pvh) = (&both["pv_plan"], &both["pvh_plan"]);
    assert_eq!((&both["pv_problem"], &both["pvh_problem"]), (&json!(null), &json!(null)));
    assert_eq!((&pv["least_mib"], &pv["pvh"]), (&both["pv_least_mib"], &json!(null)));
    assert_eq!((&pvh["least_mib"], &pvh["entry"]), (&json!(2), &json!(0x10_0000)));
    assert_eq!(pvh["pvh"]["special_pages"], 3);
    assert_eq!(
        pvh["pvh"]["memory_map"],
        json!([
            { "address": 0, "bytes": 0xf_8000, "range_kind": "memory" },
            { "address": 0xf_8000, "bytes": 0x8000, "range_kind": "acpi" },
            { "address": 0x10_0000, "bytes": 0x10_0000, "range_kind": "memory" },
            { "address": 0xfeff_d000_u64, "bytes": 0x3000, "range_kind": "reserved" },
        ])
    );
    let areas = pvh["layout"]["areas"].as_array().unwrap();
    for (name, first) in [("ACPI tables", 0xf8), ("kernel", 0x100)] {
        assert!(areas.iter().any(|area| area["area"] == name && area["first_pfn"] == first), "{name}: {pvh}");
    }
    let shown = stdout(&shop.domb(&["inspect", "both"]));
    for line in ["  starts as a PV guest with 4 MiB", "  starts as a PVH guest with 2 MiB", "    memory map:"]
    {
        assert!(shown.lines().any(|shown| shown.starts_with(line)), "{line}\n{shown}");
    }

    let pv_only = inspect(&shop, "kernel");
    assert_eq!(pv_only["pvh_plan"], json!(null));
    assert!(pv_only["pvh_problem"].as_str().unwrap().contains("PHYS32_ENTRY"), "{pv_only}");
}

#[test]
fn a_signed_ram_disk_shows_its_manifest_and_whose_signature_it_has() {
    let shop = Workshop::new();
    shop.vm("web", "");
    assert_eq!(shop.domb(&["keygen", "shop"]).status.code(), Some(0));
    let sign = ["--sign", "shop.key", "--platform", "shop", "--platform-version", "7"];
    let packed = shop
        .domb(&[&["pack", "web.cfg", "-o", "disk.img", "--archive-only", "ram.cpio"][..], &sign].concat());
    assert_eq!(packed.status.code(), Some(0), "{}", stderr(&packed));
    let archive = inspect(&shop, "ram.cpio");
    let entries = &archive["entries"];
    let manifest = &entries[0]["manifest"];
    assert_eq!(
        (&archive["signed"], &manifest["platform"], &manifest["version"]),
        (&json!(true), &json!("shop"), &json!(7))
    );
    for (index, file) in manifest["files"].as_array().unwrap().iter().enumerate() {
        let entry = &entries[index + 2];
        assert_eq!(
            [&file["path"], &file["bytes"], &file["sha256"]],
            [&entry["path"], &entry["bytes"], &entry["sha256"]]
        );
        assert_eq!((&entry["manifest"], &entry["signature"]), (&json!(null), &json!(null)));
    }
    assert_eq!(manifest["files"].as_array().unwrap().len(), 2);
    let signature = &entries[1]["signature"];
    assert_eq!(signature["algorithm"], "Ed25519");
    assert!(stdout(&shop.domb(&["inspect", "ram.cpio"])).contains(signature["key_id"].as_str().unwrap()));
    let disk = inspect(&shop, "disk.img");
    assert_eq!((&disk["signed"], &disk["archive"]), (&json!(true), entries));

    // Of a manifest that is damaged, the reason is the problem of its entry; it is signed all the same, as far as one can see.
    let mut bytes = shop.read("ram.cpio");
    let at = bytes.windows(8).position(|window| window == b"DBMANIF\0").unwrap();
    bytes[at] ^= 1;
    shop.write("bad.cpio", &bytes);
    let bad = inspect(&shop, "bad.cpio");
    assert!(bad["entries"][0]["problem"].as_str().unwrap().starts_with("manifest: starts with"), "{bad}");
    assert_eq!((&bad["entries"][0]["manifest"], &bad["signed"]), (&json!(null), &json!(true)));
}
