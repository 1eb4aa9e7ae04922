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
mod memory;
mod network;
mod site;
mod status;

use alloc::{boxed::Box, rc::Rc, vec};
use core::time::Duration;

use picoserve::{Config, Router, Server, Timeouts, time::Duration as Patience};
use pv_guest::{
    Error, Guest, entry,
    executor::{self, select},
    net::{self, Stack, picoserve::Timer},
    netfront::Nic,
    println, time,
};

use files::Files;
use memory::Memory;
use site::Site;
use status::Status;

const PORT: u16 = 80;
const HTTP_BYTES: usize = 2048;
/// A client among many may have to wait for its turn, and for packets that were lost
/// and are sent again: a second, which is usual, is not enough.
const TIMEOUTS: Timeouts = Timeouts {
    start_read_request: Patience::from_secs(20),
    persistent_start_read_request: Patience::from_secs(10),
    read_request: Patience::from_secs(10),
    write: Patience::from_secs(30),
};
/// How long the last answers may be on their way.
const LAST: Duration = Duration::from_secs(5);

entry!(main);

fn main(guest: Guest) -> Result<(), Error> {
    executor::block_on(run(&guest)).map_err(|error| {
        println!("web: {error}");
        Error::Failed("the server cannot serve")
    })
}

async fn run(guest: &Guest) -> Result<(), Box<dyn core::error::Error>> {
    let bus = guest.bus()?;
    let memory = Memory::free();
    let ids = bus.devices("vif").await?;
    let id = ids
        .first()
        .ok_or("there is no network: give this guest one with --net")?;
    let nic = Nic::new(
        bus,
        id.as_str(),
        network::device(guest.command_line(), &memory)?,
    );
    let wanted = net::Config {
        memory_bytes: memory.buffer_bytes(),
        connections: memory.connections(),
        ..network::config(guest.command_line())?
    };
    let stack = Stack::new(&nic, wanted).await?;
    let files = Files::load(bus, &memory).await?;
    let status = Rc::new(Status::new(bus, nic.clone()));
    let router = Router::from_service(Site::new(files, Rc::clone(&status)));
    let number = |name| network::word(guest.command_line(), name)?.parse().ok();
    let requests = number("requests").unwrap_or(u64::MAX);
    let quiet = number("quiet").map(Duration::from_secs);
    let config = Config::new(TIMEOUTS).keep_connection_alive();
    let listener = stack.listen(PORT)?;
    let clients = listener.serve(async |stream| {
        let mut http = vec![0; HTTP_BYTES];
        let server = Server::custom(&router, Timer::new(bus), &config, &mut http);
        let _ended = server.serve(stream).await;
    });
    let end = async {
        network::announce(&stack, PORT).await?;
        answered(&status, requests, quiet).await;
        let _late = time::timeout(LAST, stack.settled()).await;
        Ok::<(), net::Error>(())
    };
    select(stack.run(), select(end, clients)).await;
    let requests = requests.min(status.requests());
    println!(
        "web: {requests} requests were answered, {}",
        status.queues()
    );
    nic.close().await;
    Ok(())
}

/// Waits until so many requests were answered, or nobody asks any more. There is no timer
/// without `quiet`.
async fn answered(status: &Status, most: u64, quiet: Option<Duration>) {
    let Some(quiet) = quiet else {
        return status.reached(most).await;
    };
    let quiet_ns = u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX);
    status.reached(1).await;
    let silence = async {
        loop {
            let until_ns = status.last_ns().saturating_add(quiet_ns);
            if time::now_ns() >= until_ns && status.busy() == 0 {
                break;
            }
            // Somebody who is answered now is looked for again after as long.
            let later_ns = time::now_ns().saturating_add(quiet_ns / 4);
            time::sleep_until(until_ns.max(later_ns)).await;
        }
    };
    select(status.reached(most), silence).await;
}
