//! Code of a guest's that is no code: whatever it is, it is read within its length, and
//! means the same whatever follows.

use mock_hypervisor::user::privileged::{Privileged, read};

/// The longest instruction.
const MAX_BYTES: u64 = 15;

/// Reads what is at the start of some bytes.
///
/// # Panics
/// It is read wrongly.
pub fn run(code: &[u8]) {
    let rip = 0x4000_0000;
    let Some((found, next)) = read(code, rip) else {
        return;
    };
    let len = next - rip;
    assert!((1..=MAX_BYTES).contains(&len) && len <= code.len() as u64);
    let (own, _) = code.split_at(len as usize);
    assert_eq!(read(own, rip), Some((found, next)), "what follows counts");
    for shorter in 0..own.len() {
        let told = read(&own[..shorter], rip);
        assert!(told.is_none_or(|(_, next)| next - rip <= shorter as u64));
    }
    match found {
        Privileged::ReadControl(a, b)
        | Privileged::WriteControl(a, b)
        | Privileged::ReadDebug(a, b)
        | Privileged::WriteDebug(a, b) => assert!(a < 16 && b < 16),
        Privileged::LoadSegment(_, from) => assert!(from < 16),
        _ => {}
    }
}
