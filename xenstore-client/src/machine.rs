//! The protocol, without any input or output: bytes in, bytes out.
//!
//! Whatever comes in, it does not panic, holds no more memory than its user
//! asked for (and one message), and tells each request at most one outcome.
//! Source: `docs/misc/xenstore.txt`, `xen/include/public/io/xs_wire.h`.

use alloc::{collections::VecDeque, format, string::String, vec::Vec};
use core::{ffi::CStr, task::Waker};

use hypercall_abi::{
    Errno,
    io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsMessageType, XsdSockmsg},
};
use litemap::LiteMap;
use zerocopy::{FromBytes, IntoBytes};

pub use crate::events::{EVENT_BYTES, MAX_ALL_EVENT_BYTES, MAX_EVENT_BYTES, MAX_EVENTS, Repeats};
use crate::{
    ErrorKind,
    error::from_server,
    events::{Events, Pushed},
    value,
};

const HEADER: usize = size_of::<XsdSockmsg>();
/// How many requests may be unanswered whose callers have gone: those of a server that
/// answers nothing, asked again and again by callers that time out.
pub const MAX_ABANDONED: usize = 1024;

/// Which request an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(u32);

/// Which watch an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(u64);

/// Which part of a shared watch an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriptionId {
    watch: u64,
    number: u64,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Asker {
    Caller(Option<Waker>),
    /// Nobody any more. What the answer opened is closed again.
    Gone,
    /// The machine itself: a watch that was set again.
    Watch(WatchId),
}

#[derive(Debug)]
struct Request {
    kind: XsMessageType,
    tx_id: u32,
    len_bytes: usize,
    asker: Asker,
    answer: Option<Result<Vec<u8>, ErrorKind>>,
}

/// Somebody's part of a shared watch.
#[derive(Debug)]
struct Part {
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
struct WatchState {
    path: String,
    /// Those who share it; it keeps no events of its own then.
    parts: LiteMap<u64, Part>,
    /// An event came: the server has it.
    is_set: bool,
    depth: Option<u32>,
    events: Events,
    failed: Option<ErrorKind>,
    waker: Option<Waker>,
    /// The server may have it.
    sent: bool,
}

/// What came in that nobody had asked for, or that made no sense.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// Answers to requests that are not there.
    pub answers: u64,
    /// Events of watches that are not there, or without a path.
    pub events: u64,
    /// Messages longer than the protocol has them.
    pub oversized: u64,
}

/// Where in a message the input is.
#[derive(Debug, Default)]
enum Input {
    #[default]
    Header,
    Body(XsdSockmsg),
    /// So many bytes of a message that is too long.
    Skip(u32),
}

/// The client's side of a connection.
#[derive(Debug, Default)]
pub struct Machine {
    output: VecDeque<u8>,
    input: Input,
    /// A part of a header or a body.
    partial: Vec<u8>,
    requests: LiteMap<u32, Request>,
    last_request: u32,
    watches: LiteMap<u64, WatchState>,
    last_watch: u64,
    /// What the waiting events of all watches take.
    event_bytes: usize,
    /// Requests whose callers have gone, and that have no answer.
    abandoned: usize,
    strays: Strays,
    dead: bool,
}

impl Machine {
    /// A connection on which nothing was said.
    pub fn new() -> Self {
        Self::default()
    }

    /// What came in that made no sense.
    pub const fn strays(&self) -> Strays {
        self.strays
    }

    /// How many requests wait for their answers.
    pub fn in_flight(&self) -> usize {
        let waits = |request: &&Request| request.answer.is_none();
        self.requests.values().filter(waits).count()
    }

    /// Whether something that was asked in a transaction waits for its answer.
    pub(crate) fn is_busy(&self, tx_id: u32) -> bool {
        let waits = |request: &Request| request.tx_id == tx_id && request.answer.is_none();
        self.requests.values().any(waits)
    }

    /// Whether the answer is there, and nobody has taken it.
    pub(crate) fn is_answered(&self, id: RequestId) -> bool {
        let request = self.requests.get(&id.0);
        request.is_some_and(|request| request.answer.is_some())
    }

    /// What the events of all watches take that wait to be taken: no more than
    /// [`MAX_ALL_EVENT_BYTES`].
    pub const fn event_bytes(&self) -> usize {
        self.event_bytes
    }

    fn put(
        &mut self,
        kind: XsMessageType,
        tx_id: u32,
        parts: &[&[u8]],
        asker: Asker,
    ) -> Result<RequestId, ErrorKind> {
        if self.dead {
            return Err(ErrorKind::Disconnected);
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if len > XENSTORE_PAYLOAD_MAX {
            return Err(ErrorKind::TooLong);
        }
        loop {
            self.last_request = self.last_request.wrapping_add(1);
            if !self.requests.contains_key(&self.last_request) {
                break;
            }
        }
        let header = XsdSockmsg {
            r#type: kind,
            req_id: self.last_request,
            tx_id,
            len: len as u32,
        };
        self.output.extend(header.as_bytes());
        for part in parts {
            self.output.extend(*part);
        }
        self.abandoned += usize::from(matches!(asker, Asker::Gone));
        let request = Request {
            kind,
            tx_id,
            len_bytes: len,
            asker,
            answer: None,
        };
        self.requests.insert(self.last_request, request);
        Ok(RequestId(self.last_request))
    }

    /// Asks: the parts are the payload, in a row.
    ///
    /// # Errors
    /// [`ErrorKind::TooLong`], [`ErrorKind::Disconnected`], [`ErrorKind::Unanswered`].
    pub fn request(
        &mut self,
        kind: XsMessageType,
        tx_id: u32,
        parts: &[&[u8]],
    ) -> Result<RequestId, ErrorKind> {
        self.check_answers()?;
        self.put(kind, tx_id, parts, Asker::Caller(None))
    }

    /// A server that answers nothing cannot have the memory grow.
    const fn check_answers(&self) -> Result<(), ErrorKind> {
        if self.abandoned >= MAX_ABANDONED {
            return Err(ErrorKind::Unanswered);
        }
        Ok(())
    }

    /// Takes the answer if it is there; otherwise remembers whom to wake.
    pub fn take_answer(
        &mut self,
        id: RequestId,
        waker: &Waker,
    ) -> Option<Result<Vec<u8>, ErrorKind>> {
        let Some(request) = self.requests.get_mut(&id.0) else {
            return Some(Err(ErrorKind::Disconnected));
        };
        if request.answer.is_none() {
            request.asker = Asker::Caller(Some(waker.clone()));
            return None;
        }
        self.requests.remove(&id.0)?.answer
    }

    /// The answer is not wanted any more.
    pub fn forget(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id.0) else {
            return;
        };
        match request.answer.take() {
            None => {
                request.asker = Asker::Gone;
                self.abandoned += 1;
            }
            Some(answer) => {
                let kind = request.kind;
                self.requests.remove(&id.0);
                self.undo(kind, answer);
            }
        }
    }

    /// Ends what an answer opened that nobody takes.
    fn undo(&mut self, kind: XsMessageType, answer: Result<Vec<u8>, ErrorKind>) {
        if kind == XsMessageType::TRANSACTION_START
            && let Some(tx_id) = answer.ok().and_then(|text| value::parse(&text))
        {
            self.abort(tx_id);
        }
    }

    /// Ends a transaction without waiting to hear how.
    pub fn abort(&mut self, tx_id: u32) {
        let _dead = self.put(
            XsMessageType::TRANSACTION_END,
            tx_id,
            &[b"F\0"],
            Asker::Gone,
        );
    }

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

    /// Hands bytes that are to be sent to `send`, which says how many it took.
    /// Says how many that were.
    pub fn output(&mut self, send: impl FnOnce(&[u8]) -> usize) -> usize {
        let (bytes, _) = self.output.as_slices();
        if bytes.is_empty() {
            return 0;
        }
        let len = bytes.len();
        let taken = send(bytes).min(len);
        self.output.drain(..taken);
        taken
    }

    /// Whether there is something to send.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Takes bytes that came in.
    pub fn input(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let wanted = match &self.input {
                Input::Header => HEADER - self.partial.len(),
                Input::Body(header) => header.len as usize - self.partial.len(),
                Input::Skip(rest) => *rest as usize,
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            bytes = later;
            if let Input::Skip(rest) = &mut self.input {
                *rest -= now.len() as u32;
                if *rest == 0 {
                    self.input = Input::Header;
                }
                continue;
            }
            self.partial.extend_from_slice(now);
            if now.len() == wanted {
                self.advance();
            }
        }
    }

    /// A header or a body is whole.
    fn advance(&mut self) {
        match core::mem::take(&mut self.input) {
            Input::Header => {
                let Ok(header) = XsdSockmsg::read_from_bytes(&self.partial) else {
                    return;
                };
                self.partial.clear();
                if header.len as usize > XENSTORE_PAYLOAD_MAX {
                    self.strays.oversized += 1;
                    self.answer(
                        header.req_id,
                        Err(ErrorKind::Protocol("a message is too long")),
                    );
                    self.input = Input::Skip(header.len);
                } else if header.len == 0 {
                    self.message(header);
                } else {
                    self.input = Input::Body(header);
                }
            }
            Input::Body(header) => self.message(header),
            Input::Skip(_) => {}
        }
    }

    fn message(&mut self, header: XsdSockmsg) {
        let body = core::mem::take(&mut self.partial);
        if header.r#type == XsMessageType::WATCH_EVENT {
            return self.event(&body);
        }
        let Some(request) = self.requests.get(&header.req_id) else {
            self.strays.answers += 1;
            return;
        };
        let answer = if header.r#type == XsMessageType::ERROR {
            Err(from_server(
                request.kind,
                request.tx_id,
                request.len_bytes,
                &body,
            ))
        } else if header.r#type == request.kind {
            Ok(body)
        } else {
            Err(ErrorKind::Protocol("an answer of another type"))
        };
        self.answer(header.req_id, answer);
    }

    fn answer(&mut self, id: u32, answer: Result<Vec<u8>, ErrorKind>) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        if request.answer.is_some() {
            self.strays.answers += 1;
            return;
        }
        match &mut request.asker {
            Asker::Caller(waker) => {
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
                request.answer = Some(answer);
            }
            Asker::Gone => {
                let kind = request.kind;
                self.abandoned -= 1;
                self.requests.remove(&id);
                self.undo(kind, answer);
            }
            Asker::Watch(watch) => {
                let watch = *watch;
                self.requests.remove(&id);
                let Some(watch) = self.watches.get_mut(&watch.0) else {
                    return;
                };
                match answer {
                    Ok(_) => {}
                    // A server that cannot reset watches still has it, and so does not
                    // fire: what it told of meanwhile is not known.
                    Err(ErrorKind::Server(Errno::EEXIST)) => {
                        watch.is_set = true;
                        self.event_bytes -= watch.events.bytes();
                        watch.events.collapse(&watch.path);
                        watch.change_parts();
                        watch.wake();
                    }
                    Err(error) => {
                        watch.sent = false;
                        watch.fail(error);
                    }
                }
            }
        }
    }

    /// The watch and the path of an event: `path|token|`.
    fn parse_event(body: &[u8]) -> Option<(WatchId, &str)> {
        let path = CStr::from_bytes_until_nul(body).ok()?;
        let token = body.get(path.count_bytes() + 1..)?.strip_prefix(b"w")?;
        Some((WatchId(value::parse(token)?), path.to_str().ok()?))
    }

    fn event(&mut self, body: &[u8]) {
        let parsed = Self::parse_event(body);
        let watch = parsed.and_then(|(id, path)| Some((self.watches.get_mut(&id.0)?, path)));
        let Some((watch, path)) = watch else {
            self.strays.events += 1;
            return;
        };
        watch.is_set = true;
        if !watch.parts.is_empty() {
            return watch.tell_parts(path);
        }
        let before = watch.events.bytes();
        if watch.events.push(path) == Pushed::Over {
            watch.events.collapse(&watch.path);
        }
        self.event_bytes = self.event_bytes - before + watch.events.bytes();
        watch.wake();
        if self.event_bytes > MAX_ALL_EVENT_BYTES {
            self.collapse_largest();
        }
    }

    /// The watch with the most that waits pays for all: one that is told little loses no
    /// path because of another that is told much.
    fn collapse_largest(&mut self) {
        let watches = self.watches.iter_mut();
        let largest = watches.max_by_key(|(_, watch)| watch.events.bytes());
        if let Some((_, watch)) = largest {
            self.event_bytes -= watch.events.bytes();
            watch.events.collapse(&watch.path);
        }
    }

    /// The connection begins anew: the server knows nothing of us. Requests on
    /// their way fail; watches are set again, and each fires.
    pub fn reset(&mut self) {
        self.output.clear();
        self.partial.clear();
        self.input = Input::Header;
        self.fail_requests();
        self.send_watches();
    }

    /// The connection stays, but the server may have forgotten the watches (or
    /// not): they are set again, and each fires.
    pub fn renew_watches(&mut self) {
        // Those that it has not forgotten cannot be set twice.
        let _dead = self.put(XsMessageType::RESET_WATCHES, 0, &[b"\0"], Asker::Gone);
        self.send_watches();
    }

    fn send_watches(&mut self) {
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

    /// The connection ended for good: nothing comes any more.
    pub fn end(&mut self) {
        self.dead = true;
        self.output.clear();
        self.fail_requests();
        for (_, watch) in &mut self.watches {
            watch.fail(ErrorKind::Disconnected);
        }
    }

    fn fail_requests(&mut self) {
        let has_caller = |request: &Request| matches!(request.asker, Asker::Caller(_));
        self.requests.retain(|_, request| has_caller(request));
        for (_, request) in &mut self.requests {
            if let Asker::Caller(waker) = &mut request.asker
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
            if request.answer.is_none() {
                request.answer = Some(Err(ErrorKind::Disconnected));
            }
        }
        self.abandoned = 0;
    }
}

impl WatchState {
    /// One that the server may have.
    fn new(path: &str, depth: Option<u32>, repeats: Repeats) -> Self {
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
    fn tell_parts(&mut self, path: &str) {
        for (_, part) in &mut self.parts {
            if is_below(path, &part.path) || is_below(&part.path, path) {
                part.change();
            }
        }
    }

    fn change_parts(&mut self) {
        for (_, part) in &mut self.parts {
            part.change();
        }
    }

    fn fail(&mut self, error: ErrorKind) {
        self.failed = Some(error);
        self.is_set = false;
        self.change_parts();
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn token(id: WatchId) -> String {
    format!("w{}", id.0)
}
