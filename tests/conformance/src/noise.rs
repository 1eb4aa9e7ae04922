//! Numbers of which none is like another.

/// Marsaglia's xorshift, from any number that is not zero.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// The next one.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
