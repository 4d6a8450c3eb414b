//! Dom0's RAM disk.

use std::ops::Range;

use hypercall::{KeptRamdisk, Parts, Ramdisk};
use xen_abi::number::HypercallNumber;
use xen_abi::{Errno, Mfn, PAGE_SIZE};

use crate::DOM0;
use crate::faults::Effect;
use crate::machine::Machine;
use crate::trace::Call;

/// Name of the unmapping in traces and to faults. On a real machine it is an `mmu_update` of Dom0's own page tables.
const UNMAP: &str = "unmap RAM disk";

/// A RAM disk in frames of Dom0's memory, which Dom0 maps.
#[derive(Debug)]
pub struct SimRamdisk {
    machine: Machine,
    bytes: Vec<u8>,
    frames: Vec<Mfn>,
}

/// What is left of a [`SimRamdisk`]: bytes that were released are not there any more.
#[derive(Debug)]
pub struct SimKept {
    bytes: Vec<u8>,
    parts: Parts,
}

impl Machine {
    /// Loads a RAM disk into the last frames of Dom0's memory.
    ///
    /// Panics when Dom0 has fewer.
    pub fn ramdisk(&self, bytes: &[u8]) -> SimRamdisk {
        let frames = self.dom0_frames();
        let wanted = bytes.len().div_ceil(PAGE_SIZE);
        assert!(wanted <= frames.len(), "Dom0 has {} pages, the RAM disk {wanted}", frames.len());
        let frames = frames[frames.len() - wanted..].to_vec();
        for frame in &frames {
            assert!(self.state().frames.get_reference(*frame, DOM0), "frame {frame} is not Dom0's");
        }
        SimRamdisk { machine: self.clone(), bytes: bytes.to_vec(), frames }
    }
}

impl Ramdisk for SimRamdisk {
    type Kept = SimKept;
    type Error = Errno;

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn release(
        mut self,
        keep: &[Range<usize>],
        mut give_back: impl FnMut(&[Mfn]),
    ) -> (SimKept, Result<(), Errno>) {
        let parts = Parts::new(0, self.bytes.len(), keep);
        let unmapped = parts.released().try_for_each(|pages| {
            let frames = self.frames[pages.clone()].to_vec();
            self.unmap(&frames)?;
            let end = self.bytes.len().min(pages.end * PAGE_SIZE);
            self.bytes[pages.start * PAGE_SIZE..end].fill(0xdd);
            give_back(&frames);
            Ok(())
        });
        (SimKept { bytes: self.bytes, parts }, unmapped)
    }
}

impl SimRamdisk {
    fn unmap(&self, frames: &[Mfn]) -> Result<(), Errno> {
        let (call, effect) = self.machine.begin(DOM0, HypercallNumber::MMU_UPDATE, UNMAP, DOM0);
        let result = match effect {
            Some(Effect::Fail(errno) | Effect::FailAndScribble(errno)) => Err(errno),
            _ => Ok(()),
        };
        if result.is_ok() {
            for frame in frames {
                self.machine.state().frames.put_reference(*frame);
            }
        }
        let numbers = vec![("frames", frames.len() as u64)];
        self.machine.end(Call { numbers, result: result.map(|()| 0), ..call });
        result
    }
}

impl KeptRamdisk for SimKept {
    fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        if self.parts.keeps(0, &range) { self.bytes.get(range) } else { None }
    }
}
