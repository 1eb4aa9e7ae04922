//! Watches, shared ones with their parts, and the events that wait for their owners.

use alloc::{format, string::String, vec::Vec};
use core::task::Waker;

use hypercall_abi::io::xs_wire::XsMessageType;
use litemap::LiteMap;

use super::{Asker, Machine, RequestId, SubscriptionId, WatchId};
use crate::{
    ErrorKind,
    events::{Events, Repeats},
};

/// Somebody's part of a shared watch.
#[derive(Debug)]
pub(super) struct Part {
    path: String,
    is_changed: bool,
    waker: Option<Waker>,
}

impl Part {
    fn change(&mut self) {
        self.is_changed = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Whether `path` is `above`, or lies below it.
fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || above.ends_with('/'))
}

#[derive(Debug)]
pub(super) struct WatchState {
    pub(super) path: String,
    /// Those who share it; it keeps no events of its own then.
    pub(super) parts: LiteMap<u64, Part>,
    /// An event came: the server has it.
    pub(super) is_set: bool,
    pub(super) depth: Option<u32>,
    pub(super) events: Events,
    pub(super) failed: Option<ErrorKind>,
    pub(super) waker: Option<Waker>,
    /// The server may have it.
    pub(super) sent: bool,
}

impl Machine {
    /// Sets a watch. It stays set across [`reset`](Self::reset).
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn watch(
        &mut self,
        path: &str,
        depth: Option<u32>,
        repeats: Repeats,
    ) -> Result<(WatchId, RequestId), ErrorKind> {
        self.check_answers()?;
        self.last_watch += 1;
        let id = WatchId(self.last_watch);
        let request = self.send_watch(id, path, depth, Asker::Caller(None))?;
        self.watches
            .insert(id.0, WatchState::new(path, depth, repeats));
        Ok((id, request))
    }

    fn send_watch(
        &mut self,
        id: WatchId,
        path: &str,
        depth: Option<u32>,
        asker: Asker,
    ) -> Result<RequestId, ErrorKind> {
        let token = token(id);
        let depth = depth.map(|depth| format!("{depth}\0"));
        let depth = depth.as_deref().unwrap_or("");
        let parts: [&[u8]; 5] = [
            path.as_bytes(),
            b"\0",
            token.as_bytes(),
            b"\0",
            depth.as_bytes(),
        ];
        self.put(XsMessageType::WATCH, 0, &parts, asker)
    }

    /// Joins those who share a watch of `watched`, which is set if need be: to be told of
    /// changes at `path`, above it or below it.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn subscribe(&mut self, watched: &str, path: &str) -> Result<SubscriptionId, ErrorKind> {
        self.check_answers()?;
        self.last_watch += 1;
        let number = self.last_watch;
        let shared =
            |(_, watch): &(&u64, &WatchState)| !watch.parts.is_empty() && watch.path == watched;
        let known = self.watches.iter().find(shared);
        let known = known.map(|(id, watch)| (*id, watch.failed.is_none()));
        let watch = match known {
            Some((id, true)) => id,
            // Perhaps there is room for it now.
            Some((id, false)) => {
                self.send_watch(WatchId(id), watched, None, Asker::Watch(WatchId(id)))?;
                id
            }
            None => {
                let id = WatchId(number);
                self.send_watch(id, watched, None, Asker::Watch(id))?;
                let state = WatchState::new(watched, None, Repeats::Merge);
                self.watches.insert(id.0, state);
                id.0
            }
        };
        if let Some(state) = self.watches.get_mut(&watch) {
            (state.failed, state.sent) = (None, true);
            let part = Part {
                path: path.into(),
                // The first event of the watch is for all.
                is_changed: state.is_set,
                waker: None,
            };
            state.parts.insert(number, part);
        }
        Ok(SubscriptionId { watch, number })
    }

    /// Whether something changed for a subscription; otherwise remembers whom to wake.
    ///
    /// # Errors
    /// The server refused the watch, or the connection ended for good.
    pub fn take_change(
        &mut self,
        id: SubscriptionId,
        waker: &Waker,
    ) -> Result<Option<()>, ErrorKind> {
        let watch = self.watches.get_mut(&id.watch);
        let watch = watch.ok_or(ErrorKind::Disconnected)?;
        if let Some(failed) = watch.failed {
            return Err(failed);
        }
        let part = watch.parts.get_mut(&id.number);
        let part = part.ok_or(ErrorKind::Disconnected)?;
        if core::mem::take(&mut part.is_changed) {
            return Ok(Some(()));
        }
        part.waker = Some(waker.clone());
        Ok(None)
    }

    /// Leaves a shared watch; the last one ends it.
    pub fn unsubscribe(&mut self, id: SubscriptionId) {
        if let Some(watch) = self.watches.get_mut(&id.watch) {
            watch.parts.remove(&id.number);
            if watch.parts.is_empty() {
                self.unwatch(WatchId(id.watch));
            }
        }
    }

    /// Takes the next event: the path that changed. Otherwise remembers whom to
    /// wake.
    ///
    /// # Errors
    /// The watch could not be set again after the connection was renewed, or
    /// the connection ended for good.
    pub fn take_event(
        &mut self,
        id: WatchId,
        waker: Option<&Waker>,
    ) -> Result<Option<String>, ErrorKind> {
        let watch = self.watches.get_mut(&id.0).ok_or(ErrorKind::Disconnected)?;
        let before = watch.events.bytes();
        if let Some(event) = watch.events.pop() {
            self.event_bytes -= before - watch.events.bytes();
            return Ok(Some(event));
        }
        if let Some(failed) = watch.failed {
            return Err(failed);
        }
        if let Some(waker) = waker {
            watch.waker = Some(waker.clone());
        }
        Ok(None)
    }

    /// Ends a watch. Events on their way are strays.
    pub fn unwatch(&mut self, id: WatchId) {
        let Some(watch) = self.watches.remove(&id.0) else {
            return;
        };
        self.event_bytes -= watch.events.bytes();
        // Nobody waits for its answer any more.
        for (_, request) in &mut self.requests {
            if matches!(request.asker, Asker::Watch(watch) if watch == id) {
                request.asker = Asker::Gone;
                self.abandoned += 1;
            }
        }
        if watch.sent {
            let token = token(id);
            let parts: [&[u8]; 4] = [watch.path.as_bytes(), b"\0", token.as_bytes(), b"\0"];
            let _dead = self.put(XsMessageType::UNWATCH, 0, &parts, Asker::Gone);
        }
    }

    /// The connection stays, but the server may have forgotten the watches (or
    /// not): they are set again, and each fires.
    pub fn renew_watches(&mut self) {
        // Those that it has not forgotten cannot be set twice.
        let _dead = self.put(XsMessageType::RESET_WATCHES, 0, &[b"\0"], Asker::Gone);
        self.send_watches();
    }

    pub(super) fn send_watches(&mut self) {
        let watches = self.watches.iter_mut();
        let again: Vec<_> = watches
            .map(|(id, watch)| {
                watch.failed = None;
                watch.sent = true;
                (WatchId(*id), watch.path.clone(), watch.depth)
            })
            .collect();
        for (id, path, depth) in again {
            let _dead = self.send_watch(id, &path, depth, Asker::Watch(id));
        }
    }
}

impl WatchState {
    /// One that the server may have.
    pub(super) fn new(path: &str, depth: Option<u32>, repeats: Repeats) -> Self {
        Self {
            path: path.into(),
            parts: LiteMap::new_vec(),
            is_set: false,
            depth,
            events: Events::new(repeats),
            failed: None,
            waker: None,
            sent: true,
        }
    }

    /// Tells those of its parts whom a change concerns.
    pub(super) fn tell_parts(&mut self, path: &str) {
        for (_, part) in &mut self.parts {
            if is_below(path, &part.path) || is_below(&part.path, path) {
                part.change();
            }
        }
    }

    pub(super) fn change_parts(&mut self) {
        for (_, part) in &mut self.parts {
            part.change();
        }
    }

    pub(super) fn fail(&mut self, error: ErrorKind) {
        self.failed = Some(error);
        self.is_set = false;
        self.change_parts();
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn token(id: WatchId) -> String {
    format!("w{}", id.0)
}
