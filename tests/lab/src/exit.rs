//! How a guest ended, and the exit status that says so.

use std::fmt;

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a shutdown with this reason.
    Shutdown(u8),
    /// It was still running when its time was over.
    TimedOut,
    /// It could not be started.
    Refused(String),
    /// Otherwise: by a signal, say.
    Died(String),
}

const NAMES: [&str; 6] = [
    "poweroff",
    "reboot",
    "suspend",
    "crash",
    "watchdog",
    "soft_reset",
];

impl Ended {
    /// The exit status of the lab.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Shutdown(0) => 0,
            Self::Shutdown(reason) => 64 + (reason & 63),
            Self::TimedOut => 124,
            Self::Refused(_) | Self::Died(_) => 1,
        }
    }

    /// What the exit status of a guest's own process means.
    pub(crate) fn from_process_status(status: i32) -> Self {
        match u8::try_from(status) {
            Ok(0) => Self::Shutdown(0),
            Ok(code @ 64..=69) => Self::Shutdown(code - 64),
            _ => Self::Died(format!("with exit status {status}")),
        }
    }

    /// What the exit status of QEMU with its debug exit device means: the
    /// device turns a reason into twice it, plus one.
    pub(crate) fn from_qemu_status(status: i32) -> Self {
        match u8::try_from(status) {
            Ok(0) => Self::Shutdown(0),
            Ok(code) if code & 1 == 1 && usize::from(code >> 1) < NAMES.len() => {
                Self::Shutdown(code >> 1)
            }
            _ => Self::Died(format!("with QEMU's exit status {status}")),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown(reason) => match NAMES.get(usize::from(*reason)) {
                Some(name) => f.write_str(name),
                None => write!(f, "shutdown with reason {reason}"),
            },
            Self::TimedOut => f.write_str("timed out"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Died(how) => write!(f, "died {how}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_reasons_agree() {
        for reason in 0..6 {
            let ended = Ended::Shutdown(reason);
            assert_eq!(Ended::from_qemu_status(i32::from(reason) * 2 + 1), ended);
            assert_eq!(Ended::from_process_status(i32::from(ended.status())), ended);
        }
        assert_eq!(Ended::Shutdown(3).to_string(), "crash");
        assert_eq!(Ended::Shutdown(3).status(), 67);
        assert!(matches!(Ended::from_process_status(101), Ended::Died(_)));
        assert!(matches!(Ended::from_qemu_status(2), Ended::Died(_)));
    }
}
