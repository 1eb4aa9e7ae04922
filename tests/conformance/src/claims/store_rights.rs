//! What of the store is whose: as the toolstack makes a guest's part of it, and nothing
//! of what is another's.

use core::time::Duration;

use hypercall_abi::Errno;
use pv_guest::{Guest, Store, executor::block_on, time};
use xenstore_client::Error;

use crate::claim::{Group, NO_XEN, Verdict, claims, skip};

pub(super) const GROUP: Group = Group {
    name: "store_rights",
    claims: claims! {
        on_store(what_is_the_guests_is_written): "docs/misc/xenstore-paths.pandoc: Domain Controlled Paths",
        on_store(what_is_the_toolstacks_is_read_only): "docs/misc/xenstore-paths.pandoc: Domain Controlled Paths",
        on_store(what_is_another_domains_is_not_told): "docs/misc/xenstore.txt: permissions",
    },
};

/// The longest that a claim may take.
const MOST: Duration = Duration::from_secs(30);

fn on_store(guest: &Guest, claim: impl AsyncFn(&Store) -> Verdict) -> Verdict {
    let Ok(store) = guest.store() else {
        return skip(NO_XEN);
    };
    match block_on(time::timeout(MOST, claim(store))) {
        Ok(ended) => ended,
        Err(_) => Err("it does not end".into()),
    }
}

/// What a request was refused with.
fn errno<T>(answer: Result<T, Error>) -> Option<Errno> {
    answer.err().and_then(|error| error.errno())
}

fn same(path: &str, is: Option<Errno>, should_be: Option<Errno>) -> Verdict {
    if is == should_be {
        return Ok(());
    }
    Err(alloc::format!("{path}: {is:?}, not {should_be:?}").into())
}

async fn what_is_the_guests_is_written(store: &Store) -> Verdict {
    let tree = store.tree();
    for path in [
        "data",
        "attr",
        "drivers",
        "error",
        "feature",
        "control/shutdown",
        "control/feature-poweroff",
        "control/feature-reboot",
        "control/feature-suspend",
        "control/sysrq",
        "device/suspend/event-channel",
    ] {
        same(path, errno(tree.write(path, b"").await), None)?;
        let below = alloc::format!("{path}/rights");
        same(&below, errno(tree.write(&below, b"1").await), None)?;
        same(&below, errno(tree.remove(&below).await), None)?;
    }
    Ok(())
}

async fn what_is_the_toolstacks_is_read_only(store: &Store) -> Verdict {
    let tree = store.tree();
    let refused = Some(Errno::EACCES);
    for path in ["name", "domid", "control", "device", "memory", "cpu", "vm"] {
        same(path, errno(tree.read(path).await), None)?;
        same(path, errno(tree.write(path, b"1").await), refused)?;
    }
    for path in [
        "rights",
        "device/rights",
        "device/vbd/rights",
        "control/rights",
        "memory/rights",
        "console/rights",
        "cpu/rights",
    ] {
        same(path, errno(tree.write(path, b"1").await), refused)?;
        // What may be seen is told to be missing.
        same(path, errno(tree.read(path).await), Some(Errno::ENOENT))?;
    }
    Ok(())
}

async fn what_is_another_domains_is_not_told(store: &Store) -> Verdict {
    let tree = store.tree();
    let refused = Some(Errno::EACCES);
    for path in [
        "/",
        "/local",
        "/local/domain",
        "/local/domain/0",
        "/local/domain/0/backend",
        "/local/domain/0/backend/vbd",
        "/local/domain/0/none-such",
        "/libxl",
        "/none-such",
        "/tool",
        "/vm",
    ] {
        same(path, errno(tree.read(path).await), refused)?;
        same(path, errno(tree.directory(path).await), refused)?;
    }
    Ok(())
}
