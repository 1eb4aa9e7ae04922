//! See `fuzz::disks`.
#![no_main]

libfuzzer_sys::fuzz_target!(|steps: Vec<fuzz::disks::Step>| fuzz::disks::run(&steps));
