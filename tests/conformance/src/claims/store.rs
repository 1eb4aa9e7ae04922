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

use crate::claim::{Group, NO_XEN, Stop, Verdict, claims, ensure, skip};

mod promises;

use promises::{
    a_list_that_changes_is_a_conflict, a_new_node_has_the_readers_of_its_parent,
    a_new_node_is_its_makers, a_node_that_is_there_stays_as_it_is, a_transaction_sees_its_own_tree,
    a_watch_is_told_of_removals, a_watch_looks_as_deep_as_it_was_told,
    a_watch_that_has_ended_is_quiet, more_nodes_than_the_quota_are_refused, next,
    what_is_below_goes_too,
};

pub(super) const GROUP: Group = Group {
    name: "store",
    claims: claims! {
        on_store(values_are_any_bytes): "docs/misc/xenstore.txt: WRITE, READ",
        on_store(nine_hundred_nodes_are_listed): "docs/misc/xenstore.txt: DIRECTORY",
        on_store(more_nodes_than_the_quota_are_refused): "docs/misc/xenstore.txt: ENOSPC",
        on_store(what_is_below_goes_too): "docs/misc/xenstore.txt: RM",
        on_store(a_new_node_is_its_makers): "docs/misc/xenstore.txt: MKDIR, GET_PERMS",
        on_store(a_new_node_has_the_readers_of_its_parent): "docs/misc/xenstore.txt: MKDIR, GET_PERMS",
        on_store(a_node_that_is_there_stays_as_it_is): "docs/misc/xenstore.txt: MKDIR",
        on_store(a_list_that_is_too_long_comes_in_parts): "docs/misc/xenstore.txt: DIRECTORY_PART",
        on_store(permissions_are_what_was_set): "docs/misc/xenstore.txt: GET_PERMS, SET_PERMS",
        on_store(watches_fire_once_when_set): "docs/misc/xenstore.txt: WATCH",
        on_store(a_watch_is_told_of_removals): "docs/misc/xenstore.txt: WATCH_EVENT",
        on_store(a_watch_that_has_ended_is_quiet): "docs/misc/xenstore.txt: UNWATCH",
        on_store(a_watch_looks_as_deep_as_it_was_told): "docs/misc/xenstore.txt: WATCH, depth",
        on_store(a_hundred_watches_under_fire): "docs/misc/xenstore.txt: WATCH_EVENT",
        on_store(a_transaction_sees_its_own_tree): "docs/misc/xenstore.txt: TRANSACTION_START",
        on_store(a_list_that_changes_is_a_conflict): "docs/misc/xenstore.txt: TRANSACTION_END",
        on_store(transactions_in_conflict_all_end): "docs/misc/xenstore.txt: TRANSACTION_END",
        on_store(requests_may_be_in_flight_together): "docs/misc/xenstore.txt: req_id",
        on_store(what_is_refused_is_told_apart): "docs/misc/xenstore.txt: errors",
        on_store(watches_survive_a_new_connection): "docs/misc/xenstore-ring.txt: reconnection",
        on_store(others_work_on_the_same_tree): "docs/misc/xenstore.txt",
    },
};

/// The part of the tree that is this guest's to write.
const HOME: &str = "data/conformance";
/// The longest that a claim may take.
const MOST: Duration = Duration::from_secs(60);

/// Names the step that failed.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Stop>;
}

impl<T> Step<T> for Result<T, Error> {
    fn step(self, step: &'static str) -> Result<T, Stop> {
        self.map_err(|error| format!("{step}: {error}").into())
    }
}

fn on_store(guest: &Guest, claim: impl AsyncFn(&Store) -> Verdict) -> Verdict {
    let Ok(store) = guest.store() else {
        return skip(NO_XEN);
    };
    let tree = store.tree();
    let ended = block_on(time::timeout(MOST, async {
        tree.write(HOME, b"").await.step("the guest has no data/")?;
        let verdict = claim(store).await;
        tree.remove(HOME).await.step("it cannot be tidied up")?;
        // What was dropped is answered before this is.
        tree.exists(HOME).await.step("it does not go on")?;
        verdict?;
        ensure(store.in_flight() == 0, "requests are left over")
    }));
    match ended {
        Ok(ended) => ended,
        Err(_) => Err("it does not end".into()),
    }
}

async fn values_are_any_bytes(store: &Store) -> Verdict {
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

/// As many as a domain may have, but for a margin.
async fn nine_hundred_nodes_are_listed(store: &Store) -> Verdict {
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
    Ok(())
}

/// Only who may have longer lists than a guest can have made one.
async fn a_list_that_is_too_long_comes_in_parts(store: &Store) -> Verdict {
    let tree = store.tree();
    let long = format!("{HOME}-long");
    let Some(count) = tree.try_read(&long).await.step("no count")? else {
        return skip("nobody made a list that is too long");
    };
    let names = tree.directory(&long).await.step("no list in parts")?;
    ensure(
        names.len().to_string().into_bytes() == count,
        "parts are lost",
    )
}

async fn permissions_are_what_was_set(store: &Store) -> Verdict {
    let tree = store.tree();
    let before = tree.permissions(HOME).await.step("they cannot be read")?;
    let owner = before.first().ok_or("there is no owner")?;
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

async fn watches_fire_once_when_set(store: &Store) -> Verdict {
    let watch = store.watch(HOME).await.step("no watch")?;
    let first = next(&watch).await?;
    ensure(first == HOME, "another path at first")?;
    let path = format!("{HOME}/a/b");
    store.tree().write(&path, b"").await.step("no write")?;
    let second = next(&watch).await?;
    ensure(second == path, "another path")?;
    ensure(
        watch.try_next().step("it failed")?.is_none(),
        "an event too many",
    )?;
    let special = store
        .watch("@releaseDomain")
        .await
        .step("no special watch")?;
    next(&special).await.map(|_| ())
}

async fn a_hundred_watches_under_fire(store: &Store) -> Verdict {
    const ROUNDS: usize = 3;
    let tree = store.tree();
    let mut watches = Vec::new();
    for index in 0..100 {
        let path = format!("{HOME}/{index}");
        let watch = store.watch(&path).await.step("no watch")?;
        next(&watch).await?;
        watches.push((path, watch));
    }
    for round in 0..ROUNDS {
        for (path, _) in watches.iter().rev() {
            tree.write_as(path, round).await.step("no write")?;
        }
    }
    for (path, watch) in &watches {
        for _ in 0..ROUNDS {
            let event = next(watch).await?;
            ensure(event == *path, "another path")?;
        }
        ensure(
            watch.try_next().step("it failed")?.is_none(),
            "an event too many",
        )?;
    }
    Ok(())
}

async fn transactions_in_conflict_all_end(store: &Store) -> Verdict {
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

async fn requests_may_be_in_flight_together(store: &Store) -> Verdict {
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

async fn what_is_refused_is_told_apart(store: &Store) -> Verdict {
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
    let privileged = store.is_domain_introduced(hypercall_abi::DomId(0)).await;
    ensure(
        privileged.is_err_and(|error| error.errno() == Some(Errno::EACCES)),
        "not EACCES for what only a privileged domain is told",
    )?;
    let path = tree.read("a b").await;
    ensure(
        path.is_err_and(|error| matches!(error.kind, ErrorKind::Path(_))),
        "a bad path was sent",
    )
}

async fn watches_survive_a_new_connection(store: &Store) -> Verdict {
    let watch = store
        .watch_with(HOME, None, Repeats::Merge)
        .await
        .step("no watch")?;
    next(&watch).await?;
    store.reconnect();
    next(&watch).await?;
    let path = format!("{HOME}/after");
    store.tree().write(&path, b"").await.step("no write")?;
    let event = next(&watch).await?;
    ensure(event == path, "another path")
}

/// Somebody who answers, where there is one: `data/echo`.
async fn others_work_on_the_same_tree(store: &Store) -> Verdict {
    let tree = store.tree();
    if !tree.exists("data/echo").await.step("no look")? {
        return skip("nobody else works there");
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
            next(&watch).await?;
            let answer = tree.read_as("data/echo/answer").await;
            if answer.is_ok_and(|answer: u32| answer == round) {
                break;
            }
        }
    }
    tree.write("data/echo/ask", b"end").await.step("no write")
}
