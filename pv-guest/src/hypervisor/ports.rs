//! The guest's ports.

use event_channels::{Choice, Ports, Throttle};
use hypercall_abi::{VcpuId, peer::PeerPtr, xen::SharedInfo};
use spin::Once;

use super::{Current, current};
use crate::error::Error;

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

/// Sets the ports up, once; says whether this call did.
pub(crate) fn set_up(
    shared: PeerPtr<'static, SharedInfo>,
    choice: Choice,
) -> Result<(&'static Ports<Current>, bool), Error> {
    let mut is_first = false;
    let ports = PORTS.try_call_once(|| {
        is_first = true;
        Ports::new(current(), shared, choice, Throttle::default()).map_err(Error::from)
    })?;
    Ok((ports, is_first))
}
