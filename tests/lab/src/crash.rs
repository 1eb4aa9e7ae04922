//! What Xen's log tells about a guest that could not speak for itself.
//!
//! A PV guest's exceptions are written to its own stack. When that has
//! overflowed there is nowhere to write, and Xen ends the domain: only its log
//! says so.

/// Whether Xen ended the guest because its stack was gone, and the registers.
pub(crate) fn stack_overflow(log: &[String]) -> Option<String> {
    let bounce = log.iter().any(|line| line.contains("create_bounce_frame"));
    if !bounce {
        return None;
    }
    let word = |name: &str| {
        log.iter().find_map(|line| {
            let at = line.find(&format!("{name}: "))?;
            line[at..].split_whitespace().nth(1).map(str::to_owned)
        })
    };
    let rsp = word("rsp").unwrap_or_default();
    let rip = log.iter().find_map(|line| {
        let at = line.find("RIP:")?;
        let text = line[at..].split('[').nth(1)?;
        text.split(']').next().map(str::to_owned)
    });
    Some(format!(
        "FATAL: stack overflow: Xen could not deliver an exception (rsp {rsp}, rip {})\n",
        rip.unwrap_or_default().trim_matches(['<', '>'])
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_bounce_frame_is_a_stack_overflow() {
        let log = [
            "(XEN) domain_crash called from create_bounce_frame+0x1",
            "(XEN) RIP:    e033:[<0000000040101234>]",
            "(XEN) rbp: 0000000000000001   rsp: 0000000040110ff8   r8:  0",
        ]
        .map(str::to_owned);
        let text = stack_overflow(&log).unwrap();
        assert!(text.contains("rsp 0000000040110ff8, rip 0000000040101234"));
        assert_eq!(stack_overflow(&log[1..]), None);
    }
}
