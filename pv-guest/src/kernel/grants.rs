//! The guest's grant table.

use grant_tables::{GrantTable, Version};
use spin::Once;

use crate::{
    error::Error,
    hypervisor::{self, Current},
};

static TABLE: Once<GrantTable<Current>> = Once::new();

/// Sets the table up, once.
pub(crate) fn start(version: Version) -> Result<&'static GrantTable<Current>, Error> {
    let table = TABLE
        .try_call_once(|| GrantTable::new(hypervisor::current(), version).map_err(Error::from))?;
    #[cfg(target_os = "none")]
    hypervisor::frames::reclaim_by(reclaim);
    Ok(table)
}

/// Frees pages that a peer has let go of, and says whether there were any.
#[cfg(target_os = "none")]
fn reclaim() -> bool {
    TABLE.get().is_some_and(|table| {
        let waiting = table.quarantined();
        waiting > 0 && table.release_quarantine() < waiting
    })
}
