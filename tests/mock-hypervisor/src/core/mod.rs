//! The state of a host and its domains, and what Xen itself does with it: no threads, no
//! locks, no daemons.

pub(crate) mod chance;
pub(crate) mod channels;
pub(crate) mod config;
pub(crate) mod counter;
pub(crate) mod domain_state;
pub(crate) mod event_channels;
pub(crate) mod fifo;
pub(crate) mod grant_table;
pub(crate) mod grant_uses;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod processor;
pub(crate) mod profile;
pub(crate) mod vcpu_state;
