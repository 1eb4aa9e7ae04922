//! See `fuzz::rings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|steps: Vec<fuzz::rings::Step>| fuzz::rings::run(&steps));
