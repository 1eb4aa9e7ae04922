//! The addresses that a stack has: fixed ones, and DHCP's.

use core::net::Ipv4Addr;

use smoltcp::{
    iface::{Interface, SocketHandle, SocketSet},
    socket::dhcpv4,
    wire::{IpCidr, Ipv4Cidr},
};

use super::{Config, V4, V6, config::is_host};

/// A lease lasts as long at least, whatever the server says: one of no time would be asked
/// for as fast as it is given.
const MIN_LEASE_NS: u64 = 60_000_000_000;
/// A lease that was given less than this before counts as given at once.
const AT_ONCE_NS: u64 = 10_000_000_000;
/// So many leases in a row that are given at once are no accident: a server may want to be
/// asked anew as soon as it has answered.
const MAX_AT_ONCE: u32 = 8;

pub(super) struct Addresses {
    dhcp: Option<Dhcp>,
}

enum Dhcp {
    Runs {
        handle: SocketHandle,
        /// When a lease was given last.
        leased_ns: Option<u64>,
        /// How many in a row were given at once.
        at_once: u32,
    },
    /// A lease ended too early, or is given too often: its address stays until then, and
    /// DHCP begins anew.
    Pauses { until_ns: u64 },
}

impl Dhcp {
    fn start(sockets: &mut SocketSet<'static>) -> Self {
        let mut socket = dhcpv4::Socket::new();
        // A refusal comes from anyone, and would be answered at once.
        socket.set_ignore_naks(true);
        // With a buffer for packets each lease is told, also one that changes nothing.
        socket.set_receive_packet_buffer(&mut []);
        Self::Runs {
            handle: sockets.add(socket),
            leased_ns: None,
            at_once: 0,
        }
    }
}

impl Addresses {
    pub(super) fn new(
        config: &Config,
        interface: &mut Interface,
        sockets: &mut SocketSet<'static>,
    ) -> Self {
        if let V4::Static { address, gateway } = config.v4 {
            set_v4(interface, Some((address, gateway)));
        }
        if let V6::Static { address, gateway } = config.v6 {
            interface.update_ip_addrs(|all| {
                let _full = all.push(address.into());
            });
            if let Some(gateway) = gateway {
                let _full = interface.routes_mut().add_default_ipv6_route(gateway);
            }
        }
        let dhcp = (config.v4 == V4::Dhcp).then(|| Dhcp::start(sockets));
        Self { dhcp }
    }

    /// Takes over what DHCP has found out. True: the address is another, or none.
    pub(super) fn update(
        &mut self,
        now_ns: u64,
        interface: &mut Interface,
        sockets: &mut SocketSet<'static>,
    ) -> bool {
        if let Some(Dhcp::Pauses { until_ns }) = self.dhcp
            && until_ns <= now_ns
        {
            self.dhcp = Some(Dhcp::start(sockets));
        }
        let Some(Dhcp::Runs {
            handle,
            leased_ns,
            at_once,
        }) = &mut self.dhcp
        else {
            return false;
        };
        let handle = *handle;
        let pause_ns = leased_ns.map(|at_ns| at_ns.saturating_add(MIN_LEASE_NS));
        let known = match sockets.get_mut::<dhcpv4::Socket<'_>>(handle).poll() {
            None => return false,
            Some(dhcpv4::Event::Deconfigured) => {
                if let Some(until_ns) = pause_ns.filter(|until_ns| now_ns < *until_ns) {
                    drop(sockets.remove(handle));
                    self.dhcp = Some(Dhcp::Pauses { until_ns });
                    return false;
                }
                *leased_ns = None;
                None
            }
            Some(dhcpv4::Event::Configured(found)) => {
                let before_ns = leased_ns.replace(now_ns);
                let passed_ns = before_ns.map(|at_ns| now_ns.saturating_sub(at_ns));
                let is_at_once = passed_ns.is_some_and(|ns| ns < AT_ONCE_NS);
                *at_once = if is_at_once { *at_once + 1 } else { 0 };
                if let Some(until_ns) = pause_ns.filter(|_| *at_once >= MAX_AT_ONCE) {
                    drop(sockets.remove(handle));
                    self.dhcp = Some(Dhcp::Pauses { until_ns });
                    return false;
                }
                let (address, gateway) = (found.address, found.router);
                // A mask of no bits would make everybody a neighbour.
                let is_usable = is_host(address.address(), gateway) && address.prefix_len() > 0;
                is_usable.then_some((address, gateway))
            }
        };
        set_v4(interface, known);
        true
    }

    /// When DHCP begins anew, which smoltcp does not know of.
    pub(super) const fn next_ns(&self) -> Option<u64> {
        match self.dhcp {
            Some(Dhcp::Pauses { until_ns }) => Some(until_ns),
            Some(Dhcp::Runs { .. }) | None => None,
        }
    }
}

fn set_v4(interface: &mut Interface, known: Option<(Ipv4Cidr, Option<Ipv4Addr>)>) {
    interface.update_ip_addrs(|all| {
        all.retain(|one| matches!(one, IpCidr::Ipv6(_)));
        if let Some((address, _)) = known {
            let _full = all.push(address.into());
        }
    });
    let routes = interface.routes_mut();
    routes.remove_default_ipv4_route();
    if let Some((_, Some(gateway))) = known {
        let _full = routes.add_default_ipv4_route(gateway);
    }
}
