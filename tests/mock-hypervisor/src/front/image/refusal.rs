//! Calls that are to be answered by an error, as by a hypervisor that does not offer them:
//! how they are named on a command line.

use std::str::FromStr;

use hypercall_abi::{Errno, HypercallNr};

use super::trace::OPERATIONS;

/// A call, or all of a hypercall's, and what it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The hypercall.
    pub nr: HypercallNr,
    /// Its first argument, where one alone is meant.
    pub op: Option<usize>,
    /// The answer.
    pub errno: Errno,
}

/// Numbers of hypercalls are below this.
const MAX_NUMBERS: u32 = 64;

impl FromStr for Refusal {
    type Err = String;

    /// `CALL=ERRNO` or `CALL:OPERATION=ERRNO`, by the names that a trace has
    /// (`event_channel_op:init_control=EOPNOTSUPP`); an operation may be a number.
    fn from_str(text: &str) -> Result<Self, String> {
        let (call, errno) = text
            .split_once('=')
            .ok_or("it is CALL=ERRNO, or CALL:OPERATION=ERRNO")?;
        let (name, op) = match call.split_once(':') {
            Some((name, op)) => (name, Some(op)),
            None => (call, None),
        };
        let nr = (0..MAX_NUMBERS)
            .map(HypercallNr)
            .find(|nr| nr.name() == Some(name))
            .ok_or_else(|| format!("there is no hypercall {name:?}"))?;
        if nr == HypercallNr::IRET {
            return Err("a return is no call that can be refused".into());
        }
        let op = op.map(|op| operation(nr, op)).transpose()?;
        let named = Errno::ALL.iter().find(|one| one.name() == Some(errno));
        let errno = named.ok_or_else(|| format!("there is no error {errno:?}"))?;
        Ok(Self {
            nr,
            op,
            errno: *errno,
        })
    }
}

fn operation(nr: HypercallNr, text: &str) -> Result<usize, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let names = OPERATIONS.iter().find(|(with, _)| *with == nr);
    let known = names.and_then(|(_, names)| names.iter().position(|name| *name == text));
    known.ok_or_else(|| format!("{nr:?} has no operation {text:?}; it may be a number"))
}

#[cfg(test)]
mod tests {
    use hypercall_abi::event_channel::EVTCHNOP_INIT_CONTROL;

    use super::*;

    #[test]
    fn calls_are_named_as_in_a_trace() {
        let parse = |text: &str| text.parse::<Refusal>();
        assert_eq!(
            parse("event_channel_op:init_control=EOPNOTSUPP"),
            Ok(Refusal {
                nr: HypercallNr::EVENT_CHANNEL_OP,
                op: Some(EVTCHNOP_INIT_CONTROL),
                errno: Errno::EOPNOTSUPP,
            })
        );
        assert_eq!(
            parse("multicall=ENOSYS"),
            Ok(Refusal {
                nr: HypercallNr::MULTICALL,
                op: None,
                errno: Errno::ENOSYS,
            })
        );
        let by_number = parse("vm_assist:1=EPERM").unwrap();
        assert_eq!(by_number.op, Some(1));
    }

    #[test]
    fn what_is_not_known_is_told() {
        for (text, why) in [
            ("multicall", "CALL=ERRNO"),
            ("multi=ENOSYS", "no hypercall \"multi\""),
            ("sched_op:slumber=ENOSYS", "no operation \"slumber\""),
            ("multicall=ENOUGH", "no error \"ENOUGH\""),
            ("iret=ENOSYS", "return"),
        ] {
            let told = text.parse::<Refusal>().unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
