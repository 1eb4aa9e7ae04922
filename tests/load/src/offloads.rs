//! `devices=offloads`: what Linux and the guest leave to each other of checksums and
//! segments, in both directions and by both protocols.

use alloc::vec;

use load_plan::{ECHO_PORT, GUEST, SERVER};
use pv_guest::{
    Error,
    netfront::{Checksum, Config, Counters, Mac, Nic},
    println,
    xenbus::Bus,
};
use smoltcp::wire::{IpAddress, IpCidr};

use crate::{
    devices::{PATIENCE, tell, text},
    nics::ready,
    sockets::Net,
    wire::{Family, GUEST6, SERVER6, echo, v4},
};

type Result<T> = core::result::Result<T, Error>;

/// Bytes of a stream, each way.
const STREAM_BYTES: usize = 1 << 20;
/// What is sent before it is read back: the connection holds it all.
const CHUNK: usize = 256 << 10;
/// Bytes of a segment as wires have them, at the most.
const SEGMENT_BYTES: u64 = 1460;

pub(crate) async fn run(bus: Bus<'static>) -> Result<()> {
    let nic = Nic::new(bus, "0", Config::default());
    let interface = ready(&nic).await?;
    println!("devices: the backend has {:?}", interface.features);
    let addresses = [
        IpCidr::new(v4(GUEST).into(), 24),
        IpCidr::new(GUEST6.into(), 64),
    ];
    let mut net = Net::new(&nic, &addresses).await?;
    for (family, other) in [
        (Family::V4, IpAddress::from(v4(SERVER))),
        (Family::V6, SERVER6.into()),
    ] {
        let before = nic.counters();
        let stream = bus.timeout(PATIENCE, stream(&mut net, other)).await;
        stream.map_err(|_| Error::Failed("a stream takes too long"))??;
        let (sent, came) = packets(before, nic.counters());
        let least = STREAM_BYTES as u64 / SEGMENT_BYTES;
        println!(
            "devices: {family:?}: {STREAM_BYTES} bytes went in {sent} packets and came back in {came}"
        );
        // Acknowledgements are among them.
        if sent >= least / 2 || came >= least / 2 {
            println!("devices: FAILED: a wire has {least} segments");
            return Err(Error::Failed("packets are no larger than a wire has them"));
        }
    }
    println!("devices: streams went and came in large packets, and nothing in them was changed");
    drop(net);
    // Domain 0 knows the guest's address now, for which nobody answers any more.
    let server = text(bus, "data/mac").await;
    let server: Mac = server
        .parse()
        .map_err(|_| Error::Failed("domain 0 has no address"))?;
    for family in [Family::V4, Family::V6] {
        for checksum in [Checksum::Complete, Checksum::Blank] {
            let came = echo(&nic, (interface.mac, server), family, checksum).await?;
            let came = came.ok_or(Error::Failed("a datagram does not come back"))?;
            println!("devices: {family:?}: a checksum that was {checksum:?} came back {came:?}");
            if came != Checksum::Blank {
                return Err(Error::Failed("domain 0 leaves no checksum to the guest"));
            }
        }
    }
    tell(bus, "done").await?;
    nic.close().await;
    Ok(())
}

const fn packets(before: Counters, after: Counters) -> (u64, u64) {
    (
        after.tx_packets - before.tx_packets,
        after.rx_packets - before.rx_packets,
    )
}

/// Sends to the echo, and compares what comes back.
async fn stream(net: &mut Net, other: IpAddress) -> Result<()> {
    let broken = Error::Failed("the connection broke");
    let socket = net.connect((other, ECHO_PORT)).await?;
    let mut chunk = vec![0; CHUNK];
    let mut back = vec![0; CHUNK];
    for start in (0..STREAM_BYTES).step_by(CHUNK) {
        for (at, word) in chunk.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *word = ((start + at) as u32)
                .wrapping_mul(0x9e37_79b1)
                .to_le_bytes();
        }
        net.write(socket, &chunk).await.ok_or(broken)?;
        let mut rest = &mut back[..];
        while !rest.is_empty() {
            let len = net.read(socket, rest).await.ok_or(broken)?;
            rest = rest.get_mut(len..).unwrap_or_default();
        }
        if chunk != back {
            return Err(Error::Failed("a stream came back changed"));
        }
    }
    net.end(socket);
    Ok(())
}
