//! Which Xen this is: `xen/include/public/version.h`.

use crate::{Errno, HypercallNr, features::XenFeatures, platform::Hypercall};

/// The version.
#[doc(alias = "XENVER_version")]
pub const XENVER_VERSION: usize = 0;
/// The rest of the version.
#[doc(alias = "XENVER_extraversion")]
pub const XENVER_EXTRAVERSION: usize = 1;
/// What guests it can run.
#[doc(alias = "XENVER_capabilities")]
pub const XENVER_CAPABILITIES: usize = 3;
/// What it can do.
#[doc(alias = "XENVER_get_features")]
pub const XENVER_GET_FEATURES: usize = 6;

/// Xen's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u16,
    /// The second number.
    pub minor: u16,
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Text that Xen wrote into a fixed field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// The text up to its zero byte, and no further than it is UTF-8.
    pub fn as_str(&self) -> &str {
        let bytes = self.0.split(|byte| *byte == 0).next().unwrap_or(&[]);
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => bytes
                .get(..error.valid_up_to())
                .and_then(|valid| core::str::from_utf8(valid).ok())
                .unwrap_or(""),
        }
    }
}

impl<const N: usize> core::fmt::Display for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Asks for the version. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn version<H: Hypercall + ?Sized>(h: &H) -> Result<Version, Errno> {
    // SAFETY: this subop takes no argument.
    let answer = unsafe { h.call2(HypercallNr::XEN_VERSION, XENVER_VERSION, 0) };
    Errno::check(answer).map(|v| Version {
        major: (v >> 16) as u16,
        minor: v as u16,
    })
}

fn text<H: Hypercall + ?Sized, const N: usize>(h: &H, subop: usize) -> Result<Text<N>, Errno> {
    let mut text = [0_u8; N];
    // SAFETY: the hypervisor writes at most `N` bytes: the callers below pass
    // the size that the interface fixes for their subop.
    let answer = unsafe {
        h.call2(
            HypercallNr::XEN_VERSION,
            subop,
            (&raw mut text).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| Text(text))
}

/// Asks for the rest of the version, `.4` say. Any guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
pub fn extraversion<H: Hypercall + ?Sized>(h: &H) -> Result<Text<16>, Errno> {
    text(h, XENVER_EXTRAVERSION)
}

/// Asks what guests this Xen runs, `xen-3.0-x86_64 hvm-3.0-x86_64` say. Any
/// guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
pub fn capabilities<H: Hypercall + ?Sized>(h: &H) -> Result<Text<1024>, Errno> {
    text(h, XENVER_CAPABILITIES)
}

/// Asks for the first 32 features. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn features<H: Hypercall + ?Sized>(h: &H) -> Result<XenFeatures, Errno> {
    // struct xen_feature_info: which 32 (in), the bits (out).
    let mut info = [0_u32; 2];
    // SAFETY: the hypervisor reads and writes these eight bytes.
    let answer = unsafe {
        h.call2(
            HypercallNr::XEN_VERSION,
            XENVER_GET_FEATURES,
            (&raw mut info).expose_provenance(),
        )
    };
    Errno::check(answer).map(|_| XenFeatures::from_bits_retain(info[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ends_at_its_zero_or_where_it_is_no_text() {
        assert_eq!(Text(*b".4\0garbage").as_str(), ".4");
        assert_eq!(Text(*b"full").as_str(), "full");
        assert_eq!(Text(*b"ab\xff\0").as_str(), "ab");
    }
}
