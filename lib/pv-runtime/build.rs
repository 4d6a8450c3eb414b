//! Tells the linker where the linker script is: x86_64-xen.json names `kernel.ld` without a folder, so that kernels link
//! in any checkout, and the linker looks for it in its library search path.

use std::path::Path;

fn main() {
    let Ok(crate_folder) = std::env::var("CARGO_MANIFEST_DIR") else { return };
    let scripts = Path::new(&crate_folder).join("../../mk");
    println!("cargo::rerun-if-changed={}", scripts.join("kernel.ld").display());
    println!("cargo::rustc-link-search=native={}", scripts.display());
}
