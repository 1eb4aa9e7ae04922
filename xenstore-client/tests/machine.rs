//! The protocol without a server: what comes in is anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Wake, Waker},
};

use hypercall_abi::{
    Errno,
    io::xs_wire::{XsMessageType, XsdSockmsg},
};
use xenstore_client::{
    ErrorKind, Quota,
    machine::{MAX_ABANDONED, MAX_EVENTS, Machine, Repeats, Strays},
};
use zerocopy::{FromBytes, IntoBytes};

fn message(kind: XsMessageType, req_id: u32, payload: &[u8]) -> Vec<u8> {
    let header = XsdSockmsg {
        r#type: kind,
        req_id,
        tx_id: 0,
        len: payload.len() as u32,
    };
    [header.as_bytes(), payload].concat()
}

/// All that the machine wants to send, as messages.
fn sent(machine: &mut Machine) -> Vec<(XsdSockmsg, Vec<u8>)> {
    let mut bytes = Vec::new();
    while machine.output(|part| {
        bytes.extend_from_slice(part);
        part.len()
    }) > 0
    {}
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let header = XsdSockmsg::read_from_bytes(&bytes[..16]).unwrap();
        let end = 16 + header.len as usize;
        messages.push((header, bytes[16..end].to_vec()));
        bytes.drain(..end);
    }
    messages
}

fn noop() -> &'static Waker {
    Waker::noop()
}

#[test]
fn answers_find_their_requests_in_any_order_and_in_pieces() {
    let mut machine = Machine::new();
    let first = machine
        .request(XsMessageType::READ, 0, &[b"a", b"\0"])
        .unwrap();
    let second = machine
        .request(XsMessageType::READ, 0, &[b"b", b"\0"])
        .unwrap();
    let out = sent(&mut machine);
    assert_eq!(out[0].1, b"a\0");
    let mut bytes = message(XsMessageType::READ, out[1].0.req_id, b"two");
    bytes.extend(message(XsMessageType::ERROR, out[0].0.req_id, b"ENOENT\0"));
    for byte in bytes {
        machine.input(&[byte]);
    }
    let answer = machine.take_answer(first, noop());
    assert_eq!(answer, Some(Err(ErrorKind::Server(Errno::ENOENT))));
    assert_eq!(machine.take_answer(second, noop()), Some(Ok(b"two".into())));
    // Once only.
    let again = machine.take_answer(second, noop());
    assert_eq!(again, Some(Err(ErrorKind::Disconnected)));
    assert_eq!(machine.strays(), Strays::default());
}

#[test]
fn nonsense_hurts_only_those_whom_it_concerns() {
    let mut machine = Machine::new();
    let ids: Vec<_> = (0..4)
        .map(|_| machine.request(XsMessageType::READ, 0, &[b"a\0"]).unwrap())
        .collect();
    let out: Vec<u32> = sent(&mut machine).iter().map(|(h, _)| h.req_id).collect();
    // Of another type; to nobody; too long; then a good one.
    machine.input(&message(XsMessageType::WRITE, out[0], b"OK\0"));
    machine.input(&message(XsMessageType::READ, 77, b"x"));
    machine.input(&message(XsMessageType(4711), 78, b"x"));
    machine.input(&message(XsMessageType::READ, out[1], &[7; 70_000]));
    machine.input(&message(XsMessageType::READ, out[2], b""));
    machine.input(&message(XsMessageType::ERROR, out[3], b"EWHAT"));
    machine.input(&message(XsMessageType::READ, out[3], b"late"));
    machine.input(&message(XsMessageType::WATCH_EVENT, 0, b"a\0w9\0"));
    machine.input(&message(XsMessageType::WATCH_EVENT, 0, b""));
    let mut take = |index: usize| machine.take_answer(ids[index], noop()).unwrap();
    assert!(matches!(take(0), Err(ErrorKind::Protocol(_))));
    assert!(matches!(take(1), Err(ErrorKind::Protocol(_))));
    assert_eq!(take(2), Ok(Vec::new()));
    assert_eq!(take(3), Err(ErrorKind::ServerUnknown));
    assert_eq!(
        machine.strays(),
        Strays {
            answers: 3,
            events: 2,
            oversized: 1
        }
    );
}

#[test]
fn a_request_that_is_too_long_is_not_sent() {
    let mut machine = Machine::new();
    let path = [b'a'; 100];
    let long = machine.request(XsMessageType::WRITE, 0, &[&path, b"\0", &[0; 3996]]);
    assert_eq!(long, Err(ErrorKind::TooLong));
    assert!(!machine.has_output());
    machine
        .request(XsMessageType::WRITE, 0, &[&path, b"\0", &[0; 3995]])
        .unwrap();
}

#[test]
fn what_nobody_waits_for_is_closed() {
    let mut machine = Machine::new();
    let id = machine
        .request(XsMessageType::TRANSACTION_START, 0, &[b"\0"])
        .unwrap();
    let req_id = sent(&mut machine)[0].0.req_id;
    machine.forget(id);
    machine.input(&message(XsMessageType::TRANSACTION_START, req_id, b"17\0"));
    let out = sent(&mut machine);
    assert_eq!(out[0].0.r#type, XsMessageType::TRANSACTION_END);
    assert_eq!((out[0].0.tx_id, out[0].1.as_slice()), (17, &b"F\0"[..]));
    machine.input(&message(
        XsMessageType::TRANSACTION_END,
        out[0].0.req_id,
        b"OK\0",
    ));
    assert_eq!(machine.in_flight(), 0);
    assert_eq!(machine.strays(), Strays::default());
}

/// A connection that begins anew owes no answer, so there is room for as many requests.
#[test]
fn requests_of_before_a_reset_are_not_waited_for() {
    let mut machine = Machine::new();
    for _ in 0..2 {
        for _ in 0..MAX_ABANDONED {
            let id = machine.request(XsMessageType::READ, 0, &[b"x\0"]).unwrap();
            machine.forget(id);
        }
        let refused = machine.request(XsMessageType::READ, 0, &[b"x\0"]);
        assert_eq!(refused, Err(ErrorKind::Unanswered));
        machine.reset();
    }
    machine.request(XsMessageType::READ, 0, &[b"x\0"]).unwrap();
}

/// Whoever shares a watch and leaves it, again and again, of a server that answers nothing.
#[test]
#[cfg_attr(miri, ignore = "a thousand requests take Miri minutes")]
fn shared_watches_without_an_answer_are_bounded() {
    let mut machine = Machine::new();
    // Each leaves a request to set the watch and one to end it.
    let refused = (0..MAX_ABANDONED).find_map(|_| {
        let subscribed = machine.subscribe("device", "device/vbd/1");
        subscribed.map(|id| machine.unsubscribe(id)).err()
    });
    assert_eq!(refused, Some(ErrorKind::Unanswered));
    assert!(machine.in_flight() <= MAX_ABANDONED + 1);
}

/// What waits for a watch that ends takes nothing any more.
#[test]
fn events_end_with_their_watch() {
    let mut machine = Machine::new();
    for number in 1..100 {
        let (id, _) = machine.watch("a", None, Repeats::Keep).unwrap();
        for index in 0..100 {
            let body = format!("a/{index}\0w{number}\0");
            machine.input(&message(XsMessageType::WATCH_EVENT, 0, body.as_bytes()));
        }
        assert!(machine.event_bytes() > 0);
        machine.unwatch(id);
        assert_eq!(machine.event_bytes(), 0);
    }
}

#[test]
fn events_wait_and_none_is_lost() {
    let mut machine = Machine::new();
    let (all, _) = machine.watch("a", None, Repeats::Keep).unwrap();
    let (merged, _) = machine.watch("a", Some(1), Repeats::Merge).unwrap();
    let out = sent(&mut machine);
    assert_eq!(out[0].1, b"a\0w1\0");
    assert_eq!(out[1].1, b"a\0w2\x001\0");
    for token in ["w1", "w2"] {
        for path in ["a/x", "a/y", "a/x"] {
            let body = format!("{path}\0{token}\0");
            machine.input(&message(XsMessageType::WATCH_EVENT, 0, body.as_bytes()));
        }
    }
    let mut take = |id| {
        let mut paths = Vec::new();
        while let Some(path) = machine.take_event(id, None).unwrap() {
            paths.push(path);
        }
        paths
    };
    assert_eq!(take(all), ["a/x", "a/y", "a/x"]);
    assert_eq!(take(merged), ["a/x", "a/y"]);
    for index in 0..MAX_EVENTS + 5 {
        let body = format!("a/{index}\0w1\0");
        machine.input(&message(XsMessageType::WATCH_EVENT, 0, body.as_bytes()));
    }
    let first = machine.take_event(all, None).unwrap();
    assert_eq!(first.as_deref(), Some("a"));
    machine.unwatch(all);
    assert_eq!(sent(&mut machine)[0].1, b"a\0w1\0");
    assert_eq!(machine.take_event(all, None), Err(ErrorKind::Disconnected));
}

#[test]
fn a_new_connection_has_the_old_watches() {
    let mut machine = Machine::new();
    let (good, _) = machine.watch("a", None, Repeats::Keep).unwrap();
    let (bad, _) = machine.watch("b", Some(3), Repeats::Keep).unwrap();
    let read = machine.request(XsMessageType::READ, 0, &[b"c\0"]).unwrap();
    // In the middle of a message.
    machine.input(&[0; 10]);
    machine.reset();
    let answer = machine.take_answer(read, noop());
    assert_eq!(answer, Some(Err(ErrorKind::Disconnected)));
    let out = sent(&mut machine);
    assert_eq!(out.len(), 2);
    assert_eq!(out[1].1, b"b\0w2\x003\0");
    machine.input(&message(XsMessageType::WATCH_EVENT, 0, b"a\0w1\0"));
    machine.input(&message(XsMessageType::WATCH, out[0].0.req_id, b"OK\0"));
    machine.input(&message(XsMessageType::ERROR, out[1].0.req_id, b"E2BIG\0"));
    assert_eq!(machine.take_event(good, None), Ok(Some("a".into())));
    assert_eq!(machine.take_event(good, None), Ok(None));
    assert_eq!(
        machine.take_event(bad, None),
        Err(ErrorKind::Quota {
            quota: Quota::Watches,
            errno: Errno::E2BIG
        })
    );
    machine.end();
    assert_eq!(machine.take_event(good, None), Err(ErrorKind::Disconnected));
    let dead = machine.request(XsMessageType::READ, 0, &[b"c\0"]);
    assert_eq!(dead, Err(ErrorKind::Disconnected));
}

#[test]
fn a_watch_that_the_server_still_has_goes_on() {
    let mut machine = Machine::new();
    let (id, _) = machine.watch("a", None, Repeats::Keep).unwrap();
    sent(&mut machine);
    machine.input(&message(XsMessageType::WATCH_EVENT, 0, b"a/x\0w1\0"));
    // An old server: it cannot reset watches, so there are two with one name.
    machine.renew_watches();
    let out = sent(&mut machine);
    assert_eq!(out[0].0.r#type, XsMessageType::RESET_WATCHES);
    machine.input(&message(XsMessageType::ERROR, out[0].0.req_id, b"ENOSYS\0"));
    machine.input(&message(XsMessageType::ERROR, out[1].0.req_id, b"EEXIST\0"));
    // It fires as if it had been set.
    assert_eq!(machine.take_event(id, None), Ok(Some("a".into())));
    assert_eq!(machine.take_event(id, None), Ok(None));
    machine.input(&message(XsMessageType::WATCH_EVENT, 0, b"a/y\0w1\0"));
    assert_eq!(machine.take_event(id, None), Ok(Some("a/y".into())));
    // And it is ended at the server.
    machine.unwatch(id);
    assert_eq!(sent(&mut machine)[0].1, b"a\0w1\0");
    assert_eq!(machine.event_bytes(), 0);
}

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Whoever waits is woken, and once, by all that there is to be told: an answer, an event, a
/// refusal, a watch that the server still has, the end.
#[test]
fn who_waits_is_woken() {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut machine = Machine::new();
    let asked = machine.request(XsMessageType::READ, 0, &[b"x\0"]).unwrap();
    assert_eq!(machine.take_answer(asked, &waker), None);
    let req_id = sent(&mut machine)[0].0.req_id;
    machine.input(&message(XsMessageType::READ, req_id, b"1"));
    assert_eq!(woken.take(), 1);

    let part = machine.subscribe("a", "a/x").unwrap();
    let (watch, _) = machine.watch("a", None, Repeats::Keep).unwrap();
    let set = sent(&mut machine);
    let waits = |machine: &mut Machine| {
        assert_eq!(machine.take_change(part, &waker), Ok(None));
        assert_eq!(machine.take_event(watch, Some(&waker)), Ok(None));
    };
    waits(&mut machine);
    for token in ["w1", "w2"] {
        let body = format!("a/x/y\0{token}\0");
        machine.input(&message(XsMessageType::WATCH_EVENT, 0, body.as_bytes()));
        assert_eq!(woken.take(), 1, "{token}");
    }
    assert_eq!(machine.take_change(part, &waker), Ok(Some(())));
    let event = machine.take_event(watch, None);
    assert_eq!(event, Ok(Some("a/x/y".into())));
    assert_eq!(set.len(), 2);

    // A server that still has both, which may have told of something meanwhile.
    waits(&mut machine);
    machine.renew_watches();
    let again = sent(&mut machine);
    for (header, _) in &again[1..] {
        machine.input(&message(XsMessageType::ERROR, header.req_id, b"EEXIST\0"));
        assert_eq!(woken.take(), 1);
    }
    assert_eq!(machine.take_change(part, &waker), Ok(Some(())));
    assert_eq!(machine.take_event(watch, None), Ok(Some("a".into())));

    // One that refuses them, when it is asked anew.
    waits(&mut machine);
    machine.reset();
    for (header, _) in sent(&mut machine) {
        machine.input(&message(XsMessageType::ERROR, header.req_id, b"E2BIG\0"));
        assert_eq!(woken.take(), 1);
    }
    assert!(machine.take_change(part, &waker).is_err());
    assert!(machine.take_event(watch, None).is_err());

    machine.reset();
    // The refusal was news, too.
    assert_eq!(machine.take_change(part, &waker), Ok(Some(())));
    waits(&mut machine);
    machine.end();
    assert_eq!(woken.take(), 2);
    let ended = machine.take_change(part, &waker);
    assert_eq!(ended, Err(ErrorKind::Disconnected));
}

#[test]
fn those_who_share_a_watch_that_the_server_still_has_are_told() {
    let mut machine = Machine::new();
    let first = machine.subscribe("device", "device/vbd/51712").unwrap();
    let refuse = |machine: &mut Machine| {
        for (header, _) in sent(machine) {
            let error: &[u8] = match header.r#type {
                XsMessageType::WATCH => b"EEXIST\0",
                _ => b"ENOSYS\0",
            };
            machine.input(&message(XsMessageType::ERROR, header.req_id, error));
        }
    };
    // What changes later is told with an event; what there is already is not.
    refuse(&mut machine);
    assert_eq!(machine.take_change(first, noop()), Ok(Some(())));
    assert_eq!(machine.take_change(first, noop()), Ok(None));
    // One that comes later waits for no first event, either.
    let second = machine.subscribe("device", "device/vif/0").unwrap();
    assert_eq!(machine.take_change(second, noop()), Ok(Some(())));
    machine.renew_watches();
    refuse(&mut machine);
    for part in [first, second] {
        assert_eq!(machine.take_change(part, noop()), Ok(Some(())));
        assert_eq!(machine.take_change(part, noop()), Ok(None));
    }
}

#[test]
fn random_input_does_no_harm() {
    // A generator of no quality, the same every time.
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..if cfg!(miri) { 3 } else { 300 } {
        let mut machine = Machine::new();
        let id = machine.request(XsMessageType::READ, 0, &[b"a\0"]).unwrap();
        let _watch = machine.watch("a", None, Repeats::Merge).unwrap();
        for _ in 0..200 {
            let header = XsdSockmsg {
                r#type: XsMessageType((next() % 28) as u32),
                req_id: (next() % 4) as u32,
                tx_id: next() as u32,
                len: match next() % 8 {
                    0 => next() as u32,
                    _ => (next() % 40) as u32,
                },
            };
            let body: Vec<u8> = (0..next() % 60).map(|_| next() as u8).collect();
            machine.input(header.as_bytes());
            machine.input(&body);
        }
        let _answer = machine.take_answer(id, noop());
    }
}
