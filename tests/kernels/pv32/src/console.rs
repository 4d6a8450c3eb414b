//! The console's ring (public/io/console.h).

use core::fmt;

use crate::checks::Start;
use crate::machine::{give_way, send, set_byte, set_word, word};

/// Offsets in the page: output, and its indices.
const OUT: u32 = 1024;
const OUT_SIZE: u32 = 2048;
const OUT_CONS: u32 = 3080;
const OUT_PROD: u32 = 3084;

/// Text goes to the domain's console.
pub(crate) struct Console {
    ring: u32,
    port: u32,
}

impl Console {
    pub(crate) fn new(start: &Start) -> Self {
        Self { ring: start.page_of_frame(start.field(52)), port: start.field(56) }
    }
}

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let produced = word(self.ring + OUT_PROD);
            while produced.wrapping_sub(word(self.ring + OUT_CONS)) >= OUT_SIZE {
                send(self.port);
                give_way();
            }
            set_byte(self.ring + OUT + produced % OUT_SIZE, byte);
            set_word(self.ring + OUT_PROD, produced.wrapping_add(1));
        }
        send(self.port);
        Ok(())
    }
}
