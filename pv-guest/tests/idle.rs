//! A guest that waits sleeps until that comes for which it waits. Wakeups are counted by
//! the mock: one for each event, none for the time in between.

use std::{
    future::Future,
    pin::pin,
    ptr::NonNull,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::future::{Either, select};
use hypercall_abi::{
    VcpuId,
    platform::{Clock, Park, Platform},
    sched::ShutdownReason,
};
use mock_hypervisor::{
    Config, DiskConfig, Domain, Medium, NicConfig, Outcome, Shutdown, Time, Xen,
};
use pv_guest::{
    Error, Guest,
    blkfront::{self, Disk},
    console, executor, hosted,
    netfront::{self, Nic},
    print,
    sync::UpcallMutex,
    time,
};

const SECOND_NS: u64 = 1_000_000_000;
/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(100);
/// An event, and one for what was taken just now: the daemon says that it has seen it.
const FEW: u64 = 3;

/// The guest, for its own code: it looks at what only its hypervisor knows.
static DOMAIN: OnceLock<&'static Domain> = OnceLock::new();
/// The guest has ended, or failed.
static ENDED: AtomicBool = AtomicBool::new(false);
/// When somebody types a line, in nanoseconds of the guest's clock; 0: not yet.
static TYPED_NS: AtomicU64 = AtomicU64::new(0);

fn domain() -> &'static Domain {
    DOMAIN.get().unwrap()
}

/// What `wait` returns, and how often the guest woke in it.
fn counted<T>(wait: impl FnOnce() -> T) -> (T, u64) {
    let before = domain().wakeups();
    let value = wait();
    (value, domain().wakeups() - before)
}

fn in_a_while() -> u64 {
    domain().now_ns() + u64::try_from(QUIET.as_nanos()).unwrap()
}

/// Has a line typed in the middle of what is waited for, and says by when that was seen.
fn have_typed() -> u64 {
    let at_ns = in_a_while() - 50 * SECOND_NS;
    TYPED_NS.store(at_ns, Ordering::SeqCst);
    at_ns + 2 * SECOND_NS
}

/// A line that is typed after 50 s, and none within 100 s: by `read_line`.
fn lines() {
    let mut line = [0; 16];
    let soon_ns = have_typed();
    let (read, wakeups) = counted(|| console::read_line(&mut line, in_a_while()).unwrap());
    assert_eq!(read, "typed");
    assert!(domain().now_ns() < soon_ns, "it was seen late");
    assert!(wakeups <= FEW, "{wakeups} wakeups for a line");
    let (read, wakeups) = counted(|| console::read_line(&mut line, in_a_while()));
    assert!(matches!(read, Err(Error::EndOfInput)));
    assert!(wakeups <= FEW, "{wakeups} wakeups without one");
}

struct Woken(AtomicU64);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn main(guest: Guest) -> Result<(), Error> {
    // Before there are upcalls, and with them.
    lines();
    guest.ports()?;
    lines();
    tasks();
    an_event_that_output_took();
    devices(&guest);
    Ok(())
}

/// A task that waits for input, beside one that sleeps.
fn tasks() {
    let mut input = [0; 16];
    let soon_ns = have_typed();
    let (read, wakeups) = counted(|| {
        executor::block_on(async {
            let (read, sleep) = (pin!(console::read(&mut input)), pin!(time::sleep(QUIET)));
            match select(read, sleep).await {
                Either::Left((read, _)) => read.unwrap(),
                Either::Right(_) => 0,
            }
        })
    });
    assert_eq!(&input[..read], b"typed\n");
    assert!(domain().now_ns() < soon_ns, "it was seen late");
    assert!(wakeups <= FEW, "{wakeups} wakeups for input");
}

/// Who waits for room in the ring takes the event by which input came.
fn an_event_that_output_took() {
    static HELD: UpcallMutex<()> = UpcallMutex::new(());

    let woken = Arc::new(Woken(AtomicU64::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let mut input = [0; 16];
    let mut read = pin!(console::read(&mut input));
    assert!(read.as_mut().poll(&mut cx).is_pending());
    {
        let _no_upcall = HELD.lock();
        domain().console_input(b"x");
        let before = woken.0.load(Ordering::SeqCst);
        print!("{}", "a page that has no room in the ring ".repeat(100));
        assert!(woken.0.load(Ordering::SeqCst) > before, "nobody was woken");
    }
    assert!(matches!(read.poll(&mut cx), Poll::Ready(Ok(1))));
}

/// All that a guest has, connected, with nothing to do.
fn devices(guest: &Guest) {
    let bus = guest.bus().unwrap();
    let mut input = [0; 1];
    let wakeups = executor::block_on(async {
        let disk = Disk::new(bus, "51712", blkfront::Config::default());
        disk.ready().await.unwrap();
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready().await.unwrap();
        // What the handshakes left to be told.
        time::sleep(Duration::from_secs(1)).await;
        let mut packet = Vec::new();
        let (disk, nic) = (pin!(disk.serve()), pin!(nic.receive(&mut packet)));
        let devices = select(disk, nic);
        let input = pin!(console::read(&mut input));
        let before = domain().wakeups();
        let quiet = pin!(time::sleep(QUIET));
        let ended = select(select(devices, input), quiet).await;
        assert!(matches!(ended, Either::Right(_)), "nothing was to happen");
        domain().wakeups() - before
    });
    assert!(wakeups <= FEW, "{wakeups} wakeups of an idle guest");
}

/// Tells when it goes, however that is.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        ENDED.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_guest_that_waits_sleeps() {
    let xen = Xen::new(Time::Virtual);
    let config = || Config {
        memory_mib: 16,
        ..Config::default()
    };
    let typist = xen.domain(Config::default()).unwrap();
    let domain: &'static Domain = Box::leak(Box::new(xen.domain(config()).unwrap()));
    assert!(DOMAIN.set(domain).is_ok());
    let disk = DiskConfig {
        medium: Medium::Bytes(vec![0; 1 << 20]),
        ..DiskConfig::default()
    };
    xen.attach_disk(domain.domid(), disk);
    xen.attach_nic(domain.domid(), NicConfig::default());
    domain.on_upcall(|vcpu| {
        assert_eq!(vcpu, VcpuId(0));
        // SAFETY: the mock calls this at upcalls of the first vCPU.
        unsafe { hosted::upcall() };
    });
    type Main = Box<dyn FnOnce(&Domain) + Send>;
    let guest: Main = Box::new(|domain| {
        let (start, shared): (NonNull<_>, NonNull<_>) = (domain.start_info(), domain.shared_info());
        let platform: &'static dyn Platform = DOMAIN.get().copied().unwrap();
        let _end = End;
        // SAFETY: the mock made them for this domain, which is never dropped.
        unsafe { hosted::start(platform, start, shared, main) }
    });
    let hands: Main = Box::new(|typist| {
        while !ENDED.load(Ordering::SeqCst) {
            let at_ns = TYPED_NS.swap(0, Ordering::SeqCst);
            if at_ns > 0 {
                typist.park(&[], Some(at_ns));
                DOMAIN.get().unwrap().console_input(b"typed\n");
            }
            typist.park(&[], Some(typist.now_ns() + SECOND_NS));
        }
    });
    let outcomes = xen.run(vec![(domain, guest), (&typist, hands)]);
    let ended = match outcomes.into_iter().next() {
        Some(Outcome::Shutdown(ended)) => ended,
        other => panic!("{other:?}"),
    };
    let console = String::from_utf8_lossy(&domain.console_output()).into_owned();
    let expected = Shutdown {
        reason: ShutdownReason::POWEROFF,
        report: String::new(),
    };
    assert_eq!(ended, expected, "{console}");
}
