//! A walk through what a guest can see and do.
#![no_main]
#![cfg_attr(target_os = "none", no_std)]

extern crate alloc;

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use pv_guest::{
    Error, Guest,
    abi::platform::{Clock as _, Pages as _},
    console, entry, println, trap,
};

entry!(main);

/// How long to wait for somebody to type a name.
const PATIENCE_NS: u64 = 2_000_000_000;

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
    for (index, module) in guest.modules().enumerate() {
        println!("module {index}      {} bytes", module.len());
    }
    println!("uptime        {} us", guest.uptime_ns() / 1000);
    match guest.platform().wall_clock_ns() {
        Some(now) => println!("wall clock    {} s since 1970", now / 1_000_000_000),
        None => println!("wall clock    not known"),
    }

    walk_heap()?;
    lend_page(&guest)?;

    let before = trap::breakpoints_caught();
    trap::breakpoint();
    println!(
        "breakpoint    caught {}, and returned",
        trap::breakpoints_caught() - before
    );

    println!("what is your name?");
    let mut line = [0; 64];
    let deadline = guest.platform().now_ns().saturating_add(PATIENCE_NS);
    match console::read_line(&mut line, deadline) {
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

/// Takes a page, and asks by which frame a peer would know it.
fn lend_page(guest: &Guest) -> Result<(), Error> {
    let page = guest
        .platform()
        .alloc(1)
        .ok_or(Error::OutOfMemory("a page"))?;
    let gfn = guest.platform().gfn_of(page);
    // SAFETY: it came from `alloc` just now, and nobody else knows it.
    unsafe { guest.platform().free(page, 1) };
    let gfn = gfn.ok_or(Error::Failed("a page has no frame"))?;
    println!("a page        is frame {:#x} to others", gfn.0);
    Ok(())
}
