//! Numbers as texts, without what `{}` and `{:x}` have for widths, signs and all types: a
//! guest that prints no others is 1,500 bytes smaller.

use core::fmt;

/// The most digits: those of `u64::MAX` in decimal.
const MOST: usize = 20;

/// How a number is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    Ten,
    Sixteen,
}

/// The digits of a number, at least `least` of them, and with which they begin.
#[inline(never)]
pub(crate) fn digits(mut number: u64, base: Base, least: usize) -> ([u8; MOST], usize) {
    let mut digits = [b'0'; MOST];
    let mut start = MOST;
    for place in digits.iter_mut().rev() {
        if number == 0 && MOST - start >= least {
            break;
        }
        let digit;
        (digit, number) = match base {
            Base::Ten => (number % 10, number / 10),
            Base::Sixteen => (number % 16, number / 16),
        };
        *place = if digit < 10 { b'0' } else { b'a' - 10 } + digit as u8;
        start -= 1;
    }
    (digits, start)
}

#[inline(never)]
fn write(f: &mut fmt::Formatter<'_>, number: u64, base: Base, least: usize) -> fmt::Result {
    let (digits, start) = digits(number, base, least);
    let text = digits.get(start..).unwrap_or(&[]);
    // SAFETY: `digits` makes ASCII only.
    f.write_str(unsafe { str::from_utf8_unchecked(text) })
}

/// A number in decimal.
#[derive(Clone, Copy)]
pub(crate) struct Decimal(pub(crate) u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, Base::Ten, 1)
    }
}

/// A number in hexadecimal, with at least so many digits.
#[derive(Clone, Copy)]
pub(crate) struct Hex(pub(crate) u64, pub(crate) usize);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        write(f, self.0, Base::Sixteen, self.1)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{format, string::ToString as _};

    #[test]
    fn numbers_are_as_the_formatter_has_them() {
        for number in [0, 1, 9, 10, 15, 16, 1_090, 0xdead_beef, 1 << 63, u64::MAX] {
            assert_eq!(Decimal(number).to_string(), format!("{number}"));
            assert_eq!(Hex(number, 1).to_string(), format!("{number:#x}"));
            assert_eq!(Hex(number, 4).to_string(), format!("{number:#06x}"));
            assert_eq!(Hex(number, 16).to_string(), format!("{number:#018x}"));
        }
    }
}
