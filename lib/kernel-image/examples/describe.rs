//! Prints what this crate sees in a kernel, and how long unpacking it took.
//!
//! `cargo run --release -p kernel-image --example describe -- FILE...`
use kernel_image::{KernelImage, unwrap};
use std::{env, error::Error, fs, time::Instant};

/// Most bytes a kernel may unpack to here.
const LIMIT: usize = 1 << 30;

fn describe(path: &str) -> Result<(), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let start = Instant::now();
    let unwrapped = unwrap(&bytes, LIMIT)?;
    let unpacking = start.elapsed();
    println!("{path}: {}", unwrapped.format);
    println!("  {} bytes, unpacked to {} in {unpacking:?}", unwrapped.packed_size, unwrapped.elf.len());
    let start = Instant::now();
    let image = KernelImage::parse(&unwrapped.elf)?;
    println!("  parsed in {:?}", start.elapsed());
    for segment in image.segments() {
        let range = segment.physical_range();
        println!(
            "  segment {} physical [{:#x}..{:#x}) file {:#x}",
            segment.index,
            range.start,
            range.end,
            segment.file.len()
        );
    }
    println!("  {:#x?}", image.notes());
    println!("  {:#x?}", image.layout()?);
    Ok(())
}

fn main() {
    for path in env::args().skip(1) {
        if let Err(error) = describe(&path) {
            eprintln!("{path}: {error}");
        }
    }
}
