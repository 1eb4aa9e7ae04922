//! The drivers of `pv-frontends`, on this guest's platform unless another is named.

/// Block devices: [`pv_frontends::blkfront`].
pub mod blkfront {
    pub use pv_frontends::blkfront::*;

    use crate::hypervisor::Current;

    /// A disk: [`pv_frontends::blkfront::Disk`].
    pub type Disk<'g, P = Current> = pv_frontends::blkfront::Disk<'g, P>;
    /// Part of a disk: [`pv_frontends::blkfront::Volume`].
    pub type Volume<'g, P = Current> = pv_frontends::blkfront::Volume<'g, P>;
}

/// TCP for many clients: [`pv_frontends::net`].
#[cfg(feature = "net")]
pub mod net {
    pub use pv_frontends::net::*;

    use crate::hypervisor::Current;

    /// A TCP stack: [`pv_frontends::net::Stack`].
    pub type Stack<'g, P = Current> = pv_frontends::net::Stack<'g, P>;
    /// Connections that come to a port: [`pv_frontends::net::Listener`].
    pub type Listener<'g, P = Current> = pv_frontends::net::Listener<'g, P>;
    /// A connection: [`pv_frontends::net::Stream`].
    pub type Stream<'g, P = Current> = pv_frontends::net::Stream<'g, P>;
    /// The half that reads: [`pv_frontends::net::ReadHalf`].
    pub type ReadHalf<'a, 'g, P = Current> = pv_frontends::net::ReadHalf<'a, 'g, P>;
    /// The half that writes: [`pv_frontends::net::WriteHalf`].
    pub type WriteHalf<'a, 'g, P = Current> = pv_frontends::net::WriteHalf<'a, 'g, P>;
}

/// Network interfaces: [`pv_frontends::netfront`].
pub mod netfront {
    pub use pv_frontends::netfront::*;

    use crate::hypervisor::Current;

    /// A network interface: [`pv_frontends::netfront::Nic`].
    pub type Nic<'g, P = Current> = pv_frontends::netfront::Nic<'g, P>;
    /// What a stack polls: [`pv_frontends::netfront::Poller`].
    pub type Poller<'g, P = Current> = pv_frontends::netfront::Poller<'g, P>;
}

/// Devices and their handshake: [`pv_frontends::xenbus`].
pub mod xenbus {
    pub use pv_frontends::xenbus::*;

    use crate::hypervisor::Current;

    /// What a driver needs of its guest: [`pv_frontends::xenbus::Bus`].
    pub type Bus<'g, P = Current> = pv_frontends::xenbus::Bus<'g, P>;
}

/// Pages that are granted to a backend: [`pv_frontends::GrantedBuf`].
pub type GrantedBuf<'g, P = crate::hypervisor::Current> = pv_frontends::GrantedBuf<'g, P>;
