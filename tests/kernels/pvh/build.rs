//! Tells the linker where the linker script is; see `lib/pv-runtime/build.rs`.

use std::path::Path;

fn main() {
    let Ok(crate_folder) = std::env::var("CARGO_MANIFEST_DIR") else { return };
    let scripts = Path::new(&crate_folder).join("../../../mk");
    println!("cargo::rerun-if-changed={}", scripts.join("kernel.ld").display());
    println!("cargo::rustc-link-search=native={}", scripts.display());
}
