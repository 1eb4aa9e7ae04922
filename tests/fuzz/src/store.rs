//! The store's protocol: anything may come in.

use std::task::Waker;

use arbitrary::Arbitrary;
use hypercall_abi::io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsMessageType, XsdSockmsg};
use xenstore_client::machine::{MAX_ALL_EVENT_BYTES, MAX_EVENTS, Machine, Repeats};
use zerocopy::IntoBytes;

/// What happens.
#[derive(Arbitrary, Debug)]
pub enum Step {
    /// A request.
    Request {
        /// Its type.
        kind: u8,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// A watch.
    Watch {
        /// Its depth.
        depth: Option<u32>,
        /// Whether events are merged.
        merge: bool,
    },
    /// An answer is looked for.
    Take(u8),
    /// An answer is not wanted.
    Forget(u8),
    /// An event is looked for.
    Event(u8),
    /// A watch ends.
    Unwatch(u8),
    /// So many bytes are sent.
    Send(u16),
    /// Bytes come in.
    Bytes(Vec<u8>),
    /// A message comes in that is almost right.
    Message {
        /// Its type.
        kind: u8,
        /// Its number.
        id: u8,
        /// Its length, if that is a lie.
        len: Option<u32>,
        /// Its payload.
        body: Vec<u8>,
    },
    /// The connection begins anew.
    Reset,
    /// It goes on, and the watches are set again.
    Renew,
    /// The connection ends.
    End,
}

/// Does these steps.
///
/// # Panics
/// A request has two outcomes, or memory is kept that nobody asked for.
pub fn run(steps: &[Step]) {
    let mut machine = Machine::new();
    let (mut requests, mut watches) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Request { kind, payload } => {
                let kind = XsMessageType(u32::from(*kind % 28));
                let asked = machine.request(kind, 0, &[payload]);
                assert_eq!(
                    asked.is_err(),
                    asked.is_err() || payload.len() > XENSTORE_PAYLOAD_MAX
                );
                requests.extend(asked.ok().map(|id| (id, false)));
            }
            Step::Watch { depth, merge } => {
                let repeats = if *merge {
                    Repeats::Merge
                } else {
                    Repeats::Keep
                };
                if let Ok((watch, request)) = machine.watch("a", *depth, repeats) {
                    watches.push(watch);
                    requests.push((request, false));
                }
            }
            Step::Take(index) => {
                if let Some((id, taken)) = requests.get_mut(usize::from(*index)) {
                    let answer = machine.take_answer(*id, Waker::noop());
                    if let Some(Ok(_)) = answer {
                        assert!(!*taken, "a second answer");
                        *taken = true;
                    }
                }
            }
            Step::Forget(index) => {
                if let Some((id, taken)) = requests.get_mut(usize::from(*index)) {
                    machine.forget(*id);
                    *taken = true;
                }
            }
            Step::Event(index) => {
                if let Some(id) = watches.get(usize::from(*index)) {
                    let mut count = 0;
                    while let Ok(Some(_)) = machine.take_event(*id, None) {
                        count += 1;
                    }
                    assert!(count <= MAX_EVENTS, "events are kept without end");
                }
            }
            Step::Unwatch(index) => {
                if let Some(id) = watches.get(usize::from(*index)) {
                    machine.unwatch(*id);
                }
            }
            Step::Send(most) => {
                machine.output(|bytes| bytes.len().min(usize::from(*most)));
            }
            Step::Bytes(bytes) => machine.input(bytes),
            Step::Message {
                kind,
                id,
                len,
                body,
            } => {
                let header = XsdSockmsg {
                    r#type: XsMessageType(u32::from(*kind % 30)),
                    req_id: u32::from(*id),
                    tx_id: 0,
                    len: len.unwrap_or(body.len() as u32),
                };
                machine.input(header.as_bytes());
                machine.input(body);
            }
            Step::Reset => machine.reset(),
            Step::Renew => machine.renew_watches(),
            Step::End => machine.end(),
        }
        assert!(machine.event_bytes() <= MAX_ALL_EVENT_BYTES);
    }
    for id in &watches {
        machine.unwatch(*id);
    }
    assert_eq!(machine.event_bytes(), 0, "what is gone still counts");
    // One for each request, and for each watch one a step at the most.
    assert!(machine.in_flight() <= requests.len() + (watches.len() + 1) * (steps.len() + 2));
}
