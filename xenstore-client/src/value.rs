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

#[cfg(test)]
mod tests {
    use super::*;

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
