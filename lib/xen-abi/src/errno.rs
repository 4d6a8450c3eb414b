//! Error numbers, as public/errno.h numbers them.

use core::fmt;

/// A Xen error number (positive, as in public/errno.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(u16);

macro_rules! errnos {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = concat!("`XEN_", stringify!($name), "`: ", $text, ".")] pub const $name: Self = Self($number);)*

            /// Every error number that this crate knows by name.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name in the header, without the `XEN_` prefix.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// What the error says in general, in a few words.
            pub const fn meaning(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    _ => "not a known error number",
                }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such entry";
    ESRCH = 3, "no such domain";
    EINTR = 4, "interrupted";
    EIO = 5, "input or output failed";
    ENXIO = 6, "no such device or address";
    E2BIG = 7, "argument list too long";
    ENOEXEC = 8, "not an executable format";
    EBADF = 9, "bad handle";
    ECHILD = 10, "no child";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "access denied";
    EFAULT = 14, "bad address";
    EBUSY = 16, "busy";
    EEXIST = 17, "exists already";
    EXDEV = 18, "crosses a boundary";
    ENODEV = 19, "no such device";
    ENOTDIR = 20, "not a directory";
    EISDIR = 21, "is a directory";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "table full";
    EMFILE = 24, "too many handles";
    ENOSPC = 28, "no space left";
    EROFS = 30, "read only";
    EMLINK = 31, "too many links";
    EDOM = 33, "outside the domain of the function";
    ERANGE = 34, "outside the range";
    EDEADLK = 35, "would deadlock";
    ENAMETOOLONG = 36, "name too long";
    ENOLCK = 37, "no locks left";
    ENOSYS = 38, "hypercall not implemented";
    ENOTEMPTY = 39, "not empty";
    ENODATA = 61, "no data";
    ETIME = 62, "timer expired";
    EBADMSG = 74, "bad message";
    EOVERFLOW = 75, "value too large";
    EILSEQ = 84, "illegal sequence";
    ERESTART = 85, "to be restarted";
    ENOTSOCK = 88, "not a socket";
    EMSGSIZE = 90, "message too long";
    EOPNOTSUPP = 95, "not supported";
    EADDRINUSE = 98, "address in use";
    EADDRNOTAVAIL = 99, "address not available";
    ENOBUFS = 105, "no buffer space";
    EISCONN = 106, "connected already";
    ENOTCONN = 107, "not connected";
    ETIMEDOUT = 110, "timed out";
    ECONNREFUSED = 111, "connection refused";
}

impl Errno {
    /// The error that a negative hypercall result stands for; `None` for results that are not errors.
    ///
    /// Xen's error numbers fit 12 bits; a more negative result is reported as the largest of them rather than wrapped.
    pub const fn from_result(result: i64) -> Option<Self> {
        if result >= 0 {
            return None;
        }
        let magnitude = result.unsigned_abs();
        #[expect(clippy::cast_possible_truncation, reason = "bounded by the comparison")]
        let number = if magnitude > 0xfff { 0xfff } else { magnitude as u16 };
        Some(Self(number))
    }

    /// The number in the header.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The hypercall result that stands for this error.
    pub const fn to_result(self) -> i64 {
        let number = self.0 as i64;
        number.wrapping_neg()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.meaning()),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_convert_both_ways() {
        assert_eq!(Errno::from_result(0), None);
        assert_eq!(Errno::from_result(7), None);
        assert_eq!(Errno::from_result(-12), Some(Errno::ENOMEM));
        assert_eq!(Errno::ENOMEM.to_result(), -12);
        for errno in Errno::ALL {
            assert_eq!(Errno::from_result(errno.to_result()), Some(*errno));
        }
        assert_eq!(Errno::from_result(i64::MIN).map(Errno::number), Some(0xfff));
    }
}
