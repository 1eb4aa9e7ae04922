//! One side of conformance's `pair`, by Linux's own drivers: the store by
//! `/dev/xen/xenbus`, events by `/dev/xen/evtchn`, a page lent by
//! `/dev/xen/gntalloc` or mapped by `/dev/xen/gntdev`.
//!
//! `linux-peer back|front PEER ROUNDS`: `PEER` is the other domain's number, or
//! `auto` if `data/peer` says it.

mod devices;

use std::{
    str::FromStr,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hypercall_abi::{DomId, GrantRef, Port};
use xenstore_client::{Access, Client, Permission, Stream};

use crate::devices::{Lent, Mapped, Ports};

const MOST: Option<Duration> = Some(Duration::from_secs(60));

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [side, peer, rounds] = arguments.as_slice() else {
        bail!("usage: linux-peer back|front PEER ROUNDS");
    };
    let rounds = rounds.parse().context("ROUNDS is no number")?;
    let store = Client::new(Stream::device().context("cannot reach the store")?);
    let peer = DomId(match peer.as_str() {
        "auto" => wait_for(&store, "data/peer")?,
        number => number.parse().context("PEER is no domain")?,
    });
    match side.as_str() {
        "back" => back(&store, peer, rounds),
        "front" => front(&store, peer, rounds),
        other => bail!("{other} is no side"),
    }
}

/// Waits until a node has a number that we may read.
fn wait_for<V: FromStr>(store: &Client<Stream>, path: &str) -> Result<V> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match store.wait(MOST, store.tree().read_as(path)) {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => return Err(error.into()),
            Err(_) => sleep(Duration::from_millis(50)),
        }
    }
}

/// Tells the peer a number.
fn tell(store: &Client<Stream>, name: &str, value: u32, peer: DomId) -> Result<()> {
    let path = format!("data/{name}");
    store.wait(MOST, async {
        let tree = store.tree();
        tree.write_as(&path, value).await?;
        let mut permissions = tree.permissions(&path).await?;
        permissions.truncate(1);
        permissions.push(Permission::new(peer, Access::Read));
        tree.set_permissions(&path, &permissions).await
    })?;
    Ok(())
}

fn back(store: &Client<Stream>, peer: DomId, rounds: u32) -> Result<()> {
    let page = Lent::to(peer)?;
    let mut ports = Ports::offer(peer)?;
    tell(store, "gref", page.gref().0, peer)?;
    tell(store, "port", ports.port().0, peer)?;
    for round in 0..rounds {
        ports.wait()?;
        let number = page.load();
        if number != round * 2 {
            bail!("round {round}: the page says {number}");
        }
        page.store(number + 1);
        ports.notify()?;
    }
    ports.wait()?;
    println!("linux back: {rounds} round trips");
    Ok(())
}

fn front(store: &Client<Stream>, peer: DomId, rounds: u32) -> Result<()> {
    let theirs = |name| format!("/local/domain/{peer}/data/{name}");
    let gref = wait_for(store, &theirs("gref"))?;
    let port = wait_for(store, &theirs("port"))?;
    let page = Mapped::of(peer, GrantRef(gref))?;
    let mut ports = Ports::bind(peer, Port(port))?;
    // It rang when it was bound.
    ports.wait()?;
    let start = Instant::now();
    for round in 0..rounds {
        page.store(round * 2);
        ports.notify()?;
        ports.wait()?;
        let number = page.load();
        if number != round * 2 + 1 {
            bail!("round {round}: the page says {number}");
        }
    }
    let each = start.elapsed() / rounds.max(1);
    drop(page);
    ports.notify()?;
    println!(
        "linux front: {rounds} round trips, {} us each",
        each.as_micros()
    );
    Ok(())
}
