//! Changes to an input, as they follow from a number.

/// The longest input.
pub(crate) const LONGEST: usize = 64 << 10;

/// Numbers at which arithmetic goes wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0xfff,
    0x1000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 47,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// A generator of numbers (xorshift64*): small, and the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 below 0.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = limit as u64;
        usize::try_from((self.next() >> 8).checked_rem(limit).unwrap_or(0)).unwrap_or(0)
    }

    /// One of `list`.
    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(self.below(list.len()))
    }
}

/// Changes `input` in one place or a few; `other` is another input, `words` are what the format is made of.
pub(crate) fn mutate(numbers: &mut Numbers, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    let most = 1 << numbers.below(4);
    for _ in 0..=numbers.below(most) {
        change(numbers, input, other, words);
    }
    input.truncate(LONGEST);
}

fn change(numbers: &mut Numbers, input: &mut Vec<u8>, other: &[u8], words: &[&[u8]]) {
    let at = numbers.below(input.len() + 1);
    match numbers.below(11) {
        0 | 1 => flip(numbers, input, at),
        2 => number(numbers, input, at),
        3 => difference(numbers, input, at),
        4 => _ = input.drain(piece(numbers, input.len())),
        5 => {
            let copy = input[piece(numbers, input.len())].to_vec();
            input.splice(at..at, copy);
        }
        6 => {
            let part = other[piece(numbers, other.len())].to_vec();
            input.splice(at..at, part);
        }
        7 => {
            // The same without moving what is behind.
            let part = &other[piece(numbers, other.len())];
            let end = input.len().min(at + part.len());
            input[at..end].copy_from_slice(&part[..end - at]);
        }
        8 => {
            let word = numbers.pick(words).copied().unwrap_or(b"\0");
            let replaced = at..input.len().min(at + numbers.below(2) * word.len());
            input.splice(replaced, word.iter().copied());
        }
        9 => digits(numbers, input, at),
        _ => input.truncate(at),
    }
}

/// A part of `length` bytes, mostly a short one.
fn piece(numbers: &mut Numbers, length: usize) -> std::ops::Range<usize> {
    let start = numbers.below(length + 1);
    let longest = 1 << numbers.below(13);
    start..length.min(start + 1 + numbers.below(longest)).max(start)
}

fn flip(numbers: &mut Numbers, input: &mut [u8], at: usize) {
    let bit = numbers.below(9);
    if let Some(byte) = input.get_mut(at) {
        *byte = if bit == 8 { numbers.next().to_le_bytes()[0] } else { *byte ^ 1 << bit };
    }
}

/// Writes an edge, or a number near one, of 1, 2, 4 or 8 bytes in either order.
fn number(numbers: &mut Numbers, input: &mut [u8], at: usize) {
    let near = numbers.below(5) as u64;
    let value = numbers.pick(&EDGES).copied().unwrap_or(0).wrapping_add(near).wrapping_sub(2);
    write(numbers, input, at, |_| value);
}

/// Adds a little to the number that is there.
fn difference(numbers: &mut Numbers, input: &mut [u8], at: usize) {
    let by = (numbers.below(33) as u64).wrapping_sub(16);
    write(numbers, input, at, |old| old.wrapping_add(by));
}

fn write(numbers: &mut Numbers, input: &mut [u8], at: usize, value: impl Fn(u64) -> u64) {
    let (width, big) = (1 << numbers.below(4), numbers.below(2) == 1);
    let Some(field) = input.get_mut(at..at + width) else { return };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(field);
    if big {
        bytes[..width].reverse();
    }
    bytes = value(u64::from_le_bytes(bytes)).to_le_bytes();
    if big {
        bytes[..width].reverse();
    }
    field.copy_from_slice(&bytes[..width]);
}

/// Changes a number that is written in digits.
fn digits(numbers: &mut Numbers, input: &mut Vec<u8>, at: usize) {
    let Some(start) = (at..input.len()).find(|&at| input[at].is_ascii_hexdigit()) else { return };
    let end = (start..input.len()).find(|&at| !input[at].is_ascii_hexdigit()).unwrap_or(input.len());
    let value = numbers.pick(&EDGES).copied().unwrap_or(0);
    let width = end - start;
    let text = match numbers.below(3) {
        0 => format!("{value}"),
        1 => format!("{value:0width$x}"),
        _ => format!("{value:0width$o}"),
    };
    input.splice(start..end, text.into_bytes());
}
