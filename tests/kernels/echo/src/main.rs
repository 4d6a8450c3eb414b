//! Reads lines from its console and answers each, until one is `bye`: what somebody at the keyboard would talk to.
//!
//! `count` reads one more line, after a sleep in which more may be typed than its console ring holds, and says how long it is
//! and what its bytes add up to.
#![cfg_attr(target_os = "none", no_std, no_main)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use pv_runtime::{Boot, clock, console, print, println};
use verdict::{Outcome, require, success};

verdict::test!(run);

/// How long nothing is read before a line that is to be counted: 1.5 s, in nanoseconds.
const SLEEP: u64 = 1_500_000_000;

fn run(_: &mut Boot) -> Outcome {
    let mut lines = 0;
    while let Some(line) = ask("echo> ") {
        lines += 1;
        match line.as_slice() {
            b"bye" => break,
            b"count" => {
                println!("type on");
                let end = clock::now().nanos() + SLEEP;
                while clock::now().nanos() < end {
                    core::hint::spin_loop();
                }
                let long = read_line(false).unwrap_or_default();
                let sum: u64 = long.iter().copied().map(u64::from).sum();
                println!("counted {} bytes, sum {sum}", long.len());
            }
            other => println!("you said {:?}", String::from_utf8_lossy(other)),
        }
    }
    require!(lines > 0, "there is no console to read from");
    success!("{lines} lines")
}

/// Reads a line after showing a prompt; `None` without a console that has input.
fn ask(prompt: &str) -> Option<Vec<u8>> {
    print!("{prompt}");
    console::flush();
    read_line(true)
}

/// Reads up to the end of a line, with an echo of each key if `echo`.
fn read_line(echo: bool) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let mut key = [0];
        while console::read(&mut key) == 0 {
            if !console::wait_for_input() {
                return None;
            }
        }
        match key {
            [b'\r' | b'\n'] => break,
            _ => line.extend(key),
        }
        if echo {
            console::write(&key);
            console::flush();
        }
    }
    println!();
    Some(line)
}
