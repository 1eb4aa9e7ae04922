//! The claims, one after the other.
//!
//! Words on the command line: `list` tells all claims and their sources instead;
//! `only=TEXT` tries those whose name contains it; `after=NAME` those that come
//! later than that one; `crash-in=NAME` ends the guest while that one is tried,
//! so that whoever runs the claims can be tested; `verdicts=aside` has a process tell
//! them on its standard error, for where the console itself may be at fault.

use alloc::{format, string::String};

use pv_guest::{Error, Guest, println};

use crate::{calls, claim::Stop, claim::Verdict, claims};

/// One that is to be tried.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) test: Test,
}

/// How it is tried.
#[derive(Clone, Copy)]
pub(crate) enum Test {
    Claim(fn(&Guest) -> Verdict),
    Call(&'static calls::Row),
}

/// All of them, in their order.
fn all() -> impl Iterator<Item = Case> {
    let claims = claims::ALL.iter().flat_map(|group| {
        group.claims.iter().map(|claim| Case {
            name: format!("{}::{}", group.name, claim.name),
            source: claim.source.into(),
            test: Test::Claim(claim.test),
        })
    });
    claims.chain(calls::cases())
}

pub(crate) fn value<'a>(guest: &'a Guest, key: &str) -> Option<&'a str> {
    let mut words = guest.command_line().split_whitespace();
    words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// One line, and at once: others write to the same terminal.
fn tell(guest: &Guest, line: &str) {
    #[cfg(not(target_os = "none"))]
    if value(guest, "verdicts") == Some("aside") {
        std::eprintln!("{line}");
        return;
    }
    #[cfg(target_os = "none")]
    let _one_way = guest;
    println!("{line}");
}

/// Tells what there is.
pub(crate) fn list() {
    for case in all() {
        println!("claim {}\t{}", case.name, case.source);
    }
}

/// Tries them, and prints a line for each.
pub(crate) fn run(guest: &Guest) -> Result<(), Error> {
    let only = value(guest, "only").unwrap_or_default();
    let mut after = value(guest, "after");
    let crash_in = value(guest, "crash-in");
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for case in all() {
        if after.is_some() {
            after = after.filter(|name| *name != case.name);
            continue;
        }
        if !case.name.contains(only) {
            continue;
        }
        if crash_in == Some(case.name.as_str()) {
            panic!("as the command line wished");
        }
        let verdict = match case.test {
            Test::Claim(test) => test(guest),
            Test::Call(row) => row.check(guest),
        };
        let told = match verdict {
            Ok(()) => {
                passed += 1;
                "ok".into()
            }
            Err(Stop::Failed(why)) => {
                failed += 1;
                format!("FAILED: {why}")
            }
            Err(Stop::Skipped(why)) => {
                skipped += 1;
                format!("skipped ({why})")
            }
        };
        tell(guest, &format!("test {} ... {told}", case.name));
    }
    let all = format!("{passed} passed, {failed} failed, {skipped} skipped");
    tell(guest, &all);
    if failed > 0 {
        return Err(Error::Failed("a claim does not hold"));
    }
    Ok(())
}
