//! Network stacks and their sockets in one task: they sleep while nothing comes. The clock of
//! embassy-net is pv-guest's, which stands where no guest was started.

#![cfg(all(feature = "embassy-net", feature = "net"))]
#[expect(dead_code, reason = "nothing here pauses")]
mod kernel;
#[expect(dead_code, reason = "no plain packet is made")]
#[path = "kernel/nic.rs"]
mod nic;

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use embassy_net::{StackResources, StaticConfigV4, tcp::TcpSocket};
use mock_hypervisor::{Domain, Frame, NicConfig};
use pv_frontends::{
    adapters,
    netfront::{self, Nic},
};
use pv_guest::executor::select;

use nic::with_nic;

/// How long nothing comes.
const IDLE: Duration = Duration::from_secs(600);
/// Polls of each meanwhile, at most: what its beginning takes.
const MAX_POLLS: u32 = 12;

/// Counts how often a future is polled.
async fn counted<F: Future>(count: &Cell<u32>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        count.set(count.get() + 1);
        future.as_mut().poll(cx)
    })
    .await
}

/// `embassy-net`'s runner, and a socket that waits for somebody.
#[test]
fn embassys_runner_sleeps_beside_its_sockets() {
    let wanted = netfront::Config::default();
    with_nic(
        NicConfig::default(),
        wanted,
        async |_, nic: Nic<'_, &Domain>| {
            let device = adapters::embassy_net::Device::new(&nic).await.unwrap();
            let config = embassy_net::Config::ipv4_static(StaticConfigV4 {
                address: "10.0.0.1/24".parse().unwrap(),
                gateway: None,
                dns_servers: Default::default(),
            });
            let mut resources = StackResources::<3>::new();
            let (stack, mut runner) = embassy_net::new(device, config, &mut resources, 1);
            let polls = [const { Cell::new(0) }; 2];
            let work = async {
                let (mut rx, mut tx) = ([0; 1024], [0; 1024]);
                let mut socket = TcpSocket::new(stack, &mut rx, &mut tx);
                let accept = counted(&polls[1], socket.accept(80));
                let waited = nic.bus().timeout(IDLE, accept).await;
                assert!(waited.is_err());
            };
            select(counted(&polls[0], runner.run()), work).await;
            for count in &polls {
                assert!(count.get() < MAX_POLLS, "{} polls", count.get());
            }
            drop(runner);
            nic.close().await;
        },
    );
}

/// `embassy-net` hears what comes, and is heard: who asks for its address is answered.
#[test]
fn embassys_stack_answers() {
    const OWN: [u8; 4] = [10, 0, 0, 1];
    const ASKERS: [u8; 4] = [10, 0, 0, 2];
    // Of Ethernet and IPv4; a question, or an answer.
    let arp = |answer: u8| [0, 1, 8, 0, 6, 4, 0, 1 + answer];
    let question = [&arp(0)[..], &nic::OTHER, &ASKERS, &[0; 6], &OWN].concat();
    let answer = [&arp(1)[..], &nic::MAC, &OWN, &nic::OTHER, &ASKERS].concat();
    with_nic(
        NicConfig::default(),
        netfront::Config::default(),
        async |host, nic: Nic<'_, &Domain>| {
            let device = adapters::embassy_net::Device::new(&nic).await.unwrap();
            let config = embassy_net::Config::ipv4_static(StaticConfigV4 {
                address: "10.0.0.1/24".parse().unwrap(),
                gateway: None,
                dns_servers: Default::default(),
            });
            let mut resources = StackResources::<3>::new();
            let (_stack, mut runner) = embassy_net::new(device, config, &mut resources, 1);
            host.tap
                .send(Frame::whole(nic::ethernet([0xff; 6], 0x806, &question)));
            let bus = nic.bus();
            let ran = bus.timeout(Duration::from_secs(1), runner.run()).await;
            assert!(ran.is_err());
            let came = std::iter::from_fn(|| host.tap.receive());
            let answers = came.filter(|frame| {
                frame.bytes.get(12..14) == Some(&[8, 6]) && frame.bytes[14..].starts_with(&answer)
            });
            assert_eq!(answers.count(), 1);
            drop(runner);
            nic.close().await;
        },
    );
}

/// `smoltcp`'s device, beside anything.
#[test]
fn a_device_that_nothing_comes_to_sleeps() {
    let wanted = netfront::Config::default();
    with_nic(
        NicConfig::default(),
        wanted,
        async |_, nic: Nic<'_, &Domain>| {
            let mut device = adapters::smoltcp::Device::new(&nic).await.unwrap();
            let polls = [const { Cell::new(0) }; 2];
            {
                let changes = async {
                    loop {
                        counted(&polls[0], device.changed()).await;
                    }
                };
                let status = async {
                    let known = nic.status();
                    counted(&polls[1], nic.status_change(known)).await
                };
                let (changes, status) = (pin!(changes), pin!(status));
                let both = futures_util::future::select(changes, status);
                assert!(nic.bus().timeout(IDLE, both).await.is_err());
            }
            for count in &polls {
                assert!(count.get() < MAX_POLLS, "{} polls", count.get());
            }
            drop(device);
            nic.close().await;
        },
    );
}
