//! The start of the guest's ports and upcalls.

use event_channels::{Choice, Ports};
use hypercall_abi::{peer::PeerPtr, xen::SharedInfo};

use super::console;
use crate::{
    error::Error,
    hypervisor::{self, Current, Delivery, ports},
};

/// Sets the ports up, once.
pub(crate) fn start(
    shared: PeerPtr<'static, SharedInfo>,
    choice: Choice,
    delivery: Delivery,
) -> Result<&'static Ports<Current>, Error> {
    let (ports, is_first) = ports::set_up(shared, choice)?;
    if is_first {
        // Its port's bits may lie elsewhere now.
        console::use_ports(ports);
        hypervisor::set_up_upcalls(shared, delivery)?;
    }
    Ok(ports)
}
