//! In which order events come, and that each comes once: what Xen's queues promise.

use alloc::{sync::Arc, task::Wake, vec::Vec};
use core::{
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Waker},
};

use event_channels::{Channel, Interface, Wait};
use hypercall_abi::{
    DomId, Errno, Port, VcpuId, event_channel, peer_field,
    platform::Clock,
    sched,
    xen::{SharedInfo, VcpuInfo},
};
use pv_guest::{Current, Guest, sync::UpcallMutex};

use super::{Table, bell, polls_as_pending, upcall_pending};
use crate::claim::{Stop, Verdict, WAIT_NS, ensure, refused, same, skip};

/// When a port's event came, among those of all.
struct Turn {
    count: Arc<AtomicU32>,
    /// 0: not yet.
    came: AtomicU32,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        let turn = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        self.came.store(turn, Ordering::Relaxed);
    }
}

/// Sends on ports in a row, while upcalls are held back; the order in which they came,
/// by their places in `bells`.
fn sent_at_once(bells: &[&Channel<'static, Current>]) -> Result<Vec<usize>, Stop> {
    let count = Arc::new(AtomicU32::new(0));
    let turns: Vec<Arc<Turn>> = bells
        .iter()
        .map(|_| {
            Arc::new(Turn {
                count: Arc::clone(&count),
                came: AtomicU32::new(0),
            })
        })
        .collect();
    for (bell, turn) in bells.iter().zip(&turns) {
        let waker = Waker::from(Arc::clone(turn));
        // What came before is taken: it is waited for in earnest then.
        while bell.poll_wait(&mut Context::from_waker(&waker)).is_ready() {}
        turn.came.store(0, Ordering::Relaxed);
    }
    count.store(0, Ordering::Relaxed);
    let lock = UpcallMutex::new(());
    let held = lock.lock();
    let sent = bells.iter().try_for_each(|bell| bell.notify());
    drop(held);
    sent.map_err(|_| "it cannot be sent on")?;
    let came = |index: &usize| {
        turns
            .get(*index)
            .map_or(0, |turn| turn.came.load(Ordering::Relaxed))
    };
    let mut order: Vec<usize> = (0..bells.len()).collect();
    ensure(
        order.iter().all(|index| came(index) > 0),
        "one did not come",
    )?;
    order.sort_by_key(came);
    for bell in bells {
        bell.take();
    }
    Ok(order)
}

fn on_queues(ports: Table) -> Verdict {
    match ports.interface() {
        Interface::Fifo => Ok(()),
        Interface::TwoLevel => skip("the 2-level interface has no queues"),
    }
}

fn with_priority(ports: Table, priority: u32) -> Result<Channel<'static, Current>, Stop> {
    let bell = bell(ports)?;
    let set = bell.set_priority(priority);
    set.map_err(|_| "there is no such priority")?;
    Ok(bell)
}

/// The lower the number, the earlier, whichever was sent first; and the last that was set
/// counts.
pub(super) fn events_come_by_priority(ports: Table) -> Verdict {
    if ports.interface() == Interface::TwoLevel {
        return ensure(
            bell(ports)?.set_priority(3).is_err(),
            "2-level ports have priorities",
        );
    }
    let [last, middle, first, usual] = [
        with_priority(ports, 15)?,
        with_priority(ports, 9)?,
        with_priority(ports, 0)?,
        bell(ports)?,
    ];
    // By a call that the library does not see: it would refuse before Xen is asked.
    let more = event_channel::set_priority(ports.platform(), first.port(), 16);
    refused(more, Errno::EINVAL)?;
    same(
        sent_at_once(&[&last, &middle, &usual, &first])?,
        alloc::vec![3, 2, 1, 0],
    )?;
    first.set_priority(12).map_err(|_| "it is set once only")?;
    last.set_priority(1).map_err(|_| "it is set once only")?;
    same(
        sent_at_once(&[&first, &middle, &usual, &last])?,
        alloc::vec![3, 2, 1, 0],
    )
}

/// Of one priority.
pub(super) fn events_come_in_the_order_in_which_they_were_sent(ports: Table) -> Verdict {
    on_queues(ports)?;
    let bells = [bell(ports)?, bell(ports)?, bell(ports)?, bell(ports)?];
    let [a, b, c, d] = &bells;
    for row in [[a, b, c, d], [d, b, a, c]] {
        same(sent_at_once(&row)?, alloc::vec![0, 1, 2, 3])?;
    }
    Ok(())
}

/// Whatever the port that had its number before.
pub(super) fn a_new_port_has_the_usual_priority(ports: Table) -> Verdict {
    on_queues(ports)?;
    let late = with_priority(ports, 11)?;
    let first = with_priority(ports, 15)?;
    let number = first.port();
    drop(first);
    let next = bell(ports)?;
    ensure(next.port() == number, "another number was given out")?;
    same(sent_at_once(&[&late, &next])?, alloc::vec![1, 0])
}

/// One that waits in a queue while it is masked and unmasked.
pub(super) fn an_unmasked_event_comes_once(ports: Table) -> Verdict {
    let (first, bell, last) = (bell(ports)?, bell(ports)?, bell(ports)?);
    let all = [&first, &bell, &last];
    for bell in all {
        bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    }
    let lock = UpcallMutex::new(());
    let held = lock.lock();
    let sent = all.iter().try_for_each(|bell| bell.notify());
    bell.mask();
    let unmasked = event_channel::unmask(ports.platform(), bell.port());
    drop(held);
    sent.map_err(|_| "it cannot be sent on")?;
    unmasked?;
    same(all.map(Channel::events), [1, 1, 1])
}

/// By the word alone: nobody is told of an old event.
pub(super) fn an_unmask_of_an_unmasked_port_makes_no_upcall(guest: &Guest) -> Verdict {
    let ports = guest.ports()?;
    if ports.interface() == Interface::Fifo {
        return skip("an unmask queues what is pending, by queues");
    }
    let bell = bell(ports)?;
    // SAFETY: a bit of a port's own, of these claims', and what is only read.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let port = bell.port().0;
    let mask = peer_field!(shared, SharedInfo, evtchn_mask).get(port as usize / 64);
    let mask = mask.ok_or("no such word")?;
    let lock = UpcallMutex::new(());
    // Others may ring meanwhile: not each time.
    for _ in 0..20 {
        bell.take();
        let held = lock.lock();
        bell.mask();
        let sent = bell.notify();
        // Without Xen: it is pending now, and not masked, and nobody was told.
        let _before = mask.fetch_and(!(1 << (port % 64)));
        let before = upcall_pending(guest)?;
        let unmasked = event_channel::unmask(ports.platform(), bell.port());
        let after = upcall_pending(guest)?;
        bell.mask();
        drop(held);
        sent.map_err(|_| "it cannot be sent on")?;
        unmasked?;
        if !before {
            bell.take();
            return ensure(!after, "it made one");
        }
    }
    Err("somebody rings all the time".into())
}

/// Not only at the first, or at the last.
pub(super) fn a_poll_looks_at_all_its_ports(ports: Table) -> Verdict {
    let bells = [bell(ports)?, bell(ports)?, bell(ports)?];
    let all = [0, 1, 2].map(|index: usize| bells.get(index).map_or(Port(0), Channel::port));
    let platform = ports.platform();
    for bell in &bells {
        bell.mask();
        bell.notify().map_err(|_| "it cannot be sent on")?;
        let start = platform.now_ns();
        sched::poll(platform, &all, Some(start + WAIT_NS))?;
        let took_ns = platform.now_ns() - start;
        let pending = polls_as_pending(ports, bell.port())?;
        bell.take();
        ensure(pending, "a masked port is not pending")?;
        ensure(
            took_ns < WAIT_NS / 2,
            "it slept although one of its ports is pending",
        )?;
    }
    Ok(())
}

/// The array of the queues grows by a page for 1,024 ports; what came before is told then.
pub(super) fn a_port_beyond_the_array_rings_when_it_grows(ports: Table) -> Verdict {
    const IN_A_PAGE: u32 = 1024;
    on_queues(ports)?;
    let platform = ports.platform();
    let mut all = Vec::new();
    let last = loop {
        match event_channel::bind_ipi(platform, VcpuId(0)) {
            Ok(port) if port.0 > IN_A_PAGE + 20 => break Some(port),
            Ok(port) => all.push(port),
            Err(_) => break None,
        }
    };
    let rang = last.map(|port| -> Result<bool, Stop> {
        event_channel::send(platform, port)?;
        // Only now there is a word for it: by that, before an upcall takes it, and not by what
        // the library notes of a port that had another owner.
        let lock = UpcallMutex::new(());
        let held = lock.lock();
        let bell = Channel::adopt(ports, port);
        let told = ports.port_ref(port).is_pending();
        drop(held);
        let bell = bell.map_err(|_| "it has no word")?;
        let deadline = platform.now_ns() + WAIT_NS;
        Ok(told && bell.wait_blocking(Some(deadline)) == Wait::Event)
    });
    for port in all {
        event_channel::close(platform, port)?;
    }
    match rang {
        Some(rang) => ensure(rang?, "what came before is lost"),
        None => skip("the domain has fewer ports"),
    }
}

/// The words that an upcall is told by are this vCPU's: nothing is left of one that was taken.
pub(super) fn what_was_taken_is_told_no_more(guest: &Guest) -> Verdict {
    let bell = bell(guest.ports()?)?;
    bell.unmask().map_err(|_| "a port cannot be unmasked")?;
    // SAFETY: it is only read.
    let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
    let words = peer_field!(shared, SharedInfo, vcpu_info).get(0);
    let words = words.ok_or("no words")?;
    bell.notify().map_err(|_| "it cannot be sent on")?;
    let lock = UpcallMutex::new(());
    // Others may ring meanwhile: not each time.
    for _ in 0..20 {
        let held = lock.lock();
        let pending = peer_field!(words, VcpuInfo, evtchn_upcall_pending)
            .load_acquire()
            .trust();
        drop(held);
        if pending == 0 {
            return same(bell.events(), 1);
        }
    }
    Err("there is always something to be told".into())
}

/// The end that is left is offered again, to the same domain.
pub(super) fn is_offered_again(ports: Table, port: Port) -> Verdict {
    let told = event_channel::status(ports.platform(), port)?;
    let own = event_channel::alloc_unbound(ports.platform(), DomId::SELF)?;
    let to_self = event_channel::status(ports.platform(), own)?;
    event_channel::close(ports.platform(), own)?;
    same(
        (told.status, told.unbound()),
        (to_self.status, to_self.unbound()),
    )
}
