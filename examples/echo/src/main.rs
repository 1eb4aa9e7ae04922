//! An echo server: what a client of TCP sends comes back to him.
//!
//! It asks for an address by DHCP, unless the command line says one: `ip=192.0.2.5/24`. It
//! listens at port 7, or at the one of `port=80`. With `clients=7` it ends after so many have
//! gone.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::boxed::Box;
use core::{
    cell::Cell,
    future::poll_fn,
    task::{Poll, Waker},
};

use pv_guest::{
    Error, Guest, entry,
    executor::{self, select},
    net::{self, Stack, Stream, V4},
    netfront::{self, Nic},
    println,
};

/// The echo protocol's. Source: RFC 862.
const PORT: u16 = 7;
/// What is read at once.
const PIECE_BYTES: usize = 1 << 10;
/// How many clients there is room for.
const CLIENTS: usize = 32;
/// Bytes of their buffers, together.
const BUFFER_BYTES: usize = 512 << 10;

entry!(main);

fn main(guest: Guest) -> Result<(), Error> {
    executor::block_on(run(&guest)).map_err(|error| {
        println!("echo: {error}");
        Error::Failed("the server cannot serve")
    })
}

/// What the command line says of a name.
fn word<'a>(guest: &'a Guest, name: &str) -> Option<&'a str> {
    let mut words = guest.command_line().split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

async fn run(guest: &Guest) -> Result<(), Box<dyn core::error::Error>> {
    let bus = guest.bus()?;
    let nic = Nic::new(bus, "0", netfront::Config::default());
    let v4 = match word(guest, "ip") {
        Some(address) => V4::Static {
            address: address
                .parse()
                .map_err(|()| "ip= is an address and the length of its prefix: 192.0.2.5/24")?,
            gateway: None,
        },
        None => V4::Dhcp,
    };
    let port = word(guest, "port").map_or(Ok(PORT), str::parse)?;
    let most = word(guest, "clients").map_or(Ok(u64::MAX), str::parse)?;
    let config = net::Config {
        v4,
        connections: CLIENTS,
        memory_bytes: BUFFER_BYTES,
        ..net::Config::default()
    };
    let stack = Stack::new(&nic, config).await?;
    let gone = Gone::default();
    let listener = stack.listen(port)?;
    let clients = listener.serve(async |stream| {
        echo(stream).await;
        gone.add();
    });
    let end = async {
        stack.ready().await?;
        if let Some(address) = stack.v4() {
            println!("echo: {}:{port}", address.address());
        }
        gone.reached(most).await;
        stack.settled().await
    };
    select(stack.run(), select(end, clients)).await;
    println!("echo: {} clients have gone", gone.count.get());
    nic.close().await;
    Ok(())
}

/// Sends back what comes, until no more does.
async fn echo(mut stream: Stream<'_>) {
    let mut piece = [0; PIECE_BYTES];
    while let Ok(count @ 1..) = stream.read(&mut piece).await {
        let came = piece.get(..count).unwrap_or_default();
        if stream.write_all(came).await.is_err() {
            return;
        }
    }
    stream.finish();
}

/// How many clients have gone.
#[derive(Default)]
struct Gone {
    count: Cell<u64>,
    waiting: Cell<Option<Waker>>,
}

impl Gone {
    fn add(&self) {
        self.count.set(self.count.get() + 1);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    async fn reached(&self, most: u64) {
        poll_fn(|cx| {
            if self.count.get() >= most {
                return Poll::Ready(());
            }
            self.waiting.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}
