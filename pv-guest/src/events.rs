//! The guest's ports, and its upcalls.

use event_channels::{Choice, Ports, Throttle};
use hypercall_abi::{VcpuId, peer::PeerPtr, xen::SharedInfo};
use spin::Once;

use crate::{Current, Error, console};

/// How a PVH guest is to be told of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// By the callback vector, which every Xen since 4.0 has: the processor wants no
    /// end of such an interrupt, and each would be a way to the hypervisor.
    #[default]
    Best,
    /// By the local APIC, vCPU by vCPU, where that can be had; otherwise as above.
    LocalApic,
}

static PORTS: Once<Ports<Current>> = Once::new();

/// The ports, if they were set up.
pub(crate) fn get() -> Option<&'static Ports<Current>> {
    PORTS.get()
}

/// What happens at an upcall.
pub(crate) fn upcall() {
    if let Some(ports) = PORTS.get() {
        ports.dispatch(VcpuId(0));
    }
}

/// Sets the ports up, once.
pub(crate) fn start(
    shared: PeerPtr<'static, SharedInfo>,
    choice: Choice,
    delivery: Delivery,
) -> Result<&'static Ports<Current>, Error> {
    let mut first = false;
    let ports = PORTS.try_call_once(|| {
        first = true;
        let platform = crate::current();
        Ports::new(platform, shared, choice, Throttle::default()).map_err(Error::from)
    })?;
    if first {
        // Its port's bits may lie elsewhere now.
        console::use_ports(ports);
        #[cfg(target_os = "none")]
        crate::native::upcalls::set_up(upcall, delivery)?;
        #[cfg(not(target_os = "none"))]
        {
            let _for_pvh = delivery;
            crate::hosted::open_upcalls(shared);
        }
    }
    Ok(ports)
}
