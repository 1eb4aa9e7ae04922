//! A stack whose interface comes back with a smaller MTU than the stack was told.

use futures_util::{FutureExt as _, select_biased};
use mock_hypervisor::{Domain, Frame, NicConfig, Segments};
use pv_frontends::{
    adapters::smoltcp::Device,
    netfront::{self, Nic},
};
use smoltcp::{
    phy::{Device as _, PacketMeta, TxToken as _},
    time::Instant,
};

use crate::{
    kernel,
    nic::{Host, MAC, OTHER, plain, with_nic},
    tcp::tcp,
};

const HEADERS: usize = 14 + 20 + 20;

/// Restarts the backend, with another MTU.
async fn restart(host: &Host, nic: &Nic<'_, &Domain>, mtu: &str) {
    let path = "/local/domain/1/device/vif/0/mtu";
    host.xen.store_write(path, mtu.as_bytes()).unwrap();
    let before = nic.counters().connections;
    host.xen.restart_nic(host.id);
    while nic.counters().connections == before {
        select_biased! {
            () = nic.serve().fuse() => {}
            () = kernel::pause().fuse() => {}
        }
    }
}

/// Sends a packet as the stack does, perhaps one that is to be cut.
fn send(device: &mut Device<'_, &Domain>, packet: &[u8], segment_bytes: Option<u16>) {
    let mut token = device.transmit(Instant::ZERO).expect("there is room");
    let mut meta = PacketMeta::default();
    meta.segmentation_offload_size = segment_bytes.and_then(|bytes| bytes.try_into().ok());
    token.set_meta(meta);
    token.consume(packet.len(), |bytes| bytes.copy_from_slice(packet));
}

/// All that came out of the interface.
fn received(host: &Host) -> Vec<Frame> {
    std::iter::from_fn(|| host.tap.receive()).collect()
}

#[test]
fn packets_that_are_too_long_now_are_cut_or_counted() {
    for now in ["576", "1280", "1500"] {
        let config = NicConfig {
            mtu: 9000,
            ..NicConfig::default()
        };
        with_nic(config, netfront::Config::default(), async |host, nic| {
            let mut device = Device::new(&nic).await.unwrap();
            restart(host, &nic, now).await;
            let interface = nic.ready().await.unwrap();
            let mtu = usize::from(interface.mtu);
            assert!(mtu <= 1500, "{interface:?}");
            assert_eq!(device.address().0, MAC);
            let packet = tcp(false, OTHER, 9014 - HEADERS);
            for segment_bytes in [None, Some(8000)] {
                send(&mut device, &packet, segment_bytes);
                let parts = received(host);
                // The backend cuts those that were joined for it.
                let fits = |frame: &Frame| match frame.segments {
                    Some(Segments::TcpV4(bytes) | Segments::TcpV6(bytes)) => {
                        usize::from(bytes) <= mtu - 40
                    }
                    None => frame.bytes.len() <= mtu + 14,
                };
                assert!(parts.iter().all(fits));
                let bytes = parts.iter().flat_map(|part| &part.bytes[HEADERS..]);
                assert!(bytes.eq(&packet[HEADERS..]));
            }
            // What is no packet of TCP is lost, but not without a trace.
            let before = nic.counters().tx_dropped;
            send(&mut device, &plain(OTHER, 9014), None);
            assert_eq!(received(host), []);
            assert_eq!(nic.counters().tx_dropped, before + 1);
            let short = plain(OTHER, mtu + 14);
            send(&mut device, &short, None);
            assert_eq!(received(host), [Frame::whole(short)]);
            nic.close().await;
        });
    }
}
