//! Bugs that claims did not find which could not fail, or hardly: each is why one asks more
//! than it did.

use super::{Mutant, bug};

pub(super) const WEAK: &[Mutant] = &[
    bug(
        "pages are given out as they were left",
        "core/memory/mod.rs",
        "unsafe { self.own_page(first).write_bytes(0, count * PAGE_SIZE) };",
        "let _page = unsafe { self.own_page(first) };",
    ),
    bug(
        "of several pages the first is cleared",
        "core/memory/mod.rs",
        "unsafe { self.own_page(first).write_bytes(0, count * PAGE_SIZE) };",
        "unsafe { self.own_page(first).write_bytes(0, PAGE_SIZE) };",
    ),
    bug(
        "a guest has memory where there is no place for it (PVH)",
        "hypercalls/hvm.rs",
        "let Some(page) = page.filter(|_| list.extent_order == 0) else {\n                return Ok(index);",
        "let Some(page) = page.filter(|_| list.extent_order == 0) else {\n                continue;",
    ),
    bug(
        "a text for Xen's console is read before it is refused",
        "hypercalls/mod.rs",
        "HypercallNr::CONSOLE_IO | HypercallNr::KEXEC_OP",
        "HypercallNr::CONSOLE_IO if a2 > 1 << 20 => Err(Errno::EFAULT),\n            HypercallNr::CONSOLE_IO | HypercallNr::KEXEC_OP",
    ),
    bug(
        "guests read Xen's console",
        "hypercalls/mod.rs",
        "HypercallNr::CONSOLE_IO | HypercallNr::KEXEC_OP",
        "HypercallNr::CONSOLE_IO if a1 == 1 && a2 != 4 => Ok(0),\n            HypercallNr::CONSOLE_IO | HypercallNr::KEXEC_OP",
    ),
    bug(
        "input comes that nobody sent",
        "services/console.rs",
        "producer.store_release(at);",
        "producer.store_release(at.wrapping_add(1));",
    ),
    bug(
        "the wall clock stands",
        "front/platform.rs",
        "Some(started_ns + self.now_ns())",
        "Some(started_ns)",
    ),
    bug(
        "the wall clock is a century ahead",
        "front/platform.rs",
        "Some(started_ns + self.now_ns())",
        "Some(started_ns + self.now_ns() + (100 * 365 * 86_400 * 1_000_000_000))",
    ),
    bug(
        "a queue gives its events out in reverse (FIFO)",
        "core/fifo.rs",
        "let _before = word.fetch_or(1 << EVTCHN_FIFO_LINKED);\n        let linked = self.link(tail, port);",
        "let is_queued = self.event_word(Port(tail)).filter(|_| tail != 0).is_some_and(|tail| {\n            tail.load_acquire().trust() & (1 << EVTCHN_FIFO_LINKED) != 0\n        });\n        let first = peer_field!(queues.control, EvtchnFifoControlBlock, head).get(priority);\n        let first = first.filter(|_| is_queued).map_or(0, |head| head.load_acquire().trust());\n        let _before = word.fetch_or(1 << EVTCHN_FIFO_LINKED | first);\n        let linked = false;",
    ),
    bug(
        "a new node has no readers but its maker",
        "services/xenstore/tree.rs",
        "            *owner = domid;\n        }",
        "            *owner = domid;\n        }\n        perms.truncate(1);",
    ),
    bug(
        "a list of names that changes is no conflict",
        "services/xenstore/tree.rs",
        "self.changed.insert(parent(path).into(), self.generation);",
        "",
    ),
    bug(
        "a node that is there is made anew",
        "services/xenstore/tree.rs",
        "if self.0.contains_key(path) {\n                    return Ok(Vec::new());\n                }\n                self.create",
        "self.0.remove(path);\n                self.create",
    ),
    bug(
        "a copy writes to a read-only grant",
        "hypercalls/grants.rs",
        "let dest = self.end(user, &op.dest, by_grant, Access::Write);\n        let copied = dest.and_then(|dest| {\n            let copied = self.copy_pages(&source, &dest, op);\n            self.release(&dest, Access::Write);",
        "let dest = self.end(user, &op.dest, by_grant, Access::Read);\n        let copied = dest.and_then(|dest| {\n            let copied = self.copy_pages(&source, &dest, op);\n            self.release(&dest, Access::Read);",
    ),
    bug(
        "a periodic timer rings for each period that nobody saw",
        "core/vcpu_state.rs",
        "let missed = (now_ns - at) / period;",
        "let missed = 0;",
    ),
];
