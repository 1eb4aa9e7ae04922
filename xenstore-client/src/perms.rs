//! Who may do what with a node.

use alloc::{string::String, vec::Vec};
use core::fmt::Write as _;

use hypercall_abi::DomId;

/// What a domain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `n`
    None,
    /// `r`
    Read,
    /// `w`
    Write,
    /// `b`
    Both,
}

impl Access {
    const fn letter(self) -> char {
        match self {
            Self::None => 'n',
            Self::Read => 'r',
            Self::Write => 'w',
            Self::Both => 'b',
        }
    }

    const fn from_letter(letter: char) -> Option<Self> {
        match letter {
            'n' => Some(Self::None),
            'r' => Some(Self::Read),
            'w' => Some(Self::Write),
            'b' => Some(Self::Both),
            _ => None,
        }
    }
}

/// A domain and its access. The first of a node's names its owner, who may do
/// everything, and what all domains may that are not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Who.
    pub domid: DomId,
    /// What.
    pub access: Access,
}

impl Permission {
    /// One.
    pub const fn new(domid: DomId, access: Access) -> Self {
        Self { domid, access }
    }
}

impl core::fmt::Display for Permission {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}{}", self.access.letter(), self.domid)
    }
}

impl core::str::FromStr for Permission {
    type Err = NoPermission;

    fn from_str(text: &str) -> Result<Self, NoPermission> {
        let mut letters = text.chars();
        let access = letters.next().and_then(Access::from_letter);
        let domid = letters.as_str().parse().map(DomId);
        match (access, domid) {
            (Some(access), Ok(domid)) => Ok(Self { domid, access }),
            _ => Err(NoPermission),
        }
    }
}

/// A text is no permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPermission;

impl core::fmt::Display for NoPermission {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a permission is one of the letters n, r, w, b, and a domain")
    }
}

impl core::error::Error for NoPermission {}

/// As they go over the wire: each ended by a zero.
pub(crate) fn to_bytes(permissions: &[Permission]) -> Vec<u8> {
    let mut text = String::new();
    for permission in permissions {
        let _infallible = write!(text, "{permission}\0");
    }
    text.into_bytes()
}

pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Vec<Permission>> {
    let text = core::str::from_utf8(bytes).ok()?.strip_suffix('\0')?;
    let parts = text.split('\0').map(str::parse);
    parts.collect::<Result<_, _>>().ok()
}
