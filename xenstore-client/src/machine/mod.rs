//! The protocol, without any input or output: bytes in, bytes out.
//!
//! Whatever comes in, it does not panic, holds no more memory than its user
//! asked for (and one message), and tells each request at most one outcome.
//! Source: `docs/misc/xenstore.txt`, `xen/include/public/io/xs_wire.h`.

mod input;
mod watches;

use alloc::{collections::VecDeque, vec::Vec};
use core::task::Waker;

use hypercall_abi::io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsMessageType, XsdSockmsg};
use litemap::LiteMap;
use zerocopy::IntoBytes;

pub use crate::events::{EVENT_BYTES, MAX_ALL_EVENT_BYTES, MAX_EVENT_BYTES, MAX_EVENTS, Repeats};
use crate::{ErrorKind, value};
use input::Input;
use watches::WatchState;

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

    /// The connection begins anew: the server knows nothing of us. Requests on
    /// their way fail; watches are set again, and each fires.
    pub fn reset(&mut self) {
        self.output.clear();
        self.partial.clear();
        self.input = Input::Header;
        self.fail_requests();
        self.send_watches();
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
