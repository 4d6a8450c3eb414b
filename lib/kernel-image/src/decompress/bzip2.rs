//! bzip2: blocks of bytes that were sorted by what follows them (Burrows-Wheeler), then coded by how recently each was
//! seen, then by Huffman codes. Each block has a checksum, and each stream one of all its blocks.
//!
//! The crates for it are C in another syntax, or need `std`; what a kernel takes is these few functions.
use super::{Decode, Job, Output};
use crate::ImageError;
use alloc::vec::Vec;

/// What a block begins with: the digits of pi.
const BLOCK: u64 = 0x3141_5926_5359;
/// What a stream ends with: the digits of its square root.
const END: u64 = 0x1772_4538_5090;
/// A stream's level, 1 to 9, counts the most bytes of a block in this unit.
const LEVEL_UNIT: usize = 100_000;
/// Bits of the longest word of a Huffman code.
const MAX_CODE: u32 = 20;
/// Lengths that words may have, 0 with them though none has.
const LENGTHS: usize = 21;
/// Symbols of the largest alphabet: every byte but the first of the recency list, two digits of a run, the end.
const MAX_SYMBOLS: usize = 258;
/// Symbols that are read with one table before the next one is chosen.
const GROUP: usize = 50;
/// The digits of a run's length, worth 1 and 2 times a power of two.
const RUN_DIGITS: u16 = 2;
/// As many equal bytes in a row are followed by a count of more of them.
const RUN: u8 = 4;

/// Memory that a decoder takes beside its output, in bytes, for a stream that begins with `stream`.
pub(crate) fn workspace(stream: &[u8]) -> usize {
    level(stream.get(3).copied()).unwrap_or(9).saturating_mul(LEVEL_UNIT).saturating_mul(size_of::<u32>())
}

/// The level that a stream's fourth byte names.
fn level(digit: Option<u8>) -> Option<usize> {
    digit.filter(|digit| (b'1'..=b'9').contains(digit)).map(|digit| usize::from(digit & 0xf))
}

/// Unpacks all streams in the input, one behind the other as parallel packers write them, a few bytes at a time.
pub(super) struct Decoder<'a> {
    bits: Bits<'a>,
    /// The most bytes of a block.
    block_size: usize,
    /// The block: in the low 8 bits of an entry a byte, in the others the index of the entry behind it.
    block: Vec<u32>,
    /// The entry to go on with, and how many are left.
    next: u32,
    left: usize,
    /// The byte that came last, how often in a row, and how often it is to come again.
    last: u8,
    run: u8,
    repeat: u8,
    /// The checksums of the block: so far, and as it should be.
    crc: u32,
    stored_crc: Option<u32>,
    /// The checksum over all blocks' checksums.
    stream_crc: u32,
    /// Whether the last stream's end was read.
    ended: bool,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(job: &Job<'a>, output: &mut Output) -> Result<Self, ImageError> {
        let mut decoder = Self {
            bits: Bits { job: job.clone(), position: 0, buffer: 0, count: 0 },
            block_size: 0,
            block: Vec::new(),
            next: 0,
            left: 0,
            last: 0,
            run: 0,
            repeat: 0,
            crc: 0,
            stored_crc: None,
            stream_crc: 0,
            ended: false,
        };
        decoder.start_stream()?;
        job.guess(output)?;
        Ok(decoder)
    }

    /// Unpacks up to `room.len()` bytes; 0 at the end.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, ImageError> {
        let mut filled = 0usize;
        for slot in room {
            let Some(byte) = self.next_byte()? else { break };
            *slot = byte;
            filled = filled.saturating_add(1);
        }
        Ok(filled)
    }

    fn next_byte(&mut self) -> Result<Option<u8>, ImageError> {
        loop {
            if self.repeat > 0 {
                self.repeat = self.repeat.saturating_sub(1);
                return Ok(Some(self.hand_out(self.last)));
            }
            if self.left == 0 {
                if self.ended || !self.next_block()? {
                    return Ok(None);
                }
                continue;
            }
            self.left = self.left.saturating_sub(1);
            let entry = entry_of(&self.block, self.next);
            self.next = entry >> 8;
            let byte = low_byte(entry);
            if self.run == RUN {
                (self.run, self.repeat) = (0, byte);
                continue;
            }
            self.run = if self.run > 0 && byte == self.last { self.run.saturating_add(1) } else { 1 };
            self.last = byte;
            return Ok(Some(self.hand_out(byte)));
        }
    }

    /// Enters a byte into the checksum.
    fn hand_out(&mut self, byte: u8) -> u8 {
        let index = usize::from(byte) ^ usize::from(low_byte(self.crc >> 24));
        self.crc = self.crc << 8 ^ CRC_TABLE.get(index).copied().unwrap_or_default();
        byte
    }

    /// Reads the header of a stream.
    fn start_stream(&mut self) -> Result<(), ImageError> {
        let magic = self.bits.take(24)?;
        let digit = u8::try_from(self.bits.take(8)?).ok();
        match level(digit) {
            Some(level) if magic == 0x42_5a68 => self.block_size = level.saturating_mul(LEVEL_UNIT),
            _ => return Err(self.bits.job.corrupt("a stream's header names no level from 1 to 9")),
        }
        self.stream_crc = 0;
        Ok(())
    }

    /// Ends the block before and begins the next one; whether there is one.
    fn next_block(&mut self) -> Result<bool, ImageError> {
        if let Some(stored) = self.stored_crc.take() {
            self.compare(stored, !self.crc)?;
            self.stream_crc = self.stream_crc.rotate_left(1) ^ stored;
        }
        loop {
            match self.bits.take(48)? {
                BLOCK => {
                    self.start_block()?;
                    return Ok(true);
                }
                END => {
                    let stored = self.bits.word()?;
                    self.compare(stored, self.stream_crc)?;
                    self.bits.end_byte();
                    let job = &self.bits.job;
                    let rest = job.input.rest(self.bits.position);
                    if job.is_padding(rest) {
                        self.ended = true;
                        return Ok(false);
                    }
                    if !rest.starts_with(b"BZh") {
                        let compression = job.compression;
                        return Err(ImageError::TrailingBytes { compression, count: rest.len() });
                    }
                    self.start_stream()?;
                }
                _ => return Err(self.bits.job.corrupt("no block begins where the one before ends")),
            }
        }
    }

    fn compare(&self, stored: u32, computed: u32) -> Result<(), ImageError> {
        if stored == computed {
            return Ok(());
        }
        let (stored, computed) = (u64::from(stored), u64::from(computed));
        Err(ImageError::BadChecksum { compression: self.bits.job.compression, stored, computed })
    }

    /// Reads a block and undoes its sorting.
    fn start_block(&mut self) -> Result<(), ImageError> {
        let job = self.bits.job.clone();
        self.stored_crc = Some(self.bits.word()?);
        if self.bits.take(1)? == 1 {
            return Err(job.corrupt("its blocks are randomised, as those of bzip2 before 0.9.5 are"));
        }
        let origin = self.bits.index(24)?;
        self.read_symbols()?;
        if origin >= self.block.len() {
            return Err(job.corrupt("a block begins outside of itself"));
        }
        link(&mut self.block);
        self.next = self.block.get(origin).copied().unwrap_or_default() >> 8;
        self.left = self.block.len();
        (self.run, self.repeat, self.crc) = (0, 0, !0);
        Ok(())
    }

    /// Reads the bytes of a block, in their sorted order.
    fn read_symbols(&mut self) -> Result<(), ImageError> {
        let job = self.bits.job.clone();
        self.block.clear();
        self.block.try_reserve_exact(self.block_size).map_err(|_| ImageError::OutOfMemory {
            size: self.block_size.saturating_mul(size_of::<u32>()),
        })?;
        let mut recent = self.bits.used_bytes()?;
        if recent.is_empty() {
            return Err(job.corrupt("a block has no bytes"));
        }
        // The digits of runs, all bytes but the most recent, the end.
        let symbols = recent.len().saturating_add(2);
        let (codes, selectors) = self.bits.codes(symbols)?;
        let end = u16::try_from(symbols.saturating_sub(1)).unwrap_or(u16::MAX);
        let (mut run, mut digit) = (0usize, 1usize);
        for selector in selectors {
            let code = codes.get(usize::from(selector)).ok_or_else(|| job.corrupt("a code is not there"))?;
            for _ in 0..GROUP {
                let symbol = self.bits.symbol(code)?;
                if symbol < RUN_DIGITS {
                    run = run.saturating_add(digit.saturating_mul(usize::from(symbol).saturating_add(1)));
                    digit = digit.saturating_mul(2);
                    if run > self.block_size {
                        return Err(job.corrupt("a block is larger than its stream's level allows"));
                    }
                    continue;
                }
                let before = recent.first().copied().unwrap_or_default();
                self.append(before, run)?;
                (run, digit) = (0, 1);
                if symbol == end {
                    return Ok(());
                }
                let place = usize::from(symbol).saturating_sub(1);
                let front = recent.get_mut(..=place).ok_or_else(|| job.corrupt("a symbol has no byte"))?;
                front.rotate_right(1);
                let byte = front.first().copied().unwrap_or_default();
                self.append(byte, 1)?;
            }
        }
        Err(job.corrupt("a block has more symbols than it has codes for"))
    }

    /// Appends `count` times `byte` to the block.
    fn append(&mut self, byte: u8, count: usize) -> Result<(), ImageError> {
        let size = self.block.len().saturating_add(count);
        if size > self.block_size {
            return Err(self.bits.job.corrupt("a block is larger than its stream's level allows"));
        }
        self.block.resize(size, u32::from(byte));
        Ok(())
    }
}

impl Decode for Decoder<'_> {
    fn step(&mut self, job: &Job<'_>, output: &mut Output, budget: usize) -> Result<bool, ImageError> {
        job.fill(output, budget, |room| self.read(room))
    }
}

/// Writes to each entry's upper bits where the byte is that follows its own.
///
/// The entries hold the last column of the sorted block; the same bytes, sorted, are the first. The n-th of a value in one
/// column is the n-th of that value in the other.
fn link(block: &mut [u32]) {
    let mut starts = [0u32; 256];
    for entry in block.iter() {
        if let Some(count) = starts.get_mut(usize::from(low_byte(*entry))) {
            *count = count.saturating_add(1);
        }
    }
    let mut sum = 0u32;
    for start in &mut starts {
        (*start, sum) = (sum, sum.saturating_add(*start));
    }
    for index in 0..u32::try_from(block.len()).unwrap_or(0) {
        let byte = usize::from(low_byte(entry_of(block, index)));
        let Some(start) = starts.get_mut(byte) else { continue };
        if let Some(entry) = usize::try_from(*start).ok().and_then(|start| block.get_mut(start)) {
            *entry |= index << 8;
        }
        *start = start.saturating_add(1);
    }
}

fn entry_of(block: &[u32], index: u32) -> u32 {
    usize::try_from(index).ok().and_then(|index| block.get(index)).copied().unwrap_or_default()
}

fn low_byte(word: u32) -> u8 {
    word.to_le_bytes()[0]
}

/// A Huffman code: by length, which words are symbols.
struct Code {
    /// Behind the last word of each length, moved up as if words had [`MAX_CODE`] bits.
    limits: [u32; LENGTHS],
    /// What to add to a word of each length for its symbol's index.
    offsets: [u32; LENGTHS],
    /// The symbols by length, then by number.
    symbols: Vec<u16>,
}

impl Code {
    /// The code in which symbol `n` has a word of `lengths[n]` bits.
    fn new(lengths: &[u8]) -> Self {
        let (mut limits, mut offsets) = ([0; LENGTHS], [0; LENGTHS]);
        let mut symbols = Vec::with_capacity(lengths.len());
        let mut word = 0u32;
        for (length, (limit, offset)) in limits.iter_mut().zip(&mut offsets).enumerate().skip(1) {
            let first = word;
            *offset = u32::try_from(symbols.len()).unwrap_or(0).wrapping_sub(first);
            for (symbol, _) in (0u16..).zip(lengths).filter(|(_, of)| usize::from(**of) == length) {
                symbols.push(symbol);
                word = word.saturating_add(1);
            }
            *limit = word.checked_shl(unused_bits(length)).unwrap_or(u32::MAX);
            word = word.saturating_mul(2);
        }
        Self { limits, offsets, symbols }
    }
}

/// By how many bits a word of `length` is shorter than the longest.
fn unused_bits(length: usize) -> u32 {
    u32::try_from(length).map_or(0, |length| MAX_CODE.saturating_sub(length))
}

/// Reads bits, the highest of a byte first.
struct Bits<'a> {
    job: Job<'a>,
    /// The next byte.
    position: usize,
    /// Bits that were read and not taken: the lowest `count`.
    buffer: u64,
    count: u32,
}

impl Bits<'_> {
    /// Reads bytes until there are `wanted` bits, 56 at most, or the input ends.
    fn fill(&mut self, wanted: u32) {
        while self.count < wanted {
            let Some(byte) = self.job.input.bytes().get(self.position) else { return };
            self.position = self.position.saturating_add(1);
            self.buffer = self.buffer << 8 | u64::from(*byte);
            self.count = self.count.saturating_add(8);
        }
    }

    /// The next `wanted` bits, 56 at most.
    fn take(&mut self, wanted: u32) -> Result<u64, ImageError> {
        self.fill(wanted);
        self.count = self.count.checked_sub(wanted).ok_or_else(|| self.job.cut_off())?;
        let bits = self.buffer >> self.count;
        self.buffer ^= bits << self.count;
        Ok(bits)
    }

    /// The next 32 bits.
    fn word(&mut self) -> Result<u32, ImageError> {
        self.take(32).map(|bits| u32::try_from(bits).unwrap_or_default())
    }

    /// The next bits as an index.
    fn index(&mut self, wanted: u32) -> Result<usize, ImageError> {
        self.take(wanted).map(|bits| usize::try_from(bits).unwrap_or(usize::MAX))
    }

    /// Passes over what is left of the byte that was begun.
    fn end_byte(&mut self) {
        let ahead = usize::try_from(self.count / 8).unwrap_or(0);
        self.position = self.position.saturating_sub(ahead);
        (self.buffer, self.count) = (0, 0);
    }

    /// Which bytes occur in a block, in rising order.
    fn used_bytes(&mut self) -> Result<Vec<u8>, ImageError> {
        let groups = self.take(16)?;
        let mut used = Vec::with_capacity(256);
        for group in 0u8..16 {
            if groups >> (15 & !group) & 1 == 0 {
                continue;
            }
            let members = self.take(16)?;
            used.extend(
                (0u8..16)
                    .filter(|member| members >> (15 & !member) & 1 == 1)
                    .map(|member| group << 4 | member),
            );
        }
        Ok(used)
    }

    /// The codes of a block, and which of them each group of symbols has.
    fn codes(&mut self, symbols: usize) -> Result<(Vec<Code>, Vec<u8>), ImageError> {
        let count = u8::try_from(self.take(3)?).unwrap_or_default();
        if !(2..=6).contains(&count) {
            return Err(self.job.corrupt("a block has not two to six codes"));
        }
        let mut recent: Vec<u8> = (0..count).collect();
        let mut selectors = Vec::new();
        for _ in 0..self.index(15)? {
            let mut place = 0usize;
            while self.take(1)? == 1 {
                place = place.saturating_add(1);
                if place >= recent.len() {
                    return Err(self.job.corrupt("a code is chosen that the block does not have"));
                }
            }
            if let Some(front) = recent.get_mut(..=place) {
                front.rotate_right(1);
            }
            selectors.push(recent.first().copied().unwrap_or_default());
        }
        let codes = (0..count).map(|_| self.code(symbols)).collect::<Result<_, _>>()?;
        Ok((codes, selectors))
    }

    /// One code: the lengths of its words, each told by its difference from the one before.
    fn code(&mut self, symbols: usize) -> Result<Code, ImageError> {
        let mut lengths = [0u8; MAX_SYMBOLS];
        let mut length = u8::try_from(self.take(5)?).unwrap_or_default();
        let lengths =
            lengths.get_mut(..symbols).ok_or_else(|| self.job.corrupt("it has too many symbols"))?;
        for slot in lengths.iter_mut() {
            loop {
                if !(1..=MAX_CODE).contains(&u32::from(length)) {
                    return Err(self.job.corrupt("a word of a code has not 1 to 20 bits"));
                }
                if self.take(1)? == 0 {
                    break;
                }
                length = if self.take(1)? == 0 { length.saturating_add(1) } else { length.saturating_sub(1) };
            }
            *slot = length;
        }
        Ok(Code::new(lengths))
    }

    /// The next symbol in a code.
    fn symbol(&mut self, code: &Code) -> Result<u16, ImageError> {
        self.fill(MAX_CODE);
        // At the end of the input as if zeros followed; taking them fails.
        let ahead = match self.count.checked_sub(MAX_CODE) {
            Some(more) => self.buffer >> more,
            None => self.buffer << MAX_CODE.saturating_sub(self.count),
        };
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        let found =
            code.limits.iter().zip(&code.offsets).enumerate().skip(1).find(|(_, (limit, _))| ahead < **limit);
        let Some((length, (_, offset))) = found else {
            return Err(self.job.corrupt("a word is in no code"));
        };
        let index = (ahead >> unused_bits(length)).wrapping_add(*offset);
        self.take(u32::try_from(length).unwrap_or(MAX_CODE))?;
        let symbol = usize::try_from(index).ok().and_then(|index| code.symbols.get(index));
        symbol.copied().ok_or_else(|| self.job.corrupt("a word is in no code"))
    }
}

/// The checksum of each byte: CRC-32 with the highest bit first, which is not the order of gzip's.
const CRC_TABLE: [u32; 256] = crc_table();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated by the compiler alone"
)]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let (mut index, mut byte) = (0, 0u32);
    while index < table.len() {
        let mut crc = byte << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        byte += 1;
    }
    table
}
