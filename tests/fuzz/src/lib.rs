//! What is fuzzed: sequences of steps, some by this side, some by a peer that
//! means harm. Each module has the steps, and what must hold whatever they are.
//!
//! `cargo lab fuzz` builds the targets with coverage and runs them; `cargo
//! test` tries some steps of a plain generator.

pub mod disks;
pub mod events;
mod guest;
pub mod images;
pub mod instructions;
pub mod nics;
pub mod rings;
pub mod store;

#[cfg(test)]
mod tests {
    use arbitrary::{Arbitrary, Unstructured};

    fn bytes(mut seed: u64) -> Vec<u8> {
        (0..2000)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect()
    }

    fn some<'a, S: Arbitrary<'a>>(bytes: &'a [u8], run: impl Fn(&[S])) {
        if let Ok(steps) = Vec::arbitrary(&mut Unstructured::new(bytes)) {
            run(&steps);
        }
    }

    #[test]
    fn plain_sequences_hold() {
        for seed in 1..100 {
            let bytes = bytes(seed * 0x9e37_79b9);
            some(&bytes, crate::store::run);
            some(&bytes, crate::events::run);
            some(&bytes, crate::images::run);
            for code in bytes.chunks(20) {
                crate::instructions::run(code);
            }
            some(&bytes, crate::rings::run);
            some(&bytes, crate::disks::run);
            some(&bytes, crate::nics::run);
        }
    }
}
