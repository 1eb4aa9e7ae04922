//! A queue: a ring each way, and the ports that go with them.

use alloc::vec::Vec;
use core::task::{Context, Poll};

use event_channels::{Channel, Ports};
use hypercall_abi::{DomId, GrantRef, io::ring::Notify, platform::Platform};

use super::{
    Features,
    rx::{Came, Refill, Rx},
    tx::Tx,
};
use crate::{
    buffers::Lender,
    xenbus::{Fault, Key, Trusted},
};

/// How many ports a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Events {
    /// One for both directions.
    One,
    /// One each.
    Split,
}

#[derive(Debug)]
pub(super) struct Queue<'g, P: Platform> {
    pub(super) tx: Tx<'g, P>,
    pub(super) rx: Rx<'g, P>,
    /// Those of `tx` and `rx`.
    rings: Option<[GrantRef; 2]>,
    /// That of both, or that of `tx` and that of `rx`.
    channels: Vec<Channel<'g, P>>,
    /// The backend is ready for it.
    is_open: bool,
}

impl<'g, P: Platform> Queue<'g, P> {
    pub(super) fn new(grants: Lender<'g, P>, rx_pages: usize) -> Self {
        Self {
            tx: Tx::new(grants),
            rx: Rx::new(grants, rx_pages),
            rings: None,
            channels: Vec::new(),
            is_open: false,
        }
    }

    /// Makes rings and ports for `peer`. Where a second port is not to be had, one does
    /// for both directions.
    pub(super) fn attach(
        &mut self,
        ports: &'g Ports<P>,
        (peer, trusted): (DomId, Trusted),
        events: Events,
    ) -> Result<(), Fault> {
        self.detach();
        self.rings = Some([self.tx.attach(peer, trusted)?, self.rx.attach(peer)?]);
        self.channels.push(Channel::unbound(ports, peer)?);
        if events == Events::Split
            && let Ok(second) = Channel::unbound(ports, peer)
        {
            self.channels.push(second);
        }
        Ok(())
    }

    /// How the peer is told of it, as the queue `index` of `queues`.
    pub(super) fn keys(&self, (index, queues): (usize, usize)) -> Vec<Key> {
        let rings = self.rings.map(|rings| rings.map(|gref| gref.0));
        let rings = rings.into_iter().flatten();
        let ports = self.channels.iter().map(|channel| channel.port().0);
        let names: &[&str] = match self.channels.len() {
            1 => &["event-channel"],
            _ => &["event-channel-tx", "event-channel-rx"],
        };
        let rings = ["tx-ring-ref", "rx-ring-ref"].into_iter().zip(rings);
        let all = rings.chain(names.iter().copied().zip(ports));
        all.map(|(name, value)| Key::of_queue(index, queues, name, value))
            .collect()
    }

    /// The backend is ready: it has pages to write into.
    pub(super) fn open(&mut self, features: Features) -> Result<(), Fault> {
        self.is_open = true;
        self.tx.set_features(features);
        // Whatever it asked for: it may not have looked yet.
        let _asked = self.rx.publish(Refill::Now);
        for channel in &self.channels {
            channel.notify()?;
        }
        Ok(())
    }

    /// There is no ring any more.
    pub(super) fn detach(&mut self) {
        self.is_open = false;
        self.rings = None;
        self.channels.clear();
        self.tx.detach();
        self.rx.detach();
    }

    /// Nothing is lent any more.
    pub(super) fn fail(&mut self) {
        self.detach();
        self.tx.forget_pages();
        self.rx.forget_pages();
    }

    /// Nothing more is sent.
    pub(super) fn drain(&mut self) {
        self.tx.close_train();
        // The backend ends, and looks at what there is.
        let _told = self.publish();
        self.is_open = false;
    }

    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// The next packet, if there is one.
    pub(super) fn receive(&mut self, target: &mut Vec<u8>) -> Result<Came, Fault> {
        let received = self.rx.receive(target)?;
        self.refill(Refill::Batch)?;
        Ok(received)
    }

    fn refill(&mut self, when: Refill) -> Result<(), Fault> {
        if self.is_open
            && self.rx.publish(when) == Notify::Yes
            && let Some(channel) = self.channels.last()
        {
            channel.notify_deferred()?;
        }
        Ok(())
    }

    /// Shows the backend what was sent.
    pub(super) fn publish(&mut self) -> Result<(), Fault> {
        if self.tx.publish() == Notify::Yes
            && let Some(channel) = self.channels.first()
        {
            channel.notify_deferred()?;
        }
        Ok(())
    }

    /// Before sleeping for room: whether there may be some.
    pub(super) fn listen_for_room(&mut self) -> Result<bool, Fault> {
        if self.is_open {
            return Ok(self.tx.listen_for_room());
        }
        // The bus waits for each answer. Those that are here are no news any more, also if
        // they make no sense: whoever asks again at once would ask for ever.
        self.tx.reclaim()?;
        Ok(self.tx.listen())
    }

    /// Before sleeping for packets: gives the backend all pages, and says whether
    /// something came meanwhile.
    pub(super) fn listen_rx(&mut self) -> Result<bool, Fault> {
        self.refill(Refill::Now)?;
        Ok(self.rx.listen())
    }

    /// Whether the backend has the other end of the ports: one that does not will
    /// answer nothing.
    pub(super) fn is_served(&self) -> bool {
        let channel = self.channels.first();
        channel.is_some_and(|channel| channel.is_connected().unwrap_or(false))
    }

    /// Has `cx` woken by the next event; `Ready`: one came.
    pub(super) fn poll_events(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut came = Poll::Pending;
        for channel in &self.channels {
            if channel.poll_wait(cx).is_ready() {
                came = Poll::Ready(());
            }
        }
        came
    }
}
