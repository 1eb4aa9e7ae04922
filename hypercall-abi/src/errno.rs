//! The error numbers that hypercalls answer with.

/// Why a hypercall failed, as Xen numbers it. Never zero.
///
/// Source: `xen/include/public/errno.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(core::num::NonZeroU16);

/// The greatest error number: an answer of `-4095..=-1` is an error.
const MAX_ERRNO: u16 = 4095;

impl Errno {
    /// The error of this (positive) number; `None` outside `1..=4095`.
    #[inline(always)]
    pub const fn new(number: u16) -> Option<Self> {
        match core::num::NonZeroU16::new(number) {
            Some(n) if number <= MAX_ERRNO => Some(Self(n)),
            _ => None,
        }
    }

    /// The (positive) number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }

    /// The answer of a hypercall that fails with this error.
    pub const fn to_answer(self) -> isize {
        -(self.0.get() as isize)
    }

    /// What a hypercall's answer means: a value, or an error.
    ///
    /// # Errors
    /// The answer lies in `-4095..=-1`.
    #[inline]
    pub const fn check(answer: isize) -> Result<usize, Self> {
        if answer < 0 && answer >= -(MAX_ERRNO as isize) {
            // The range makes the negation fit and non-zero.
            match Self::new((-answer) as u16) {
                Some(errno) => Err(errno),
                None => Err(Self::EINVAL),
            }
        } else {
            Ok(answer.cast_unsigned())
        }
    }

    /// The number of a status field that a hypercall left in memory: zero for
    /// success, negative for an error.
    ///
    /// # Errors
    /// The status is negative.
    pub const fn check_status(status: i32) -> Result<(), Self> {
        match Self::check(status as isize) {
            Ok(_) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

macro_rules! errnos {
    ($($name:ident $number:literal $text:literal)*) => {
        impl Errno {
            $(
                #[doc = concat!($text, " (", $number, ").")]
                pub const $name: Self = match Self::new($number) {
                    Some(errno) => errno,
                    None => unreachable!(),
                };
            )*

            /// Every error that Xen's interface names.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The numbers above, for [`crate::facts`].
            pub(crate) const CONSTANTS: &[crate::facts::Constant] = &[$(
                crate::facts::Constant {
                    c_name: concat!("XEN_", stringify!($name)),
                    value: $number,
                },
            )*];
        }

        /// Names and meanings in the order of `Errno::ALL`, each ended by a
        /// newline: a table of their places would be bigger than the texts.
        const NAMES: &str = concat!($(stringify!($name), "\n"),*);
        const DESCRIPTIONS: &str = concat!($($text, "\n"),*);
    };
}

impl Errno {
    /// The name, as in `EINVAL`, if Xen's interface has one.
    pub fn name(self) -> Option<&'static str> {
        self.line_of(NAMES)
    }

    /// What the number means, in a few words.
    pub fn description(self) -> &'static str {
        self.line_of(DESCRIPTIONS).unwrap_or("Unknown error")
    }

    fn line_of(self, text: &'static str) -> Option<&'static str> {
        let index = Self::ALL.iter().position(|errno| *errno == self)?;
        let bytes = text.as_bytes();
        let mut ends = (0..bytes.len()).filter(|at| bytes.get(*at) == Some(&b'\n'));
        let start = match index.checked_sub(1) {
            Some(before) => ends.nth(before)? + 1,
            None => 0,
        };
        text.get(start..ends.next().unwrap_or(bytes.len()))
    }
}

errnos! {
    EPERM 1 "Operation not permitted"
    ENOENT 2 "No such entry"
    ESRCH 3 "No such domain or vCPU"
    EIO 5 "I/O error"
    ENXIO 6 "No such device or address"
    E2BIG 7 "Argument list too long"
    ENOEXEC 8 "Not an executable image"
    EBADF 9 "Bad handle"
    ECHILD 10 "No child"
    EAGAIN 11 "Try again"
    ENOMEM 12 "Out of memory"
    EACCES 13 "Permission denied"
    EFAULT 14 "Bad address"
    EBUSY 16 "Busy"
    EEXIST 17 "Exists already"
    EXDEV 18 "Cross-device link"
    ENODEV 19 "No such device"
    ENOTDIR 20 "Not a directory"
    EISDIR 21 "Is a directory"
    EINVAL 22 "Invalid argument"
    ENFILE 23 "Table overflow"
    EMFILE 24 "Too many open"
    ENOSPC 28 "No space left"
    EROFS 30 "Read-only"
    EMLINK 31 "Too many links"
    EDOM 33 "Argument out of domain"
    ERANGE 34 "Result out of range"
    EDEADLK 35 "Would deadlock"
    ENAMETOOLONG 36 "Name too long"
    ENOLCK 37 "No lock available"
    ENOSYS 38 "Not implemented by this hypervisor"
    ENOTEMPTY 39 "Not empty"
    ENODATA 61 "No data"
    ETIME 62 "Timer expired"
    EBADMSG 74 "Malformed data"
    EOVERFLOW 75 "Value too large"
    EILSEQ 84 "Illegal byte sequence"
    ENOTSOCK 88 "Not a socket"
    EMSGSIZE 90 "Message too large"
    EOPNOTSUPP 95 "Not supported"
    EADDRINUSE 98 "Address in use"
    EADDRNOTAVAIL 99 "Address not available"
    ENOBUFS 105 "No buffer space"
    EISCONN 106 "Connected already"
    ENOTCONN 107 "Not connected"
    ETIMEDOUT 110 "Timed out"
    ECONNREFUSED 111 "Connection refused"
}

impl core::fmt::Debug for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        use core::fmt::Write as _;

        match self.name() {
            Some(name) => f.write_str(name),
            None => {
                // By hand: all that knows numbers is a thousand bytes of an image.
                f.write_str("Errno(")?;
                let number = self.number();
                let mut unit = 1_000;
                while unit > 0 {
                    if number >= unit {
                        f.write_char(char::from(b'0' + (number / unit % 10) as u8))?;
                    }
                    unit /= 10;
                }
                f.write_str(")")
            }
        }
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.description())?;
        f.write_str(" (")?;
        core::fmt::Debug::fmt(self, f)?;
        f.write_str(")")
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    extern crate alloc;

    use alloc::string::ToString;

    use super::*;

    #[test]
    fn only_the_last_page_of_answers_is_errors() {
        assert_eq!(Errno::check(0), Ok(0));
        assert_eq!(Errno::check(-38), Err(Errno::ENOSYS));
        assert_eq!(Errno::check(-4095).map_err(Errno::number), Err(4095));
        assert_eq!(Errno::check(-4096), Ok(usize::MAX - 4095));
        assert_eq!(Errno::check(isize::MIN), Ok(1 << 63));
        assert_eq!(Errno::check_status(-22), Err(Errno::EINVAL));
    }

    #[test]
    fn an_error_survives_the_way_there_and_back() {
        for errno in Errno::ALL {
            assert_eq!(Errno::check(errno.to_answer()), Err(*errno));
            assert!(errno.name().is_some());
        }
        assert_eq!(Errno::ECONNREFUSED.name(), Some("ECONNREFUSED"));
        assert_eq!(
            Errno::ENOSYS.to_string(),
            "Not implemented by this hypervisor (ENOSYS)"
        );
        let unknown = Errno::new(4000).unwrap();
        assert_eq!(unknown.to_string(), "Unknown error (Errno(4000))");
    }
}
