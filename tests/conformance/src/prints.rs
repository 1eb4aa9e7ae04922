//! What is printed while something is being printed.

use alloc::{sync::Arc, task::Wake};
use core::{
    fmt,
    task::{Context, Waker},
};

use event_channels::Channel;
use hypercall_abi::VcpuId;
use pv_guest::{Current, Error, Guest, GuestType, println};

/// More than is kept while the console is in use.
const MANY: usize = 100;

/// Prints values that print, and one that is interrupted by an upcall which does.
pub(crate) fn run(guest: &Guest) -> Result<(), Error> {
    println!("prints: a value, {Talkative}, which prints");
    if guest.guest_type() != GuestType::Bare {
        interrupted(guest)?;
    }
    println!("prints: a value, {Tireless}, which goes on");
    println!("prints: the end");
    Ok(())
}

/// A value that prints while it is printed.
struct Talkative;

impl fmt::Display for Talkative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        println!("prints: within the value");
        f.write_str("talkative")
    }
}

/// The same, without an end.
struct Tireless;

impl fmt::Display for Tireless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for number in 0..MANY {
            println!("prints: within the value, number {number:3}");
        }
        f.write_str("tireless")
    }
}

/// A value that dies while it is printed.
pub(crate) struct Deadly;

impl fmt::Display for Deadly {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        println!("prints: before it dies");
        panic!("as the command line wished, within a value")
    }
}

/// A value at which an upcall comes.
struct Ringing<'c>(&'c Channel<'static, Current>);

impl fmt::Display for Ringing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It comes on the way back from this call.
        self.0.notify().map_err(|_| fmt::Error)?;
        f.write_str("ringing")
    }
}

/// Who is woken within the upcall.
struct Woken;

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        println!("prints: within the upcall");
    }
}

fn interrupted(guest: &Guest) -> Result<(), Error> {
    let failed = |_| Error::Failed("a port does not ring");
    let bell = Channel::ipi(guest.ports()?, VcpuId(0)).map_err(failed)?;
    bell.unmask().map_err(failed)?;
    let waker = Waker::from(Arc::new(Woken));
    if bell.poll_wait(&mut Context::from_waker(&waker)).is_ready() {
        return Err(Error::Failed("a port rang that nobody had rung"));
    }
    println!(
        "prints: a value, {}, at which an upcall comes",
        Ringing(&bell)
    );
    Ok(())
}
