//! The console's ring, and what the daemon at its other end does.

use alloc::string::{String, ToString as _};

use hypercall_abi::{
    Errno, HypercallNr,
    io::console::XenconsInterface,
    peer::PeerPtr,
    peer_field,
    platform::{Clock, Hypercall, Pages},
    sched,
};
use pv_guest::{Guest, GuestType, println};

use crate::claim::{Group, Stop, Verdict, WAIT_NS, claims, ensure, on_xen, same, skip};

pub(super) const GROUP: Group = Group {
    name: "console",
    claims: claims! {
        on_xen(what_was_written_is_taken): "io/console.h: out_cons",
        on_xen(what_lies_across_the_end_is_taken): "io/console.h: MASK_XENCONS_IDX",
        on_xen(more_than_a_ring_is_taken_too): "io/console.h: out_prod",
        on_xen(the_indices_stay_in_their_rings): "io/console.h: in_prod and out_prod",
        on_xen(the_daemon_rings_when_it_took_something): "io/console.h: struct xencons_interface",
        on_xen(the_store_tells_of_it): "docs/misc/xenstore-paths.pandoc: console",
        on_xen(nobody_but_xen_writes_to_xens_own): "xen.h: console_io",
    },
};

type Ring = PeerPtr<'static, XenconsInterface>;

fn ring(guest: &Guest) -> Result<Ring, Stop> {
    let location = guest.boot_info().console.ok_or("there is none")?;
    let page = guest.platform().page_of(location.gfn).ok_or("no memory")?;
    // SAFETY: the page that the toolstack shares with the daemon, for good.
    Ok(unsafe { PeerPtr::new(page.cast()) })
}

/// What is in each ring: what is to be read, and what was written.
fn filled(ring: Ring) -> (u32, u32) {
    let index = |place: PeerPtr<'_, u32>| place.load_acquire().trust();
    (
        index(peer_field!(ring, XenconsInterface, in_prod)).wrapping_sub(index(peer_field!(
            ring,
            XenconsInterface,
            in_cons
        ))),
        index(peer_field!(ring, XenconsInterface, out_prod)).wrapping_sub(index(peer_field!(
            ring,
            XenconsInterface,
            out_cons
        ))),
    )
}

/// Waits until all is taken: not as long as a kernel that writes more than there is room
/// for would, so that what is not taken is told.
fn until_taken(guest: &Guest) -> Verdict {
    let ring = ring(guest)?;
    let platform = guest.platform();
    let end = platform.now_ns() + 5 * WAIT_NS;
    while filled(ring).1 > 0 {
        if platform.now_ns() > end {
            return Err("it is not taken".into());
        }
        sched::yield_now(platform);
    }
    Ok(())
}

fn what_was_written_is_taken(guest: &Guest) -> Verdict {
    println!("a line of the console's claims");
    until_taken(guest)
}

/// More than a ring in all, of which little at a time: a part lies at its end and at its
/// start, and nothing waits for room.
fn what_lies_across_the_end_is_taken(guest: &Guest) -> Verdict {
    for line in 0..60 {
        println!("line {line:2} of some, {}", "-".repeat(30));
        until_taken(guest)?;
    }
    Ok(())
}

fn more_than_a_ring_is_taken_too(guest: &Guest) -> Verdict {
    // Whoever takes nothing is waited for much longer.
    until_taken(guest)?;
    for line in 0..80 {
        println!("line {line:3} of many, {}", "#".repeat(40));
    }
    until_taken(guest)
}

/// What a guest writes moves the one, what the daemon takes the other, and neither goes
/// beyond it or back; input that nobody sent is not there.
fn the_indices_stay_in_their_rings(guest: &Guest) -> Verdict {
    const INPUT: u32 = 1024;
    const OUTPUT: u32 = 2048;
    /// Of a line, with one end or two.
    const LINE_BYTES: core::ops::RangeInclusive<u32> = 47..=48;
    let ring = ring(guest)?;
    let index = |place: PeerPtr<'_, u32>| place.load_acquire().trust();
    let output = || {
        let consumer = index(peer_field!(ring, XenconsInterface, out_cons));
        (
            consumer,
            index(peer_field!(ring, XenconsInterface, out_prod)),
        )
    };
    let input = || {
        let consumer = index(peer_field!(ring, XenconsInterface, in_cons));
        (
            consumer,
            index(peer_field!(ring, XenconsInterface, in_prod)),
        )
    };
    let before = input();
    ensure(filled(ring).0 <= INPUT, "more input than there is room")?;
    // Round the ring, at least.
    for line in 0..=OUTPUT / LINE_BYTES.start() {
        until_taken(guest)?;
        let (mut taken, start) = output();
        println!("line {line:3}, which the indices tell, {}", "-".repeat(12));
        let (_, written) = output();
        let end = guest.platform().now_ns() + 5 * WAIT_NS;
        ensure(
            LINE_BYTES.contains(&written.wrapping_sub(start)),
            "the producer's index does not tell what was written",
        )?;
        while taken != written {
            let (consumer, producer) = output();
            same(producer, written)?;
            ensure(
                consumer.wrapping_sub(taken) <= written.wrapping_sub(taken),
                "the consumer's index is not between where it was and the producer's",
            )?;
            ensure(guest.platform().now_ns() < end, "it is not taken")?;
            taken = consumer;
        }
    }
    same(input(), before)
}

/// A guest that waits for room is woken.
fn the_daemon_rings_when_it_took_something(guest: &Guest) -> Verdict {
    let port = guest.boot_info().console.ok_or("there is none")?.port;
    let rung = guest.ports()?.port_ref(port);
    let platform = guest.platform();
    for _ in 0..5 {
        until_taken(guest)?;
        rung.clear_pending();
        println!("another line of the console's claims");
        sched::poll(platform, &[port], Some(platform.now_ns() + WAIT_NS))?;
        // It may have returned for another reason.
        if rung.clear_pending() {
            return Ok(());
        }
    }
    Err("it did not, five times".into())
}

/// Where the page and the port are, for whoever connects the terminal.
fn the_store_tells_of_it(guest: &Guest) -> Verdict {
    let location = guest.boot_info().console.ok_or("there is none")?;
    let store = guest.store()?;
    let read = |name: &str| -> Result<String, Stop> {
        let value = store.wait(None, store.tree().read_text(name));
        value.map_err(|error| Stop::Failed(error.to_string().into()))
    };
    same(read("console/port")?, location.port.0.to_string())?;
    same(read("console/ring-ref")?, location.gfn.0.to_string())?;
    ensure(!read("console/type")?.is_empty(), "it has no type")
}

/// However long the text, and wherever it lies: not even that is looked at. A Xen that was
/// built for debugging takes what guests write.
fn nobody_but_xen_writes_to_xens_own(guest: &Guest) -> Verdict {
    const WRITE: usize = 0;
    const READ: usize = 1;
    if guest.guest_type() == GuestType::Bare {
        return skip("no Xen");
    }
    let mut text = *b"a guest's";
    let here = text.as_mut_ptr().expose_provenance();
    let ask = |what: usize, count: usize, address: usize| {
        // SAFETY: nothing is mapped at the other addresses, and as much as is named here.
        let answer = unsafe {
            guest
                .platform()
                .call3(HypercallNr::CONSOLE_IO, what, count, address)
        };
        Errno::check(answer)
    };
    let refused = Err(Errno::EPERM);
    let written = ask(WRITE, text.len(), here);
    let is_debugging = written == Ok(0);
    ensure(
        is_debugging || written == refused,
        "another answer than EPERM",
    )?;
    for (count, address) in [(usize::MAX, 0x1000), (1 << 31, 0x1000), (0, 0), (4, 0x1000)] {
        let told = ask(WRITE, count, address);
        match is_debugging {
            false => same(told, refused)?,
            true => ensure(
                matches!(told, Err(Errno::EFAULT) | Ok(0)),
                "another than EFAULT",
            )?,
        }
    }
    for (count, address) in [(text.len(), here), (0, 0), (4, 0x1000)] {
        same(ask(READ, count, address), refused)?;
    }
    same(&text, b"a guest's")
}
