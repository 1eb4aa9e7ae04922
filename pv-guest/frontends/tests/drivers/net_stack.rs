//! A network stack on a network interface: two guests with `smoltcp` send each
//! other a megabyte by TCP, whatever their backends leave to them.

use futures_util::{FutureExt as _, select_biased};
use hypercall_abi::platform::Clock as _;
use mock_hypervisor::{Config, Domain, NicConfig, Outcome, Time, Xen};
use pv_frontends::{
    adapters::smoltcp::Device,
    netfront::{self, Features, Nic, Offloads},
    xenbus::Bus,
};
use smoltcp::{
    iface::{self, Interface, SocketSet},
    socket::tcp,
    time::Instant,
    wire::{HardwareAddress, IpAddress, IpCidr},
};

use crate::kernel;

const BYTES: usize = 1 << 20;
const PORT: u16 = 7;
/// How long that may take.
const MAX_NS: u64 = 30_000_000_000;

fn byte(at: usize) -> u8 {
    ((at * 31) ^ (at >> 8)) as u8
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn address(self, number: u8) -> IpAddress {
        match self {
            Self::V4 => IpAddress::v4(10, 0, 0, number),
            Self::V6 => IpAddress::v6(0xfd00, 0, 0, 0, 0, 0, 0, number.into()),
        }
    }

    fn segments(self) -> Features {
        match self {
            Self::V4 => Features::SEGMENT_V4,
            Self::V6 => Features::SEGMENT_V6,
        }
    }
}

/// One end: the first sends and the second receives; says how much arrived.
async fn talk(bus: Bus<'_, &Domain>, own: u8, (family, offloads): (Family, Offloads)) -> usize {
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
        all.push(IpCidr::new(family.address(own), 24)).unwrap();
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
                    let remote = (family.address(2), PORT);
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
    if own == 1 && features.is_some_and(|them| them.contains(family.segments())) {
        // The backend has cut them.
        assert!(sent.tx_bytes / sent.tx_packets > 4000, "{sent:?}");
    }
    nic.close().await;
    done
}

fn clock(nic: &Nic<'_, &Domain>) -> u64 {
    nic.bus().ports().platform().now_ns()
}

fn transfer(config: &NicConfig, family: Family, offloads: [Offloads; 2]) {
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
            kernel::run_until(
                domain,
                Some(domain.now_ns() + MAX_NS),
                async |bus: Bus<'_, _>| talk(bus, *own, (family, offloads[index])).await,
            )
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
            for family in [Family::V4, Family::V6] {
                transfer(&config, family, offloads);
            }
        }
    }
}
