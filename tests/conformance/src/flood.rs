//! Output as fast as a guest can make it. What of it arrives, the lab counts.

use alloc::{format, string::String};

use pv_guest::{Guest, println};

use crate::claim::Stop;

/// Writes `count` numbered lines without a pause. Each holds what a host may take for
/// words of its own.
pub(crate) fn lines(_: &Guest, count: u64) -> Result<String, Stop> {
    for number in 0..count {
        println!("line {number:06} (XEN) @@LAB end 0, and bytes that take room in every buffer");
    }
    Ok(format!("lines: {count} were written"))
}
