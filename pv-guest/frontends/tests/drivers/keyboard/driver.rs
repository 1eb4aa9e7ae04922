//! A driver for keyboards (`vkbd`): all that a driver author has to write.
//! `docs/DRIVERS.md` walks through it.
//!
//! Source: `io/kbdif.h`.

use std::{
    future::poll_fn,
    mem::offset_of,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use event_channels::Channel;
use grant_tables::{Granted, Page, PeerWrites};
use hypercall_abi::{
    io::{
        kbdif::{
            XENKBD_FIELD_EVT_CHANNEL, XENKBD_FIELD_REQ_ABS_POINTER, XENKBD_FIELD_REQ_MTOUCH,
            XENKBD_FIELD_REQ_RAW_POINTER, XENKBD_FIELD_RING_GREF, XENKBD_FIELD_RING_REF,
            XENKBD_IN_EVENT_SIZE, XENKBD_IN_RING_LEN, XENKBD_IN_RING_OFFS, XenkbdKey, XenkbdPage,
            XenkbdType,
        },
        xenbus::XenbusState,
    },
    platform::Platform,
};
use pv_frontends::xenbus::{Bus, Fault, Frontend, Key, KeyName, Offer, Request, Stop};
use zerocopy::FromBytes;

/// What is shared with the backend while there is a connection.
struct RingChannel<'g, P: Platform> {
    page: Granted<'g, P, PeerWrites>,
    channel: Channel<'g, P>,
    /// Events that were read: our own index, which the backend cannot change.
    read: u32,
}

struct Inner<'g, P: Platform> {
    line: Option<RingChannel<'g, P>>,
    /// Who waits for a key, and the bus.
    waiting: Vec<Waker>,
    /// What the bus is to be told.
    request: Option<Request>,
}

/// A keyboard.
pub(crate) struct Keyboard<'g, P: Platform> {
    bus: Bus<'g, P>,
    inner: Mutex<Inner<'g, P>>,
}

impl<'g, P: Platform> Keyboard<'g, P> {
    pub(crate) fn new(bus: Bus<'g, P>) -> Self {
        let inner = Mutex::new(Inner {
            line: None,
            waiting: Vec::new(),
            request: None,
        });
        Self { bus, inner }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<'g, P>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next key that goes down or up; waits for a backend, too.
    pub(crate) async fn next(&self) -> XenkbdKey {
        poll_fn(|cx| {
            let mut inner = self.lock();
            inner.wait(cx.waker());
            loop {
                let Some(line) = &mut inner.line else {
                    return Poll::Pending;
                };
                match line.take() {
                    Ok(Taken::Key(key)) => return Poll::Ready(key),
                    Ok(Taken::Nothing) if line.channel.poll_wait(cx).is_pending() => {
                        return Poll::Pending;
                    }
                    Ok(Taken::Nothing) => {}
                    // Others have their turn.
                    Ok(Taken::NoKeys) => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Err(fault) => {
                        inner.request.get_or_insert(Request::Fault(fault));
                        inner.wake();
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }
}

impl<P: Platform> Keyboard<'_, P> {
    /// Has the connection made anew, also with a backend that lied.
    pub(crate) fn reconnect(&self) {
        let mut inner = self.lock();
        inner.request = Some(Request::Reconnect);
        inner.wake();
    }
}

impl<P: Platform> Inner<'_, P> {
    /// Has `waker` woken when something changes: once, however often its task asks.
    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|known| known.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// What was in the page.
enum Taken {
    Key(XenkbdKey),
    /// As many events as a page has, and none of them a key: there may be more.
    NoKeys,
    Nothing,
}

impl<P: Platform> RingChannel<'_, P> {
    /// The next key in the page. What is no key is left out, but not for as long as the
    /// backend writes: the task has other things to do.
    fn take(&mut self) -> Result<Taken, Fault> {
        let page = self.page.peer();
        let index = |offset| page.at::<u32>(offset).ok_or(Fault::Ring);
        let in_prod = index(offset_of!(XenkbdPage, in_prod))?;
        let in_cons = index(offset_of!(XenkbdPage, in_cons))?;
        let most = XENKBD_IN_RING_LEN as u32;
        for _ in 0..most {
            let written = in_prod.load_acquire();
            // Copied once, then checked: the backend may write anything.
            let count = written.check_with(|written| match written.wrapping_sub(self.read) {
                count if count <= most => Ok(count),
                _ => Err(Fault::Ring),
            })?;
            if count == 0 {
                return Ok(Taken::Nothing);
            }
            let slot = self.read as usize % XENKBD_IN_RING_LEN;
            let offset = XENKBD_IN_RING_OFFS + slot * XENKBD_IN_EVENT_SIZE;
            let mut event = [0; XENKBD_IN_EVENT_SIZE];
            page.get(offset, XENKBD_IN_EVENT_SIZE)
                .map(|slot| slot.copy_to(&mut event));
            self.read = self.read.wrapping_add(1);
            in_cons.store_release(self.read);
            match XenkbdKey::read_from_prefix(&event) {
                Ok((key, _)) if key.r#type == XenkbdType::KEY => return Ok(Taken::Key(key)),
                _ => {}
            }
        }
        Ok(Taken::NoKeys)
    }
}

impl<P: Platform> Frontend for Keyboard<'_, P> {
    const KIND: &'static str = "vkbd";
    const BACKEND_KEYS: &'static [&'static str] = &["feature-disable-keyboard"];
    const FRONTEND_KEYS: &'static [KeyName] = &[
        KeyName::One(XENKBD_FIELD_RING_REF),
        KeyName::One(XENKBD_FIELD_RING_GREF),
        KeyName::One(XENKBD_FIELD_EVT_CHANNEL),
        KeyName::One(XENKBD_FIELD_REQ_ABS_POINTER),
        KeyName::One(XENKBD_FIELD_REQ_RAW_POINTER),
        KeyName::One(XENKBD_FIELD_REQ_MTOUCH),
    ];
    const PUBLISHED_STATE: XenbusState = XenbusState::INITIALISED;

    fn negotiate(&self, offer: &Offer) -> Result<Vec<Key>, Fault> {
        if offer.backend.has("feature-disable-keyboard") {
            return Err(Fault::Lacks("keyboard"));
        }
        let grants = self.bus.grants();
        let page = grants.share::<PeerWrites>(offer.domid, Page::new(grants)?)?;
        let channel = Channel::unbound(self.bus.ports(), offer.domid)?;
        let keys = vec![
            Key::new("page-gref", page.gref()),
            Key::new("event-channel", channel.port()),
        ];
        self.lock().line = Some(RingChannel {
            page,
            channel,
            read: 0,
        });
        Ok(keys)
    }

    fn live(&self, _offer: &Offer) -> Result<(), Fault> {
        self.lock().wake();
        Ok(())
    }

    fn stop(&self, _why: Stop) {
        // The grant ends, or goes into quarantine while the backend has the page.
        self.lock().line = None;
    }

    fn poll_request(&self, cx: &mut Context<'_>) -> Poll<Request> {
        let mut inner = self.lock();
        inner.wait(cx.waker());
        inner.request.take().map_or(Poll::Pending, Poll::Ready)
    }
}
