//! What a claim is, how it turns out, and the words that claims are made of.

use alloc::{
    borrow::Cow,
    format,
    string::{String, ToString as _},
};
use core::fmt;

use hypercall_abi::Errno;
use pv_guest::{Guest, GuestType};

/// Claims about one part of the interface.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) claims: &'static [Claim],
}

/// One statement that the interface's documents make, and its test.
pub(crate) struct Claim {
    pub(crate) name: &'static str,
    /// The header or document that makes it, and where in it.
    pub(crate) source: &'static str,
    pub(crate) test: fn(&Guest) -> Verdict,
}

/// How a claim turned out.
pub(crate) type Verdict = Result<(), Stop>;

/// Why a claim's test did not come to its end.
pub(crate) enum Stop {
    /// It does not hold.
    Failed(Cow<'static, str>),
    /// It is not made here.
    Skipped(Cow<'static, str>),
}

impl From<&'static str> for Stop {
    fn from(why: &'static str) -> Self {
        Self::Failed(why.into())
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why.into())
    }
}

/// What should have been done was refused.
impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Failed(format!("it was refused: {errno}").into())
    }
}

impl From<pv_guest::Error> for Stop {
    fn from(error: pv_guest::Error) -> Self {
        Self::Failed(error.to_string().into())
    }
}

/// A list of claims: `condition(test): "source"`, where the condition is a
/// function that runs the test, or says why it cannot be run.
macro_rules! claims {
    ($($condition:ident($test:ident): $source:literal,)*) => {
        &[$($crate::claim::Claim {
            name: stringify!($test),
            source: $source,
            test: |guest| $condition(guest, $test),
        }),*]
    };
}
pub(crate) use claims;

/// That something holds.
pub(crate) fn ensure(holds: bool, why: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(why.into()) }
}

/// That two things are equal.
pub(crate) fn same<T: PartialEq + fmt::Debug>(is: T, should_be: T) -> Verdict {
    if is == should_be {
        return Ok(());
    }
    Err(format!("it is {is:?}, not {should_be:?}").into())
}

/// That something is refused, and why.
pub(crate) fn refused<T>(answer: Result<T, Errno>, errno: Errno) -> Verdict {
    match answer {
        Err(told) if told == errno => Ok(()),
        Err(told) => Err(format!("{told:?}, not {errno:?}").into()),
        Ok(_) => Err(format!("it was not refused with {errno:?}").into()),
    }
}

/// That the claim is not made here.
pub(crate) fn skip(why: impl Into<Cow<'static, str>>) -> Verdict {
    Err(Stop::Skipped(why.into()))
}

/// Claims that hold everywhere.
pub(crate) fn everywhere(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    test(guest)
}

/// Claims of any Xen.
pub(crate) fn on_xen(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    match guest.guest_type() {
        GuestType::Bare => skip(NO_XEN),
        _ => test(guest),
    }
}

/// Claims of PV guests.
pub(crate) fn on_pv(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    match guest.guest_type() {
        GuestType::Bare => skip(NO_XEN),
        GuestType::Pvh => skip("for PV guests only"),
        GuestType::Pv => test(guest),
    }
}

/// Claims of PVH guests.
pub(crate) fn on_pvh(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    match guest.guest_type() {
        GuestType::Bare => skip(NO_XEN),
        GuestType::Pv => skip("for PVH guests only"),
        GuestType::Pvh => test(guest),
    }
}

/// Whether this guest is a process: its processor and what it does with exceptions
/// are its host's.
pub(crate) const IS_PROCESS: bool = cfg!(not(target_os = "none"));

/// Why a process has no claims about its processor.
pub(crate) const NO_PROCESSOR: &str = "a process has its host's processor";

/// Claims of guests that have a processor to themselves, or from Xen.
pub(crate) fn on_processor(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    if IS_PROCESS {
        return skip(NO_PROCESSOR);
    }
    test(guest)
}

/// Claims of PV guests with a processor.
pub(crate) fn on_pv_processor(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    on_pv(guest, |_| Ok(()))?;
    on_processor(guest, test)
}

/// Claims whose code is a kernel's own assembly, in this module; a process has none.
macro_rules! kernel_code {
    ($module:ident: $($name:ident),+ $(,)?) => {
        #[cfg(target_os = "none")]
        use $module::{$($name),+};
        $(
            #[cfg(not(target_os = "none"))]
            fn $name(_: &pv_guest::Guest) -> $crate::claim::Verdict {
                $crate::claim::skip($crate::claim::NO_PROCESSOR)
            }
        )+
    };
}
pub(crate) use kernel_code;

/// What runs a PV kernel's image as a process says behind its version.
const USER: &str = "-user";

/// Claims of what only a processor's privileged part can do, which nobody lends to a
/// process; but for that, the image is the same there.
pub(crate) fn with_privileges(guest: &Guest, test: fn(&Guest) -> Verdict) -> Verdict {
    let told = guest.hypervisor().extraversion;
    if told.is_some_and(|text| text.as_str() == USER) {
        return skip("a process has no segments, no CR0 and no debug registers of its own");
    }
    on_processor(guest, test)
}

/// Why a claim about Xen cannot be tried, where there is no Xen.
pub(crate) const NO_XEN: &str = "no Xen";

/// A time in which an event that was sent must have come.
pub(crate) const WAIT_NS: u64 = 1_000_000_000;
