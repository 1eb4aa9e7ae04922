//! The drivers over the mock: one binary, so that each driver is built for it once.

#[cfg(feature = "net")]
#[path = "../kernel/clients.rs"]
mod clients;
#[path = "../kernel/mod.rs"]
mod kernel;
#[path = "../kernel/nic.rs"]
mod nic;
#[path = "../kernel/tcp.rs"]
mod tcp;

mod blk_hosts;
mod blk_next;
mod blkfront;
mod given_back;
mod greed;
mod handshake;
mod hoarders;
mod keyboard;
mod leaving;
#[cfg(feature = "net")]
mod net_clients;
#[cfg(feature = "net")]
mod net_dhcp;
#[cfg(feature = "net")]
mod net_ends;
mod net_flood;
mod net_hosts;
#[cfg(feature = "net")]
mod net_large;
mod net_pages;
mod net_rules;
#[cfg(feature = "net")]
mod net_server;
#[cfg(feature = "smoltcp")]
mod net_smaller;
#[cfg(feature = "smoltcp")]
mod net_stack;
mod netfront;
mod stale_keys;
mod values;
mod waits;
mod xenbus;
