//! A server that means harm, or is mad: every call ends, and what it ties up is bounded.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use hypercall_abi::io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsMessageType, XsdSockmsg};
use xenstore_client::{
    Client, ErrorKind, Link, MAX_LIST_BYTES, Renewal, Transport,
    machine::{MAX_ABANDONED, MAX_ALL_EVENT_BYTES, MAX_EVENT_BYTES, Machine, Repeats, Strays},
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

fn event(path: &str, watch: u32) -> Vec<u8> {
    let body = format!("{path}\0w{watch}\0");
    message(XsMessageType::WATCH_EVENT, 0, body.as_bytes())
}

/// A server: what it answers to a message.
type Answer<'s> = Box<dyn FnMut(&XsdSockmsg, &[u8]) -> Vec<u8> + 's>;

/// A connection to one.
struct Wire<'s> {
    input: RefCell<Vec<u8>>,
    output: RefCell<VecDeque<u8>>,
    answer: RefCell<Answer<'s>>,
    /// It sends this whenever it has nothing else to send.
    flood: RefCell<Vec<u8>>,
    links: RefCell<VecDeque<Link>>,
    received: Cell<usize>,
}

impl<'s> Wire<'s> {
    fn new(answer: impl FnMut(&XsdSockmsg, &[u8]) -> Vec<u8> + 's) -> Self {
        Self {
            input: RefCell::default(),
            output: RefCell::default(),
            answer: RefCell::new(Box::new(answer)),
            flood: RefCell::default(),
            links: RefCell::default(),
            received: Cell::new(0),
        }
    }
}

impl Transport for Wire<'_> {
    fn link(&self) -> Link {
        self.links.borrow_mut().pop_front().unwrap_or(Link::Up)
    }

    fn send(&self, bytes: &[u8]) -> usize {
        let mut input = self.input.borrow_mut();
        input.extend(bytes);
        while let Some(header) = input.get(..size_of::<XsdSockmsg>()) {
            let header = XsdSockmsg::read_from_bytes(header).unwrap();
            let end = size_of::<XsdSockmsg>() + header.len as usize;
            if input.len() < end {
                break;
            }
            let body: Vec<u8> = input.drain(..end).skip(size_of::<XsdSockmsg>()).collect();
            let answer = self.answer.borrow_mut()(&header, &body);
            self.output.borrow_mut().extend(answer);
        }
        bytes.len()
    }

    fn receive(&self, buffer: &mut [u8]) -> usize {
        let mut output = self.output.borrow_mut();
        if output.is_empty() {
            output.extend(&*self.flood.borrow());
        }
        let len = output.len().min(buffer.len());
        for (slot, byte) in buffer.iter_mut().zip(output.drain(..len)) {
            *slot = byte;
        }
        self.received.set(self.received.get() + len);
        len
    }

    fn poll_ready(&self, _cx: &mut Context<'_>) -> Poll<()> {
        if self.output.borrow().is_empty() && self.flood.borrow().is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    fn reconnect(&self) -> Renewal {
        Renewal::NotOffered
    }

    /// Time is counted in polls.
    fn block_on<F: Future>(&self, most: Option<Duration>, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        let polls = most.map_or(1_000_000, |most| most.as_nanos());
        for _ in 0..polls {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return Some(value);
            }
        }
        assert!(most.is_some(), "it waits for ever");
        None
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What `directory` makes of a server whose parts are these, by their number; and how many
/// it asked for.
fn directory(mut part: impl FnMut(u32) -> Vec<u8>) -> (Result<Vec<String>, ErrorKind>, u32) {
    let asked = Cell::new(0);
    let wire = Wire::new(|header, _| match header.r#type {
        XsMessageType::DIRECTORY => message(XsMessageType::ERROR, header.req_id, b"E2BIG\0"),
        kind => {
            asked.set(asked.get() + 1);
            message(kind, header.req_id, &part(asked.get()))
        }
    });
    let client = Client::new(wire);
    let list = client.wait(None, client.tree().directory("device"));
    assert!(client.transport().received.get() < 2 * MAX_LIST_BYTES);
    drop(client);
    (list.map_err(|error| error.kind), asked.get())
}

#[test]
fn lists_without_an_end_end() {
    let long = [b"1\0", &[b'a'; 3000][..], b"\0"].concat();
    let (list, asked) = directory(|_| long.clone());
    assert_eq!(list, Err(ErrorKind::ListTooLong));
    assert!(asked < 100, "{asked}");
    // As slowly as can be.
    let (list, asked) = directory(|_| b"1\0a".into());
    assert_eq!(list, Err(ErrorKind::ListTooLong));
    assert!(asked < 2000, "{asked}");
    // Many names of one letter, each of which takes memory of its own.
    let (list, _) = directory(|count| {
        let end = if count == 12 { &b"\0"[..] } else { b"" };
        [b"1\0", &b"a\0".repeat(2000)[..], end].concat()
    });
    assert_eq!(list, Err(ErrorKind::ListTooLong));
    // Another list each time that it is asked for more.
    let (list, asked) = directory(|count| format!("{count}\0abc\0").into_bytes());
    assert_eq!(list, Err(ErrorKind::Conflicts));
    assert!(asked < 300, "{asked}");
    // Two changes, then an end.
    let parts = [
        &b"1\0a\0"[..],
        b"2\0b\0",
        b"2\0b\0",
        b"3\0c\0",
        b"3\0c\0d\0",
        b"3\0e\0\0",
    ];
    let (list, _) = directory(|count| parts[count as usize - 1].into());
    assert_eq!(list.unwrap(), ["c", "d", "e"]);
    let (list, _) = directory(|_| b"none\0a\0\0".into());
    assert!(matches!(list, Err(ErrorKind::Protocol(_))));
    let (list, _) = directory(|_| b"1\0".into());
    assert!(matches!(list, Err(ErrorKind::Protocol(_))));
}

#[test]
fn a_server_that_never_stops_leaves_others_their_turn() {
    let wire = Wire::new(|_, _| Vec::new());
    *wire.flood.borrow_mut() = event("x", 9);
    let client = Client::new(wire);
    let (this, other) = (Arc::new(Count::default()), Arc::new(Count::default()));
    // Another task waits, and its server tells it nothing more.
    let waits = Waker::from(Arc::clone(&other));
    let mut second = pin!(client.tree().read("y"));
    client.transport().flood.borrow_mut().clear();
    assert!(
        second
            .as_mut()
            .poll(&mut Context::from_waker(&waits))
            .is_pending()
    );
    *client.transport().flood.borrow_mut() = event("x", 9);
    let received = client.transport().received.get();
    {
        let waker = Waker::from(Arc::clone(&this));
        let mut first = Box::pin(client.tree().read("x"));
        assert!(
            first
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    let received = client.transport().received.get() - received;
    assert!(received <= 256 << 10, "{received} bytes in one poll");
    assert!(this.0.load(Ordering::Relaxed) > 0, "it goes on at once");
    // The first is dropped: what it left there is another's now.
    assert!(other.0.load(Ordering::Relaxed) > 0, "the other is told");
    // So does a turn that asks for many things: they are polled one after the other.
    let before = client.transport().received.get();
    let mut many = (0..8).map(|_| client.tree().read("x")).collect::<Vec<_>>();
    let told = this.0.load(Ordering::Relaxed);
    for read in many.drain(..) {
        let waker = Waker::from(Arc::clone(&this));
        let polled = pin!(read).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    assert_eq!(client.transport().received.get(), before);
    assert_eq!(
        this.0.load(Ordering::Relaxed),
        told + 8,
        "all of them go on"
    );
    // What ends without waiting ends, too.
    let most = Some(Duration::from_nanos(40));
    let late = client.wait(most, client.watch("a"));
    assert_eq!(late.map(|_| ()).unwrap_err().kind, ErrorKind::TimedOut);
    client.reconnect();
    assert!(client.strays().events > 1000);
}

#[test]
fn answers_behind_a_flood_arrive() {
    let wire = Wire::new(|header, _| {
        let mut bytes = event("x", 9).repeat(20_000);
        bytes.extend(message(header.r#type, header.req_id, b"7"));
        bytes
    });
    let client = Client::new(wire);
    let read = client.wait(None, client.tree().read_as::<u32>("x"));
    assert_eq!(read, Ok(7));
    assert_eq!(client.strays().events, 20_000);
}

#[test]
fn a_server_that_answers_nothing_ties_up_little() {
    let answers = Cell::new(false);
    let wire = Wire::new(|header, _| match answers.get() {
        true => message(header.r#type, header.req_id, b"yes"),
        false => Vec::new(),
    });
    let client = Client::new(wire);
    let once = Some(Duration::from_nanos(1));
    for _ in 0..MAX_ABANDONED {
        let late = client.wait(once, client.tree().read("x"));
        assert_eq!(late.unwrap_err().kind, ErrorKind::TimedOut);
    }
    let refused = client.wait(once, client.tree().read("x"));
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Unanswered);
    let refused = client.wait(once, client.watch("x")).map(|_| ());
    assert_eq!(refused.unwrap_err().kind, ErrorKind::Unanswered);
    assert_eq!(client.in_flight(), MAX_ABANDONED);
    // One answer, late, makes room for one request.
    let late = message(XsMessageType::READ, 5, b"late");
    client.transport().output.borrow_mut().extend(late);
    answers.set(true);
    client.reconnect();
    let read = client.wait(once, client.tree().read("x"));
    assert_eq!(read.unwrap(), b"yes");
}

/// The same of those who share watches and leave: devices that look for their backends.
#[test]
fn watches_that_were_left_without_an_answer_are_bounded() {
    let mut machine = Machine::new();
    let mut subscribed = 0;
    let refused = loop {
        match machine.subscribe(&format!("/local/domain/{subscribed}"), "/x") {
            Ok(id) => machine.unsubscribe(id),
            Err(error) => break error,
        }
        while machine.output(<[u8]>::len) > 0 {}
        subscribed += 1;
        assert!(subscribed <= MAX_ABANDONED, "it never ends");
    };
    assert_eq!(refused, ErrorKind::Unanswered);
    assert_eq!(machine.in_flight(), MAX_ABANDONED);
    // The first watch and its end are answered, late: there is room again.
    for (kind, id) in [(XsMessageType::WATCH, 1), (XsMessageType::UNWATCH, 2)] {
        machine.input(&message(kind, id, b"OK\0"));
    }
    assert_eq!(machine.strays(), Strays::default());
    assert!(machine.subscribe("/local/domain/0", "/x").is_ok());
}

/// What waits for a watch, and how many bytes that is.
fn waiting(machine: &mut Machine, id: xenstore_client::machine::WatchId) -> (Vec<String>, usize) {
    let mut paths = Vec::new();
    while let Some(path) = machine.take_event(id, None).unwrap() {
        paths.push(path);
    }
    let bytes = paths.iter().map(String::len).sum();
    (paths, bytes)
}

#[test]
fn events_are_bounded_in_bytes_for_each_watch_and_for_all() {
    let mut machine = Machine::new();
    let homes: Vec<String> = (0..50).map(|index| format!("device/{index}")).collect();
    let ids: Vec<_> = (1..)
        .zip(&homes)
        .map(|(number, home)| {
            let repeats = if number % 2 == 0 {
                Repeats::Keep
            } else {
                Repeats::Merge
            };
            (number, machine.watch(home, None, repeats).unwrap().0)
        })
        .collect();
    // One is told a single thing, the others everything.
    machine.input(&event("device/0/quiet", 1));
    for round in 0..100 {
        assert!(machine.event_bytes() <= MAX_ALL_EVENT_BYTES);
        for (number, _) in &ids[1..] {
            let home = &homes[*number as usize - 1];
            let path = format!("{home}/{}{round:05}", "a".repeat(2000));
            machine.input(&event(&path, *number));
        }
    }
    let (paths, _) = waiting(&mut machine, ids[0].1);
    assert_eq!(paths, ["device/0/quiet"], "others' events cost it nothing");
    let mut all = 0;
    for (number, id) in &ids[1..] {
        let (paths, bytes) = waiting(&mut machine, *id);
        let home = &homes[*number as usize - 1];
        // All are there, or one that stands for them is, and is the first.
        assert!(
            paths.len() == 100 || paths[0] == *home,
            "{home}: {}",
            paths.len()
        );
        assert!(bytes <= MAX_EVENT_BYTES);
        all += bytes;
    }
    assert!(all <= MAX_ALL_EVENT_BYTES, "{all} bytes");
    // Nothing is left that counts.
    assert_eq!(machine.event_bytes(), 0);
    for (number, id) in &ids {
        for _ in 0..4 {
            machine.input(&event("x", *number));
        }
        assert_eq!(waiting(&mut machine, *id).0[0], "x");
        machine.unwatch(*id);
    }
}

#[test]
#[cfg_attr(miri, ignore = "is about time")]
fn an_event_costs_little() {
    let mut machine = Machine::new();
    let home = "/local/domain/3/backend/vbd/1/51712";
    let (id, _) = machine.watch(home, None, Repeats::Merge).unwrap();
    let path = |at: usize| format!("{home}/{}{at:05}", "a".repeat(3000 - home.len()));
    let count = MAX_EVENT_BYTES / 3100;
    for at in 0..count {
        machine.input(&event(&path(at), 1));
    }
    // The best of several: others use this machine, too.
    let mut cost = |paths: &[String]| {
        let best = (0..5).map(|_| {
            let start = Instant::now();
            for path in paths {
                machine.input(&event(path, 1));
            }
            start.elapsed() / paths.len() as u32
        });
        best.min().unwrap()
    };
    let again = cost(&vec![path(count - 1); 500]);
    let flood = cost(&(0..500).map(path).collect::<Vec<_>>());
    println!("a repeated event of 3 KiB: {again:?}; one of a flood: {flood:?}");
    assert!(again < Duration::from_micros(20), "{again:?}");
    assert!(flood < Duration::from_micros(20), "{flood:?}");
    let (paths, _) = waiting(&mut machine, id);
    assert_eq!(paths[0], home, "the flood is told as one event");
}

/// A generator of no quality, the same every time.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(bound)) as u32
    }
}

/// What a mad server sends for a request, before it answers it: answers to others, or of
/// other types, events, messages that are too long, the answer twice.
fn madness(random: &mut Random, header: &XsdSockmsg, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let answer = message(header.r#type, header.req_id, body);
    for _ in 0..random.below(4) {
        bytes.extend(match random.below(8) {
            0 => message(header.r#type, header.req_id.wrapping_add(1000), body),
            1 => message(XsMessageType(random.below(30)), header.req_id + 1000, b"x"),
            2 => message(
                XsMessageType::READ,
                0,
                &vec![b'x'; XENSTORE_PAYLOAD_MAX + 1],
            ),
            3 => message(XsMessageType::READ, u32::MAX, &[b'x'; 70_000]),
            4 => message(XsMessageType::WATCH_EVENT, header.req_id, b"no token"),
            5 => message(XsMessageType::WATCH_EVENT, header.req_id, b"\xff\xff\0w1\0"),
            6 => message(XsMessageType::ERROR, header.req_id + 5000, b"ENOENT\0"),
            _ => event("a/b", 1 + random.below(3)),
        });
    }
    bytes.extend(&answer);
    if random.below(4) == 0 {
        bytes.extend(&answer);
    }
    bytes
}

#[test]
fn mad_servers_confuse_nobody_who_is_answered() {
    for seed in 1..=if cfg!(miri) { 3 } else { 300 } {
        let mut random = Random::new(seed);
        // Answers come in another order than the questions.
        let held: RefCell<Vec<Vec<u8>>> = RefCell::default();
        let wire = Wire::new(|header, body| {
            let mut held = held.borrow_mut();
            held.push(madness(&mut random, header, body));
            if held.len() < 4 {
                return Vec::new();
            }
            let count = held.len();
            held.swap(0, random.below(count as u32) as usize);
            std::mem::take(&mut *held).concat()
        });
        let client = Client::new(wire);
        let mut reads: Vec<_> = (0..16)
            .map(|index| {
                let path = format!("{index}");
                let read = client.tree();
                Box::pin(async move { (read.read(&path).await, format!("{path}\0")) })
            })
            .collect();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..200 {
            reads.retain_mut(|read| match read.as_mut().poll(&mut cx) {
                Poll::Ready((value, wanted)) => {
                    assert_eq!(value.unwrap(), wanted.into_bytes(), "seed {seed}");
                    false
                }
                Poll::Pending => true,
            });
        }
        assert!(
            reads.is_empty(),
            "seed {seed}: {} without an answer",
            reads.len()
        );
        drop(reads);
        assert_eq!(client.in_flight(), 0);
    }
}

#[test]
fn a_link_that_comes_and_goes_ends_requests_and_sets_watches_again() {
    for seed in 1..=if cfg!(miri) { 3 } else { 200 } {
        let mut random = Random::new(seed);
        let wire = Wire::new(|header, body| match header.r#type {
            XsMessageType::WATCH => {
                let mut bytes = message(XsMessageType::WATCH, header.req_id, b"OK\0");
                let token = body.strip_prefix(b"a\0").unwrap();
                bytes.extend(message(
                    XsMessageType::WATCH_EVENT,
                    0,
                    &[b"a\0", token].concat(),
                ));
                bytes
            }
            kind => message(kind, header.req_id, b"OK\0"),
        });
        let client = Client::new(wire);
        let watch = client.wait(None, client.watch("a")).unwrap();
        client.wait(None, watch.next()).unwrap();
        for _ in 0..50 {
            let links = (0..random.below(6)).map(|_| match random.below(3) {
                0 => Link::Lost,
                1 => Link::Waiting,
                _ => Link::Up,
            });
            let links: VecDeque<Link> = links.collect();
            let lost = links.contains(&Link::Lost);
            *client.transport().links.borrow_mut() = links;
            match client.wait(Some(Duration::from_nanos(50)), client.tree().read("x")) {
                Ok(value) => assert_eq!(value, b"OK\0"),
                Err(error) => assert_eq!((error.kind, lost), (ErrorKind::Disconnected, true)),
            }
            if lost {
                let again = client.wait(Some(Duration::from_nanos(50)), watch.next());
                assert_eq!(again.as_deref(), Ok("a"), "seed {seed}");
                while watch.try_next().unwrap().is_some() {}
            }
        }
        client.transport().links.borrow_mut().clear();
        client.wait(None, client.tree().read("x")).unwrap();
        assert_eq!(client.in_flight(), 0, "seed {seed}");
        while watch.try_next().unwrap().is_some() {}
        client.transport().links.borrow_mut().push_back(Link::Dead);
        let dead = client.wait(None, watch.next());
        assert_eq!(dead.unwrap_err().kind, ErrorKind::Disconnected);
    }
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    for answer in [
        &b""[..],
        b"\0",
        b"0\0",
        b"-1\0",
        b"4294967296\0",
        b"abc\0",
        b"\xff\0",
    ] {
        let ended = Cell::new(0);
        let wire = Wire::new(|header, _| {
            if header.r#type == XsMessageType::TRANSACTION_END {
                ended.set(ended.get() + 1);
            }
            message(header.r#type, header.req_id, answer)
        });
        let client = Client::new(wire);
        let is_protocol = |kind| matches!(kind, ErrorKind::Protocol(_));
        let begun = client.wait(None, client.begin());
        assert!(
            is_protocol(begun.map(|_| ()).unwrap_err().kind),
            "{answer:?}"
        );
        let introduced = client.wait(None, client.is_domain_introduced(hypercall_abi::DomId(0)));
        assert!(is_protocol(introduced.unwrap_err().kind));
        let permissions = client.wait(None, client.tree().permissions("a"));
        assert!(is_protocol(permissions.unwrap_err().kind) || answer.is_empty());
        let features = client.wait(None, client.server_features());
        assert!(features.is_ok_and(|bits| bits == 0) == (answer == b"0\0"));
        assert_eq!(
            client.wait(None, client.quota(Some("nodes"))).unwrap(),
            answer
        );
        assert_eq!(client.in_flight(), 0);
        drop(client);
        assert_eq!(ended.get(), 0, "no transaction was begun");
    }
}
