//! Each way of a disk and of a network interface once, on little memory: few steps,
//! so that Miri can take them all.

mod kernel;

use std::pin::pin;

use futures_util::poll;
use mock_hypervisor::{Config, DiskConfig, Domain, Frame, Medium, NicConfig, Outcome, Time, Xen};
use pv_frontends::{
    blkfront::{self, Disk, Sector},
    netfront::{self, Nic, Offload},
    xenbus::Bus,
};

const SECTORS: usize = 64;
const MAC: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 1];

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u8).wrapping_mul(31) ^ seed)
        .collect()
}

/// Runs a guest of 3 MiB.
fn with_guest(xen: &Xen, main: impl for<'g> AsyncFnOnce(Bus<'g, &'g Domain>)) {
    let config = Config {
        memory_mib: 3,
        ..Config::default()
    };
    let domain = xen.domain(config).unwrap();
    xen.attach_disk(
        domain.domid(),
        DiskConfig {
            medium: Medium::Bytes(pattern(SECTORS * 512, 1)),
            latency_ns: 1000,
            ..DiskConfig::default()
        },
    );
    xen.attach_nic(domain.domid(), NicConfig::default());
    let outcome = domain.run(|domain| {
        let value = kernel::run_until(domain, Some(60_000_000_000), async |bus: Bus<'_, _>| {
            main(bus).await;
        });
        value.unwrap().expect("it waits for ever");
    });
    assert!(matches!(outcome, Outcome::Returned(())), "{outcome:?}");
}

#[test]
fn a_disk_is_read_and_written() {
    let xen = Xen::new(Time::Virtual);
    with_guest(&xen, async |bus| {
        let disk = Disk::new(bus, "51712", blkfront::Config::default());
        assert_eq!(disk.ready().await.unwrap().sectors, SECTORS as u64);
        let mut read = vec![0; 3 * 512];
        disk.read(Sector(7), &mut read).await.unwrap();
        assert_eq!(read, pattern(SECTORS * 512, 1)[7 * 512..10 * 512]);
        // From two slices, which end within a sector.
        let new = pattern(9 * 512, 2);
        let (one, other) = new.split_at(700);
        disk.write_vectored(Sector(8), &[one, other]).await.unwrap();
        disk.flush().await.unwrap();
        // One that nobody waits for any more.
        {
            let write = pin!(disk.write(Sector(0), &new[..512]));
            assert!(poll!(write).is_pending());
        }
        kernel::pause().await;
        let mut buffer = disk.buffer(1).await.unwrap();
        assert_eq!(buffer.copy_from(0, &new[..4096]), 4096);
        let (buffer, written) = disk.write_granted(Sector(24), buffer).await;
        written.unwrap();
        let (buffer, read) = disk.read_granted(Sector(8), buffer).await;
        read.unwrap();
        let mut bytes = vec![0; 4096];
        assert_eq!(buffer.copy_to(0, &mut bytes), 4096);
        assert_eq!(bytes, new[..4096]);
        drop(buffer);
        disk.close().await;
    });
}

#[test]
fn packets_are_sent_and_received() {
    let xen = Xen::new(Time::Virtual);
    let tap = xen.tap("xenbr0");
    with_guest(&xen, async |bus| {
        let nic = Nic::new(bus, "0", netfront::Config::default());
        nic.ready().await.unwrap();
        let packet = |len: usize| [&MAC[..], &pattern(len, 3)].concat();
        let mut received = Vec::new();
        for len in [60, 1500] {
            let sent = packet(len);
            let (head, rest) = sent.split_at(9);
            nic.send(&[head, rest], Offload::default()).await.unwrap();
            assert_eq!(tap.receive(), Some(Frame::whole(sent.clone())));
            tap.send(Frame::whole(sent.clone()));
            nic.receive(&mut received).await.unwrap();
            assert_eq!(received, sent);
        }
        nic.close().await;
    });
}
