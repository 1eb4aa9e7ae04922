//! See `fuzz::store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|steps: Vec<fuzz::store::Step>| fuzz::store::run(&steps));
