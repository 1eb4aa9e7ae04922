#![doc = include_str!("../README.md")]
#![no_std]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod claims;
mod client;
mod error;
mod events;
mod hub;
pub mod machine;
mod path;
mod perms;
mod quota;
mod subscription;
mod transaction;
mod transport;
mod tree;
mod turns;
pub mod value;
mod watch;

pub use claims::Claim;
pub use client::Client;
pub use error::{Error, ErrorKind, Persistence};
pub use path::{Path, PathError};
pub use perms::{Access, Permission};
pub use quota::Quota;
pub use subscription::Subscription;
pub use transaction::Transaction;
#[cfg(feature = "ring")]
pub use transport::ring::Ring;
#[cfg(feature = "std")]
pub use transport::stream::Stream;
pub use transport::{Link, Renewal, Transport};
pub use tree::{MAX_LIST_BYTES, MAX_NAMES, Tree};
pub use turns::{InTurn, MAX_IDLE, MAX_IN_TURN, Turn};
pub use watch::Watch;
