//! The client over a socket, to a server that answers by rote.
#![cfg(all(feature = "std", not(miri)))]

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::Duration,
};

use hypercall_abi::io::xs_wire::{XsMessageType, XsdSockmsg};
use xenstore_client::{Client, ErrorKind, Stream};
use zerocopy::{FromBytes, IntoBytes};

/// Answers each read with its path; ends when it is asked for "end".
fn serve(mut socket: UnixStream) {
    let mut header = [0; 16];
    while socket.read_exact(&mut header).is_ok() {
        let header = XsdSockmsg::read_from_bytes(&header).unwrap();
        let mut body = vec![0; header.len as usize];
        socket.read_exact(&mut body).unwrap();
        if body == b"end\0" {
            return;
        }
        if body == b"silence\0" {
            continue;
        }
        let answers = match header.r#type {
            // The registration's event, in two pieces.
            XsMessageType::WATCH => vec![
                (XsMessageType::WATCH_EVENT, body),
                (header.r#type, b"OK\0".into()),
            ],
            kind => vec![(kind, body)],
        };
        for (kind, body) in answers {
            let header = XsdSockmsg {
                r#type: kind,
                len: body.len() as u32,
                ..header
            };
            let bytes = [header.as_bytes(), &body].concat();
            for piece in bytes.chunks(7) {
                socket.write_all(piece).unwrap();
            }
        }
    }
}

fn client() -> Client<Stream> {
    let folder = std::env::temp_dir().join(format!(
        "xs-{}-{:?}",
        std::process::id(),
        thread::current().id()
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let place = folder.join("socket");
    let listener = UnixListener::bind(&place).unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    let stream = Stream::socket_at(&place).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    Client::new(stream)
}

const MOST: Option<Duration> = Some(Duration::from_secs(20));

#[test]
fn threads_share_a_connection() {
    let store = client();
    thread::scope(|scope| {
        for number in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..100 {
                    let path = format!("{number}/{round}");
                    let value = store.wait(MOST, store.tree().read(&path)).unwrap();
                    assert_eq!(value, format!("{path}\0").into_bytes());
                }
            });
        }
    });
    let watch = store.wait(MOST, store.watch("a")).unwrap();
    assert_eq!(store.wait(MOST, watch.next()).unwrap(), "a");
}

#[test]
fn a_silent_server_is_waited_for_in_vain_and_one_that_closes_is_told() {
    let store = client();
    let silent = store.wait(
        Some(Duration::from_millis(50)),
        store.tree().read("silence"),
    );
    assert_eq!(silent.unwrap_err().kind, ErrorKind::TimedOut);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| store.wait(MOST, store.tree().read("silence")));
        thread::sleep(Duration::from_millis(50));
        let end = store.wait(MOST, store.tree().read("end"));
        assert_eq!(end.unwrap_err().kind, ErrorKind::Disconnected);
        let waited = waiting.join().unwrap();
        assert_eq!(waited.unwrap_err().kind, ErrorKind::Disconnected);
    });
    let dead = store.wait(MOST, store.tree().read("a"));
    assert_eq!(dead.unwrap_err().kind, ErrorKind::Disconnected);
    assert!(Stream::socket_at("/nowhere/at/all").is_err());
}
