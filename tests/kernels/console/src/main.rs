//! Prints far more than a console ring holds, in a block that the test runner checks: nothing may be missing.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use pv_runtime::{Boot, print, println};
use sha2::{Digest, Sha256};
use verdict::{Outcome, success};

verdict::test!(run);

/// Lines of the block.
const LINES: usize = 1500;

/// What lines are filled with, to different lengths.
const FILLER: &str = "the quick brown fox jumps over the lazy dog; ";

/// The most characters that a line is filled with: db-boot shows lines of more than 512 bytes in pieces.
const LONGEST: usize = 450;

fn run(boot: &mut Boot) -> Outcome {
    let nonce = boot.argument("nonce").unwrap_or("-");
    let mut digest = Sha256::new();
    println!("BLOCK {nonce} BEGIN");
    for number in 0..LINES {
        let length = if number % 100 == 99 { LONGEST } else { number % 70 };
        line(number, length, &mut digest);
    }
    print!("BLOCK {nonce} END lines={LINES} sha256=");
    for byte in digest.finalize() {
        print!("{byte:02x}");
    }
    println!();
    success!("{LINES} lines printed")
}

/// Prints a line, and adds it to the digest.
fn line(number: usize, length: usize, digest: &mut Sha256) {
    let beginning = alloc::format!("block: {number} ");
    digest.update(beginning.as_bytes());
    print!("{beginning}");
    for character in FILLER.chars().cycle().take(length) {
        digest.update([u8::try_from(character).unwrap_or(b'?')]);
        print!("{character}");
    }
    digest.update(b".\n");
    println!(".");
}
