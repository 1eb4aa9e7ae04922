//! Memory that the frontends grant to a device's backend.

mod granted_buf;
mod kept_pages;
mod lend;
mod ring_pages;

pub use granted_buf::GrantedBuf;
pub(crate) use kept_pages::{KeptPages, NoBuffer};
pub use lend::MAX_QUARANTINED_PAGES;
pub(crate) use lend::{Lender, Lent, clear_from, lend, lend_on, parts};
pub(crate) use ring_pages::RingPages;
