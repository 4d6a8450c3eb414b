//! Xen's public x86-64 interface as Rust types: numbers, layouts and errors; no logic.
#![no_std]
