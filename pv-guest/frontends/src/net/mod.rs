//! TCP for a guest: listeners, streams and their stack, on a [`Nic`](crate::netfront::Nic).
//!
//! A [`Stack`] has its addresses by DHCP or from its [`Config`]; [`Stack::run`] is the one
//! future that does its work, beside the tasks that use it. A [`Listener`] gives a
//! [`Stream`] for each client, and a stream reads and writes as `embedded-io-async` has it.
//!
//! ```rust,ignore
//! let nic = Nic::new(guest.bus()?, "0", netfront::Config::default());
//! let stack = Stack::new(&nic, net::Config::default()).await?;
//! let listener = stack.listen(7)?;
//! let echo = listener.serve(async |mut stream| {
//!     let mut bytes = [0; 2048];
//!     while let Ok(count @ 1..) = stream.read(&mut bytes).await {
//!         let Ok(()) = stream.write_all(&bytes[..count]).await else { break };
//!     }
//!     stream.finish();
//! });
//! select(pin!(stack.run()), pin!(echo)).await;
//! ```
//!
//! # What it costs
//! - A connection has its socket and its memory from the packet that asks for it until it
//!   is over: who waits for clients has none. [`Config`] bounds connections, those that are
//!   not complete among them, and the memory of all.
//! - A client who finds no room gets no answer, and asks again a second later: nobody is
//!   refused because many come at once.
//! - Nobody is woken who has nothing to do, in whatever task he is: the stack, when a packet
//!   came, a stream was used or a timer of TCP's is due; a reader when there is something to
//!   be read; a writer when half of its buffer is free, so that what it writes leaves in
//!   large packets, which the backend cuts. There is no timer while TCP has none.
//!
//! The protocols are those of `smoltcp`. Source: RFC 9293.

mod addresses;
mod buffers;
mod config;
mod connection;
mod connections;
mod engine;
mod error;
mod listener;
#[cfg(feature = "picoserve")]
pub mod picoserve;
mod ports;
mod segment;
mod sending;
mod stack;
mod stream;

pub use config::{Config, V4, V6};
pub use error::Error;
pub use listener::Listener;
/// Addresses with the length of their prefix, as `192.0.2.5/24`.
pub use smoltcp::wire::{Ipv4Cidr, Ipv6Cidr};
pub use stack::Stack;
pub use stream::{ReadHalf, Stream, WriteHalf};
