//! The sample driver, with a backend in another domain than 0: typed at, restarted,
//! and lied to.

mod driver;

use std::{
    future::Future as _,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use crate::kernel;
use driver::Keyboard;
use event_channels::{Channel, Choice, Ports, Throttle};
use futures_util::future::{Either, select};
use grant_tables::{Borrowed, GrantTable, ReadWrite, Version};
use hypercall_abi::{
    GrantRef, Port,
    io::kbdif::{
        XENKBD_IN_EVENT_SIZE, XENKBD_IN_RING_LEN, XENKBD_IN_RING_OFFS, XenkbdKey, XenkbdType,
    },
    peer::PeerPtr,
};
use mock_hypervisor::{Config, Domain, Outcome, Time, Xen};
use pv_frontends::xenbus::Bus;
use zerocopy::IntoBytes;

/// The toolstack and the backend's own view of the store.
struct Host {
    xen: Xen,
    front: String,
    back: String,
}

impl Host {
    fn new(xen: &Xen, front: &Domain, back: &Domain) -> Self {
        let (guest, owner) = (front.domid(), back.domid());
        let host = Self {
            xen: xen.clone(),
            front: format!("/local/domain/{guest}/device/vkbd/0"),
            back: format!("/local/domain/{owner}/backend/vkbd/{guest}/0"),
        };
        for (path, value) in [
            (host.back.clone(), String::new()),
            (format!("{}/state", host.back), "2".into()),
            (format!("{}/online", host.back), "1".into()),
            (host.front.clone(), String::new()),
            (format!("{}/backend", host.front), host.back.clone()),
            (format!("{}/backend-id", host.front), owner.to_string()),
            (format!("{}/state", host.front), "1".into()),
        ] {
            xen.store_write(&path, value.as_bytes()).unwrap();
            let (owner, reader) = if path.starts_with(&host.front) {
                (guest, owner)
            } else {
                (owner, guest)
            };
            xen.store_share(&path, owner, &[reader]).unwrap();
        }
        host
    }

    fn say(&self, state: u32) {
        let path = format!("{}/state", self.back);
        self.xen
            .store_write(&path, state.to_string().as_bytes())
            .unwrap();
    }

    fn front(&self, name: &str) -> Option<u32> {
        let value = self
            .xen
            .store_read(&format!("{}/{name}", self.front))
            .ok()?;
        String::from_utf8(value).ok()?.parse().ok()
    }

    async fn wait_for(&self, state: u32) {
        while self.front("state") != Some(state) {
            kernel::pause().await;
        }
    }
}

/// The backend's side of a connection.
struct Line<'b> {
    page: Borrowed<'b, &'b Domain, ReadWrite>,
    channel: Channel<'b, &'b Domain>,
    written: u32,
}

impl<'b> Line<'b> {
    fn connect(
        host: &Host,
        front: &Domain,
        grants: &'b GrantTable<&'b Domain>,
        ports: &'b Ports<&'b Domain>,
    ) -> Self {
        let gref = GrantRef(host.front("page-gref").unwrap());
        let port = Port(host.front("event-channel").unwrap());
        Self {
            page: Borrowed::map(grants, front.domid(), &[gref]).unwrap(),
            channel: Channel::interdomain(ports, front.domid(), port).unwrap(),
            written: 0,
        }
    }

    fn press(&mut self, keycode: u32) {
        let key = XenkbdKey {
            r#type: XenkbdType::KEY,
            pressed: 1,
            keycode,
            ..XenkbdKey::default()
        };
        self.put(key.as_bytes());
    }

    fn put(&mut self, event: &[u8]) {
        let slot = self.written as usize % XENKBD_IN_RING_LEN;
        let page = self.page.page(0).unwrap();
        let offset = XENKBD_IN_RING_OFFS + slot * XENKBD_IN_EVENT_SIZE;
        page.get(offset, XENKBD_IN_EVENT_SIZE)
            .unwrap()
            .copy_from(event);
        self.tell(self.written.wrapping_add(1));
    }

    /// Writes the index behind the last event.
    fn tell(&mut self, index: u32) {
        self.written = index;
        let page = self.page.page(0).unwrap();
        page.get(4, 4).unwrap().copy_from(&index.to_le_bytes());
        self.channel.notify().unwrap();
    }
}

#[test]
fn keys_come_from_a_backend_in_another_domain() {
    let xen = Xen::new(Time::Virtual);
    let [front, back] = [(); 2].map(|()| xen.domain(Config::default()).unwrap());
    let host = Host::new(&xen, &front, &back);
    // SAFETY: the page lives as long as the domain.
    let shared = unsafe { PeerPtr::new(back.shared_info()) };
    let ports = Ports::new(&back, shared, Choice::Best, Throttle::default()).unwrap();
    let grants = GrantTable::new(&back, Version::One).unwrap();
    let outcome = front.run(|front| {
        let main = kernel::run_until(front, None, async |bus: Bus<'_, _>| {
            let keyboard = Keyboard::new(bus);
            let script = async {
                host.wait_for(3).await;
                let mut line = Line::connect(&host, front, &grants, &ports);
                host.say(4);
                for code in 0..200 {
                    line.press(code);
                    // What is no key is nothing.
                    line.put(&[7; XENKBD_IN_EVENT_SIZE]);
                    assert_eq!(keyboard.next().await.keycode, code);
                }
                // The backend ends, and begins anew.
                host.wait_for(4).await;
                drop(line);
                host.say(6);
                host.wait_for(1).await;
                host.say(2);
                host.wait_for(3).await;
                let mut line = Line::connect(&host, front, &grants, &ports);
                host.say(4);
                line.press(7);
                assert_eq!(keyboard.next().await.keycode, 7);

                // It lies: the driver lets go, and tells why.
                line.tell(1 << 20);
                let never = pin!(keyboard.next());
                let broken = pin!(host.wait_for(5));
                assert!(matches!(select(never, broken).await, Either::Right(_)));
                drop(line);
                host.say(6);
                host.wait_for(6).await;
                let told = xen.store_read("/local/domain/1/error/device/vkbd/0/error");
                assert!(String::from_utf8(told.unwrap()).unwrap().contains("index"));

                // A new one is none of that: it is connected by itself.
                host.say(2);
                host.wait_for(3).await;
                let mut line = Line::connect(&host, front, &grants, &ports);
                host.say(4);
                line.press(8);
                assert_eq!(keyboard.next().await.keycode, 8);

                // It lies once more; when that is noticed, it has ended, and another waits.
                for has_connected in [false, true] {
                    if has_connected {
                        host.wait_for(4).await;
                    }
                    line.tell(line.written.wrapping_add(1 << 20));
                    drop(line);
                    host.say(6);
                    host.say(2);
                    let never = pin!(keyboard.next());
                    let again = pin!(async {
                        host.wait_for(6).await;
                        host.wait_for(3).await;
                    });
                    assert!(matches!(select(never, again).await, Either::Right(_)));
                    line = Line::connect(&host, front, &grants, &ports);
                    host.say(4);
                    line.press(9);
                    assert_eq!(keyboard.next().await.keycode, 9);
                }

                // It lies and stays as it is, until its user asks for another try.
                line.tell(line.written.wrapping_add(1 << 20));
                let never = pin!(keyboard.next());
                let broken = pin!(host.wait_for(5));
                assert!(matches!(select(never, broken).await, Either::Right(_)));
                drop(line);
                host.say(5);
                host.wait_for(6).await;
                host.say(6);
                bus.sleep(Duration::from_secs(120)).await;
                assert_eq!(host.front("state"), Some(6));
                keyboard.reconnect();
                host.wait_for(1).await;
                host.say(2);
                host.wait_for(3).await;
                let mut line = Line::connect(&host, front, &grants, &ports);
                host.say(4);
                line.press(10);
                assert_eq!(keyboard.next().await.keycode, 10);
            };
            let (serving, script) = (pin!(bus.serve("0", &keyboard)), pin!(script));
            assert!(matches!(select(serving, script).await, Either::Right(_)));
        });
        main.unwrap().unwrap();
        assert_eq!(front.grants_in_use(), 0);
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

/// A task's waker, of which the handles are counted.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// A driver keeps a waker once, and no poll of it goes on for as long as the backend
/// writes.
#[test]
fn polls_end_and_leave_one_waker() {
    const STREAM: Duration = Duration::from_secs(5);
    let xen = Xen::new(Time::Virtual);
    let [front, back] = [(); 2].map(|()| xen.domain(Config::default()).unwrap());
    let host = Host::new(&xen, &front, &back);
    // SAFETY: the page lives as long as the domain.
    let shared = unsafe { PeerPtr::new(back.shared_info()) };
    let ports = Ports::new(&back, shared, Choice::Best, Throttle::default()).unwrap();
    let grants = GrantTable::new(&back, Version::One).unwrap();
    let outcome = front.run(|front| {
        let main = kernel::run_until(front, None, async |bus: Bus<'_, _>| {
            let keyboard = Keyboard::new(bus);
            let script = async {
                host.wait_for(3).await;
                let mut line = Line::connect(&host, front, &grants, &ports);
                host.say(4);
                host.wait_for(4).await;
                let task = Arc::new(Task);
                let waker = Waker::from(Arc::clone(&task));
                let mut cx = Context::from_waker(&waker);
                for code in 0..100 {
                    line.press(code);
                    let key = pin!(keyboard.next()).poll(&mut cx);
                    assert!(matches!(key, Poll::Ready(key) if key.keycode == code));
                    assert!(pin!(keyboard.next()).poll(&mut cx).is_pending());
                }
                // Ours, the waker, and two that are kept: by the driver and by its port.
                let handles = Arc::strong_count(&task);
                assert!(handles <= 4, "{handles} handles");

                // No keys, and always some more of them.
                let page = line.page.page(0).unwrap();
                let ring = page.get(
                    XENKBD_IN_RING_OFFS,
                    XENKBD_IN_RING_LEN * XENKBD_IN_EVENT_SIZE,
                );
                ring.unwrap()
                    .copy_from(&[7; XENKBD_IN_RING_LEN * XENKBD_IN_EVENT_SIZE]);
                let is_over = AtomicBool::new(false);
                thread::scope(|scope| {
                    scope.spawn(|| {
                        let begun = Instant::now();
                        while !is_over.load(Ordering::Relaxed) && begun.elapsed() < STREAM {
                            let read = page.at::<u32>(0).unwrap().load_acquire().trust();
                            let written = read.wrapping_add(XENKBD_IN_RING_LEN as u32);
                            page.at::<u32>(4).unwrap().store_release(written);
                        }
                    });
                    let begun = Instant::now();
                    for _ in 0..1000 {
                        assert!(pin!(keyboard.next()).poll(&mut cx).is_pending());
                    }
                    is_over.store(true, Ordering::Relaxed);
                    assert!(begun.elapsed() < STREAM, "a poll goes on");
                });
            };
            let (serving, script) = (pin!(bus.serve("0", &keyboard)), pin!(script));
            assert!(matches!(select(serving, script).await, Either::Right(_)));
        });
        main.unwrap().unwrap();
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}
