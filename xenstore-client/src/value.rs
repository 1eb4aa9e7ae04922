//! What a node's value is taken for.

use core::str::FromStr;

/// The text of a value, as programs in C see it: up to the first NUL, without white space
/// before and after it.
///
/// Toolstacks and scripts write values with a newline or a NUL behind them; Linux's
/// `xenbus_scanf` and libxl's `atoi` and `strtoul` do not see these. No value with a NUL in
/// the middle is refused, either: what comes after it is nothing to those who read it.
pub fn trim(value: &[u8]) -> &[u8] {
    let end = value.iter().position(|byte| *byte == 0);
    let mut text = value.get(..end.unwrap_or(value.len())).unwrap_or(value);
    // C's isspace().
    let is_space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    while let [first, rest @ ..] = text
        && is_space(*first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && is_space(*last)
    {
        text = rest;
    }
    text
}

/// [`trim`], as text; `None`: it is no UTF-8.
pub fn text(value: &[u8]) -> Option<&str> {
    core::str::from_utf8(trim(value)).ok()
}

/// A value as a number, or as what else can be read from text; `None`: it is none.
///
/// White space and NULs around it are no part of it ([`trim`]). All else is: `512 sectors`
/// is no number, although C's functions take it for 512, and neither is what does not fit
/// into the type, which they cut.
///
/// ```
/// use xenstore_client::value::parse;
///
/// assert_eq!(parse::<u16>(b"0\n"), Some(0));
/// assert_eq!(parse::<u64>(b" 4096\0"), Some(4096));
/// assert_eq!(parse::<u16>(b"65536"), None);
/// assert_eq!(parse::<u16>(b""), None);
/// ```
pub fn parse<V: FromStr>(value: &[u8]) -> Option<V> {
    text(value)?.parse().ok()
}

/// A value as C's `%i` reads it: `0x` before hexadecimal digits, `0` before octal ones, and
/// a sign before either; but nothing behind it ([`parse`]).
///
/// So Linux reads the number of a backend's domain.
///
/// ```
/// use xenstore_client::value::parse_c_int;
///
/// assert_eq!(parse_c_int(b"0x1f\n"), Some(31));
/// assert_eq!(parse_c_int(b"-0"), Some(0));
/// assert_eq!(parse_c_int(b"0.0"), None);
/// ```
pub fn parse_c_int(value: &[u8]) -> Option<i64> {
    let text = text(value)?;
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.strip_prefix('0') {
        None | Some("") => (10, digits),
        Some(octal) => octal
            .strip_prefix(['x', 'X'])
            .map_or((8, octal), |digits| (16, digits)),
    };
    // No second sign.
    let is_number = digits.bytes().all(|digit| digit.is_ascii_alphanumeric());
    let number = i64::from_str_radix(digits, radix).ok();
    number.filter(|_| is_number).map(|number| sign * number)
}

/// The decimal digits at a value's beginning as a number, as C's `%u` reads it, whatever is
/// behind them; `None`: there are none. What is too large is the largest.
///
/// ```
/// use xenstore_client::value::leading_number;
///
/// assert_eq!(leading_number(b"0x0"), Some(0));
/// assert_eq!(leading_number(b"no"), None);
/// ```
pub fn leading_number(value: &[u8]) -> Option<u64> {
    let text = trim(value);
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(None, |number: Option<u64>, digit| {
        let number = number.unwrap_or(0).saturating_mul(10);
        Some(number.saturating_add(u64::from(digit - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_c_reads_them() {
        for (value, number) in [
            (&b"0"[..], Some(0)),
            (b"00", Some(0)),
            (b"7\0", Some(7)),
            (b"+7", Some(7)),
            (b"-7", Some(-7)),
            (b"0x10", Some(16)),
            (b"-0XfF", Some(-255)),
            (b"010", Some(8)),
            (b"9223372036854775807", Some(i64::MAX)),
            (b"9223372036854775808", None),
            (b"08", None),
            (b"0x", None),
            (b"0x-1", None),
            (b"--1", None),
            (b"+", None),
            (b"", None),
            (b"1.0", None),
            (b"7 7", None),
            (b"1f", None),
        ] {
            assert_eq!(parse_c_int(value), number, "{value:?}");
        }
        for (value, number) in [
            (&b"0x0"[..], Some(0)),
            (b" 0.5", Some(0)),
            (b"+12z", Some(12)),
            (b"99999999999999999999", Some(u64::MAX)),
            (b"-1", None),
            (b"", None),
        ] {
            assert_eq!(leading_number(value), number, "{value:?}");
        }
    }

    #[test]
    fn white_space_and_nuls_are_no_part_of_a_number() {
        for value in [
            &b"7"[..],
            b"7\0",
            b"7\n",
            b"7\r\n\0",
            b"\t 7 \x0b\x0c",
            b"7\0garbage",
            b"7\n\0\0",
            b"007",
        ] {
            assert_eq!(parse::<u32>(value), Some(7), "{value:?}");
        }
        for value in [
            &b""[..],
            b"\0",
            b"\x007",
            b" ",
            b"7 7",
            b"7x",
            b"x7",
            b"-7",
            b"0x7",
            b"\xff7",
            b"4294967296",
        ] {
            assert_eq!(parse::<u32>(value), None, "{value:?}");
        }
        assert_eq!(parse::<i32>(b"-7\n"), Some(-7));
    }
}
