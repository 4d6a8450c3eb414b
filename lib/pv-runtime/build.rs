//! Tells the linker where `kernel.ld` is: the target file x86_64-xen.json names it without a folder, so that it links
//! from any checkout path, and the linker looks for it in its library search path.

fn main() {
    println!("cargo::rerun-if-changed=kernel.ld");
    if let Ok(folder) = std::env::var("CARGO_MANIFEST_DIR") {
        println!("cargo::rustc-link-search=native={folder}");
    }
}
