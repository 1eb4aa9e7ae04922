//! What the store promises of nodes, watches and transactions, beyond that requests are
//! answered.

use alloc::{format, string::String};
use core::time::Duration;

use hypercall_abi::{DomId, Errno};
use pv_guest::{Store, time};
use xenstore_client::{Access, Permission, Transport, Watch, machine::Repeats};

use super::{HOME, Step};
use crate::claim::{Stop, Verdict, ensure, same, skip};

pub(super) async fn what_is_below_goes_too(store: &Store) -> Verdict {
    let tree = store.tree();
    let (top, below) = (format!("{HOME}/a"), format!("{HOME}/a/b/c"));
    tree.write(&below, b"deep").await.step("no write")?;
    tree.write(&format!("{HOME}/ab"), b"")
        .await
        .step("no write")?;
    tree.remove(&top).await.step("it cannot be removed")?;
    for path in [&below, &format!("{HOME}/a/b"), &top] {
        let left = tree.exists(path).await.step("no look")?;
        ensure(!left, "something is left below")?;
    }
    let names = tree.directory(HOME).await.step("no list")?;
    same(names, alloc::vec!["ab".into()])?;
    // And nothing comes back with what is made there anew.
    tree.mkdir(&format!("{HOME}/a/b")).await.step("no node")?;
    let names = tree
        .directory(&format!("{HOME}/a/b"))
        .await
        .step("no list")?;
    ensure(names.is_empty(), "what was removed came back")
}

pub(super) async fn a_transaction_sees_its_own_tree(store: &Store) -> Verdict {
    let tree = store.tree();
    let (path, other) = (format!("{HOME}/seen"), format!("{HOME}/made"));
    tree.write(&path, b"before").await.step("no write")?;
    let open = store.begin().await.step("it does not begin")?;
    let first = open.read(&path).await.step("no read")?;
    tree.write(&path, b"after").await.step("no write")?;
    let again = open.read(&path).await.step("no read")?;
    open.write(&other, b"").await.step("no write")?;
    let own = open.exists(&other).await.step("no look")?;
    let outside = tree.exists(&other).await.step("no look")?;
    let ended = open.commit().await;
    let left = tree.exists(&other).await.step("no look")?;
    same(
        (first.as_slice(), again.as_slice()),
        (&b"before"[..], &b"before"[..]),
    )?;
    ensure(own, "it does not see what it wrote itself")?;
    ensure(!outside, "others see what is not committed")?;
    ensure(
        ended.is_err_and(|error| error.errno() == Some(Errno::EAGAIN)),
        "a conflict was not told",
    )?;
    ensure(!left, "a part of what failed was done")
}

/// Names that were listed are what a transaction has seen, too.
pub(super) async fn a_list_that_changes_is_a_conflict(store: &Store) -> Verdict {
    let tree = store.tree();
    tree.mkdir(&format!("{HOME}/listed"))
        .await
        .step("no node")?;
    let open = store.begin().await.step("it does not begin")?;
    let names = open.directory(HOME).await.step("no list")?;
    ensure(names == ["listed"], "others are listed")?;
    tree.mkdir(&format!("{HOME}/new")).await.step("no node")?;
    let made = open.write(&format!("{HOME}/listed/too"), b"").await;
    made.step("no write")?;
    let ended = open.commit().await;
    ensure(
        ended.is_err_and(|error| error.errno() == Some(Errno::EAGAIN)),
        "a conflict was not told",
    )
}

/// The next event, which is not waited for without an end.
pub(super) async fn next<T: Transport>(watch: &Watch<'_, T>) -> Result<String, Stop> {
    const MOST: Duration = Duration::from_secs(8);
    let event = time::timeout(MOST, watch.next()).await;
    event
        .map_err(|_| "an event does not come")?
        .step("no event")
}

/// Of the node that is watched, and of one below it.
pub(super) async fn a_watch_is_told_of_removals(store: &Store) -> Verdict {
    let tree = store.tree();
    let (path, below) = (format!("{HOME}/watched"), format!("{HOME}/watched/below"));
    tree.write(&below, b"").await.step("no write")?;
    let watch = store.watch(&path).await.step("no watch")?;
    next(&watch).await?;
    tree.remove(&below).await.step("it cannot be removed")?;
    // A later event shows that none came before it.
    tree.write(&format!("{path}/end"), b"")
        .await
        .step("no write")?;
    let first = next(&watch).await?;
    let second = next(&watch).await?;
    same((first, second), (below, format!("{path}/end")))?;
    tree.remove(&path).await.step("it cannot be removed")?;
    let mut events = 0;
    while next(&watch).await? != path {
        events += 1;
        ensure(events < 5, "the removal of the node itself is not told")?;
    }
    Ok(())
}

/// A domain has 128: more than that, one after the other, only if those that ended are gone.
pub(super) async fn a_watch_that_has_ended_is_quiet(store: &Store) -> Verdict {
    let path = format!("{HOME}/often");
    for _ in 0..200 {
        let watch = store.watch(&path).await.step("no watch")?;
        next(&watch).await?;
        drop(watch);
    }
    let watch = store.watch(&path).await.step("no watch")?;
    next(&watch).await?;
    store.tree().write(&path, b"").await.step("no write")?;
    next(&watch).await?;
    let more = watch.try_next().step("it failed")?;
    ensure(more.is_none(), "an event too many")
}

/// And who may look at what it was made in may look at it.
pub(super) async fn a_new_node_is_its_makers(store: &Store) -> Verdict {
    let tree = store.tree();
    let path = format!("{HOME}/new/below");
    tree.mkdir(&path).await.step("no node")?;
    let home = tree.permissions(HOME).await.step("they cannot be read")?;
    for path in [&path, &format!("{HOME}/new")] {
        let told = tree.permissions(path).await.step("they cannot be read")?;
        same(told, home.clone())?;
    }
    let own: u16 = tree.read_as("domid").await.step("no number")?;
    same(home.first().map(|owner| owner.domid.0), Some(own))
}

/// And those who may read what it is below may read it, too: a backend in another domain
/// finds what its frontend writes.
pub(super) async fn a_new_node_has_the_readers_of_its_parent(store: &Store) -> Verdict {
    let tree = store.tree();
    let before = tree.permissions(HOME).await.step("they cannot be read")?;
    let owner = before.first().ok_or("there is no owner")?;
    let given = [
        Permission::new(owner.domid, Access::None),
        Permission::new(DomId(0), Access::Read),
    ];
    tree.set_permissions(HOME, &given)
        .await
        .step("they cannot be set")?;
    tree.mkdir(&format!("{HOME}/made/below"))
        .await
        .step("no node")?;
    tree.write(&format!("{HOME}/written"), b"")
        .await
        .step("no write")?;
    for name in ["made", "made/below", "written"] {
        let told = tree.permissions(&format!("{HOME}/{name}")).await;
        let told = told.step("they cannot be read")?;
        ensure(told == given, "it has others than its parent")?;
    }
    Ok(())
}

pub(super) async fn a_node_that_is_there_stays_as_it_is(store: &Store) -> Verdict {
    let tree = store.tree();
    let (path, below) = (format!("{HOME}/there"), format!("{HOME}/there/below"));
    tree.write(&path, b"a value").await.step("no write")?;
    tree.write(&below, b"").await.step("no write")?;
    tree.mkdir(&path).await.step("it cannot be made again")?;
    let value = tree.read(&path).await.step("no read")?;
    same(value.as_slice(), b"a value".as_slice())?;
    let left = tree.exists(&below).await.step("no look")?;
    ensure(left, "what was below it is gone")
}

/// The default is a thousand for all of a domain's; and what is refused does no harm.
pub(super) async fn more_nodes_than_the_quota_are_refused(store: &Store) -> Verdict {
    /// More than any quota that a toolstack sets for an ordinary guest.
    const MOST: usize = 1500;
    const IN_ONE: usize = 100;
    let tree = store.tree();
    let mut made = 0;
    let refused = loop {
        if made == MOST {
            break None;
        }
        let path = format!("{HOME}/{}/{}", made / IN_ONE, made % IN_ONE);
        match tree.mkdir(&path).await {
            Ok(()) => made += 1,
            Err(error) => break Some(error),
        }
    };
    let first = tree.exists(&format!("{HOME}/0/0")).await.step("no look")?;
    let value = tree.write(&format!("{HOME}/0/0"), b"still").await;
    value.step("what is there cannot be written")?;
    ensure(first, "one of those that were made is gone")?;
    ensure(made > 800, "there is room for few")?;
    let Some(refused) = refused else {
        return Err("there is room for any number".into());
    };
    same(refused.errno(), Some(Errno::ENOSPC))
}

/// How deep a watch looks: since xenstored 4.22, where it says so.
pub(super) async fn a_watch_looks_as_deep_as_it_was_told(store: &Store) -> Verdict {
    const DEPTH: u32 = 1;
    let tree = store.tree();
    let watch = store.watch_with(HOME, Some(DEPTH), Repeats::Keep).await;
    let watch = match watch {
        Ok(watch) => watch,
        Err(error) if error.errno() == Some(Errno::EINVAL) => {
            return skip("this xenstored takes no depth");
        }
        Err(error) => return Err(Stop::Failed(format!("no watch: {error}").into())),
    };
    next(&watch).await?;
    let deep = format!("{HOME}/one/two");
    tree.write(&deep, b"").await.step("no write")?;
    tree.write(&deep, b"again").await.step("no write")?;
    let end = format!("{HOME}/end");
    tree.write(&end, b"").await.step("no write")?;
    loop {
        let event = next(&watch).await?;
        ensure(event != deep, "it is told of what lies deeper")?;
        if event == end {
            return Ok(());
        }
    }
}
