//! The guest's grant table.

use grant_tables::{GrantTable, Version};
use spin::Once;

use crate::{Current, Error};

static TABLE: Once<GrantTable<Current>> = Once::new();

/// Sets the table up, once.
pub(crate) fn start(version: Version) -> Result<&'static GrantTable<Current>, Error> {
    TABLE.try_call_once(|| GrantTable::new(crate::current(), version).map_err(Error::from))
}
