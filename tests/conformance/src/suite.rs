//! The claims, one after the other.
//!
//! Words on the command line: `list` tells all claims and their sources instead;
//! `only=TEXT` tries those whose name contains it; `after=NAME` those that come
//! later than that one; `crash-in=NAME` ends the guest while that one is tried,
//! so that whoever runs the claims can be tested.

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
        // One line, and at once: others write to the same terminal.
        let name = &case.name;
        match verdict {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Err(Stop::Failed(why)) => {
                failed += 1;
                println!("test {name} ... FAILED: {why}");
            }
            Err(Stop::Skipped(why)) => {
                skipped += 1;
                println!("test {name} ... skipped ({why})");
            }
        }
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        return Err(Error::Failed("a claim does not hold"));
    }
    Ok(())
}
