#![doc = include_str!("../README.md")]
#![no_std]

mod port;

pub use port::PortRef;
