//! A walk through what a guest can see and do.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use core::time::Duration;

use pv_guest::{
    Error, Guest,
    abi::{DomId, VcpuId, platform::Clock as _},
    console, entry,
    event_channels::Channel,
    executor::{self, Executor},
    grant_tables::{Page, PeerReads},
    println, time, trap,
};

entry!(main);

/// How long to wait for somebody to type a name, unless the command line says it:
/// `patience=SECONDS`.
const PATIENCE: Duration = Duration::from_secs(2);

fn main(guest: Guest) -> Result<(), Error> {
    println!("hypervisor    {}", guest.hypervisor());
    println!("guest type    {}", guest.guest_type().name());
    match guest.domid() {
        Ok(domid) => println!("domain        {domid}"),
        Err(error) => println!("domain        unknown: {error}"),
    }
    println!("features      {:?}", guest.features());
    println!("memory        {} KiB", guest.memory_bytes() / 1024);
    for region in guest.boot_info().memory_map.iter() {
        println!(
            "              {:#014x} .. {:#014x} {:?}",
            region.start, region.end, region.kind
        );
    }
    let vcpus = guest.vcpus();
    println!("vCPUs         {} ({} up)", vcpus.total, vcpus.up);
    println!("command line  {:?}", guest.command_line());
    if guest.boot_info().command_line.is_truncated() {
        println!("              its end may be missing");
    }
    for (index, module) in guest.modules().enumerate() {
        let sum: u64 = module.iter().copied().map(u64::from).sum();
        println!("module {index}      {} bytes, sum {sum}", module.len());
    }
    println!("uptime        {} us", guest.uptime_ns() / 1000);
    match guest.platform().wall_clock_ns() {
        Some(now) => println!("wall clock    {} s since 1970", now / 1_000_000_000),
        None => println!("wall clock    not known"),
    }
    println!("clock         {}", guest.clock_source());

    walk_heap()?;
    meet_others(&guest)?;
    take_naps();

    let before = trap::breakpoints_caught();
    trap::breakpoint();
    println!(
        "breakpoint    caught {}, and returned",
        trap::breakpoints_caught() - before
    );

    println!("what is your name?");
    let mut line = [0; 64];
    let mut words = guest.command_line().split_whitespace();
    let patience = words.find_map(|word| word.strip_prefix("patience=")?.parse().ok());
    let patience = patience.map_or(PATIENCE, Duration::from_secs);
    match console::read_line(&mut line, time::deadline_ns(patience)) {
        Ok(name) => println!("hello, {}", name.trim()),
        Err(Error::EndOfInput) => println!("hello, whoever you are"),
        Err(error) => return Err(error),
    }
    println!("powering off");
    Ok(())
}

/// Allocates, moves, frees: what a heap is for.
fn walk_heap() -> Result<(), Error> {
    let mut words: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for i in 0..1000 {
        words.entry(format!("key {}", i % 37)).or_default().push(i);
    }
    let sum: usize = words.values().flatten().sum();
    if sum != 499_500 {
        return Err(Error::Failed("the heap lost something"));
    }
    println!("heap          1000 values in {} lists", words.len());
    Ok(())
}

/// The three mechanisms by which domains work together; without Xen there are
/// none.
fn meet_others(guest: &Guest) -> Result<(), Error> {
    let Ok(ports) = guest.ports() else {
        println!("others        there are none");
        return Ok(());
    };
    let bell = Channel::ipi(ports, VcpuId(0))?;
    bell.notify()?;
    executor::block_on(bell.wait());
    println!(
        "events        {:?}: one was sent and came",
        ports.interface()
    );

    let table = guest.grants()?;
    let mut page = Page::new(table)?;
    if let Some(words) = page.bytes_mut().get_mut(..5) {
        words.copy_from_slice(b"hello");
    }
    let lent = table.share::<PeerReads>(DomId(0), page)?;
    println!("grants        a page lent to domain 0 as {}", lent.gref());
    if lent.end().is_err() {
        return Err(Error::Failed("domain 0 took the page and keeps it"));
    }

    let store = guest.store()?;
    let read = executor::block_on(async {
        let tree = store.tree();
        let watch = store.watch("data").await?;
        tree.write("data/tour", "was here").await?;
        let mut changed = watch.next().await?;
        while changed != "data/tour" {
            changed = watch.next().await?;
        }
        tree.remove("data/tour").await?;
        tree.read_text("name").await
    });
    match read {
        Ok(name) => println!("store         this guest is {name:?} to the toolstack"),
        Err(error) => println!("store         {error}"),
    }
    Ok(())
}

/// Tasks that sleep, side by side.
fn take_naps() {
    let start = time::now_ns();
    let executor = Executor::new();
    for ms in 1..=10 {
        executor.spawn(time::sleep(Duration::from_millis(ms)));
    }
    executor.run();
    let took_us = (time::now_ns() - start) / 1000;
    println!("time          ten tasks slept 55 ms in {took_us} us");
}
