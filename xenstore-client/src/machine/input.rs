//! Bytes that go out, and messages that come in.

use alloc::vec::Vec;
use core::ffi::CStr;

use hypercall_abi::{
    Errno,
    io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsMessageType, XsdSockmsg},
};
use zerocopy::FromBytes;

use super::{Asker, HEADER, Machine, WatchId};
use crate::{
    ErrorKind,
    error::from_server,
    events::{MAX_ALL_EVENT_BYTES, Pushed},
    value,
};

/// Where in a message the input is.
#[derive(Debug, Default)]
pub(super) enum Input {
    #[default]
    Header,
    Body(XsdSockmsg),
    /// So many bytes of a message that is too long.
    Skip(u32),
}

impl Machine {
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
}
