//! Links the kernel by its own script; not what a host builds of it.

fn main() {
    println!("cargo::rerun-if-changed=kernel.ld");
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86") {
        println!("cargo::rustc-link-arg=-T{}/kernel.ld", env!("CARGO_MANIFEST_DIR"));
    }
}
