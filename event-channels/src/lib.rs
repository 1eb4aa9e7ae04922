#![doc = include_str!("../README.md")]
#![no_std]

mod channel;
mod debug;
mod dispatch;
mod error;
mod fifo;
mod port;
mod ports;
mod resume;
mod sleep;
mod slots;
#[doc(hidden)]
pub mod word;
mod words;

pub use channel::{Channel, Events, Wait};
pub use dispatch::Dispatched;
pub use error::Error;
pub use port::PortRef;
pub use ports::{Choice, Interface, MAX_VCPUS, Ports, Throttle};
