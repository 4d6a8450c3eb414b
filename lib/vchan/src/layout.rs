//! The shared page (`struct vchan_interface`), and where the rings are.

use xen_abi::PAGE_SIZE;

use crate::LayoutError;

/// `left.cons`, `left.prod`, `right.cons`, `right.prod`: offsets of the indices. Left is what the client writes.
pub(crate) const LEFT: Indices = Indices { consumer: 0, producer: 4 };
/// As [`LEFT`], for what the server writes.
pub(crate) const RIGHT: Indices = Indices { consumer: 8, producer: 12 };
/// `left_order` and `right_order`, 16 bits each: one word.
pub(crate) const ORDERS: usize = 16;
/// `cli_live`, `srv_live`, `cli_notify` and `srv_notify`, a byte each: one word.
pub(crate) const STATE: usize = 20;
/// `grants`: a word for each page of the left ring, then for each of the right.
pub(crate) const GRANTS: usize = 24;

/// `VCHAN_NOTIFY_WRITE`: notify when something was written.
pub(crate) const NOTIFY_WRITE: u8 = 1;
/// `VCHAN_NOTIFY_READ`: notify when something was read.
pub(crate) const NOTIFY_READ: u8 = 2;

/// A live byte of an end that has closed the channel.
pub(crate) const LIVE_CLOSED: u8 = 0;
/// A live byte of an end that uses the channel.
pub(crate) const LIVE_OPEN: u8 = 1;
/// The client's live byte before it has connected.
pub(crate) const LIVE_AWAITED: u8 = 2;

/// The order of a ring of a page.
const PAGE_ORDER: u16 = 12;
const _: () = assert!(PAGE_SIZE == 1 << PAGE_ORDER);

/// Offsets of a ring's two indices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indices {
    pub(crate) consumer: usize,
    pub(crate) producer: usize,
}

/// The size of a ring as a power of two: 2^10 bytes to 2^20, the range that libxenvchan's client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u16);

impl Order {
    /// 1 KiB, in the shared page.
    pub const SMALLEST: Self = Self(10);
    /// 1 MiB.
    pub const LARGEST: Self = Self(20);

    /// The order with this number, 10 to 20.
    pub const fn new(number: u16) -> Option<Self> {
        let order = Self(number);
        if number < Self::SMALLEST.0 || number > Self::LARGEST.0 { None } else { Some(order) }
    }

    /// The smallest ring that holds `bytes`; `None` beyond 1 MiB.
    pub fn holding(bytes: usize) -> Option<Self> {
        (Self::SMALLEST.0..=Self::LARGEST.0).map(Self).find(|order| order.bytes() as usize >= bytes)
    }

    /// The number of the wire format.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Bytes of the ring.
    pub const fn bytes(self) -> u32 {
        // An order is at most 20.
        1_u32.wrapping_shl(self.0 as u32)
    }

    /// Pages of its own; 0 for a ring within the shared page.
    pub const fn pages(self) -> usize {
        if self.0 < PAGE_ORDER { 0 } else { 1_usize.wrapping_shl(self.0.wrapping_sub(PAGE_ORDER) as u32) }
    }
}

/// The sizes of the two rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// What the client writes.
    pub left: Order,
    /// What the server writes.
    pub right: Order,
}

/// Where the bytes of a ring are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the shared page, from this offset.
    Within(usize),
    /// In pages of their own; the shared page is page 0, so the first is at least page 1.
    Pages(usize),
}

impl Sizes {
    /// Checks that both rings, and the list of their pages, have room.
    pub fn new(left: Order, right: Order) -> Result<Self, LayoutError> {
        let sizes = Self { left, right };
        if left == right && left.0 < PAGE_ORDER {
            return Err(LayoutError::SamePlace { order: left.0 });
        }
        let room = sizes.smallest_offset().saturating_sub(GRANTS).div_euclid(size_of::<u32>());
        let pages = sizes.pages();
        if pages > room {
            return Err(LayoutError::NoRoomForList { pages, room });
        }
        Ok(sizes)
    }

    /// What the word at [`ORDERS`] says.
    pub(crate) fn decode(word: u32) -> Result<Self, LayoutError> {
        let [left_low, left_high, right_low, right_high] = word.to_le_bytes();
        let order = |bytes| {
            let number = u16::from_le_bytes(bytes);
            Order::new(number).ok_or(LayoutError::BadOrder { order: number })
        };
        Self::new(order([left_low, left_high])?, order([right_low, right_high])?)
    }

    pub(crate) fn encode(self) -> u32 {
        u32::from(self.left.0) | u32::from(self.right.0) << 16
    }

    /// Pages beside the shared one.
    pub fn pages(self) -> usize {
        self.left.pages().saturating_add(self.right.pages())
    }

    /// Where the list of pages has to end at the latest.
    fn smallest_offset(self) -> usize {
        [self.left, self.right].into_iter().filter_map(within).min().unwrap_or(PAGE_SIZE)
    }

    pub(crate) fn left_place(self) -> Place {
        within(self.left).map_or(Place::Pages(1), Place::Within)
    }

    pub(crate) fn right_place(self) -> Place {
        within(self.right).map_or(Place::Pages(self.left.pages().saturating_add(1)), Place::Within)
    }
}

/// Where a ring begins in the shared page, if it is there: a ring of 1024 bytes at 1024, one of 2048 at 2048.
fn within(order: Order) -> Option<usize> {
    (order.0 < PAGE_ORDER).then_some(order.bytes() as usize)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    fn order(number: u16) -> Order {
        Order::new(number).unwrap()
    }

    #[test]
    fn orders_are_those_of_the_wire_format() {
        assert_eq!(Order::new(9), None);
        assert_eq!(Order::new(21), None);
        assert_eq!((order(10).bytes(), order(10).pages()), (1024, 0));
        assert_eq!((order(11).bytes(), order(11).pages()), (2048, 0));
        assert_eq!((order(12).bytes(), order(12).pages()), (4096, 1));
        assert_eq!((order(20).bytes(), order(20).pages()), (1 << 20, 256));
        assert_eq!(Order::holding(0), Some(Order::SMALLEST));
        assert_eq!(Order::holding(1025), Some(order(11)));
        assert_eq!(Order::holding(1 << 20), Some(Order::LARGEST));
        assert_eq!(Order::holding((1 << 20) + 1), None);
    }

    #[test]
    fn rings_are_where_the_header_says() {
        let sizes = |left, right| Sizes::new(order(left), order(right)).unwrap();
        assert_eq!(sizes(10, 11).left_place(), Place::Within(1024));
        assert_eq!(sizes(10, 11).right_place(), Place::Within(2048));
        assert_eq!(sizes(11, 12).left_place(), Place::Within(2048));
        assert_eq!(sizes(11, 12).right_place(), Place::Pages(1));
        assert_eq!(sizes(14, 12).left_place(), Place::Pages(1));
        assert_eq!(sizes(14, 12).right_place(), Place::Pages(5));
        assert_eq!(sizes(14, 10).right_place(), Place::Within(1024));
    }

    #[test]
    fn two_rings_do_not_share_a_place() {
        for number in [10, 11] {
            let error = Sizes::new(order(number), order(number)).unwrap_err();
            assert_eq!(error, LayoutError::SamePlace { order: number });
        }
    }

    #[test]
    fn the_list_of_pages_stays_clear_of_the_rings() {
        // 250 words are left before a ring at 1024, and a ring of 2^20 bytes has 256 pages.
        let error = Sizes::new(order(10), order(20)).unwrap_err();
        assert_eq!(error, LayoutError::NoRoomForList { pages: 256, room: 250 });
        assert!(error.to_string().contains("256 pages"), "{error}");
        assert!(Sizes::new(order(10), order(19)).is_ok());
        assert!(Sizes::new(order(20), order(11)).is_ok());
        assert!(Sizes::new(order(20), order(20)).is_ok());
    }

    #[test]
    fn every_word_of_orders_decodes_or_is_refused_and_comes_back() {
        for left in 0_u16..24 {
            for right in 0_u16..24 {
                let word = u32::from(left) | u32::from(right) << 16;
                if let Ok(sizes) = Sizes::decode(word) {
                    assert_eq!(sizes.encode(), word);
                }
            }
        }
        assert_eq!(Sizes::decode(u32::MAX), Err(LayoutError::BadOrder { order: u16::MAX }));
    }
}
