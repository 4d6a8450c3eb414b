//! The `log` facade's back end: one line for each record, with the time since Xen started and the kernel's name.

use core::fmt;

use log::{Level, LevelFilter, Log, Metadata, Record};
use spin::Once;

use crate::{clock, console};

/// The kernel's name, as its package has it.
static NAME: Once<&'static str> = Once::new();

struct Logger;

/// Called before each line is printed.
static LINE_HOOK: Once<fn()> = Once::new();

/// Has `hook` called before each line that is logged: where it is printed, something else may have begun a line. The first call
/// counts. The hook must not log.
pub fn before_each_line(hook: fn()) {
    LINE_HOOK.call_once(|| hook);
}

/// How a level is written.
const fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// What a line begins with: `[    0.123456] name: `.
pub(crate) struct Prefix;

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}: ", clock::now(), name())
    }
}

/// The kernel's name.
pub fn name() -> &'static str {
    NAME.get().copied().unwrap_or("kernel")
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            if let Some(hook) = LINE_HOOK.get() {
                hook();
            }
            console::print(format_args!("{Prefix}{}: {}\n", word(record.level()), record.args()));
        }
    }

    fn flush(&self) {
        console::flush();
    }
}

/// Installs the back end.
pub(crate) fn initialise(name: &'static str) {
    NAME.call_once(|| name);
    // Fails only when there is a logger already, and this is the first.
    drop(log::set_logger(&Logger));
    log::set_max_level(LevelFilter::Info);
}
