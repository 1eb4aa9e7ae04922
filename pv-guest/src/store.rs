//! The guest's connection to the store.

use event_channels::Channel;
use hypercall_abi::{io::xs_wire::XenstoreDomainInterface, peer::PeerPtr, platform::Pages};
use spin::Once;
use xenstore_client::{Client, Ring};

use crate::{Current, Error, boot_info::RingLocation, events};

/// A guest's client of the store.
pub type Store = Client<Ring<'static, Current>>;

static STORE: Once<Store> = Once::new();

/// Connects, once. The ports are set up.
pub(crate) fn start(location: Option<RingLocation>) -> Result<&'static Store, Error> {
    STORE.try_call_once(|| {
        let none = Error::NotSupported("the store");
        let (location, ports) = location.zip(events::get()).ok_or(none)?;
        let page = Pages::page_of(&crate::current(), location.gfn)
            .ok_or(Error::StartInfo("the store's page is not memory"))?;
        // SAFETY: a whole page of the guest's, mapped for good, which the
        // toolstack shares with the store and nobody else uses.
        let page: PeerPtr<'static, XenstoreDomainInterface> = unsafe { PeerPtr::new(page.cast()) };
        let channel = Channel::adopt(ports, location.port)?;
        Ok(Client::new(Ring::new(page, channel)))
    })
}
