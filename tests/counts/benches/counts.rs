//! `cargo bench -p counts`: needs valgrind and `gungraun-runner`.
#![expect(missing_docs, unused_qualifications, reason = "what the macros make")]

use std::hint::black_box;

use counts::{Copy, Exchange, Lend, Loopback, Upcall};
use event_channels::Choice;
use grant_tables::Version;
use gungraun::{library_benchmark, library_benchmark_group, main};

#[library_benchmark]
#[bench::two_level(Upcall::new(Choice::TwoLevel))]
#[bench::fifo(Upcall::new(Choice::Best))]
fn upcall_to_waker(upcall: Upcall) -> (u32, Upcall) {
    (black_box(upcall.dispatch()), upcall)
}

#[library_benchmark]
#[bench::version_1(Lend::new(Version::One))]
#[bench::version_2(Lend::new(Version::Two))]
fn share_and_end(lend: Lend) -> grant_tables::Page<'static, &'static mock_hypervisor::Domain> {
    black_box(lend.share_and_end())
}

#[library_benchmark]
#[bench::loopback(Loopback::new())]
fn store_read(mut loopback: Loopback) -> (usize, Loopback) {
    (black_box(loopback.read()), loopback)
}

#[library_benchmark]
#[bench::ring(Exchange::new())]
fn request_and_answer(mut exchange: Exchange) -> (u8, Exchange) {
    (black_box(exchange.request_and_answer()), exchange)
}

#[library_benchmark]
#[bench::twelve(Copy::new(0, 12))]
#[bench::unaligned(Copy::new(3, 66))]
#[bench::packet(Copy::new(0, 1514))]
#[bench::page(Copy::new(0, 4096))]
fn copy_there_and_back(mut copy: Copy) -> (usize, Copy) {
    (black_box(copy.there_and_back()), copy)
}

library_benchmark_group!(
    name = paths;
    benchmarks = upcall_to_waker, share_and_end, store_read, request_and_answer, copy_there_and_back
);

main!(library_benchmark_groups = paths);
