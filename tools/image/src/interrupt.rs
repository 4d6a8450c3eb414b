//! The user's wish to stop (Ctrl-C, SIGTERM): long work looks here, cleans up and ends.

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Notes the wish; called by the program's signal handler.
pub fn request() {
    REQUESTED.store(true, Ordering::Relaxed);
}

/// Whether the wish was noted.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}
