#![doc = include_str!("../README.md")]
#![no_std]

mod borrow;
mod copy;
mod error;
#[doc(hidden)]
pub mod free;
mod lend;
mod page;
#[doc(hidden)]
pub mod revoke;
mod table;

pub use borrow::{Borrowed, MAX_BATCH, MapAccess, PeerView, ReadOnly, ReadWrite};
pub use copy::{CopyFrom, CopyTo};
pub use error::Error;
pub use lend::{Access, Forwarded, Granted, InUse, PeerReads, PeerWrites, Reserved};
pub use page::Page;
pub use table::{GrantTable, Owner, Version};
