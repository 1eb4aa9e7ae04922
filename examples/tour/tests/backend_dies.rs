//! A test of a guest's code in 20 lines: a world of two domains, of which the
//! one that serves is killed while it has a page of the guest's mapped.

use event_channels::{Channel, Choice, Ports, Throttle, Wait};
use grant_tables::{Borrowed, GrantTable, Page, PeerWrites, ReadWrite, Version};
use hypercall_abi::{peer::PeerPtr, platform::Clock};
use mock_hypervisor::{Config, Domain, NoMemory, Outcome, Time, Xen};

#[test]
fn a_guest_outlives_its_backend() -> Result<(), NoMemory> {
    let xen = Xen::new(Time::Virtual);
    let (front, back) = (
        xen.domain(Config::default())?,
        xen.domain(Config::default())?,
    );
    let outcome = front.run(|front: &Domain| {
        // SAFETY: the domain's own page, which outlives the ports.
        let shared = unsafe { PeerPtr::new(front.shared_info()) };
        let ports = Ports::new(front, shared, Choice::Best, Throttle::default()).unwrap();
        let grants = GrantTable::new(front, Version::One).unwrap();
        let theirs = GrantTable::new(&back, Version::One).unwrap();

        let channel = Channel::unbound(&ports, back.domid()).unwrap();
        let lent = grants
            .share::<PeerWrites>(back.domid(), Page::new(&grants).unwrap())
            .unwrap();
        let mapped = Borrowed::<_, ReadWrite>::map(&theirs, front.domid(), &[lent.gref()]).unwrap();
        mapped.page(0).unwrap().copy_from(b"half a request");
        assert!(lent.is_used());

        back.destroy(); // it never comes to unmap the page

        channel.notify().unwrap(); // an event to nobody is no error ...
        let deadline = Some(front.now_ns() + 1_000_000);
        assert_eq!(channel.wait_blocking(deadline), Wait::Deadline); // ... and none comes
        let page = lent.end().unwrap(); // nobody has the page any more
        assert_eq!(&page.bytes()[..14], b"half a request");
    });
    assert!(matches!(outcome, Outcome::Returned(())));
    Ok(())
}
