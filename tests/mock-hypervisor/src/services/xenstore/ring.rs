//! The ring between the store and a domain.

use std::collections::VecDeque;

use hypercall_abi::{
    DomId, Port,
    io::xs_wire::{
        XENSTORE_CONNECTED, XENSTORE_ERROR_COMM, XENSTORE_ERROR_NONE, XENSTORE_ERROR_PROTO,
        XENSTORE_ERROR_RINGIDX, XENSTORE_PAYLOAD_MAX, XENSTORE_RECONNECT, XENSTORE_RING_SIZE,
        XenstoreDomainInterface, XenstoreFeatures, XsMessageType, XsdSockmsg,
    },
    peer::PeerPtr,
    peer_field,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{super::Services, StoreError};

pub(super) fn message(kind: XsMessageType, req_id: u32, tx_id: u32, payload: &[u8]) -> Vec<u8> {
    let header = XsdSockmsg {
        r#type: kind,
        req_id,
        tx_id,
        len: payload.len() as u32,
    };
    [header.as_bytes(), payload].concat()
}

/// The server's side of a domain's ring.
#[derive(Debug)]
pub(crate) struct Ring {
    page: PeerPtr<'static, XenstoreDomainInterface>,
    /// By which its guest is notified.
    port: Port,
    input: Vec<u8>,
    output: VecDeque<u8>,
    failed: bool,
}

impl Ring {
    pub(crate) fn new(page: PeerPtr<'static, XenstoreDomainInterface>, port: Port) -> Self {
        let features =
            XenstoreFeatures::RECONNECTION | XenstoreFeatures::ERROR | XenstoreFeatures::WATCHDEPTH;
        peer_field!(page, XenstoreDomainInterface, server_features).store(features.bits());
        let ring = Self {
            page,
            port,
            input: Vec::new(),
            output: VecDeque::new(),
            failed: false,
        };
        ring.empty();
        ring
    }

    /// The ring cannot be used until the guest reconnects.
    fn stop(&mut self, error: u32) {
        self.failed = true;
        peer_field!(self.page, XenstoreDomainInterface, error).store_release(error);
    }

    /// As xenstored does for a domain that is introduced, or again
    /// (`domain_conn_reset`).
    fn empty(&self) {
        for index in [
            peer_field!(self.page, XenstoreDomainInterface, req_cons),
            peer_field!(self.page, XenstoreDomainInterface, req_prod),
            peer_field!(self.page, XenstoreDomainInterface, rsp_cons),
            peer_field!(self.page, XenstoreDomainInterface, rsp_prod),
        ] {
            index.store(0);
        }
        peer_field!(self.page, XenstoreDomainInterface, error).store(XENSTORE_ERROR_NONE);
        let connection = peer_field!(self.page, XenstoreDomainInterface, connection);
        connection.store_release(XENSTORE_CONNECTED);
    }

    /// Whether the guest asked to begin anew; if so, that is done.
    fn reconnected(&mut self) -> bool {
        let connection = peer_field!(self.page, XenstoreDomainInterface, connection);
        if connection.load_acquire().trust() != XENSTORE_RECONNECT {
            return false;
        }
        self.input.clear();
        self.output.clear();
        self.failed = false;
        self.empty();
        true
    }

    fn take(&mut self) {
        let ring = peer_field!(self.page, XenstoreDomainInterface, req);
        let consumer = peer_field!(self.page, XenstoreDomainInterface, req_cons);
        let producer = peer_field!(self.page, XenstoreDomainInterface, req_prod);
        let (mut at, end) = (consumer.load().trust(), producer.load_acquire().trust());
        if end.wrapping_sub(at) as usize > XENSTORE_RING_SIZE {
            return self.stop(XENSTORE_ERROR_RINGIDX);
        }
        while at != end {
            if let Some(byte) = ring.get(at as usize % XENSTORE_RING_SIZE) {
                self.input.push(byte.load().trust());
            }
            at = at.wrapping_add(1);
        }
        consumer.store_release(at);
    }

    /// A whole request, if there is one.
    fn request(&mut self) -> Option<(XsdSockmsg, Vec<u8>)> {
        let header = self.input.get(..size_of::<XsdSockmsg>())?;
        let header = XsdSockmsg::read_from_bytes(header).ok()?;
        let len = header.len as usize;
        if len > XENSTORE_PAYLOAD_MAX {
            self.stop(XENSTORE_ERROR_PROTO);
            return None;
        }
        let end = size_of::<XsdSockmsg>() + len;
        let payload = self.input.get(size_of::<XsdSockmsg>()..end)?.to_vec();
        self.input.drain(..end);
        Some((header, payload))
    }

    /// Puts what is to be said into the ring, as far as there is room.
    fn give(&mut self) -> bool {
        let ring = peer_field!(self.page, XenstoreDomainInterface, rsp);
        let consumer = peer_field!(self.page, XenstoreDomainInterface, rsp_cons);
        let producer = peer_field!(self.page, XenstoreDomainInterface, rsp_prod);
        let (mut at, read) = (producer.load().trust(), consumer.load_acquire().trust());
        let before = at;
        while (at.wrapping_sub(read) as usize) < XENSTORE_RING_SIZE {
            let Some(byte) = self.output.pop_front() else {
                break;
            };
            if let Some(slot) = ring.get(at as usize % XENSTORE_RING_SIZE) {
                slot.store(byte);
            }
            at = at.wrapping_add(1);
        }
        producer.store_release(at);
        at != before
    }
}

impl Services {
    /// Serves a domain that notified the store.
    pub(crate) fn serve_store(&mut self, domid: DomId) {
        let Some(ring) = self.rings.get_mut(&domid) else {
            return;
        };
        let port = ring.port;
        if ring.reconnected() {
            self.store.forget(domid);
            self.core.set_pending(domid, port);
        }
        if ring.failed {
            return;
        }
        let consumed = |ring: &Ring| {
            let consumer = peer_field!(ring.page, XenstoreDomainInterface, req_cons);
            consumer.load().trust()
        };
        let before = consumed(ring);
        ring.take();
        let mut requests = Vec::new();
        while let Some(request) = ring.request() {
            requests.push(request);
        }
        let after = consumed(ring);
        for (header, payload) in requests {
            let answer = self.answer_request(domid, &header, &payload);
            if let Some(ring) = self.rings.get_mut(&domid) {
                ring.output.extend(answer);
            }
        }
        if after != before {
            // There is room again.
            self.core.set_pending(domid, port);
        }
        self.push_store_events();
    }

    /// The answer to a request, or what goes wrong with it.
    fn answer_request(&mut self, domid: DomId, header: &XsdSockmsg, payload: &[u8]) -> Vec<u8> {
        let tx = header.tx_id;
        let refused = self.store.next_refused();
        let refused = refused.or_else(|| self.store_refuses(header.r#type));
        let answer = match refused {
            Some(error) => {
                if header.r#type == XsMessageType::TRANSACTION_END {
                    self.store.give_up(tx);
                }
                Err(error)
            }
            None => self.store.answer(domid, header.r#type, tx, payload),
        };
        // A value that another domain wrote.
        let is_others = header.r#type == XsMessageType::READ && payload.starts_with(b"/");
        let answer = match answer {
            Ok(_) if is_others && let Some(lie) = self.lie() => Ok(lie),
            answer => answer,
        };
        let (kind, payload) = match answer {
            Ok(payload) => (header.r#type, payload),
            Err(error) => (XsMessageType::ERROR, format!("{error}\0").into_bytes()),
        };
        message(kind, header.req_id, tx, &payload)
    }

    /// Why the store refuses a request, if it does.
    fn store_refuses(&mut self, kind: XsMessageType) -> Option<StoreError> {
        let error = match kind {
            XsMessageType::WRITE
            | XsMessageType::MKDIR
            | XsMessageType::SET_PERMS
            | XsMessageType::WATCH
            | XsMessageType::TRANSACTION_START => StoreError::ENOSPC,
            XsMessageType::TRANSACTION_END => StoreError::EAGAIN,
            _ => return None,
        };
        self.happens(|faults| faults.store_refuses).then_some(error)
    }

    /// What the store tells instead of another's value, if it does not tell that.
    fn lie(&mut self) -> Option<Vec<u8>> {
        const TEXTS: [&[u8]; 8] = [
            b"",
            b"0",
            b"-1",
            b"4294967295",
            b"99999999999999999999",
            b"\xff\0\xfe",
            b"/local/domain/0",
            b" 7 ",
        ];
        let number = self.chance.as_mut()?.number(|faults| faults.lies)?;
        let text = TEXTS.get(number as usize % TEXTS.len())?;
        Some(text.to_vec())
    }

    /// Moves what is to be said into the rings.
    pub(crate) fn push_store_events(&mut self) {
        self.look_after_backends();
        for (domid, event) in std::mem::take(&mut self.store.events) {
            if let Some(ring) = self.rings.get_mut(&domid)
                && !ring.failed
            {
                ring.output.extend(event);
            }
        }
        for (domid, ring) in &mut self.rings {
            if !ring.failed && ring.give() {
                self.core.set_pending(*domid, ring.port);
            }
        }
    }

    /// The store's process is replaced, and has no memory of a domain.
    pub(crate) fn restart_store(&mut self, domid: DomId) {
        self.store.forget(domid);
        if let Some(ring) = self.rings.get_mut(&domid) {
            ring.stop(XENSTORE_ERROR_COMM);
            let port = ring.port;
            self.core.set_pending(domid, port);
        }
    }

    /// A domain goes on elsewhere: its ring begins anew, with another port. Says where its
    /// page is.
    pub(crate) fn move_ring(
        &mut self,
        domid: DomId,
        port: Port,
    ) -> Option<PeerPtr<'static, XenstoreDomainInterface>> {
        let ring = self.rings.get_mut(&domid)?;
        let page = ring.page;
        *ring = Ring::new(page, port);
        Some(page)
    }
}
