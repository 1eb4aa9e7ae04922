//! Agreeing with a backend on what is shared.

use core::time::Duration;

use grant_tables::Owner;
use hypercall_abi::{io::xenbus::XenbusState, platform::Platform};
use xenstore_client::Error;

use crate::buffers::Lender;

use super::{
    Fault, Offer, Stop,
    handshake::{Phase, Seen},
    nodes::{Held, Written},
    session::{Session, Told},
};

/// How long a backend that is gone has to let go, before it is taken for one that never
/// will, and how often it is looked.
const RELEASE_LOOKS: u32 = 50;
const RELEASE_PAUSE: Duration = Duration::from_millis(100);

impl<P: Platform> Session<'_, '_, P> {
    /// Agrees with the backend.
    pub(super) async fn tell(&mut self, seen: Seen, offer: &Offer) -> Result<Told, Error> {
        self.wait_for_release(seen).await?;
        if self.is_hoarding() {
            self.ask_later(Fault::Quarantine);
            return Ok(Told::Later);
        }
        self.inbox.begin_use();
        match self.driver.negotiate(offer) {
            Ok(keys) => {
                // What became of it is not known if the connection ends meanwhile.
                let held = core::mem::replace(&mut self.held, Held::Anything);
                self.pending_state = Some(XenbusState::INITIALISING);
                let written = self.write(&keys, held).await?;
                (self.pending_state, self.held) = (None, Held::AsSaid);
                match written {
                    Written::All => {
                        (self.phase, self.said) = (Phase::Told, Some(self.driver.protocol().told))
                    }
                    // Seen when the device is looked for the next time.
                    Written::NoDevice => self.end_use(Stop::Lost),
                }
            }
            Err(fault) => self.fail(fault).await,
        }
        Ok(Told::Yes)
    }

    /// The backend is ready.
    pub(super) async fn go_live(&mut self, offer: &Offer) {
        self.phase = Phase::Live;
        self.live_since_ns = Some(self.bus.now_ns());
        // Nobody may look again before the next refusal.
        self.store_backoff.reset();
        if let Err(fault) = self.driver.live(offer) {
            self.fail(fault).await;
        }
    }

    /// Whether backends of this device keep so much of the guest's memory that no more is
    /// lent to them.
    fn is_hoarding(&self) -> bool {
        Lender::new(self.bus.grants(), Owner::named(&self.own)).is_hoarded()
    }

    /// Waits until the backend before this one has let go, or this one goes on.
    async fn wait_for_release(&self, seen: Seen) -> Result<(), Error> {
        for _ in 0..RELEASE_LOOKS {
            let Some(backend) = self.backend.as_ref().filter(|_| !self.driver.is_released()) else {
                break;
            };
            self.bus.sleep(RELEASE_PAUSE).await;
            if self.see(&backend.path).await? != seen {
                break;
            }
        }
        Ok(())
    }
}
