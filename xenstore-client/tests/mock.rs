//! The client over the ring of the mock hypervisor.

use std::{
    cell::Cell,
    collections::BTreeSet,
    future::{Future, poll_fn},
    sync::atomic::{AtomicU32, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use event_channels::{Channel, Choice, Ports, Throttle};
use futures_util::future::join_all;
use hypercall_abi::{
    Errno, Mfn,
    io::xs_wire::{XenstoreDomainInterface, XenstoreFeatures},
    peer::PeerPtr,
    peer_field,
    platform::Pages,
    sched::{self, Suspended},
};
use mock_hypervisor::{Config, Domain, StoreQuotas, Suspend, Time, Xen};
use xenstore_client::{
    Access, Client, Error, ErrorKind, Link, MAX_IDLE, MAX_IN_TURN, PathError, Permission,
    Persistence, Quota, Ring, Subscription, Transport as _, machine::Repeats,
};

type Store = Client<Ring<'static, &'static Domain>>;

fn guest(xen: &Xen) -> (&'static Domain, Store) {
    let domain: &'static Domain = Box::leak(Box::new(xen.domain(Config::default()).unwrap()));
    // SAFETY: the domain is never freed.
    let shared = unsafe { PeerPtr::new(domain.shared_info()) };
    let ports = Ports::new(domain, shared, Choice::Best, Throttle::default()).unwrap();
    let ports: &'static Ports<&'static Domain> = Box::leak(Box::new(ports));
    // SAFETY: as above.
    let start = unsafe { domain.start_info().as_ref() };
    let channel = Channel::adopt(ports, start.store_evtchn).unwrap();
    (domain, Client::new(Ring::new(page(domain), channel)))
}

fn page(domain: &'static Domain) -> PeerPtr<'static, XenstoreDomainInterface> {
    // SAFETY: the domain is never freed.
    let start = unsafe { domain.start_info().as_ref() };
    let page = domain.page_of(start.store_mfn.into()).unwrap();
    // SAFETY: the store's page, used as peer memory only.
    unsafe { PeerPtr::new(page.cast()) }
}

fn alone() -> (Xen, &'static Domain, Store) {
    let xen = Xen::new(Time::Virtual);
    let (domain, store) = guest(&xen);
    (xen, domain, store)
}

fn errno<R: std::fmt::Debug>(result: Result<R, Error>) -> Option<Errno> {
    result.unwrap_err().errno()
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn watches_tell_elsewhere_too() {
    let (xen, domain, store) = alone();
    let tree = store.tree();
    store
        .wait(None, async {
            let watch = store.watch_with("data", None, Repeats::Merge).await?;
            assert_eq!(watch.next().await?, "data");
            xen.suspend(domain.domid(), Suspend::Moved).unwrap();
            let frame = domain.gfn_of(domain.start_info().cast()).unwrap();
            // SAFETY: what it changes is looked at anew.
            let suspended = unsafe { sched::suspend(&domain, Some(Mfn(frame.0))) };
            let Ok(Suspended::Resumed(resumed)) = suspended else {
                panic!("{suspended:?}");
            };
            store.transport().ports().resume(resumed).unwrap();
            // SAFETY: nothing writes it meanwhile.
            let port = unsafe { domain.start_info().read() }.store_evtchn;
            store.resume_at(port).unwrap();

            assert_eq!(watch.next().await?, "data");
            tree.write("data/text", b"here").await?;
            assert_eq!(watch.next().await?, "data/text");
            assert_eq!(tree.read("data/text").await?, b"here");
            Ok(())
        })
        .unwrap();
    assert_eq!(store.strays(), Default::default());
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn values_are_any_bytes() {
    let (xen, _, store) = alone();
    let tree = store.tree();
    store
        .wait(None, async {
            let long = vec![0xa5; 2000];
            for (path, value) in [
                ("data/text", &b"hello"[..]),
                ("data/empty", b""),
                ("data/binary", b"\0\x01\xff\0"),
                ("data/long", &long),
            ] {
                tree.write(path, value).await?;
                assert_eq!(tree.read(path).await?, value);
                let whole = format!("/local/domain/1/{path}");
                assert_eq!(xen.store_read(&whole).unwrap(), value);
            }
            let over = tree.write("data/long", vec![0; 4086]).await;
            assert_eq!(errno(over), Some(Errno::ENOSPC));
            xen.store_write("/local/domain/1/data/longest", &[7; 4096])
                .unwrap();
            assert_eq!(tree.read("data/longest").await?, [7; 4096]);
            let longer = tree.write("data/long", vec![0; 4087]).await;
            assert_eq!(longer.unwrap_err().kind, ErrorKind::TooLong);
            assert_eq!(tree.read_text("data/text").await?, "hello");
            let number: Result<u32, _> = tree.read_as("data/text").await;
            let error = number.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Value("u32"));
            assert_eq!(error.to_string(), "data/text: the value is no u32");
            assert_eq!(tree.try_read("data/none").await?, None);
            assert_eq!(errno(tree.read("data/none").await), Some(Errno::ENOENT));
            assert_eq!(
                errno(tree.write("/local/domain/0/x", b"").await),
                Some(Errno::EACCES)
            );
            tree.remove("data/text").await?;
            assert!(!tree.exists("data/text").await?);
            let bad = tree.read("data//text").await.unwrap_err();
            assert_eq!(bad.kind, ErrorKind::Path(PathError::EmptyName));
            let long = "a".repeat(3000);
            let bad = tree.read(&long).await.unwrap_err();
            assert_eq!(bad.kind, ErrorKind::Path(PathError::TooLong));
            assert!(tree.read("@releaseDomain").await.is_err());
            Ok(())
        })
        .unwrap();
    assert_eq!(store.in_flight(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn long_directories_come_in_parts() {
    let (xen, _, store) = alone();
    let tree = store.tree();
    store
        .wait(None, async {
            assert_eq!(tree.directory("data").await?, [""; 0]);
            let names: BTreeSet<String> = (0..1000).map(|n| format!("node-{n}")).collect();
            for name in &names {
                let path = format!("/local/domain/1/data/{name}");
                xen.store_write(&path, b"").unwrap();
            }
            let list = tree.directory("data").await?;
            assert_eq!(list.len(), 1000);
            assert_eq!(list.into_iter().collect::<BTreeSet<_>>(), names);
            Ok(())
        })
        .unwrap();
}

#[test]
fn permissions_are_what_was_set() {
    let xen = Xen::new(Time::Virtual);
    let (first, store) = guest(&xen);
    let (second, other) = guest(&xen);
    let path = format!("/local/domain/{}/data/shared", first.domid());
    let given = [
        Permission::new(first.domid(), Access::None),
        Permission::new(second.domid(), Access::Both),
    ];
    store
        .wait(None, async {
            store.tree().write(&path, b"x").await?;
            store.tree().set_permissions(&path, &given).await?;
            assert_eq!(store.tree().permissions(&path).await?, given);
            let none = store.tree().set_permissions(&path, &[]).await;
            assert_eq!(errno(none), Some(Errno::EINVAL));
            Ok(())
        })
        .unwrap();
    let wrote = other.wait(None, other.tree().write(&path, b"y"));
    wrote.unwrap();
    assert_eq!(xen.store_read(&path).unwrap(), b"y");
}

#[test]
fn watches_tell_everything_and_end() {
    let (xen, domain, store) = alone();
    store
        .wait(None, async {
            let watch = store.watch("data").await?;
            let shallow = store.watch_with("data", Some(1), Repeats::Merge).await?;
            assert_eq!(watch.next().await?, "data");
            assert_eq!(shallow.next().await?, "data");
            for value in 0..3 {
                store.tree().write_as("data/a", value).await?;
                store.tree().write_as("data/a/b", value).await?;
            }
            for _ in 0..3 {
                assert_eq!(watch.next().await?, "data/a");
                assert_eq!(watch.next().await?, "data/a/b");
            }
            assert_eq!(watch.try_next()?, None);
            assert_eq!(shallow.next().await?, "data/a");
            assert_eq!(shallow.try_next()?, None);
            xen.store_write("/local/domain/1/data/c", b"").unwrap();
            assert_eq!(watch.next().await?, "data/c");
            let special = store.watch("@releaseDomain").await?;
            assert_eq!(special.next().await?, "@releaseDomain");
            drop(xen.domain(Config::default()).unwrap());
            assert_eq!(special.next().await?, "@releaseDomain");
            Ok(())
        })
        .unwrap();
    store.wait(None, store.tree().exists("x")).unwrap();
    assert_eq!(xen.store_watches(domain.domid()), 0);
    assert_eq!(store.in_flight(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn a_hundred_watches_under_fire() {
    let (_, _, store) = alone();
    store
        .wait(None, async {
            let mut watches = Vec::new();
            for index in 0..100 {
                let watch = store.watch(&format!("data/{index}")).await?;
                watch.next().await?;
                watches.push(watch);
            }
            let over = loop {
                match store.watch("data/more").await {
                    Ok(watch) => watches.push(watch),
                    Err(error) => break error,
                }
            };
            assert_eq!(over.errno(), Some(Errno::E2BIG));
            for round in 0..20 {
                for index in (0..100).rev() {
                    let path = format!("data/{index}");
                    store.tree().write_as(&path, round).await?;
                }
            }
            for (index, watch) in watches.iter().take(100).enumerate() {
                for _ in 0..20 {
                    assert_eq!(watch.next().await?, format!("data/{index}"));
                }
                assert_eq!(watch.try_next()?, None);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn transactions_are_tried_again_and_ended() {
    let xen = Xen::new(Time::Virtual);
    let (_, store) = guest(&xen);
    let tries = AtomicU32::new(0);
    let outside = &xen;
    store
        .wait(None, async {
            store.tree().write_as("data/n", 0).await?;
            let seen = store
                .transaction(async |tree| {
                    let n: u32 = tree.read_as("data/n").await?;
                    if tries.fetch_add(1, Ordering::Relaxed) < 3 {
                        // Another is faster.
                        let path = "/local/domain/1/data/n";
                        outside.store_write(path, b"10").unwrap();
                    }
                    tree.write_as("data/n", n + 1).await?;
                    Ok(n)
                })
                .await?;
            assert_eq!(seen, 10);
            assert_eq!(store.tree().read_as::<u32>("data/n").await?, 11);
            assert_eq!(tries.load(Ordering::Relaxed), 4);
            // Nothing of one that fails.
            let failed: Result<(), _> = store
                .transaction(async |tree| {
                    tree.write("data/n", b"lost").await?;
                    tree.read("data/none").await.map(|_| ())
                })
                .await;
            assert_eq!(errno(failed), Some(Errno::ENOENT));
            assert_eq!(store.tree().read_as::<u32>("data/n").await?, 11);
            // They do not pile up at the server, which allows ten.
            for _ in 0..30 {
                let transaction = store.begin().await?;
                transaction.write("data/n", b"lost").await?;
            }
            let all: Result<Vec<_>, Error> = async {
                let mut all = Vec::new();
                for _ in 0..10 {
                    all.push(store.begin().await?);
                }
                Ok(all)
            }
            .await;
            assert_eq!(errno(store.begin().await), Some(Errno::ENOSPC));
            drop(all);
            store.begin().await?.commit().await?;
            let never = store
                .transaction(async |tree| {
                    tree.read("data/n").await?;
                    outside.store_write("/local/domain/1/data/n", b"1").unwrap();
                    tree.write("data/n", b"2").await
                })
                .await;
            assert_eq!(never.unwrap_err().kind, ErrorKind::Conflicts);
            Ok(())
        })
        .unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn many_requests_are_in_flight() {
    let (_, _, store) = alone();
    let tree = store.tree();
    // More than the ring holds, in both directions.
    let value = vec![b'v'; 1000];
    store.wait(None, tree.write("data/v", &value)).unwrap();
    let mut reads: Vec<_> = (0..20).map(|_| Box::pin(tree.read("data/v"))).collect();
    store
        .wait(None, async {
            let mut done = 0;
            poll_fn(|cx| {
                reads.retain_mut(|read| match read.as_mut().poll(cx) {
                    Poll::Ready(answer) => {
                        assert_eq!(answer.unwrap(), value);
                        done += 1;
                        false
                    }
                    Poll::Pending => true,
                });
                if reads.is_empty() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            assert_eq!(done, 20);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_server_that_begins_anew_loses_no_watch() {
    let (xen, domain, store) = alone();
    store
        .wait(None, async {
            let watch = store.watch("data").await?;
            watch.next().await?;
            xen.store_restart(domain.domid());
            assert_eq!(xen.store_watches(domain.domid()), 0);
            // A change while nobody watches is told, too.
            xen.store_write("/local/domain/1/data/x", b"").unwrap();
            assert_eq!(watch.next().await?, "data");
            assert_eq!(xen.store_watches(domain.domid()), 1);
            xen.store_write("/local/domain/1/data/y", b"").unwrap();
            assert_eq!(watch.next().await?, "data/y");
            // As after a migration; and the same with a server that cannot
            // begin anew.
            store.reconnect();
            assert_eq!(watch.next().await?, "data");
            let features = peer_field!(page(domain), XenstoreDomainInterface, server_features);
            features.store(XenstoreFeatures::empty().bits());
            store.reconnect();
            assert_eq!(watch.next().await?, "data");
            assert_eq!(store.tree().read("domid").await?, b"1");
            assert_eq!(watch.try_next()?, None);
            assert_eq!(xen.store_watches(domain.domid()), 1);
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_was_in_flight_fails_when_the_server_begins_anew() {
    let (xen, domain, store) = alone();
    store
        .wait(None, async {
            let mut read = Box::pin(store.tree().read("domid"));
            let mut restarted = false;
            let answer = poll_fn(|cx| {
                if !restarted {
                    restarted = true;
                    xen.store_restart(domain.domid());
                }
                read.as_mut().poll(cx)
            })
            .await;
            assert_eq!(answer.unwrap_err().kind, ErrorKind::Disconnected);
            assert_eq!(store.tree().read("domid").await?, b"1");
            Ok(())
        })
        .unwrap();
}

#[test]
fn nonsense_in_the_ring_ends_in_a_new_start_or_in_an_error() {
    let (_, domain, store) = alone();
    let index = peer_field!(page(domain), XenstoreDomainInterface, rsp_prod);
    index.store(0x8000_0000);
    let read = || store.wait(Some(Duration::from_secs(1)), store.tree().read("domid"));
    let first = read();
    assert!(
        matches!(&first, Err(error) if error.kind == ErrorKind::Disconnected) || first.is_ok(),
        "{first:?}"
    );
    assert_eq!(read().unwrap(), b"1");
    // A server that cannot begin anew.
    let features = peer_field!(page(domain), XenstoreDomainInterface, server_features);
    features.store(XenstoreFeatures::empty().bits());
    index.store(0x8000_0000);
    assert_eq!(read().unwrap_err().kind, ErrorKind::Disconnected);
    assert_eq!(read().unwrap_err().kind, ErrorKind::Disconnected);
}

#[test]
fn a_mad_server_hurts_nobody() {
    let (xen, domain, store) = alone();
    store
        .wait(None, async {
            let watch = store.watch("data").await?;
            watch.next().await?;
            // An answer to nobody, and one that is longer than any may be.
            let mut bytes = vec![2, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'x'];
            bytes.extend([2, 0, 0, 0, 98, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0]);
            bytes.extend(vec![0; 0x2000]);
            xen.store_inject(domain.domid(), &bytes);
            assert_eq!(store.tree().read("domid").await?, b"1");
            xen.store_write("/local/domain/1/data/x", b"").unwrap();
            assert_eq!(watch.next().await?, "data/x");
            Ok(())
        })
        .unwrap();
    assert_eq!(store.strays().answers, 1);
    assert_eq!(store.strays().oversized, 1);
}

/// A byte of the ring to the server, and this side's indices as the page has them.
fn words(domain: &'static Domain) -> [PeerPtr<'static, u32>; 4] {
    let page = page(domain);
    [
        peer_field!(page, XenstoreDomainInterface, req_prod),
        peer_field!(page, XenstoreDomainInterface, req_cons),
        peer_field!(page, XenstoreDomainInterface, rsp_prod),
        peer_field!(page, XenstoreDomainInterface, rsp_cons),
    ]
}

#[test]
fn own_indices_are_not_read_back_from_the_page() {
    let (_, domain, store) = alone();
    let ring = store.transport();
    let [req_prod, req_cons, rsp_prod, rsp_cons] = words(domain);
    store.wait(None, store.tree().read("domid")).unwrap();
    let (sent, received) = (req_prod.load().trust(), rsp_cons.load().trust());
    assert!(sent > 0 && received > 0);
    // The server writes over them; this side goes on where it was.
    req_prod.store(sent + 77);
    rsp_cons.store(received + 3);
    assert_eq!(ring.send(b"ab"), 2);
    assert_eq!(req_prod.load().trust(), sent + 2);
    let requests = peer_field!(page(domain), XenstoreDomainInterface, req);
    let byte = requests.get(sent as usize % 1024).unwrap();
    assert_eq!(byte.load().trust(), b'a');
    let answers = peer_field!(page(domain), XenstoreDomainInterface, rsp);
    answers.get(received as usize % 1024).unwrap().store(b'z');
    rsp_prod.store(received + 1);
    let mut buffer = [0; 8];
    assert_eq!(ring.receive(&mut buffer), 1);
    assert_eq!(buffer[0], b'z');
    assert_eq!(rsp_cons.load().trust(), received + 1);
    // An impossible distance to the server's own is noticed.
    req_cons.store(sent.wrapping_sub(2000));
    assert_eq!(ring.send(b"c"), 0);
    assert_eq!(ring.link(), Link::Lost);
}

#[test]
fn a_ring_that_the_server_empties_unasked_begins_anew() {
    let (xen, domain, store) = alone();
    store
        .wait(None, async {
            let watch = store.watch("data").await?;
            watch.next().await?;
            // As when a toolstack introduces the domain once more.
            store.reset_watches().await?;
            for word in words(domain) {
                word.store(0);
            }
            assert_eq!(watch.next().await?, "data");
            assert_eq!(store.tree().read("domid").await?, b"1");
            xen.store_write("/local/domain/1/data/y", b"").unwrap();
            assert_eq!(watch.next().await?, "data/y");
            Ok(())
        })
        .unwrap();
    assert_eq!(store.strays(), Default::default());
}

/// Lets the other tasks go on.
async fn pause() {
    let mut is_first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut is_first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[test]
fn transactions_wait_for_those_that_are_too_many() {
    let (_, _, store) = alone();
    let open = Cell::new(0);
    let most = Cell::new(0);
    store
        .wait(None, async {
            // More than the server allows at once, all together.
            let all = (0..40).map(|index| {
                let (store, open, most) = (&store, &open, &most);
                store.transaction(async move |tree| {
                    open.set(open.get() + 1);
                    most.set(most.get().max(open.get()));
                    // The others go on; this server answers at once.
                    let mut is_first = true;
                    poll_fn(|cx| {
                        cx.waker().wake_by_ref();
                        match std::mem::take(&mut is_first) {
                            true => Poll::Pending,
                            false => Poll::Ready(()),
                        }
                    })
                    .await;
                    let done = tree.write_as(&format!("data/{index}"), index).await;
                    // The mock's server answers at once; a real one takes its time.
                    for _ in 0..3 {
                        pause().await;
                    }
                    open.set(open.get() - 1);
                    done
                })
            });
            let mut all: Vec<_> = all.map(Box::pin).collect();
            poll_fn(|cx| {
                all.retain_mut(|one| match one.as_mut().poll(cx) {
                    Poll::Ready(done) => {
                        done.unwrap();
                        false
                    }
                    Poll::Pending => true,
                });
                if all.is_empty() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            for index in 0..40 {
                let path = format!("data/{index}");
                assert_eq!(store.tree().read_as::<u32>(&path).await?, index);
            }
            // If they never end, it is a refusal in the end.
            let mut held = Vec::new();
            for _ in 0..10 {
                held.push(store.begin().await?);
            }
            let refused = store.transaction(async |_| Ok(())).await.unwrap_err();
            assert_eq!(refused.quota(), Some(Quota::Transactions));
            assert_eq!(refused.persistence(), Persistence::Transient);
            Ok(())
        })
        .unwrap();
    assert_eq!(most.get(), 10);
}

#[test]
fn refusals_name_the_quota() {
    let (_, _, store) = alone();
    store
        .wait(None, async {
            let tree = store.tree();
            let over = tree.write("data/long", vec![0; 3000]).await.unwrap_err();
            assert_eq!(over.quota(), Some(Quota::NodeSize));
            let mut watches = Vec::new();
            let over = loop {
                match store.watch("data").await {
                    Ok(watch) => watches.push(watch),
                    Err(error) => break error,
                }
            };
            assert_eq!(over.quota(), Some(Quota::Watches));
            assert_eq!(over.persistence(), Persistence::Lasting);
            assert_eq!(
                over.to_string(),
                "data: over the domain's quota of watches (128 by default): Argument list too \
                 long (E2BIG)"
            );
            let mut index = 0;
            let over = loop {
                let path = format!("data/{}/{index}", index / 50);
                match tree.mkdir(&path).await {
                    Ok(()) => index += 1,
                    Err(error) => break error,
                }
            };
            assert!(index > 900, "{index}");
            assert_eq!(over.quota(), Some(Quota::Nodes));
            assert_eq!(over.persistence(), Persistence::Lasting);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_wait_ends_in_time() {
    let (_, domain, store) = alone();
    use hypercall_abi::platform::Clock;
    let watch = store.wait(None, store.watch("data")).unwrap();
    store.wait(None, watch.next()).unwrap();
    let late = store.wait(Some(Duration::from_millis(5)), watch.next());
    assert_eq!(late.unwrap_err().kind, ErrorKind::TimedOut);
    assert_eq!(domain.now_ns(), 5_000_000);
}

#[test]
fn one_who_looked_last_and_left_keeps_nobody_waiting() {
    use hypercall_abi::{VcpuId, platform::Park, xen::VcpuInfo};
    use std::{
        sync::{Arc, atomic::AtomicBool},
        task::{Context, Wake, Waker},
    };

    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Release);
        }
    }

    let (xen, domain, store) = alone();
    let ports = store.transport().ports();
    domain.on_upcall(move |_| {
        ports.dispatch(VcpuId(0));
    });
    // SAFETY: the domain is never freed.
    let shared: PeerPtr<'_, hypercall_abi::xen::SharedInfo> =
        unsafe { PeerPtr::new(domain.shared_info()) };
    let vcpus = peer_field!(shared, hypercall_abi::xen::SharedInfo, vcpu_info);
    peer_field!(vcpus.get(0).unwrap(), VcpuInfo, evtchn_upcall_mask).store(0);
    let waiting = store.wait(None, store.watch("data/waiting")).unwrap();
    let leaving = store.wait(None, store.watch("data/leaving")).unwrap();
    for watch in [&waiting, &leaving] {
        store.wait(None, watch.next()).unwrap();
    }
    let woken = Arc::new(Flag(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(waiting.poll_event(&mut cx).is_pending());
    let mut gone = Context::from_waker(Waker::noop());
    assert!(leaving.poll_event(&mut gone).is_pending());
    xen.store_write("/local/domain/1/data/waiting", b"")
        .unwrap();
    domain.idle(Some(1_000), &|| woken.0.load(Ordering::Acquire));
    assert!(woken.0.load(Ordering::Acquire), "nobody was told");
    assert!(waiting.poll_event(&mut cx).is_ready());
}

#[test]
fn questions_about_domains_are_answered() {
    let (_, domain, store) = alone();
    store
        .wait(None, async {
            let me = domain.domid();
            assert_eq!(store.domain_path(me).await?, "/local/domain/1");
            // As xenstored says to whoever has no privileges.
            let refused = store.is_domain_introduced(me).await;
            assert_eq!(refused.unwrap_err().errno(), Some(Errno::EACCES));
            assert_eq!(errno(store.resume(me).await), Some(Errno::EACCES));
            let features = store.server_features().await;
            assert_eq!(errno(features), Some(Errno::ENOSYS));
            assert_eq!(errno(store.quota(None).await), Some(Errno::ENOSYS));
            let _watch = store.watch("data").await?;
            store.reset_watches().await
        })
        .unwrap();
}

/// Whether a subscription was told of something since it was asked last.
fn is_told(subscription: &Subscription<'_, Ring<'static, &'static Domain>>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    subscription
        .poll_changed(&mut cx)
        .map(Result::unwrap)
        .is_ready()
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn many_share_one_watch() {
    let (xen, domain, store) = alone();
    let paths: Vec<String> = (0..200).map(|number| format!("data/{number}")).collect();
    store
        .wait(None, async {
            let all: Vec<_> = paths
                .iter()
                .map(|path| store.subscribe("data", path).unwrap())
                .collect();
            // The first time is when they were made.
            for one in &all {
                one.changed().await?;
                assert!(!is_told(one));
            }
            assert_eq!(xen.store_watches(domain.domid()), 1);
            // Of its own path, of what is below, and of what is above; not of others.
            store.tree().write("data/7", "").await?;
            store.tree().write("data/70/state", "1").await?;
            let told = all.iter().filter(|one| is_told(one)).count();
            assert_eq!(told, 2);
            assert!(!is_told(&all[7]) && !is_told(&all[70]));
            store.tree().write("data/71/state", "1").await?;
            assert!(is_told(&all[71]));
            store.tree().remove("data").await?;
            assert!(all.iter().all(is_told));
            // One that comes later knows that the watch is set.
            let late = store.subscribe("data", "data/late").unwrap();
            assert!(is_told(&late) && !is_told(&late));
            // A server that forgot the watch gets it again, and all look.
            store.reconnect();
            for one in &all {
                one.changed().await?;
            }
            drop(all);
            assert_eq!(xen.store_watches(domain.domid()), 1);
            drop(late);
            // Its end is on its way.
            store.tree().try_read("data").await?;
            assert_eq!(xen.store_watches(domain.domid()), 0);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_shared_watch_that_is_refused_is_asked_for_again() {
    let (xen, domain, store) = alone();
    xen.set_store_quotas(StoreQuotas {
        watches: 0,
        ..StoreQuotas::default()
    });
    store
        .wait(None, async {
            let [one, other] = ["data/1", "data/2"].map(|path| store.subscribe("data", path));
            let (one, other) = (one?, other?);
            for refused in [&one, &other] {
                let error = refused.changed().await.unwrap_err();
                assert_eq!(error.quota(), Some(Quota::Watches));
            }
            xen.set_store_quotas(StoreQuotas::default());
            let third = store.subscribe("data", "data/3")?;
            for told in [&one, &other, &third] {
                told.changed().await?;
            }
            assert_eq!(xen.store_watches(domain.domid()), 1);
            Ok(())
        })
        .unwrap();
}

/// Other tasks go on, also where the server answers at once.
async fn yield_now() {
    let mut is_first = true;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        match std::mem::take(&mut is_first) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
}

/// Holders of turns are not polled any more, after so many looks: those who wait get theirs.
#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn transactions_that_nobody_goes_on_with_keep_nobody_waiting() {
    let second_ns = MAX_IDLE.as_nanos() as u64;
    let mut overtaken = 0;
    for looks in 1..6 {
        let (xen, _domain, store) = alone();
        xen.set_store_quotas(StoreQuotas {
            transactions: MAX_IN_TURN,
            ..StoreQuotas::default()
        });
        xen.set_store_latency(1000);
        let trip = || store.wait(None, store.tree().try_read("data")).unwrap();
        let change = async |path: String| -> Result<(), Error> {
            let transaction = store.begin_in_turn().await?;
            transaction.write_as(&path, 1).await?;
            transaction.commit().await
        };
        let mut cx = Context::from_waker(Waker::noop());
        let held = (0..MAX_IN_TURN).map(|at| Box::pin(change(format!("data/{at}"))));
        let mut held: Vec<_> = held.collect();
        let mut outcomes = vec![None; MAX_IN_TURN];
        for (change, outcome) in held.iter_mut().zip(&mut outcomes) {
            for _ in 0..looks {
                if let Poll::Ready(result) = change.as_mut().poll(&mut cx) {
                    *outcome = Some(result);
                    break;
                }
                trip();
            }
        }
        let mut next = Box::pin(change("data/next".into()));
        assert!(next.as_mut().poll(&mut cx).is_pending());
        for now_ns in [1, second_ns] {
            store.end_idle_turns(now_ns);
            trip();
        }
        let all_wait = outcomes.iter().all(Option::is_none);
        if all_wait {
            // Not too early.
            for _ in 0..5 {
                assert!(next.as_mut().poll(&mut cx).is_pending());
                trip();
            }
            assert!(xen.store_read("/local/domain/1/data/next").is_err());
        }
        store.end_idle_turns(second_ns + 1);
        store.wait(None, next).unwrap();
        assert_eq!(xen.store_read("/local/domain/1/data/next").unwrap(), b"1");
        // Those who go on after all hear what became of theirs.
        for (at, (change, outcome)) in held.into_iter().zip(outcomes).enumerate() {
            let outcome = outcome.unwrap_or_else(|| store.wait(None, change));
            let is_there = xen
                .store_read(&format!("/local/domain/1/data/{at}"))
                .is_ok();
            match outcome {
                Ok(()) => assert!(is_there),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Overtaken);
                    assert!(!is_there);
                    overtaken += 1;
                }
            }
        }
        // All turns are there again.
        let all = join_all((0..20).map(|at| change(format!("data/again-{at}"))));
        let all = store.wait(None, async { Ok(all.await) }).unwrap();
        assert!(all.iter().all(Result::is_ok), "{all:?}");
    }
    assert!(overtaken >= 2 * MAX_IN_TURN, "{overtaken}");
    // One that goes on, however slowly, is not ended.
    let (_xen, _domain, store) = alone();
    let slow = async {
        let transaction = store.begin_in_turn().await?;
        for second in 0..10 {
            store.end_idle_turns(1 + second * second_ns);
            transaction.write_as("data/slow", second).await?;
        }
        transaction.commit().await
    };
    store.wait(None, slow).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "takes too long there")]
fn transactions_that_take_turns_are_never_too_many() {
    let (xen, _domain, store) = alone();
    xen.set_store_quotas(StoreQuotas {
        transactions: MAX_IN_TURN,
        ..StoreQuotas::default()
    });
    let at_once = async |number: u32| -> Result<(), Error> {
        let transaction = store.begin().await?;
        for _ in 0..20 {
            yield_now().await;
        }
        transaction.write_as("data/at-once", number).await
    };
    let in_turn = async |number: u32| -> Result<(), Error> {
        let transaction = store.begin_in_turn().await?;
        for _ in 0..20 {
            yield_now().await;
        }
        let path = format!("data/{number}");
        transaction.write_as(&path, number).await?;
        // Some are given up.
        match number % 3 {
            0 => Ok(()),
            _ => transaction.commit().await,
        }
    };
    let all = async {
        let refused = join_all((0..40).map(at_once)).await;
        let refused = refused.into_iter().filter_map(Result::err);
        assert_eq!(
            refused
                .filter(|it| it.quota() == Some(Quota::Transactions))
                .count(),
            34
        );
        for done in join_all((0..40).map(in_turn)).await {
            done?;
        }
        Ok(())
    };
    store.wait(None, all).unwrap();
    assert_eq!(xen.store_read("/local/domain/1/data/38").unwrap(), b"38");
    assert!(xen.store_read("/local/domain/1/data/39").is_err());
}
