//! Every key that xl of Xen 4.20 reads or its manual names: supported, refused with a reason, or said to have no effect.
#![allow(missing_docs, reason = "a test's name says what it checks")]
#![allow(clippy::unwrap_used, reason = "a helper of a test may stop it at the first surprise")]

use std::path::Path;

use image::config::keys::{Key, Unread, unread};
use image::config::{ConfigError, VmFile};
use image::source::SourceFile;

/// The keys of xl.cfg(5), and those that `parse_config_data` in xl reads besides, in the order of the alphabet.
const KEYS_OF_XL: &str = "\
    acpi acpi_firmware acpi_laptop_slate acpi_s3 acpi_s4 altp2m altp2mhvm apic bios bios_path_override boot bootloader \
    bootloader_args bootloader_restrict bootloader_user builder cap channel cmdline cpu_weight cpuid cpus cpus_soft \
    device_model device_model_args device_model_args_hvm device_model_args_pv device_model_override \
    device_model_stubdomain_override device_model_stubdomain_seclabel device_model_user device_model_version \
    device_tree disk display dm_restrict driver_domain dtdev e820_host extra extratime firmware firmware_override \
    gfx_passthru gic_version hap hdtype hpet hvm_pirq init_seclabel iomem ioports irqs kernel keymap latency \
    llc_colors localtime max_event_channels max_grant_frames max_grant_version max_maptrack_frames maxmem maxvcpus \
    mca_caps memory mmio_hole ms_vm_genid msr_relaxed name nestedhvm nographic nomigrate nr_spis nx on_crash \
    on_poweroff on_reboot on_soft_reset on_watchdog oos opengl p9 pae passthrough pci pci_msitranslate \
    pci_permissive pci_power_mgmt pci_seize period pool pvcalls pvshim pvshim_cmdline pvshim_extra pvshim_path ramdisk \
    rdm rdm_mem_boundary root rtc_timeoffset sdl seclabel serial shadow_memory slice smbios smbios_firmware soundhw \
    spice spice_clipboard_sharing spice_image_compression spice_streaming_video spiceagent_mouse \
    spicedisable_ticketing spicehost spicepasswd spiceport spicetls_port spiceusbredirection spicevdagent stdvga \
    stubdomain_cmdline stubdomain_kernel stubdomain_memory stubdomain_ramdisk sve tee timer_mode tsc_mode type usb \
    usbctrl usbdev usbdevice usbversion uuid vcpus vdispl vendor_device vfb vga videoram vif vif2 viridian virtio \
    vkb vkb_device vmtrace_buf_kb vnc vncdisplay vnclisten vncpasswd vncunused vncviewer vnuma vpmu vpt_align vsnd \
    vtpm vuart xauthority xen_platform_pci xend_suspend_evtchn_compat";

/// A VM that is right, with one line more.
fn read(line: &str) -> Result<VmFile, ConfigError> {
    let text = format!("name = 'a'\nkernel = 'k'\nmemory = 8\n{line}\n");
    VmFile::parse(SourceFile::new("a.cfg", text), Path::new(""))
}

fn messages(line: &str) -> Vec<String> {
    match read(line) {
        Ok(file) => file.warning_texts().collect(),
        Err(error) => error.messages().into_iter().map(|(_, text)| text).collect(),
    }
}

#[test]
fn no_key_of_xl_is_unknown() {
    let unknown: Vec<_> = KEYS_OF_XL
        .split_whitespace()
        .filter(|key| Key::of_name(key).is_none() && unread(key).is_none())
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn what_is_not_read_is_refused_or_warned_about() {
    for key in KEYS_OF_XL.split_whitespace() {
        let text = messages(&format!("{key} = 'unheard of'")).join("\n");
        match unread(key) {
            None => {}
            Some(Unread::Refused(reason)) => {
                assert!(read(&format!("{key} = 'unheard of'")).is_err(), "{key}");
                assert!(text.contains(&format!("\"{key}\" is not supported: {reason}")), "{key}: {text}");
            }
            Some(Unread::NoEffect(_)) => {
                assert!(read(&format!("{key} = 'unheard of'")).is_ok(), "{key}");
                assert!(
                    text.contains(&format!("\"{key}\" has no effect on PV and PVH guests")),
                    "{key}: {text}"
                );
            }
        }
    }
}

#[test]
fn what_asks_for_nothing_is_taken_in_silence() {
    for line in [
        "disk = []",
        "vif = [ ]",
        "pci = []",
        "bootloader = ''",
        "hap = 1",
        "acpi = '1'",
        "apic = 1",
        "nestedhvm = 0",
        "altp2m = 'disabled'",
        "pvshim = 0",
        "tsc_mode = 'default'",
        "vpmu = 0",
        "localtime = 0",
    ] {
        assert_eq!(messages(line), Vec::<String>::new(), "{line}");
    }
    for line in ["disk = ['']", "acpi = 0", "nestedhvm = 1", "altp2m = 'mixed'"] {
        assert!(read(line).is_err(), "{line}");
    }
}

/// The files that the Xen Test Framework makes for its PV tests, and older ones.
#[test]
fn files_of_old_toolstacks_are_read() {
    assert_eq!(messages("loader = 'generic'").len(), 1);
    assert!(messages("loader = 'generic'")[0].contains("\"loader\" has no effect"));
    for (line, words) in [
        ("builder = 'generic'", "write type = \"pv\""),
        ("builder = 'linux'", "write type = \"pv\""),
        ("builder = 'generic'\ntype = 'pv'", "write type = \"pv\""),
    ] {
        assert!(read(line).is_ok() && messages(line)[0].contains(words), "{line}: {:?}", messages(line));
    }
    for (line, words) in [
        ("builder = 'hvm'", "builder \"hvm\" is not supported"),
        ("builder = 'windows'", "unknown builder \"windows\""),
        ("builder = 'generic'\ntype = 'pvh'", "\"builder\" and \"type\" contradict each other"),
        ("loader = 'hvmloader'", "loader \"hvmloader\" is not supported"),
        ("hvm = 1", "it has been replaced by `type`"),
    ] {
        let text = messages(line).join("\n");
        assert!(read(line).is_err() && text.contains(words), "{line}: {text}");
    }
}
