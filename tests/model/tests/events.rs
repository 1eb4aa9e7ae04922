//! Event channels: nobody sleeps over an event.

use event_channels::word::{
    self, BUSY, BitsWord, EventWord, LINK, LINKED, MASKED, PENDING, unmask_bit_if_quiet,
    unmask_if_quiet,
};
use loom::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{
            AtomicBool, AtomicU32, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            fence,
        },
    },
    thread,
};
use model::{Bits, Event};

/// `evtchn_fifo_set_pending`: says whether the event went into a queue, for
/// which there is an upcall.
fn xen_sends(word: &Event) -> bool {
    word.fetch_or(PENDING);
    if word.load() & (MASKED | LINKED) != 0 {
        return false;
    }
    word.fetch_or(LINKED) & LINKED == 0
}

/// `EVTCHNOP_unmask` for the FIFO interface.
fn xen_unmasks(word: &Event) -> bool {
    let before = word.fetch_and(!MASKED);
    before & PENDING != 0 && xen_sends(word)
}

#[test]
fn fifo_unmask_against_send() {
    loom::model(|| {
        let word = Arc::new(Event(AtomicU32::new(MASKED)));
        let theirs = Arc::clone(&word);
        let sender = thread::spawn(move || xen_sends(&theirs));
        let quiet = unmask_if_quiet(&*word);
        let asked = !quiet && xen_unmasks(&word);
        let sent = sender.join().unwrap();
        assert!(sent || asked, "the event is pending, and nobody is told");
    });
}

#[test]
fn fifo_unmask_while_xen_is_busy() {
    loom::model(|| {
        // It is in a queue, and Xen changes its link: meanwhile it must not
        // be changed by a plain write.
        let word = Arc::new(Event(AtomicU32::new(MASKED | LINKED | BUSY)));
        let theirs = Arc::clone(&word);
        let xen = thread::spawn(move || {
            loop {
                let old = theirs.load();
                let new = (old & !(BUSY | LINK)) | 7;
                if theirs.compare_exchange(old, new).is_ok() {
                    return;
                }
            }
        });
        xen.join().unwrap();
        assert!(unmask_if_quiet(&*word));
        assert_eq!(word.load(), LINKED | 7);
    });
}

/// `evtchn_fifo_set_link`, on a queue's tail: whether it was still in a queue.
fn xen_links(tail: &Event, port: u32) -> bool {
    loop {
        let old = tail.load();
        if old & LINKED == 0 {
            return false;
        }
        if tail.compare_exchange(old, (old & !LINK) | port).is_ok() {
            return true;
        }
    }
}

#[test]
fn fifo_unlink_against_link() {
    loom::model(|| {
        let tail = Arc::new(Event(AtomicU32::new(PENDING | LINKED)));
        let theirs = Arc::clone(&tail);
        let xen = thread::spawn(move || xen_links(&theirs, 9));
        let next = word::unlink(&*tail);
        let linked = xen.join().unwrap();
        // Either we go on with it, or Xen begins a new queue with it.
        assert_eq!(next == 9, linked);
        assert_eq!(tail.load() & (LINKED | LINK), 0);
    });
}

#[test]
fn two_level_unmask_against_send() {
    loom::model(|| {
        let pending = Arc::new(Bits(AtomicU64::new(0)));
        let mask = Arc::new(Bits(AtomicU64::new(1)));
        let (their_pending, their_mask) = (Arc::clone(&pending), Arc::clone(&mask));
        // `evtchn_2l_set_pending`: its atomic operations are full barriers.
        let sender = thread::spawn(move || {
            let before = their_pending.fetch_or(1);
            fence(SeqCst);
            before & 1 == 0 && their_mask.load() & 1 == 0
        });
        let quiet = unmask_bit_if_quiet(&*pending, &*mask, 1);
        // `evtchn_2l_unmask`.
        let asked = !quiet && mask.fetch_and(!1) & 1 != 0 && pending.load() & 1 != 0;
        let sent = sender.join().unwrap();
        assert!(sent || asked, "the event is pending, and nobody is told");
    });
}

/// A vCPU with one port, an upcall and a task: the steps of `poll_wait`,
/// `dispatch` and `idle`.
struct Vcpu {
    word: Event,
    upcall: Mutex<bool>,
    rung: Condvar,
    fired: AtomicBool,
    /// The waker: a task that waits.
    waits: AtomicBool,
    wakes: AtomicU32,
}

impl Vcpu {
    fn send(&self) {
        if xen_sends(&self.word) {
            *self.upcall.lock().unwrap() = true;
            self.rung.notify_one();
        }
    }

    /// `dispatch`, of one port.
    fn dispatch(&self) {
        word::unlink(&self.word);
        let now = self.word.load();
        if now & PENDING != 0 && now & MASKED == 0 && word::claim(&self.word) {
            self.fired.store(true, Release);
            if self.waits.swap(false, AcqRel) {
                self.wakes.fetch_add(1, AcqRel);
            }
        }
    }

    /// An upcall that comes now, if it is due.
    fn interrupt(&self) {
        let due = std::mem::take(&mut *self.upcall.lock().unwrap());
        if due {
            self.dispatch();
        }
    }

    fn take(&self) -> bool {
        let fired = self.fired.swap(false, AcqRel);
        word::clear_pending(&self.word) || fired
    }

    /// `Channel::poll_wait`.
    fn poll(&self) -> bool {
        if self.take() {
            return true;
        }
        self.waits.store(true, Release);
        if self.take() {
            return true;
        }
        if !unmask_if_quiet(&self.word) && xen_unmasks(&self.word) {
            *self.upcall.lock().unwrap() = true;
        }
        false
    }

    /// `idle`: upcalls are held back while it looks, and come in the sleep.
    fn idle(&self, seen: u32) {
        if self.wakes.load(Acquire) != seen {
            return;
        }
        let mut due = self.upcall.lock().unwrap();
        while !*due {
            due = self.rung.wait(due).unwrap();
        }
        *due = false;
        drop(due);
        self.dispatch();
    }
}

#[test]
fn park_against_send() {
    loom::model(|| {
        let vcpu = Arc::new(Vcpu {
            word: Event(AtomicU32::new(MASKED)),
            upcall: Mutex::new(false),
            rung: Condvar::new(),
            fired: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            wakes: AtomicU32::new(0),
        });
        let theirs = Arc::clone(&vcpu);
        let sender = thread::spawn(move || theirs.send());
        // A sleep that nobody ends is a deadlock, which loom tells.
        loop {
            let seen = vcpu.wakes.load(Relaxed);
            if vcpu.poll() {
                break;
            }
            vcpu.interrupt();
            vcpu.idle(seen);
        }
        sender.join().unwrap();
    });
}

const FIRED: u32 = 1;
const BEING_FIRED: u32 = 2;

/// A port that one vCPU waits for without upcalls, and whose upcalls another vCPU gets:
/// the steps of `wait_blocking` and `dispatch`.
struct Polled {
    word: Event,
    /// As a slot has them, in one word.
    state: AtomicU32,
    polls: Mutex<()>,
    rung: Condvar,
}

impl Polled {
    /// Says whether there is an upcall; who polls is woken in any case.
    fn send(&self) -> bool {
        let upcall = xen_sends(&self.word);
        let _polls = self.polls.lock().unwrap();
        self.rung.notify_one();
        upcall
    }

    fn dispatch(&self) {
        word::unlink(&self.word);
        let now = self.word.load();
        if now & PENDING != 0 && now & MASKED == 0 {
            self.state.fetch_or(BEING_FIRED, AcqRel);
            if word::claim(&self.word) {
                self.state.fetch_or(FIRED, AcqRel);
            }
            self.state.fetch_and(!BEING_FIRED, AcqRel);
        }
    }

    fn take(&self) -> bool {
        let fired = self.state.fetch_and(!FIRED, AcqRel) & FIRED != 0;
        word::clear_pending(&self.word) || fired
    }

    /// `SCHEDOP_poll`.
    fn park(&self) {
        let mut polls = self.polls.lock().unwrap();
        while self.word.load() & PENDING == 0 {
            polls = self.rung.wait(polls).unwrap();
        }
    }

    fn wait_blocking(&self) {
        word::mask(&self.word);
        loop {
            let is_busy = self.state.load(Acquire) & BEING_FIRED != 0;
            if self.take() {
                return;
            }
            if is_busy {
                thread::yield_now();
            } else {
                self.park();
            }
        }
    }
}

#[test]
fn poll_against_an_upcall_elsewhere() {
    loom::model(|| {
        let port = Arc::new(Polled {
            // Somebody listened before.
            word: Event(AtomicU32::new(0)),
            state: AtomicU32::new(0),
            polls: Mutex::new(()),
            rung: Condvar::new(),
        });
        let theirs = Arc::clone(&port);
        let other = thread::spawn(move || {
            if theirs.send() {
                theirs.dispatch();
            }
        });
        port.wait_blocking();
        other.join().unwrap();
    });
}
