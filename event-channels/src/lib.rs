#![doc = include_str!("../README.md")]
#![no_std]

mod channel;
mod error;
mod port;

pub use channel::{Channel, Wait};
pub use error::Error;
pub use port::PortRef;
