//! The bugs: what each is, where, and how it is planted.

mod image;
mod more;
mod weak;

/// Where the claims are tried on a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    /// In processes over the mock, in all ways.
    Mock,
    /// In a kernel's image, on the process platform.
    User,
}

/// One bug of the mock's.
pub(super) struct Mutant {
    /// What is wrong.
    pub(super) name: &'static str,
    /// The file, in the mock's sources.
    pub(super) file: &'static str,
    /// What is there once.
    pub(super) from: &'static str,
    /// What is put in its place.
    pub(super) to: &'static str,
    pub(super) front: Front,
}

pub(super) const fn bug(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant {
        name,
        file,
        from,
        to,
        front: Front::Mock,
    }
}

/// Those that came first, by what the claims of their time were about.
pub(super) const FIRST: &[Mutant] = &[
    bug(
        "a masked event makes an upcall (2-level)",
        "core/event_channels.rs",
        "if before & bit == 0 && !masked {",
        "if before & bit == 0 {",
    ),
    bug(
        "a masked event is queued (FIFO)",
        "core/fifo.rs",
        "if before & (1 << EVTCHN_FIFO_MASKED | 1 << EVTCHN_FIFO_LINKED) != 0 {",
        "if before & (1 << EVTCHN_FIFO_LINKED) != 0 {",
    ),
    bug(
        "an event makes no upcall (FIFO)",
        "core/fifo.rs",
        "self.upcall(slot.vcpu);",
        "",
    ),
    bug(
        "a queue's head is not written (FIFO)",
        "core/fifo.rs",
        "head.store_release(port.0);",
        "",
    ),
    bug(
        "an event is queued twice (FIFO)",
        "core/fifo.rs",
        "let _before = word.fetch_or(1 << EVTCHN_FIFO_LINKED);",
        "",
    ),
    bug(
        "a closed port stays pending (FIFO)",
        "core/event_channels.rs",
        "let _before = word.fetch_and(!(1 << EVTCHN_FIFO_PENDING));",
        "let _word = word;",
    ),
    bug(
        "any priority is taken",
        "core/fifo.rs",
        "if priority > EVTCHN_FIFO_PRIORITY_MIN {",
        "if priority > 99 {",
    ),
    bug(
        "a port can be closed twice",
        "core/event_channels.rs",
        "if self.binding(port)? == Binding::Closed {",
        "if self.binding(port).is_err() {",
    ),
    bug(
        "a new channel is quiet",
        "core/channels.rs",
        "state.ports.set_pending(local);",
        "",
    ),
    bug(
        "a port that was not offered can be bound",
        "core/channels.rs",
        "if self.binding(remote, remote_port)? != Binding::Unbound(domid) {",
        "if self.binding(remote, remote_port).is_err() {",
    ),
    bug(
        "an event on a closed port is no error",
        "core/channels.rs",
        "Binding::Closed | Binding::Virq(..) | Binding::Pirq(_) => return Err(Errno::EINVAL),",
        "Binding::Virq(..) | Binding::Pirq(_) => return Err(Errno::EINVAL),\nBinding::Closed => {}",
    ),
    bug(
        "events do not reach the other end",
        "core/channels.rs",
        "if self.fate(remote, other) == Fate::Comes {",
        "if self.fate(remote, other) != Fate::Comes {",
    ),
    bug(
        "a virtual interrupt can be bound twice",
        "hypercalls/events.rs",
        "let state = self.state();\n        if state.ports.find(binding).is_some() {",
        "let state = self.state();\n        if false {",
    ),
    bug(
        "nobody is told for whom a port is",
        "hypercalls/events.rs",
        "(ChannelStatus::UNBOUND, u64::from(remote.0))",
        "(ChannelStatus::UNBOUND, 0)",
    ),
    bug(
        "the timer rings at once",
        "core/vcpu_state.rs",
        "let mut ring = self.singleshot_ns.is_some_and(|at| at <= now_ns);",
        "let mut ring = self.singleshot_ns.is_some();",
    ),
    bug(
        "the timer is not set",
        "hypercalls/vcpu.rs",
        "self.state().vcpus[index].timers.singleshot_ns = Some(timer.timeout_abs_ns);",
        "",
    ),
    bug(
        "a poll does not look at its ports",
        "engine/sleep.rs",
        "ports.iter().any(|port| state.ports.is_pending(*port))",
        "ports.is_empty() && state.ports.count() == 0",
    ),
    bug(
        "the first vCPU is not up",
        "hypercalls/vcpu.rs",
        "VCPUOP_IS_UP => Ok(usize::from(self.state().vcpus[index].is_up)),",
        "VCPUOP_IS_UP => Ok(0),",
    ),
    bug(
        "the last byte is not copied (grants)",
        "hypercalls/grants.rs",
        "let mut bytes = vec![0; len];",
        "let mut bytes = vec![0; len.saturating_sub(1)];",
    ),
    bug(
        "read-only grants can be written",
        "core/grant_uses.rs",
        "if flags.contains(GrantFlags::READONLY) && access == Access::Write {",
        "if false {",
    ),
    bug(
        "use bits are not set",
        "core/grant_uses.rs",
        "let _before = word.fetch_or(bits.bits());",
        "let _bits = (word, bits);",
    ),
    bug(
        "use bits are not cleared",
        "core/grant_uses.rs",
        "gone |= GrantFlags::READING;",
        "",
    ),
    bug(
        "anybody may use a grant",
        "core/grant_uses.rs",
        "if entry.domid != user || (",
        "if (",
    ),
    bug(
        "a wrong handle has another status",
        "core/grant_uses.rs",
        "let Some(slot @ Some(_)) = slot else {\n            return GrantStatus::BAD_HANDLE;",
        "let Some(slot @ Some(_)) = slot else {\n            return GrantStatus::GENERAL_ERROR;",
    ),
    bug(
        "grants stay in their places",
        "core/grant_table.rs",
        "one.store_release(other.swap(before).trust());",
        "one.store_release(before);",
    ),
    bug(
        "a table cannot grow",
        "hypercalls/grants.rs",
        "op.max_nr_frames = TABLE_PAGES as u32;",
        "op.max_nr_frames = 1;",
    ),
    bug(
        "a frame can be table and writable at once",
        "core/memory/frame_types.rs",
        "if frame.uses > 0 && frame.kind != kind {",
        "if false {",
    ),
    bug(
        "tables are not checked",
        "core/memory/frame_types.rs",
        "if frame.uses == 1\n",
        "if frame.uses == u32::MAX\n",
    ),
    bug(
        "a table can be pinned twice",
        "core/memory/frame_types.rs",
        "if self.frames.frames[index].pinned {",
        "if false {",
    ),
    bug(
        "large pages are taken",
        "core/memory/frame_types.rs",
        "if entry & LARGE != 0 {",
        "if false {",
    ),
    bug(
        "a top table may map itself writable (XSA-182)",
        "core/memory/frame_types.rs",
        "return if entry & WRITE == 0 {",
        "return if entry & PRESENT != 0 {",
    ),
    bug(
        "an unpinned table keeps what it maps",
        "core/memory/frame_types.rs",
        "self.leave_entry(index, level, slot, self.read_entry(index, slot));\n            }\n        }\n    }\n\n    /// What a frame is used for",
        "}\n        }\n    }\n\n    /// What a frame is used for",
    ),
    bug(
        "too much is told to be done (mmu_update)",
        "hypercalls/mmu.rs",
        "Ok(()) => done += 1,",
        "Ok(()) => done += 2,",
    ),
    bug(
        "accessed and dirty bits are lost",
        "hypercalls/mmu.rs",
        "entry |= before & ACCESSED_DIRTY;",
        "",
    ),
    bug(
        "what was given back is counted still",
        "hypercalls/memory.rs",
        "Ok(self.state().memory.reservation())",
        "Ok(self.state().memory.nr_pages())",
    ),
    bug(
        "answers to bad addresses are lost silently",
        "core/memory/by_address.rs",
        "    } else {\n        Err(Errno::EFAULT)\n    }",
        "    } else {\n        Ok(())\n    }",
    ),
    bug(
        "a list of calls tells no answers",
        "engine/dispatch.rs",
        "memory.copy_out(at, entry.as_bytes())?;",
        "",
    ),
    bug(
        "a text without room is cut off",
        "hypercalls/version.rs",
        "if text.len() > room as usize {",
        "if room > 4096 {",
    ),
    bug(
        "conflicts of transactions are not told",
        "services/xenstore/request.rs",
        "return Err(StoreError::EAGAIN);",
        "",
    ),
    bug(
        "a watch does not fire when it is set",
        "services/xenstore/request.rs",
        "self.events.push((domid, watch_event(path, token)));",
        "let _event = watch_event(path, token);",
    ),
    bug(
        "what is not there is forbidden",
        "services/xenstore/tree.rs",
        "None if self.may_see(domid, path) => Err(StoreError::ENOENT),",
        "None if self.may_see(domid, path) => Err(StoreError::EACCES),",
    ),
    bug(
        "anybody may write anything in the store",
        "services/xenstore/tree.rs",
        "letter == 'b' || letter == if write { 'w' } else { 'r' }",
        "letter != '-' || write",
    ),
    bug(
        "a PVH guest may set any parameter",
        "hypercalls/hvm.rs",
        "if !WRITABLE.contains(&param.index) {",
        "if false {",
    ),
    bug(
        "exceptions' vectors are taken for upcalls",
        "hypercalls/hvm.rs",
        "FIRST_VECTOR: u32 = 16;",
        "FIRST_VECTOR: u32 = 0;",
    ),
    bug(
        "frames of grants are all the first (PVH)",
        "core/domain_state.rs",
        "None if idx < TABLE_PAGES => Ok(xens + idx),",
        "None if idx < TABLE_PAGES => Ok(xens),",
    ),
    bug(
        "a vCPU can be initialised twice (XSA-296)",
        "hypercalls/vcpu.rs",
        "if index == 0 || found.entry.is_some() {",
        "if index == 0 {",
    ),
    bug(
        "a vCPU comes up without a start",
        "hypercalls/vcpu.rs",
        "if vcpu != VcpuId(0) && found.ok_or(Errno::ENOENT)?.entry.is_none() {",
        "if false {",
    ),
    bug(
        "a vCPU that is down is told to run",
        "engine/vcpus.rs",
        "found.run_times.enter(RunState::OFFLINE, now_ns);",
        "",
    ),
    bug(
        "events for another vCPU are told to the first",
        "core/event_channels.rs",
        "Binding::Virq(_, vcpu) | Binding::Ipi(vcpu) => vcpu,",
        "",
    ),
    bug(
        "a vCPU's words move twice",
        "core/event_channels.rs",
        "if self.moved.contains_key(&vcpu.0) {",
        "if false {",
    ),
    bug(
        "a vCPU sets another's timer",
        "hypercalls/vcpu.rs",
        "if vcpu != self.vcpu =>",
        "if false =>",
    ),
    bug(
        "a suspend that is cancelled is told as done",
        "engine/suspend.rs",
        "Suspend::Cancelled => Ok(1),",
        "Suspend::Cancelled => Ok(0),",
    ),
    bug(
        "a cancelled suspend costs the ports",
        "engine/suspend.rs",
        "Suspend::Cancelled => Ok(1),",
        "Suspend::Cancelled => {\n                state.ports.reset();\n                Ok(1)\n            }",
    ),
    bug(
        "upcalls are let through from the start",
        "front/builder.rs",
        "peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store(1);",
        "peer_field!(vcpu, VcpuInfo, evtchn_upcall_mask).store(0);",
    ),
    bug(
        "the console's daemon does not ring",
        "services/console.rs",
        "self.set_pending(domid, port);",
        "",
    ),
    bug(
        "there are three watchdogs",
        "core/domain_state.rs",
        "WATCHDOGS: usize = 2;",
        "WATCHDOGS: usize = 3;",
    ),
    bug(
        "a list ends at its first bad call",
        "engine/dispatch.rs",
        "memory.copy_out(at, entry.as_bytes())?;",
        "memory.copy_out(at, entry.as_bytes())?;\n            if entry.result < 0 {\n                return Ok(0);\n            }",
    ),
    bug(
        "a grant is unmapped by any address (XSA-234)",
        "core/grant_uses.rs",
        "let is_it = what.host_addr == place.word();",
        "let is_it = what.host_addr != 0;",
    ),
];

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Mutant> {
    let of_mock = more::MORE.iter().chain(weak::WEAK).chain(FIRST);
    of_mock.chain(image::IMAGE)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_bug_has_its_one_place() {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mock-hypervisor/src");
        let mut wrong = Vec::new();
        for bug in all() {
            let text = std::fs::read_to_string(sources.join(bug.file)).unwrap();
            let places = text.matches(bug.from).count();
            if places != 1 {
                wrong.push(format!(
                    "{}: {places} of {:?} in {}",
                    bug.name, bug.from, bug.file
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn the_table_names_claims_that_there_are() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let sources = text_of(&root.join("tests/conformance/src"));
        let table = std::fs::read_to_string(root.join("docs/MUTANTS.md")).unwrap();
        let names = table.split('`').skip(1).step_by(2);
        let missing: Vec<&str> = names
            .filter(|name| name.contains("::"))
            .filter(|name| {
                let claim = name.rsplit("::").next().unwrap_or(name);
                !sources.contains(claim.split('(').next().unwrap_or(claim))
            })
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    /// All files below a folder, one after the other.
    fn text_of(folder: &Path) -> String {
        let entries = std::fs::read_dir(folder).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let texts = paths.map(|path| match path.is_dir() {
            true => text_of(&path),
            false => std::fs::read_to_string(&path).unwrap(),
        });
        texts.collect()
    }
}
