//! A web server: the files of its disk, and a page about itself.
//!
//! It asks for an address by DHCP, unless the command line says one:
//! `ip=192.0.2.5/24 gateway=192.0.2.1 ip6=2001:db8::5/64`. With `requests=7` it
//! ends after so many, with `quiet=5` when it was asked before and nobody asked for
//! anything for so many seconds, and with `queues=4` the network has so many queues.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

mod files;
mod network;
mod patience;
mod site;
mod status;

use alloc::{boxed::Box, rc::Rc, vec};
use core::time::Duration;

use embassy_net::{Stack, StackResources};
use futures_util::{
    future::{join_all, select},
    pin_mut,
};
use picoserve::{
    Config, Router, Server, Timeouts, routing::PathRouter, time::Duration as Patience,
};
use pv_guest::{
    Error, Guest, adapt::embassy_net::Device, entry, executor, netfront::Nic, println, time,
};
use static_cell::ConstStaticCell;

use files::Files;
use patience::Patient;
use site::Site;
use status::Status;

/// Connections at a time: each has a socket that listens. More clients wait.
const CLIENTS: usize = 256;
/// Those, and one for DHCP and one for DNS.
const SOCKETS: usize = CLIENTS + 2;
const PORT: u16 = 80;
const HTTP_BYTES: usize = 2048;
const RX_BYTES: usize = 2048;
const TX_BYTES: usize = 16 << 10;
/// A client among many may have to wait for its turn, and for packets that were lost
/// and are sent again: a second, which is usual, is not enough.
const TIMEOUTS: Timeouts = Timeouts {
    start_read_request: Patience::from_secs(20),
    persistent_start_read_request: Patience::from_secs(10),
    read_request: Patience::from_secs(10),
    write: Patience::from_secs(30),
};

static RESOURCES: ConstStaticCell<StackResources<SOCKETS>> =
    ConstStaticCell::new(StackResources::new());

entry!(main);

fn main(guest: Guest) -> Result<(), Error> {
    executor::block_on(run(&guest)).map_err(|error| {
        println!("web: {error}");
        Error::Failed("the server cannot serve")
    })
}

async fn run(guest: &Guest) -> Result<(), Box<dyn core::error::Error>> {
    let bus = guest.bus()?;
    let ids = bus.devices("vif").await?;
    let id = ids
        .first()
        .ok_or("there is no network: give this guest one with --net")?;
    let nic = Nic::new(bus, id.as_str(), network::device(guest.command_line())?);
    let device = Patient::new(Device::new(&nic).await?, PORT);
    let files = Files::load(bus).await?;
    let resources = RESOURCES.try_take().ok_or("it runs already")?;
    let config = network::config(guest.command_line())?;
    let (stack, mut runner) = embassy_net::new(device, config, resources, time::now_ns());
    let status = Rc::new(Status::new(bus, nic.clone()));
    let site = Site::new(files, Rc::clone(&status));
    let router = Router::from_service(site);
    let number = |name| network::word(guest.command_line(), name)?.parse().ok();
    let most = number("requests").unwrap_or(u64::MAX);
    let quiet = number("quiet").map(Duration::from_secs);
    let clients = join_all((0..CLIENTS).map(|client| serve(client, stack, &router)));
    let work = async {
        network::announce(stack, PORT).await;
        let end = answered(&status, most, quiet.unwrap_or(Duration::MAX));
        pin_mut!(end);
        select(end, clients).await;
    };
    pin_mut!(work);
    let network = runner.run();
    pin_mut!(network);
    select(network, work).await;
    nic.close().await;
    Ok(())
}

/// Waits until so many requests were answered, or nobody asks any more, and the
/// answers have gone.
async fn answered(status: &Status, most: u64, quiet: Duration) {
    const LOOK: Duration = Duration::from_millis(500);
    let (mut before, mut silence) = (0, Duration::ZERO);
    while status.requests() < most && silence < quiet {
        time::sleep(LOOK).await;
        let requests = status.requests();
        silence = match requests > 0 && requests == before && status.busy() == 0 {
            true => silence + LOOK,
            false => Duration::ZERO,
        };
        before = requests;
    }
    time::sleep(LOOK).await;
    let requests = most.min(status.requests());
    println!(
        "web: {requests} requests were answered, {}",
        status.queues()
    );
}

/// One who serves clients, one after the other.
async fn serve(client: usize, stack: Stack<'static>, router: &Router<impl PathRouter>) {
    let mut http = vec![0; HTTP_BYTES];
    let (mut rx, mut tx) = (vec![0; RX_BYTES], vec![0; TX_BYTES]);
    let config = Config::new(TIMEOUTS).keep_connection_alive();
    let server = Server::new(router, &config, &mut http);
    let _ended = server
        .listen_and_serve(client, stack, PORT, &mut rx, &mut tx)
        .await;
}
