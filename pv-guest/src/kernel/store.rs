//! The guest's connection to the store.

use event_channels::Channel;
use hypercall_abi::{io::xs_wire::XenstoreDomainInterface, peer::PeerPtr, platform::Pages};
use spin::Once;
use xenstore_client::{Client, Ring};

use crate::{
    boot_info::RingLocation,
    error::Error,
    hypervisor::{Current, current, ports},
};

/// A guest's client of the store.
pub type Store = Client<Ring<'static, Current>>;

static STORE: Once<Store> = Once::new();

/// Connects, once. The ports are set up.
///
/// # Safety
/// The page at `location` is shared with the store, and nothing else of this guest uses
/// it.
pub(crate) unsafe fn start(location: RingLocation) -> Result<&'static Store, Error> {
    STORE.try_call_once(|| {
        let ports = ports::get().ok_or(Error::NotSupported("the store"))?;
        let page = Pages::page_of(&current(), location.gfn)
            .ok_or(Error::StartInfo("the store's page is not memory"))?;
        // SAFETY: a whole page of the guest's, mapped for good; the rest is the
        // caller's promise.
        let page: PeerPtr<'static, XenstoreDomainInterface> = unsafe { PeerPtr::new(page.cast()) };
        let channel = Channel::adopt(ports, location.port)?;
        Ok(Client::new(Ring::new(page, channel)))
    })
}
