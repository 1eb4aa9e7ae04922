//! A network stack on a network interface: two guests with `smoltcp` send each
//! other a megabyte by TCP, whatever their backends leave to them.

#![cfg(feature = "smoltcp")]

mod kernel;

use futures_util::{FutureExt as _, select_biased};
use mock_hypervisor::{Config, Domain, NicConfig, Outcome, Time, Xen};
use pv_guest::{
    adapt::smoltcp::Device,
    netfront::{self, Features, Nic, Offloads},
    xenbus::Bus,
};
use smoltcp::{
    iface::{self, Interface, SocketSet},
    socket::tcp,
    time::Instant,
    wire::{HardwareAddress, IpAddress, IpCidr},
};

const BYTES: usize = 1 << 20;
const PORT: u16 = 7;

fn byte(at: usize) -> u8 {
    ((at * 31) ^ (at >> 8)) as u8
}

/// One end: the first sends and the second receives; says how much arrived.
async fn talk(bus: Bus<'_, &Domain>, own: u8, offloads: Offloads) -> usize {
    let wanted = netfront::Config {
        offloads,
        ..netfront::Config::default()
    };
    let nic = Nic::new(bus, "0", wanted);
    let mut device = Device::new(&nic).await.unwrap();
    let address = HardwareAddress::Ethernet(device.address());
    let now = || Instant::from_micros(clock(&nic) as i64 / 1000);
    let mut interface = Interface::new(iface::Config::new(address), &mut device, now());
    interface.update_ip_addrs(|all| {
        all.push(IpCidr::new(IpAddress::v4(10, 0, 0, own), 24))
            .unwrap();
    });
    let buffer = || tcp::SocketBuffer::new(vec![0; 256 << 10]);
    let mut sockets = SocketSet::new(Vec::new());
    let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
    let mut done = 0;
    loop {
        interface.poll(now(), &mut device, &mut sockets);
        let tcp = sockets.get_mut::<tcp::Socket<'_>>(socket);
        if !tcp.is_open() && done == 0 {
            match own {
                1 => {
                    let remote = (IpAddress::v4(10, 0, 0, 2), PORT);
                    tcp.connect(interface.context(), remote, 49_152).unwrap();
                }
                _ => tcp.listen(PORT).unwrap(),
            }
        }
        if own == 1 && tcp.may_send() {
            let sent = tcp.send(|room| {
                let count = room.len().min(BYTES - done);
                for (index, target) in room[..count].iter_mut().enumerate() {
                    *target = byte(done + index);
                }
                (count, count)
            });
            done += sent.unwrap();
            if done == BYTES {
                tcp.close();
            }
        }
        if own == 2 && tcp.can_recv() {
            let received = tcp.recv(|bytes| {
                for (index, value) in bytes.iter().enumerate() {
                    assert_eq!(*value, byte(done + index), "at {}", done + index);
                }
                (bytes.len(), bytes.len())
            });
            done += received.unwrap();
        }
        if done == BYTES && !tcp.is_active() {
            break;
        }
        if own == 2 && done == BYTES && !tcp.may_recv() {
            tcp.close();
        }
        // Until something comes, or the stack has something to do.
        select_biased! {
            () = device.changed().fuse() => {}
            () = kernel::pause().fuse() => {}
        }
    }
    drop(device);
    let sent = nic.counters();
    let features = nic.interface().map(|interface| interface.features);
    if own == 1 && features.is_some_and(|them| them.contains(Features::SEGMENT_V4)) {
        // The backend has cut them.
        assert!(sent.tx_bytes / sent.tx_packets > 4000, "{sent:?}");
    }
    nic.close().await;
    done
}

fn clock(nic: &Nic<'_, &Domain>) -> u64 {
    use pv_guest::abi::platform::Clock as _;
    nic.bus().ports().platform().now_ns()
}

fn transfer(config: &NicConfig, offloads: [Offloads; 2]) {
    let xen = Xen::new(Time::Real);
    let guests = [1, 2].map(|own| {
        let config = Config {
            memory_mib: 16,
            ..Config::default()
        };
        let domain = xen.domain(config).unwrap();
        (own, domain)
    });
    for (own, domain) in &guests {
        let config = NicConfig {
            mac: [2, 0, 0, 0, 0, *own],
            ..config.clone()
        };
        xen.attach_nic(domain.domid(), config);
    }
    let run = |index: usize| {
        let (own, domain) = &guests[index];
        domain.run(|domain| {
            kernel::run_until(domain, None, async |bus: Bus<'_, _>| {
                talk(bus, *own, offloads[index]).await
            })
            .unwrap()
        })
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        assert!(matches!(run(0), Outcome::Returned(Some(BYTES))));
        assert!(matches!(
            other.join().unwrap(),
            Outcome::Returned(Some(BYTES))
        ));
    });
}

#[test]
fn a_megabyte_goes_from_stack_to_stack() {
    let full = NicConfig::default();
    let weak = NicConfig {
        segments: false,
        checksums_v4: false,
        checksums_v6: false,
        ..NicConfig::default()
    };
    let jumbo = NicConfig {
        mtu: 9000,
        queues: 2,
        ..NicConfig::default()
    };
    for config in [full, weak, jumbo] {
        for offloads in [[Offloads::All; 2], [Offloads::All, Offloads::None]] {
            transfer(&config, offloads);
        }
    }
}
