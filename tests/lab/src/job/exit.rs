//! How a guest ended, and the exit status that says so.

use std::fmt;

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a shutdown with this reason.
    Shutdown(u8),
    /// By a shutdown with a reason that has no name: a process of the guest's says its
    /// number by itself.
    Unnamed,
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

/// The exit status for reasons without a name.
const UNNAMED_STATUS: u8 = 70;

impl Ended {
    /// The exit status of the lab.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Shutdown(0) => 0,
            Self::Shutdown(reason) if usize::from(*reason) < NAMES.len() => 64 + reason,
            // All of them: none is to be taken for what the lab says, or a shell.
            Self::Shutdown(_) | Self::Unnamed => UNNAMED_STATUS,
            Self::TimedOut => 124,
            Self::Refused(_) | Self::Died(_) => 1,
        }
    }

    /// What the exit status of a guest's own process means.
    pub(crate) fn from_process_status(status: i32) -> Self {
        match u8::try_from(status) {
            Ok(0) => Self::Shutdown(0),
            Ok(code @ 65..=69) => Self::Shutdown(code - 64),
            Ok(UNNAMED_STATUS) => Self::Unnamed,
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
            Ok(code) if code & 1 == 1 && usize::from(code >> 1) == NAMES.len() => Self::Unnamed,
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
            Self::Unnamed => f.write_str("shutdown with a reason that has no name"),
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
        let all = (0..=255).map(Ended::Shutdown).chain([Ended::Unnamed]);
        for guests in all.map(|ended| ended.status()) {
            // What the lab says, clap, cargo, a shell, and signals.
            for ours in [1, 2, 101, 124, 125, 126, 127, 130, 134, 137, 139] {
                assert_ne!(guests, ours);
            }
        }
        assert_eq!(Ended::Shutdown(252).status(), Ended::Unnamed.status());
        assert_eq!(Ended::from_process_status(70), Ended::Unnamed);
        assert!(matches!(Ended::from_process_status(64), Ended::Died(_)));
        assert_eq!(Ended::from_qemu_status(13), Ended::Unnamed);
        assert_eq!(Ended::Shutdown(3).to_string(), "crash");
        assert_eq!(Ended::Shutdown(3).status(), 67);
        assert!(matches!(Ended::from_process_status(101), Ended::Died(_)));
        assert!(matches!(Ended::from_qemu_status(2), Ended::Died(_)));
    }
}
