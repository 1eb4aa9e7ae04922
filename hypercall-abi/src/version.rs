//! Which Xen this is.

use zerocopy::IntoBytes;

use crate::{
    Errno, HypercallNr, call::subop, features::XenFeatures, platform::Hypercall, xen::XenUuid,
};

crate::facts::constants! {
    /// The version.
    XENVER_VERSION: usize = 0, "XENVER_version";
    /// The rest of the version.
    XENVER_EXTRAVERSION: usize = 1, "XENVER_extraversion";
    /// Who compiled Xen, and how.
    XENVER_COMPILE_INFO: usize = 2, "XENVER_compile_info";
    /// What guests Xen can run.
    XENVER_CAPABILITIES: usize = 3, "XENVER_capabilities";
    /// The source's revision.
    XENVER_CHANGESET: usize = 4, "XENVER_changeset";
    /// Where Xen's address space starts.
    XENVER_PLATFORM_PARAMETERS: usize = 5, "XENVER_platform_parameters";
    /// What Xen can do for this guest.
    XENVER_GET_FEATURES: usize = 6, "XENVER_get_features";
    /// The size of a page.
    XENVER_PAGESIZE: usize = 7, "XENVER_pagesize";
    /// This domain's identifier.
    XENVER_GUEST_HANDLE: usize = 8, "XENVER_guest_handle";
    /// Xen's command line.
    XENVER_COMMANDLINE: usize = 9, "XENVER_commandline";
    /// The build's identifier, by the linker.
    XENVER_BUILD_ID: usize = 10, "XENVER_build_id";
    /// The rest of the version, of any length.
    XENVER_EXTRAVERSION2: usize = 11, "XENVER_extraversion2";
    /// What guests Xen can run, of any length.
    XENVER_CAPABILITIES2: usize = 12, "XENVER_capabilities2";
    /// The source's revision, of any length.
    XENVER_CHANGESET2: usize = 13, "XENVER_changeset2";
    /// Xen's command line, of any length.
    XENVER_COMMANDLINE2: usize = 14, "XENVER_commandline2";
    /// Bytes of `XENVER_extraversion`.
    XEN_EXTRAVERSION_LEN: usize = 16;
    /// Bytes of `XENVER_capabilities`.
    XEN_CAPABILITIES_INFO_LEN: usize = 1024;
    /// Bytes of `XENVER_changeset`.
    XEN_CHANGESET_INFO_LEN: usize = 64;
}

crate::facts::structs! {
    /// Who compiled Xen, and how: texts, each ended by a zero.
    "xen_compile_info" 144
    pub struct CompileInfo {
        /// The compiler.
        compiler: [u8; 64] = 0,
        /// Who.
        compile_by: [u8; 16] = 64,
        /// Where.
        compile_domain: [u8; 32] = 80,
        /// When.
        compile_date: [u8; 32] = 112,
    }

    /// Where Xen's address space starts.
    "xen_platform_parameters" 8
    pub struct PlatformParameters {
        /// Its first address.
        virt_start: u64 = 0,
    }

    /// Thirty-two features.
    "xen_feature_info" 8
    pub struct FeatureInfo {
        /// Which thirty-two.
        submap_idx: u32 = 0,
        /// The bits, [`crate::features::XenFeatures`] for the first.
        submap: u32 = 4,
    }

    /// The head of a build's identifier; its bytes follow.
    "xen_build_id" 4
    pub struct BuildId {
        /// Bytes that follow: room (in), used (out).
        len: u32 = 0,
    }

    /// The head of a text of any length; its bytes follow.
    "xen_varbuf" 4
    pub struct Varbuf {
        /// Bytes that follow: room (in).
        len: u32 = 0,
    }
}

const NR: HypercallNr = HypercallNr::XEN_VERSION;

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
        // An image with words for one size of numbers is smaller.
        let (major, minor) = (u64::from(self.major), u64::from(self.minor));
        write!(f, "{major}.{minor}")
    }
}

/// Text that Xen wrote into a fixed field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// The bytes up to the zero one.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or(&[])
    }

    /// The text up to its zero byte, and no further than it is UTF-8.
    pub fn as_str(&self) -> &str {
        let bytes = self.as_bytes();
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

/// A text of any length, for [`long_text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LongText {
    /// The build's identifier, which is no text but bytes.
    BuildId,
    /// The rest of the version.
    Extraversion,
    /// What guests Xen can run.
    Capabilities,
    /// The source's revision.
    Changeset,
    /// Xen's command line.
    CommandLine,
}

/// Asks for the version. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn version<H: Hypercall + ?Sized>(h: &H) -> Result<Version, Errno> {
    // SAFETY: this subop takes no argument.
    let answer = unsafe { h.call2(NR, XENVER_VERSION, 0) };
    Errno::check(answer).map(|v| Version {
        major: (v >> 16) as u16,
        minor: v as u16,
    })
}

/// A text of the size that the interface fixes for `which`.
fn text<H: Hypercall + ?Sized, const N: usize>(h: &H, which: usize) -> Result<Text<N>, Errno> {
    let mut text = [0_u8; N];
    // SAFETY: the hypervisor writes at most `N` bytes: the callers below pass
    // the size that the interface fixes for their subop.
    unsafe { subop(h, NR, which, &mut text) }.map(|_| Text(text))
}

/// Asks for the rest of the version, `.4` say. Any guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
pub fn extraversion<H: Hypercall + ?Sized>(h: &H) -> Result<Text<XEN_EXTRAVERSION_LEN>, Errno> {
    text(h, XENVER_EXTRAVERSION)
}

/// Asks who compiled Xen, and how. Any guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
pub fn compile_info<H: Hypercall + ?Sized>(h: &H) -> Result<CompileInfo, Errno> {
    let mut info = CompileInfo::default();
    // SAFETY: the hypervisor writes `info`, which outlives the call.
    unsafe { subop(h, NR, XENVER_COMPILE_INFO, &mut info) }.map(|_| info)
}

/// Asks what guests this Xen runs, `xen-3.0-x86_64 hvm-3.0-x86_64` say. Any
/// guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
pub fn capabilities<H: Hypercall + ?Sized>(
    h: &H,
) -> Result<Text<XEN_CAPABILITIES_INFO_LEN>, Errno> {
    text(h, XENVER_CAPABILITIES)
}

/// Asks for the revision of Xen's source. Any guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
pub fn changeset<H: Hypercall + ?Sized>(h: &H) -> Result<Text<XEN_CHANGESET_INFO_LEN>, Errno> {
    text(h, XENVER_CHANGESET)
}

/// Asks for Xen's command line. Any guest may; an ordinary one is told
/// `<denied>`.
///
/// # Errors
/// `ENOSYS`: not offered.
pub fn command_line<H: Hypercall + ?Sized>(h: &H) -> Result<Text<1024>, Errno> {
    text(h, XENVER_COMMANDLINE)
}

/// Asks where Xen's address space starts (of use to 32-bit PV guests). Any
/// guest may.
///
/// # Errors
/// `ENOSYS`: not offered.
#[inline]
pub fn platform_parameters<H: Hypercall + ?Sized>(h: &H) -> Result<PlatformParameters, Errno> {
    let mut parameters = PlatformParameters::default();
    // SAFETY: the hypervisor writes `parameters`, which outlives the call.
    unsafe { subop(h, NR, XENVER_PLATFORM_PARAMETERS, &mut parameters) }.map(|_| parameters)
}

/// Asks for thirty-two features: the first, of which there are names, are those
/// of `index` 0. Any guest may.
///
/// # Errors
/// `EINVAL`: there are not so many; `ENOSYS`: there is no Xen.
#[inline]
pub fn feature_word<H: Hypercall + ?Sized>(h: &H, index: u32) -> Result<u32, Errno> {
    let mut info = FeatureInfo {
        submap_idx: index,
        submap: 0,
    };
    // SAFETY: the hypervisor reads and writes `info`, which outlives the call.
    unsafe { subop(h, NR, XENVER_GET_FEATURES, &mut info) }.map(|_| info.submap)
}

/// Asks for the features that have names. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn features<H: Hypercall + ?Sized>(h: &H) -> Result<XenFeatures, Errno> {
    feature_word(h, 0).map(XenFeatures::from_bits_retain)
}

/// Asks for the size of a page. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn page_size<H: Hypercall + ?Sized>(h: &H) -> Result<usize, Errno> {
    // SAFETY: this subop takes no argument.
    let answer = unsafe { h.call2(NR, XENVER_PAGESIZE, 0) };
    Errno::check(answer)
}

/// Asks for the identifier that the toolstack gave this domain. Any guest may.
///
/// # Errors
/// `ENOSYS`: there is no Xen.
#[inline]
pub fn guest_handle<H: Hypercall + ?Sized>(h: &H) -> Result<XenUuid, Errno> {
    let mut uuid = XenUuid::default();
    // SAFETY: the hypervisor writes the sixteen bytes of `uuid`.
    unsafe { subop(h, NR, XENVER_GUEST_HANDLE, &mut uuid) }.map(|_| uuid)
}

/// Asks for a text of any length, into `buffer` (whose first word the call uses
/// for itself). Any guest may, but for the build's identifier and the command
/// line, which are privileged domains'.
///
/// # Errors
/// `ENOBUFS`: there is no room; `ENOSYS`: not offered (but for the build's
/// identifier: before Xen 4.18); `EPERM`: not for this domain; `ENODATA`: Xen
/// has none.
pub fn long_text<'a, H: Hypercall + ?Sized>(
    h: &H,
    which: LongText,
    buffer: &'a mut [u32],
) -> Result<&'a [u8], Errno> {
    let op = match which {
        LongText::BuildId => XENVER_BUILD_ID,
        LongText::Extraversion => XENVER_EXTRAVERSION2,
        LongText::Capabilities => XENVER_CAPABILITIES2,
        LongText::Changeset => XENVER_CHANGESET2,
        LongText::CommandLine => XENVER_COMMANDLINE2,
    };
    // struct xen_varbuf: the room, then the bytes.
    let (room, text) = buffer.split_first_mut().ok_or(Errno::ENOBUFS)?;
    *room = u32::try_from(size_of_val(text)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the hypervisor writes no more bytes than the first word says.
    let len = unsafe { subop(h, NR, op, buffer) }?;
    let bytes = buffer.as_bytes().get(size_of::<Varbuf>()..).unwrap_or(&[]);
    bytes.get(..len).ok_or(Errno::ENOBUFS)
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
