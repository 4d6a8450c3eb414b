//! Distribution kernels as shipped: every file in the folder that the environment variable `LINUX_IMAGES` names.
//! Without it there is nothing to test.
use kernel_image::{Features, Format, KernelImage, unwrap};
use std::{env, fs};

/// Most bytes a kernel may unpack to here.
const LIMIT: usize = 256 << 20;

#[test]
fn distribution_kernels_can_be_pv_guests() {
    let Some(folder) = env::var_os("LINUX_IMAGES") else {
        eprintln!("skipped: LINUX_IMAGES names no folder with kernels");
        return;
    };
    let mut seen = 0;
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.display();
        let bytes = fs::read(&path).unwrap();
        let unwrapped = unwrap(&bytes, LIMIT).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(matches!(unwrapped.format, Format::BzImage { .. }), "{name}");
        let image = KernelImage::parse(&unwrapped.elf).unwrap_or_else(|error| panic!("{name}: {error}"));
        let layout = image.layout().unwrap_or_else(|error| panic!("{name}: {error}"));
        let notes = image.notes();
        eprintln!("{name}: {}, {} bytes, {layout:x?}", unwrapped.format, unwrapped.elf.len());
        assert_eq!(notes.guest_os, Some("linux"), "{name}");
        assert!(notes.supported.contains(Features::WRITABLE_PAGE_TABLES), "{name}");
        assert_eq!(layout.virt_base, 0xffff_ffff_8000_0000, "{name}");
        assert!(layout.kernel.contains(&layout.entry), "{name}");
        seen += 1;
    }
    assert!(seen > 0, "there is no kernel in {}", folder.display());
}
