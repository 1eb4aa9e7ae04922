//! Bugs that were thought of by a reading of all claims: three that nothing found then, and those of
//! the sixty in `docs/MUTANTS.md` that the mock as it is can have in one place.

use super::{Mutant, bug};

/// In the order of that list.
pub(super) const MORE: &[Mutant] = &[
    bug(
        "a PVH guest can map nothing",
        "hypercalls/grants.rs",
        "let whole = used.is_whole && used.frame_owner == owner;",
        "let whole = used.is_whole && used.frame_owner == owner && !self.state().is_pvh();",
    ),
    bug(
        "priorities are ignored",
        "core/fifo.rs",
        "let priority = slot.priority as usize % QUEUES;",
        "let priority = QUEUES / 2;",
    ),
    bug(
        "a stopped timer rings",
        "hypercalls/vcpu.rs",
        "self.state().vcpus[index].timers.singleshot_ns = None;",
        "",
    ),
    bug(
        "an unmask of a port that is pending makes no upcall (2-level)",
        "core/event_channels.rs",
        "if was_masked && self.is_pending(port) {",
        "if was_masked && !self.is_pending(port) {",
    ),
    bug(
        "an unmask of a port that was not masked makes an upcall (2-level)",
        "core/event_channels.rs",
        "if was_masked && self.is_pending(port) {",
        "if (was_masked || !was_masked) && self.is_pending(port) {",
    ),
    bug(
        "the selector's bit is that of another word (2-level)",
        "core/event_channels.rs",
        "selector.fetch_or(1 << (port.0 / 64));",
        "selector.fetch_or(1 << (port.0 / 32 % 64));",
    ),
    bug(
        "a poll looks at the first of its ports only",
        "engine/sleep.rs",
        "ports.iter().any(|port| state",
        "ports.iter().take(1).any(|port| state",
    ),
    bug(
        "the end that is left when a channel closes stays bound",
        "core/channels.rs",
        "        if let Binding::Interdomain(remote, other) = binding\n            && let Some(state) = self.domains.get_mut(&remote)\n        {",
        "        if let Binding::Interdomain(remote, other) = binding\n            && domid == DOM0\n            && let Some(state) = self.domains.get_mut(&remote)\n        {",
    ),
    bug(
        "an event reaches its sender, too",
        "core/channels.rs",
        "true => self.set_pending(remote, other),",
        "true => {\n                            self.set_pending(domid, port);\n                            self.set_pending(remote, other);\n                        }",
    ),
    bug(
        "a timer's port can be bound to another vCPU",
        "hypercalls/events.rs",
        "                    | Binding::Store => {\n                        state.ports.bind_vcpu",
        "                    | Binding::Virq(..)\n                    | Binding::Store => {\n                        state.ports.bind_vcpu",
    ),
    bug(
        "the status of another domain's port is told",
        "hypercalls/events.rs",
        "                self.own(status.dom)?;\n",
        "",
    ),
    bug(
        "a port has the priority that it was first given for good (FIFO)",
        "core/fifo.rs",
        "self.slots[port.0 as usize].priority = priority;",
        "let slot = &mut self.slots[port.0 as usize];\n        if slot.priority == EVTCHN_FIFO_PRIORITY_DEFAULT {\n            slot.priority = priority;\n        }",
    ),
    bug(
        "what was pending without a word is lost when the array grows (FIFO)",
        "core/fifo.rs",
        "if std::mem::take(&mut self.slots[index as usize].pending) {",
        "if std::mem::take(&mut self.slots[index as usize].pending) && first == 0 {",
    ),
    bug(
        "a read-only map can be written",
        "hypercalls/grants.rs",
        "true => self.core.map_page(self.domid, &used, place, access),",
        "true => self.core.map_page(self.domid, &used, place, Access::Write),",
    ),
    bug(
        "the last byte of a page cannot be copied",
        "hypercalls/grants.rs",
        "usize::from(end.offset) + len <= PAGE_SIZE;",
        "usize::from(end.offset) + len < PAGE_SIZE;",
    ),
    bug(
        "a use for reading sets the bit for writing",
        "core/grant_uses.rs",
        "Access::Read => GrantFlags::READING,",
        "Access::Read => GrantFlags::READING | GrantFlags::WRITING,",
    ),
    bug(
        "a grant of a frame that is not there is mapped",
        "core/grant_uses.rs",
        "if !ram.is_some_and(|state| state.memory.has(gfn)) {",
        "if ram.is_none() {",
    ),
    bug(
        "two grants change places while one is used",
        "core/grant_table.rs",
        "if self.uses.contains_key(&a.0) || self.uses.contains_key(&b.0) {",
        "if false {",
    ),
    bug(
        "a copy goes beyond the end of a part (v2)",
        "hypercalls/grants.rs",
        "if offset < used.part.start || offset + len > used.part.end {",
        "if offset < used.part.start {",
    ),
    bug(
        "a part of a page can be mapped (v2)",
        "core/grant_uses.rs",
        "let is_whole = !transitive && !is_part;",
        "let is_whole = !transitive && (is_part || !is_part);",
    ),
    bug(
        "the status words behind the first 2,048 are those of the first (v2)",
        "core/grant_table.rs",
        "TABLE_PAGES * PAGE_SIZE + gref.0 as usize * 2)",
        "TABLE_PAGES * PAGE_SIZE + gref.0 as usize % 2048 * 2)",
    ),
    bug(
        "the version changes while a grant is used",
        "hypercalls/grants.rs",
        "if state.grants.busy() || is_seen {",
        "if is_seen {",
    ),
    bug(
        "a frame is given back twice",
        "core/memory/frame_types.rs",
        "frame.is_some_and(|frame| std::mem::take(&mut frame.allocated))",
        "frame.is_some_and(|frame| {\n            frame.allocated = false;\n            true\n        })",
    ),
    bug(
        "an exchange says that nothing was exchanged",
        "hypercalls/memory.rs",
        "exchange.nr_exchanged = index + 1;",
        "",
    ),
    bug(
        "a list is given back as a whole if its first frame is",
        "hypercalls/memory.rs",
        "                if !state.memory.give_back(gfn) {\n                    return Ok(index);",
        "                if !state.memory.give_back(gfn) {\n                    return Ok(list.nr_extents as usize);",
    ),
    bug(
        "the reservation of another domain is told",
        "hypercalls/memory.rs",
        "            XENMEM_CURRENT_RESERVATION => {\n                self.own(read(memory, arg)?)?;",
        "            XENMEM_CURRENT_RESERVATION => {\n                let _whose: u16 = read(memory, arg)?;",
    ),
    bug(
        "a page is cleared but for its first word",
        "core/memory/mod.rs",
        "None => unsafe { target.write_bytes(0, PAGE_SIZE) },",
        "None => unsafe { target.add(8).write_bytes(0, PAGE_SIZE - 8) },",
    ),
    bug(
        "half of a page is copied",
        "core/memory/mod.rs",
        "self.own_page(source).copy_to(target, PAGE_SIZE)",
        "self.own_page(source).copy_to(target, PAGE_SIZE / 2)",
    ),
    bug(
        "an entry that is replaced keeps its page in use",
        "core/memory/frame_types.rs",
        "        self.frames.seen[at] = entry;\n        if before & PRESENT != 0 {",
        "        self.frames.seen[at] = entry;\n        if before & PRESENT != 0 && entry & PRESENT == 0 {",
    ),
    bug(
        "a count that cannot be written is an error",
        "hypercalls/mmu.rs",
        "let _unmapped = memory.copy_out(done_at, done.as_bytes());",
        "memory.copy_out(done_at, done.as_bytes())?;",
    ),
    bug(
        "time asleep counts as time that it ran",
        "engine/sleep.rs",
        "state.enter(vcpu, RunState::BLOCKED, now_ns);",
        "",
    ),
    bug(
        "nothing is written where run times are to be told",
        "hypercalls/vcpu.rs",
        "(times.told_at, info.as_bytes()),",
        "(Area::None, info.as_bytes()),",
    ),
    bug(
        "words that move leave their mask behind",
        "core/event_channels.rs",
        "            mask.store(\n                peer_field!(old, VcpuInfo, evtchn_upcall_mask)\n                    .load_acquire()\n                    .trust(),\n            );",
        "            let _left = old;",
    ),
    bug(
        "a vCPU that is up starts again when it is told to come up",
        "engine/vcpus.rs",
        "        if !found.is_up {\n            found.is_up = true;",
        "        if found.is_up && let Some(Entry::Code { code, argument }) = found.entry.clone() {\n            \
         drop(state);\n            \
         std::thread::spawn(move || {\n                \
         CURRENT.set(vcpu);\n                \
         let code = core::ptr::with_exposed_provenance::<()>(code as usize);\n                \
         let code = unsafe { core::mem::transmute::<*const (), Code>(code) };\n                \
         code(argument)\n            });\n            \
         return Ok(0);\n        }\n        \
         if !found.is_up {\n            found.is_up = true;",
    ),
    bug(
        "a periodic timer rings once",
        "core/vcpu_state.rs",
        "self.periodic_ns = Some((at + (missed + 1) * period, period));",
        "self.periodic_ns = (missed == u64::MAX).then_some((at, period));",
    ),
    bug(
        "a periodic timer is not stopped",
        "hypercalls/vcpu.rs",
        "self.state().vcpus[index].timers.periodic_ns = None;",
        "",
    ),
    bug(
        "a timer that is set again rings at the earlier time",
        "hypercalls/vcpu.rs",
        "self.state().vcpus[index].timers.singleshot_ns = Some(timer.timeout_abs_ns);",
        "self.state().vcpus[index]\n                    .timers\n                    .singleshot_ns\n                    .get_or_insert(timer.timeout_abs_ns);",
    ),
    bug(
        "timers ring half a second late",
        "core/vcpu_state.rs",
        "self.singleshot_ns.is_some_and(|at| at <= now_ns);",
        "self.singleshot_ns.is_some_and(|at| at + SECOND_NS / 2 <= now_ns);",
    ),
    bug(
        "set_timer_op sets nothing",
        "hypercalls/vcpu.rs",
        "vcpu.timers.singleshot_ns = (timeout_ns != 0).then_some(timeout_ns);",
        "let _timers = (&vcpu.timers, timeout_ns);",
    ),
    bug(
        "children stay when a node is removed",
        "services/xenstore/tree.rs",
        "*other == path || other.starts_with(&below);",
        "*other == path || other == &&below;",
    ),
    bug(
        "a transaction sees what others write meanwhile",
        "services/xenstore/request.rs",
        "Ok(&transaction.tree)",
        "Ok(match transaction.changes.len() {\n            0 => &self.tree.now,\n            _ => &transaction.tree,\n        })",
    ),
    bug(
        "a watch is not told of a removal",
        "services/xenstore/mod.rs",
        "                _ => self.fire(path),",
        "                Change::Remove(_) => {}\n                _ => self.fire(path),",
    ),
    bug(
        "a watch that has ended fires on",
        "services/xenstore/request.rs",
        "self.watches.remove(at.ok_or(StoreError::ENOENT)?);",
        "at.ok_or(StoreError::ENOENT)?;",
    ),
    bug(
        "a new node belongs to the toolstack",
        "services/xenstore/tree.rs",
        "            *owner = domid;",
        "            *owner = DOM0;",
    ),
    bug(
        "a domain may have any number of nodes",
        "services/xenstore/tree.rs",
        "self.0.values().filter(owned).count() >= nodes",
        "self.0.values().filter(owned).count() >= 100 * nodes",
    ),
    bug(
        "what lies across the end of the ring is not taken",
        "services/console.rs",
        "if end.wrapping_sub(at) as usize > size || end == at {",
        "if end.wrapping_sub(at) as usize + at as usize % size > size || end == at {",
    ),
    bug(
        "the consumer's index runs ahead of the producer's",
        "services/console.rs",
        "consumer.store_release(at);",
        "consumer.store_release(at.wrapping_add(1));",
    ),
    bug(
        "a parameter that is set is not kept",
        "hypercalls/hvm.rs",
        "self.state().params.insert(param.index.0, param.value);",
        "",
    ),
    bug(
        "every frame is told to be memory",
        "hypercalls/hvm.rs",
        "let is_ram = self.state().memory.ram_index(get.pfn).is_some();",
        "let is_ram = true;",
    ),
    bug(
        "the guest's handle differs from call to call",
        "hypercalls/version.rs",
        "XENVER_GUEST_HANDLE => out(&[1; 16]),",
        "XENVER_GUEST_HANDLE => out(&[self.state().calls.values().sum::<u64>() as u8; 16]),",
    ),
    bug(
        "a PV guest is told the features of a PVH guest",
        "hypercalls/version.rs",
        "false => FEATURES_OF_PV.bits(),",
        "false => FEATURES_OF_PVH.bits() | FEATURES_OF_PV.bits(),",
    ),
    bug(
        "128 ports are too many for a poll",
        "hypercalls/sched.rs",
        "if poll.nr_ports > MAX_POLLED {",
        "if poll.nr_ports >= MAX_POLLED {",
    ),
    bug(
        "the flags are not those of the code that raised an exception",
        "front/hosted.rs",
        "registers: REGISTERS.map(get),",
        "registers: {\n            let mut all = REGISTERS.map(get);\n            all[16] &= !0xcd5;\n            all\n        },",
    ),
    bug(
        "the start information counts one page too many",
        "front/builder.rs",
        "start.nr_pages = memory.nr_pages() as u64;",
        "start.nr_pages = memory.nr_pages() as u64 + 1;",
    ),
    bug(
        "a frame that is given back stays readable (PVH)",
        "hypercalls/memory.rs",
        "let _shown = state.memory.show(at, None);",
        "let _shown = at;",
    ),
    bug(
        "the errors of a batch are not told one by one",
        "hypercalls/hvm.rs",
        "let at = (batch.errs as usize).wrapping_add(index * 4);",
        "let at = (batch.errs as usize).wrapping_add(index / 2);",
    ),
    bug(
        "time goes on twice as fast by the counter",
        "core/counter.rs",
        "peer_field!(time, VcpuTimeInfo, tsc_to_system_mul).store(told.scale.factor);",
        "peer_field!(time, VcpuTimeInfo, tsc_to_system_mul).store(told.scale.factor / 2);",
    ),
];
