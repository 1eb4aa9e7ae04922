//! Event channels by both interfaces, against the mock's Xen: whatever is sent,
//! masked, dispatched and taken in whatever order, no event is lost and none is
//! invented.

use std::task::{Context, Waker};

use arbitrary::Arbitrary;
use event_channels::{Channel, Choice, Ports, Throttle};
use hypercall_abi::{VcpuId, peer::PeerPtr};
use mock_hypervisor::{Config, Domain};

const VCPU: VcpuId = VcpuId(0);
const CHANNELS: usize = 8;

/// What happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// A port rings.
    Ring(u8),
    /// A port is masked.
    Mask(u8),
    /// A port is unmasked.
    Unmask(u8),
    /// An event is taken.
    Take(u8),
    /// A task waits.
    Wait(u8),
    /// An upcall.
    Dispatch,
    /// A port's queue changes.
    Priority(u8, u8),
    /// A port is closed, and another opened.
    Renew(u8),
}

/// Does these steps.
///
/// # Panics
/// An event is lost, or invented.
pub fn run(steps: &[Step]) {
    for choice in [Choice::TwoLevel, Choice::Best] {
        run_by(steps, choice);
    }
}

fn run_by(steps: &[Step], choice: Choice) {
    let config = Config {
        memory_mib: 1,
        ..Config::default()
    };
    let Ok(domain) = Domain::new(config) else {
        return;
    };
    // SAFETY: the page lives as long as the domain, which outlives the ports.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(&domain, shared, choice, Throttle::default());
    let ports = ports.expect("there is memory for a few pages");
    let open = || Channel::ipi(&ports, VCPU).expect("there are ports");
    let mut channels: Vec<Channel<'_, &Domain>> = (0..CHANNELS).map(|_| open()).collect();
    // Whether each has rung and nobody has taken that.
    let mut rung = [false; CHANNELS];
    for step in steps {
        match step {
            Step::Ring(index) => {
                let index = usize::from(*index) % CHANNELS;
                channels[index].notify().expect("the port is open");
                rung[index] = true;
            }
            Step::Mask(index) => channels[usize::from(*index) % CHANNELS].mask(),
            Step::Unmask(index) => {
                let unmasked = channels[usize::from(*index) % CHANNELS].unmask();
                unmasked.expect("the port is open");
            }
            Step::Take(index) => {
                let index = usize::from(*index) % CHANNELS;
                assert_eq!(channels[index].is_pending(), rung[index]);
                assert_eq!(channels[index].take(), rung[index]);
                rung[index] = false;
            }
            Step::Wait(index) => {
                let index = usize::from(*index) % CHANNELS;
                let mut cx = Context::from_waker(Waker::noop());
                let ready = channels[index].poll_wait(&mut cx).is_ready();
                assert_eq!(ready, rung[index]);
                rung[index] = false;
            }
            Step::Dispatch => {
                ports.dispatch(VCPU);
            }
            Step::Priority(index, priority) => {
                let channel = &channels[usize::from(*index) % CHANNELS];
                let _two_level = channel.set_priority(u32::from(*priority));
            }
            Step::Renew(index) => {
                let index = usize::from(*index) % CHANNELS;
                drop(channels.remove(index));
                channels.insert(index, open());
                rung[index] = false;
            }
        }
    }
    // Who waits is woken, in the end.
    for (channel, rung) in channels.iter().zip(rung) {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = channel.poll_wait(&mut cx).is_ready();
        assert_eq!(ready, rung, "an event is lost, or invented");
        if ready {
            let again = channel.poll_wait(&mut cx).is_ready();
            assert!(!again, "an event came twice");
        }
        channel.notify().expect("the port is open");
    }
    ports.dispatch(VCPU);
    for channel in &channels {
        assert!(channel.events() > 0, "no upcall");
        assert!(channel.take(), "an event is lost");
    }
}
