//! What Xen's log tells about a guest that could not speak for itself.
//!
//! A PV guest's exceptions are written to its own stack. When that has
//! overflowed there is nowhere to write, and Xen ends the domain: only its log
//! says so.

use std::ops::Range;

use guest_names::Names;
use object::{Object, ObjectSymbol};

/// The pages under a kernel's stacks, by its symbols.
pub(crate) fn guards(kernel: &[u8]) -> Vec<Range<u64>> {
    let Ok(file) = object::File::parse(kernel) else {
        return Vec::new();
    };
    let symbol = |name: String| {
        let mut symbols = file.symbols();
        let found = symbols.find(|symbol| symbol.name() == Ok(name.as_str()));
        found.map(|symbol| symbol.address())
    };
    ["boot", "fault"]
        .iter()
        .filter_map(|stack| {
            let start = symbol(format!("__{stack}_stack_guard_start"))?;
            Some(start..symbol(format!("__{stack}_stack_guard_end"))?)
        })
        .collect()
}

/// Whether Xen ended the guest because its stack was gone: it could not deliver
/// an exception, and the stack pointer stands in (or at the end of) a guard.
pub(crate) fn stack_overflow(
    log: &[String],
    guards: &[Range<u64>],
    names: &Names,
) -> Option<String> {
    if !log.iter().any(|line| line.contains("called from entry.S")) {
        return None;
    }
    let rsp = log.iter().find_map(|line| {
        let text = line.split("rsp: ").nth(1)?.split_whitespace().next()?;
        u64::from_str_radix(text, 16).ok()
    })?;
    let guard = guards
        .iter()
        .find(|guard| guard.contains(&rsp) || guard.end == rsp)?;
    let rip = log.iter().find_map(|line| {
        let text = line.split("RIP:").nth(1)?.split("[<").nth(1)?;
        text.split('>').next()
    });
    let functions = rip
        .and_then(|rip| u64::from_str_radix(rip, 16).ok())
        .map_or_else(Vec::new, |rip| names.at(rip))
        .join(" in ");
    Some(format!(
        "FATAL: stack overflow: rsp {rsp:#x} is in the guard page {:#x}..{:#x}, rip 0x{} {}\n",
        guard.start,
        guard.end,
        rip.unwrap_or("?"),
        functions
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_without_a_stack_is_a_stack_overflow() {
        let log = [
            "(XEN) domain_crash_sync called from entry.S: fault at ffff82d040361e75",
            "(XEN) RIP:    e033:[<0000000040101234>]",
            "(XEN) rbp: 0000000000000001   rsp: 0000000040110ff8   r8:  0",
        ]
        .map(str::to_owned);
        let guards = [0x4010_0000..0x4010_1000, 0x4011_0000..0x4011_1000];
        let text = stack_overflow(&log, &guards, &Names::NONE).unwrap();
        assert!(text.contains("rsp 0x40110ff8") && text.contains("rip 0x0000000040101234"));
        assert_eq!(stack_overflow(&log[1..], &guards, &Names::NONE), None);
        assert_eq!(stack_overflow(&log, &guards[..1], &Names::NONE), None);
    }
}
