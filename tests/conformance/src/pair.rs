//! Two guests that work with each other: one lends a page and offers a port by
//! way of the store, the other maps and copies the page, and rings. Nothing may
//! be left over on either side.
//!
//! `pair=back` and `pair=front` on the command line; whoever starts them writes
//! each one's number to the other's `data/peer`. Needs no upcalls, so that two
//! of it also run in one process.

extern crate alloc;

use alloc::{format, string::String};
use core::time::Duration;

use event_channels::{Channel, Ports, Wait};
use grant_tables::{Borrowed, CopyFrom, CopyTo, GrantTable, InUse, Page, PeerWrites, ReadWrite};
use hypercall_abi::{
    DomId, Errno, GrantRef, Port,
    event_channel::{self, ChannelStatus},
    grant_table::GrantStatus,
    peer::PeerSlice,
    platform::Platform,
};
use xenstore_client::{Access, Client, Permission, Ring};

/// How often the two ring at each other's door.
pub(crate) const ROUND_TRIPS: u32 = 10_000;
/// After so many the page is mapped anew.
const REMAP: u32 = 100;
/// After so many the number goes by copies.
const COPY: u32 = 10;
/// The longest that one waits for the other.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a side works with.
#[derive(Debug)]
pub(crate) struct Side<'t, P: Platform> {
    /// Its ports.
    pub(crate) ports: &'t Ports<P>,
    /// Its grants.
    pub(crate) table: &'t GrantTable<P>,
    /// Its connection to the store.
    pub(crate) store: &'t Client<Ring<'t, P>>,
    /// How often the number goes there and back.
    pub(crate) rounds: u32,
}

impl<P: Platform> Clone for Side<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Side<'_, P> {}

/// What a side has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    ports: u32,
    references: u32,
    quarantined: u32,
}

type Failure = String;

fn say(what: &str) -> impl Fn(&dyn core::fmt::Display) -> Failure + '_ {
    move |error| format!("{what}: {error}")
}

impl<'t, P: Platform> Side<'t, P> {
    fn open(&self) -> Open {
        let mut ports = 0;
        for port in 1..1024 {
            let status = event_channel::status(self.ports.platform(), Port(port));
            // Beyond the highest that was ever open.
            let Ok(status) = status else { break };
            ports += u32::from(status.status != ChannelStatus::CLOSED);
        }
        let quarantined = self.table.release_quarantine();
        Open {
            ports,
            references: self.table.references() - self.table.free_references(),
            quarantined,
        }
    }

    /// Waits until a node has a value.
    fn wait_for<V: core::str::FromStr>(&self, path: &str) -> Result<V, Failure> {
        let value = self.store.wait(Some(PATIENCE), async {
            let watch = self.store.watch(path).await?;
            loop {
                watch.next().await?;
                // Before it is there, and ours to read, that is told as either.
                match self.store.tree().read_as(path).await {
                    Ok(value) => return Ok(value),
                    Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES)) => {}
                    Err(error) => return Err(error),
                }
            }
        });
        value.map_err(|error| format!("{error}"))
    }

    fn tell(&self, path: &str, value: u32, peer: DomId) -> Result<(), Failure> {
        let told = self.store.wait(Some(PATIENCE), async {
            let tree = self.store.tree();
            tree.write_as(path, value).await?;
            let mut permissions = tree.permissions(path).await?;
            permissions.truncate(1);
            permissions.push(Permission::new(peer, Access::Read));
            tree.set_permissions(path, &permissions).await
        });
        told.map_err(|error| format!("{error}"))
    }

    fn hear(&self, channel: &Channel<'_, P>) -> Result<(), Failure> {
        let platform = self.ports.platform();
        let deadline = platform.now_ns() + PATIENCE.as_nanos() as u64;
        match channel.wait_blocking(Some(deadline)) {
            Wait::Event => Ok(()),
            Wait::Deadline => Err("the other side is silent".into()),
        }
    }

    /// That nothing is left over.
    fn count(&self, before: Open) -> Result<(), Failure> {
        let after = self.open();
        if after == before {
            Ok(())
        } else {
            Err(format!("left over: {before:?} became {after:?}"))
        }
    }

    fn peer(&self) -> Result<DomId, Failure> {
        self.wait_for("data/peer").map(DomId)
    }
}

fn get(page: PeerSlice<'_>) -> Option<u32> {
    let mut bytes = [0; 4];
    (page.copy_to(&mut bytes) == 4).then(|| u32::from_le_bytes(bytes))
}

/// The side that lends the page and offers the port.
///
/// # Errors
/// What went wrong.
pub(crate) fn back<P: Platform>(side: Side<'_, P>) -> Result<String, Failure> {
    let peer = side.peer()?;
    // The table has its first references, and the ports their pages.
    drop(Page::new(side.table).and_then(|page| side.table.share::<PeerWrites>(peer, page)));
    let before = side.open();
    let page = Page::new(side.table).map_err(|error| say("page")(&error))?;
    let granted = side.table.share::<PeerWrites>(peer, page);
    let granted = granted.map_err(|error| say("grant")(&error))?;
    let channel = Channel::unbound(side.ports, peer).map_err(|error| say("port")(&error))?;
    side.tell("data/gref", granted.gref().0, peer)?;
    side.tell("data/port", channel.port().0, peer)?;
    for round in 0..side.rounds {
        side.hear(&channel)?;
        let number = get(granted.peer()).ok_or("the page is too short")?;
        if number != round * 2 {
            return Err(format!("round {round}: the page says {number}"));
        }
        let _whole = granted.peer().copy_from(&(number + 1).to_le_bytes());
        channel.notify().map_err(|error| say("notify")(&error))?;
    }
    // Until the other side has let go.
    side.hear(&channel)?;
    let page = granted
        .end()
        .map_err(|InUse(_)| "the page is in use still")?;
    drop(page);
    drop(channel);
    side.count(before)?;
    Ok(format!(
        "back: {} round trips, nothing left over",
        side.rounds
    ))
}

/// The side that maps the page and binds the port.
///
/// # Errors
/// What went wrong.
pub(crate) fn front<P: Platform>(side: Side<'_, P>) -> Result<String, Failure> {
    let peer = side.peer()?;
    let theirs = |name| format!("/local/domain/{peer}/data/{name}");
    let gref = GrantRef(side.wait_for(&theirs("gref"))?);
    let port = Port(side.wait_for(&theirs("port"))?);
    let own = Page::new(side.table).map_err(|error| say("page")(&error))?;
    let lent = side.table.share::<PeerWrites>(peer, own);
    drop(lent);
    let before = side.open();
    let channel = Channel::interdomain(side.ports, peer, port);
    let channel = channel.map_err(|error| say("port")(&error))?;
    // It rang when it was bound.
    let _first = channel.take();
    let platform = side.ports.platform();
    let start = platform.now_ns();
    let mut by_copy = Page::new(side.table).map_err(|error| say("page")(&error))?;
    let map = || {
        let mapped = Borrowed::<P, ReadWrite>::map(side.table, peer, &[gref]);
        mapped.map_err(|error| say("map")(&error))
    };
    let mut mapped = map()?;
    for round in 0..side.rounds {
        if round % REMAP == REMAP - 1 {
            drop(mapped);
            mapped = map()?;
        }
        let page = mapped.page(0).map_err(|status| say("map")(&status))?;
        let number = (round * 2).to_le_bytes();
        if round % COPY == COPY - 1 {
            let slot = by_copy.bytes_mut().get_mut(..4).ok_or("a short page")?;
            slot.copy_from_slice(&number);
            let mut list = [CopyTo {
                peer,
                gref,
                offset: 0,
                source: slot,
                status: GrantStatus::OKAY,
            }];
            let copied = side.table.copy_to(&mut list);
            copied.map_err(|error| say("copy")(&error))?;
            let [CopyTo { status, .. }] = list;
            status.check().map_err(|status| say("copy")(&status))?;
        } else {
            let _whole = page.copy_from(&number);
        }
        channel.notify().map_err(|error| say("notify")(&error))?;
        side.hear(&channel)?;
        let answer = if round % COPY == 0 {
            let slot = by_copy.bytes_mut().get_mut(..4).ok_or("a short page")?;
            let mut list = [CopyFrom {
                peer,
                gref,
                offset: 0,
                target: slot,
                status: GrantStatus::OKAY,
            }];
            let copied = side.table.copy_from(&mut list);
            copied.map_err(|error| say("copy")(&error))?;
            let [CopyFrom { target, status, .. }] = list;
            status.check().map_err(|status| say("copy")(&status))?;
            target
                .as_chunks()
                .0
                .first()
                .map(|bytes| u32::from_le_bytes(*bytes))
        } else {
            get(page)
        };
        if answer != Some(round * 2 + 1) {
            return Err(format!("round {round}: the page says {answer:?}"));
        }
    }
    let took_ns = platform.now_ns() - start;
    drop(mapped);
    // It may have the page back.
    channel.notify().map_err(|error| say("notify")(&error))?;
    drop(channel);
    drop(by_copy);
    side.count(before)?;
    let each_us = took_ns / u64::from(side.rounds.max(1)) / 1000;
    Ok(format!(
        "front: {} round trips, {each_us} us each, nothing left over",
        side.rounds
    ))
}
