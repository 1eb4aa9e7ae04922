//! Which connections may have something to send: those for which something came or was done,
//! in their order, and those whose time has come.

use smoltcp::socket::tcp;

use super::{
    connection::{Id, Phase},
    connections::Connections,
};

/// Bytes of the smallest segments that smoltcp sends: its `MIN_REMOTE_MSS`.
const MIN_SEGMENT_BYTES: usize = 48;
/// Packets that a connection sends in a row beside those with something in them. After them
/// it sends for no reason.
const MAX_IN_A_ROW: usize = 16;
/// When a connection is asked again that says it has something to do, and does nothing.
pub(super) const STUCK_NS: u64 = 1_000_000;

/// When TCP has something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Now.
    Now,
    /// Then.
    Later(u64),
    /// When something comes or is done.
    Never,
}

impl Connections {
    /// Something came for a connection, or was done with it: it may have something to send.
    /// True: it is the first.
    pub(super) fn touch(&mut self, id: Id) -> bool {
        if let Some(one) = self.table.get(id) {
            one.in_a_row = 0;
        }
        self.enqueue(id)
    }

    fn enqueue(&mut self, id: Id) -> bool {
        let is_first = self.queue.is_empty();
        if let Some(one) = self.table.get(id)
            && !core::mem::replace(&mut one.is_queued, true)
        {
            self.queue.push_back(id);
        }
        is_first
    }

    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The next one that may have something to send.
    pub(super) fn next(&mut self) -> Option<Id> {
        let id = self.queue.pop_front()?;
        if let Some(one) = self.table.get(id) {
            one.is_queued = false;
        }
        Some(id)
    }

    /// It could send nothing: it is the next once more.
    pub(super) fn put_back(&mut self, id: Id) {
        if let Some(one) = self.table.get(id) {
            one.is_queued = true;
            self.queue.push_front(id);
        }
    }

    /// Notes what a connection did that was asked to send.
    pub(super) fn has_sent(&mut self, id: Id, has_sent: bool, at: At, now_ns: u64) {
        let Some((one, socket)) = self.table.both(id) else {
            return;
        };
        match at {
            At::Never | At::Later(_) => one.in_a_row = 0,
            At::Now if has_sent => one.in_a_row = one.in_a_row.saturating_add(1),
            At::Now => {}
        }
        // All that is on its way, to one who takes it in small segments.
        let most = socket.send_queue() / MIN_SEGMENT_BYTES + MAX_IN_A_ROW;
        one.due_ns = match at {
            At::Never => None,
            At::Later(at_ns) => Some(at_ns),
            At::Now if has_sent && (one.in_a_row as usize) < most => {
                one.due_ns = None;
                self.enqueue(id);
                return;
            }
            At::Now => Some(now_ns.saturating_add(STUCK_NS)),
        };
        // A peer that acknowledges the end of what it has no window for leaves smoltcp 0.14
        // with a probe of that window which is always due. There is nothing left to tell it.
        let is_told_all = socket.state() == tcp::State::FinWait2 && socket.send_queue() == 0;
        if has_sent && at == At::Now && is_told_all {
            match one.phase {
                // Whoever has the stream is told: it is his until he lets go of it.
                Phase::Held => {
                    socket.abort();
                    self.touch(id);
                }
                _ => self.abort(id, now_ns),
            }
        }
        self.note_time(id);
    }

    /// Notes when a connection has something to do.
    pub(super) fn note_time(&mut self, id: Id) {
        let next_ns = self.table.get(id).and_then(|one| one.next_ns());
        self.next_ns = [self.next_ns, next_ns].into_iter().flatten().min();
    }

    /// Those look again who wait for a time: it may be for somebody's hardware address, which
    /// is asked for once a second.
    pub(super) fn wake_waiting(&mut self) {
        for id in self.ids() {
            if self.table.get(id).is_some_and(|one| one.due_ns.is_some()) {
                self.enqueue(id);
            }
        }
    }

    /// All look again: what holds for all of them has changed.
    pub(super) fn touch_all(&mut self) {
        for id in self.ids() {
            self.touch(id);
        }
    }

    /// Those go on whose time has come.
    pub(super) fn wake_due(&mut self, now_ns: u64) {
        if self.next_ns.is_none_or(|next_ns| now_ns < next_ns) {
            return;
        }
        for id in self.ids() {
            let Some(one) = self.table.get(id) else {
                continue;
            };
            if one.next_ns().is_some_and(|next_ns| next_ns <= now_ns) {
                one.due_ns = None;
                self.enqueue(id);
                self.update(id, now_ns);
            }
        }
        let all = self.table.iter();
        self.next_ns = all.filter_map(|(_, one, _)| one.next_ns()).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{
        Config,
        connections::Whose,
        segment::{Ends, Kind, Segment},
    };
    use alloc::vec::Vec;

    /// Some who were asked for a connection each.
    fn some(count: u16) -> (Connections, Vec<Id>) {
        let mut all = Connections::new(Config::default(), 1, 0);
        all.listen(80).unwrap();
        let ids = (0..count).map(|port| {
            let ends = Ends {
                local: "10.0.0.1:80".parse().unwrap(),
                remote: ([10, 0, 0, 9], 1000 + port).into(),
            };
            let kind = Kind::Asks;
            let Whose::Of(id) = all.whose(Segment { kind, ends }, 0) else {
                panic!("there is room")
            };
            all.table.get(id).unwrap().phase = Phase::Held;
            id
        });
        let ids = ids.collect();
        (all, ids)
    }

    #[test]
    fn all_have_their_turn() {
        let (mut all, ids) = some(3);
        let [first, second, third] = ids[..] else {
            panic!("there are three")
        };
        assert!(!all.has_work());
        assert!(all.touch(first));
        assert!(!all.touch(second));
        assert!(!all.touch(third));
        assert!(!all.touch(first));
        assert_eq!(all.next(), Some(first));
        // Who has more to send does so behind the others.
        all.has_sent(first, true, At::Now, 0);
        assert_eq!(all.next(), Some(second));
        // For whom there is no room, he is the next.
        all.put_back(second);
        assert!(!all.touch(second));
        assert_eq!(all.next(), Some(second));
        all.has_sent(second, true, At::Never, 0);
        assert_eq!(all.next(), Some(third));
        all.has_sent(third, true, At::Later(5_000), 0);
        assert_eq!(all.next(), Some(first));
        all.has_sent(first, false, At::Never, 0);
        assert_eq!((all.next(), all.next_ns()), (None, Some(5_000)));
        // Whose time has come.
        all.wake_due(4_999);
        assert!(!all.has_work());
        all.wake_due(5_000);
        assert!(all.has_work());
    }

    /// Who has nothing to send and always something to do is asked now and then.
    #[test]
    fn who_sends_for_no_reason_is_bounded() {
        let (mut all, ids) = some(1);
        all.touch(ids[0]);
        let mut count = 0;
        while let Some(id) = all.next() {
            count += 1;
            assert!(count < 100, "without end");
            all.has_sent(id, true, At::Now, 0);
        }
        assert!(count >= 16);
        assert_eq!(all.next_ns(), Some(STUCK_NS));
        // One who does nothing, at once.
        all.touch(ids[0]);
        assert_eq!(all.next(), Some(ids[0]));
        all.has_sent(ids[0], false, At::Now, 7);
        assert!(!all.has_work());
        assert_eq!(all.next_ns(), Some(STUCK_NS));
        all.wake_due(7 + STUCK_NS);
        assert!(all.has_work());
    }

    /// Who asks and takes it back leaves nothing, also while nothing can be sent.
    #[test]
    fn who_is_gone_waits_for_no_turn() {
        let (mut all, _) = some(1);
        for _ in 0..100 {
            let ends = Ends {
                local: "10.0.0.1:80".parse().unwrap(),
                remote: "10.0.0.9:2000".parse().unwrap(),
            };
            let kind = Kind::Asks;
            let Whose::Of(id) = all.whose(Segment { kind, ends }, 0) else {
                panic!("there is room")
            };
            all.touch(id);
            // It listens again: his SYN is taken back.
            all.update(id, 0);
        }
        assert_eq!((all.count(), all.queue.len()), (1, 0));
    }
}
