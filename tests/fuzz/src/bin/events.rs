//! See `fuzz::events`.
#![no_main]

libfuzzer_sys::fuzz_target!(|steps: Vec<fuzz::events::Step>| fuzz::events::run(&steps));
