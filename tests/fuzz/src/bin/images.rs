//! See `fuzz::images`.
#![no_main]

libfuzzer_sys::fuzz_target!(|steps: Vec<fuzz::images::Step>| fuzz::images::run(&steps));
