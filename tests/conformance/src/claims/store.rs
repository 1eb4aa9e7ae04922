//! The store: `docs/misc/xenstore.txt`, and the client over it.

extern crate alloc;

use alloc::{
    boxed::Box,
    format,
    string::{String, ToString as _},
    vec,
    vec::Vec,
};
use core::{cell::Cell, time::Duration};

use hypercall_abi::Errno;
use pv_guest::{Guest, Store, executor::block_on, time};
use xenstore_client::{Access, Error, ErrorKind, Permission, machine::Repeats};

use super::{Claim, NO_XEN};
use crate::Verdict;

pub(super) const ALL: &[Claim] = &[
    ("values_are_any_bytes", |guest| on_store(guest, values)),
    ("a_thousand_nodes_are_listed", |guest| {
        on_store(guest, thousand)
    }),
    ("permissions_are_what_was_set", |guest| {
        on_store(guest, permissions)
    }),
    ("watches_fire_once_when_set", |guest| {
        on_store(guest, watches)
    }),
    ("a_hundred_watches_under_fire", |guest| {
        on_store(guest, hundred)
    }),
    ("transactions_in_conflict_all_end", |guest| {
        on_store(guest, transactions)
    }),
    ("requests_may_be_in_flight_together", |guest| {
        on_store(guest, together)
    }),
    ("what_is_refused_is_told_apart", |guest| {
        on_store(guest, refused)
    }),
    ("watches_survive_a_new_connection", |guest| {
        on_store(guest, renewed)
    }),
    ("others_work_on_the_same_tree", |guest| {
        on_store(guest, others)
    }),
];

/// The part of the tree that is this guest's to write.
const HOME: &str = "data/conformance";
/// The longest that a claim may take.
const MOST: Duration = Duration::from_secs(60);

type Failure = (&'static str, Option<Error>);

/// Names the step that failed.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Failure>;
}

impl<T> Step<T> for Result<T, Error> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|error| (step, Some(error)))
    }
}

fn ensure(holds: bool, why: &'static str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err((why, None)) }
}

fn on_store(guest: &Guest, claim: impl AsyncFn(&Store) -> Result<(), Failure>) -> Verdict {
    let Ok(store) = guest.store() else {
        return Verdict::Skipped(NO_XEN);
    };
    let tree = store.tree();
    let ended = block_on(time::timeout(MOST, async {
        tree.write(HOME, b"").await.step("the guest has no data/")?;
        claim(store).await?;
        tree.remove(HOME).await.step("it cannot be tidied up")?;
        // What was dropped is answered before this is.
        tree.exists(HOME).await.step("it does not go on")?;
        ensure(store.in_flight() == 0, "requests are left over")
    }));
    match ended {
        Ok(Ok(())) => Verdict::Ok,
        Ok(Err((why, error))) => {
            if let Some(error) = error {
                pv_guest::println!("  {error}");
            }
            Verdict::Failed(why)
        }
        Err(_) => Verdict::Failed("it does not end"),
    }
}

async fn values(store: &Store) -> Result<(), Failure> {
    let tree = store.tree();
    // xenstored's own limit for a node, by default.
    let long = vec![0xa5; 1900];
    for value in [&b"text"[..], b"", b"\0\x01\xff\0", &long] {
        let path = format!("{HOME}/value");
        tree.write(&path, value)
            .await
            .step("it cannot be written")?;
        let read = tree.read(&path).await.step("it cannot be read")?;
        ensure(read == value, "another value")?;
    }
    let most = vec![0; 4096 - "data/conformance/value\0".len()];
    let path = format!("{HOME}/value");
    let over = tree.write(&path, &most).await;
    ensure(
        over.is_ok() || over.is_err_and(|error| error.errno().is_some()),
        "the longest message breaks the connection",
    )?;
    let longer = tree.write(&path, vec![0; most.len() + 1]).await;
    ensure(
        longer.is_err_and(|error| error.kind == ErrorKind::TooLong),
        "a message may be too long",
    )
}

async fn thousand(store: &Store) -> Result<(), Failure> {
    let tree = store.tree();
    // A domain may have 1000, of which some are there already; and the names
    // below one node must fit into 2 KiB.
    const DIRECTORIES: usize = 9;
    const NODES: usize = 100;
    let wanted: Vec<String> = (0..NODES).map(|index| format!("node-{index:02}")).collect();
    for directory in 0..DIRECTORIES {
        let above = format!("{HOME}/{directory}");
        for name in &wanted {
            let path = format!("{above}/{name}");
            tree.mkdir(&path).await.step("a node cannot be made")?;
        }
        let mut names = tree.directory(&above).await.step("no list")?;
        names.sort();
        ensure(names == wanted, "other nodes")?;
    }
    // A list that does not fit into one message, if somebody who may have
    // longer ones made it.
    let long = format!("{HOME}-long");
    let Some(count) = tree.try_read(&long).await.step("no count")? else {
        return Ok(());
    };
    let names = tree.directory(&long).await.step("no list in parts")?;
    ensure(
        names.len().to_string().into_bytes() == count,
        "parts are lost",
    )?;
    pv_guest::println!("  {} nodes in one list", names.len());
    Ok(())
}

async fn permissions(store: &Store) -> Result<(), Failure> {
    let tree = store.tree();
    let before = tree.permissions(HOME).await.step("they cannot be read")?;
    let owner = before.first().ok_or(("there is no owner", None))?;
    let given = [
        Permission::new(owner.domid, Access::None),
        Permission::new(hypercall_abi::DomId(0), Access::Read),
    ];
    tree.set_permissions(HOME, &given)
        .await
        .step("they cannot be set")?;
    let now = tree.permissions(HOME).await.step("they cannot be read")?;
    ensure(now == given, "others were set")
}

async fn watches(store: &Store) -> Result<(), Failure> {
    let watch = store.watch(HOME).await.step("no watch")?;
    let first = watch.next().await.step("it does not fire")?;
    ensure(first == HOME, "another path at first")?;
    let path = format!("{HOME}/a/b");
    store.tree().write(&path, b"").await.step("no write")?;
    let second = watch.next().await.step("no event")?;
    ensure(second == path, "another path")?;
    ensure(
        watch.try_next().step("it failed")?.is_none(),
        "an event too many",
    )?;
    let special = store
        .watch("@releaseDomain")
        .await
        .step("no special watch")?;
    special.next().await.step("it does not fire").map(|_| ())
}

async fn hundred(store: &Store) -> Result<(), Failure> {
    const ROUNDS: usize = 3;
    let tree = store.tree();
    let mut watches = Vec::new();
    for index in 0..100 {
        let path = format!("{HOME}/{index}");
        let watch = store.watch(&path).await.step("no watch")?;
        watch.next().await.step("it does not fire")?;
        watches.push((path, watch));
    }
    for round in 0..ROUNDS {
        for (path, _) in watches.iter().rev() {
            tree.write_as(path, round).await.step("no write")?;
        }
    }
    for (path, watch) in &watches {
        for _ in 0..ROUNDS {
            let event = watch.next().await.step("an event is lost")?;
            ensure(event == *path, "another path")?;
        }
        ensure(
            watch.try_next().step("it failed")?.is_none(),
            "an event too many",
        )?;
    }
    Ok(())
}

async fn transactions(store: &Store) -> Result<(), Failure> {
    let tree = store.tree();
    let path = &format!("{HOME}/count");
    tree.write(path, b"0").await.step("no write")?;
    let tries = Cell::new(0_u32);
    for round in 0..50_u32 {
        let first = Cell::new(true);
        store
            .transaction(async |tree| {
                tries.set(tries.get() + 1);
                let count: u32 = tree.read_as(path).await?;
                if first.replace(false) {
                    // Another change comes in between.
                    store.tree().write_as(path, round * 2 + 1).await?;
                }
                tree.write_as(path, count + 1).await
            })
            .await
            .step("it did not end")?;
    }
    let count: u32 = tree.read_as(path).await.step("no read")?;
    ensure(count == 100, "a change is lost")?;
    ensure(tries.get() == 100, "not each was tried twice")?;
    for _ in 0..20 {
        // Not committed: nothing stays open at the server.
        let open = store.begin().await.step("too many are open")?;
        open.write(path, b"lost").await.step("no write")?;
    }
    let count: u32 = tree.read_as(path).await.step("no read")?;
    ensure(count == 100, "an aborted change was made")
}

async fn together(store: &Store) -> Result<(), Failure> {
    let tree = store.tree();
    let value = vec![b'v'; 1000];
    let path = &format!("{HOME}/value");
    tree.write(path, &value).await.step("no write")?;
    let mut reads: Vec<_> = (0..20).map(|_| Box::pin(tree.read(path))).collect();
    let mut good = 0;
    core::future::poll_fn(|cx| {
        reads.retain_mut(|read| match read.as_mut().poll(cx) {
            core::task::Poll::Ready(answer) => {
                good += u32::from(answer.as_ref() == Ok(&value));
                false
            }
            core::task::Poll::Pending => true,
        });
        if reads.is_empty() {
            core::task::Poll::Ready(())
        } else {
            core::task::Poll::Pending
        }
    })
    .await;
    ensure(good == 20, "another value")
}

async fn refused(store: &Store) -> Result<(), Failure> {
    let tree = store.tree();
    let none = tree.read("data/none-such").await;
    ensure(
        none.is_err_and(|error| error.errno() == Some(Errno::ENOENT)),
        "not ENOENT for what is not there",
    )?;
    let foreign = tree.write("/local/domain/0/none-such", b"").await;
    ensure(
        foreign.is_err_and(|error| error.errno() == Some(Errno::EACCES)),
        "not EACCES for another's",
    )?;
    let path = tree.read("a b").await;
    ensure(
        path.is_err_and(|error| matches!(error.kind, ErrorKind::Path(_))),
        "a bad path was sent",
    )
}

async fn renewed(store: &Store) -> Result<(), Failure> {
    let watch = store
        .watch_with(HOME, None, Repeats::Merge)
        .await
        .step("no watch")?;
    watch.next().await.step("it does not fire")?;
    store.reconnect();
    watch.next().await.step("it does not fire again")?;
    let path = format!("{HOME}/after");
    store.tree().write(&path, b"").await.step("no write")?;
    let event = watch.next().await.step("no event")?;
    ensure(event == path, "another path")
}

/// Somebody who answers, where there is one: `data/echo`.
async fn others(store: &Store) -> Result<(), Failure> {
    let tree = store.tree();
    if !tree.exists("data/echo").await.step("no look")? {
        return Ok(());
    }
    let watch = store
        .watch_with("data/echo/answer", None, Repeats::Merge)
        .await
        .step("no watch")?;
    for round in 1..=20_u32 {
        tree.write_as("data/echo/ask", round)
            .await
            .step("no write")?;
        loop {
            watch.next().await.step("no event")?;
            let answer = tree.read_as("data/echo/answer").await;
            if answer.is_ok_and(|answer: u32| answer == round) {
                break;
            }
        }
    }
    tree.write("data/echo/ask", b"end").await.step("no write")
}
