//! See `fuzz::nics`.
#![no_main]

libfuzzer_sys::fuzz_target!(|steps: Vec<fuzz::nics::Step>| fuzz::nics::run(&steps));
