//! See `fuzz::instructions`.
#![no_main]

libfuzzer_sys::fuzz_target!(|code: &[u8]| fuzz::instructions::run(code));
