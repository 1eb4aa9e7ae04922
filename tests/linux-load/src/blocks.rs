//! Load on a disk, past the cache.

use std::{
    fs::{File, OpenOptions},
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use io_uring::{IoUring, opcode, types::Fd};
use load_plan::{DISK_BYTES, Direction, Disk, Order, Phase, Random, Samples};

const DEVICE: &str = "/dev/xvda";
/// What direct access wants of addresses.
const ALIGNMENT: usize = 4096;

/// Memory for one request, aligned.
struct Buffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let memory = vec![0x5a; len + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

/// Where the next request is.
struct Places {
    disk: Disk,
    random: Random,
    next: u64,
}

impl Places {
    fn next(&mut self) -> u64 {
        let len = u64::from(self.disk.kib) << 10;
        let slots = DISK_BYTES / len;
        self.next += 1;
        match self.disk.order {
            Order::Random => self.random.below(slots) * len,
            Order::Sequential => self.next % slots * len,
        }
    }
}

pub(crate) fn run(phase: &Phase, end: Instant) -> Result<Samples> {
    let Phase::Disk(disk) = *phase else {
        bail!("{phase} is not for disks");
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_DIRECT);
    let file = options.open(DEVICE).context("there is no disk")?;
    let places = Places {
        disk,
        random: Random(1),
        next: 0,
    };
    match disk.depth {
        1 => one_by_one(&file, disk, places, end),
        _ => many(&file, disk, places, end),
    }
}

fn one_by_one(file: &File, disk: Disk, mut places: Places, end: Instant) -> Result<Samples> {
    let mut buffer = Buffer::new((disk.kib as usize) << 10);
    let mut samples = Samples::new();
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(samples);
        }
        let place = places.next();
        match disk.direction {
            Direction::Read => file.read_exact_at(buffer.bytes(), place)?,
            Direction::Write => file.write_all_at(buffer.bytes(), place)?,
        }
        samples.add(begun.elapsed().as_nanos() as u64, buffer.len);
    }
}

/// Many at a time, by the kernel's ring.
fn many(file: &File, disk: Disk, mut places: Places, end: Instant) -> Result<Samples> {
    let len = disk.kib << 10;
    let mut buffers: Vec<_> = (0..disk.depth).map(|_| Buffer::new(len as usize)).collect();
    let mut begun = vec![Instant::now(); buffers.len()];
    let mut ring = IoUring::new(disk.depth)?;
    let mut idle: Vec<usize> = (0..buffers.len()).collect();
    let mut busy = 0;
    let mut samples = Samples::new();
    loop {
        let now = Instant::now();
        for index in idle.drain(..).filter(|_| now < end) {
            let memory = buffers[index].bytes().as_mut_ptr();
            let (fd, place) = (Fd(file.as_raw_fd()), places.next());
            let entry = match disk.direction {
                Direction::Read => opcode::Read::new(fd, memory, len).offset(place).build(),
                Direction::Write => opcode::Write::new(fd, memory, len).offset(place).build(),
            };
            begun[index] = now;
            // SAFETY: the buffer is used for nothing else until its number comes
            // back, and lives until then: this returns when none is busy, or with
            // an error, which ends the process.
            unsafe { ring.submission().push(&entry.user_data(index as u64)) }?;
            busy += 1;
        }
        if busy == 0 {
            return Ok(samples);
        }
        ring.submit_and_wait(1)?;
        let now = Instant::now();
        for done in ring.completion() {
            let index = done.user_data() as usize;
            ensure!(
                done.result() == len as i32,
                "a request ended with {}",
                done.result()
            );
            samples.add((now - begun[index]).as_nanos() as u64, len as usize);
            idle.push(index);
            busy -= 1;
        }
    }
}
