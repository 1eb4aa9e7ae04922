//! Output while the console's daemon is stopped. Domain 0 has the other side
//! (`tests/lab/dom0/silence.sh`): the guest asks for it by `data/console`.

use alloc::{format, string::String};

use hypercall_abi::platform::Clock;
use pv_guest::{Error, Guest, println};

/// Lines that are written: many times what the ring holds.
const LINES: usize = 1_000;
/// How long domain 0 may take for its part.
const PATIENCE_NS: u64 = 100_000_000_000;

/// Prints, or dies, while nobody reads.
pub(crate) fn run(guest: &Guest, how: &str) -> Result<(), Error> {
    tell(guest, "stop")?;
    until(guest, "stopped")?;
    if how == "panic" {
        // As much as the ring has room for, but for a few bytes.
        for _ in 0..31 {
            println!("{}", "#".repeat(64));
        }
        panic!("while nobody reads the console");
    }
    let begun_ns = guest.platform().now_ns();
    for number in 0..LINES {
        println!("line {number:06}, {}", "#".repeat(50));
    }
    let took_ms = (guest.platform().now_ns() - begun_ns) / 1_000_000;
    tell(guest, &format!("printed {LINES} lines in {took_ms} ms"))?;
    until(guest, "running")?;
    println!("silence: {LINES} lines were written in {took_ms} ms");
    Ok(())
}

fn tell(guest: &Guest, how_far: &str) -> Result<(), Error> {
    let store = guest.store()?;
    let told = store.wait(None, store.tree().write("data/console", how_far));
    told.map_err(|_| Error::Failed("the store does not take a word"))
}

/// Waits until domain 0 says so.
fn until(guest: &Guest, word: &str) -> Result<(), Error> {
    let store = guest.store()?;
    let end_ns = guest.platform().now_ns() + PATIENCE_NS;
    while guest.platform().now_ns() < end_ns {
        let text: String = store
            .wait(None, store.tree().read_text("data/console-daemon"))
            .unwrap_or_default();
        if text == word {
            return Ok(());
        }
        pv_guest::executor::block_on(pv_guest::time::sleep(core::time::Duration::from_millis(20)));
    }
    Err(Error::Failed(
        "domain 0 does not say that its daemon obeyed",
    ))
}
