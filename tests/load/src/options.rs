//! The words of the command line.

/// A command line of `name=value` words.
#[derive(Clone, Copy)]
pub(crate) struct Options<'a>(&'a str);

impl<'a> Options<'a> {
    /// Those of a command line.
    pub(crate) const fn of(command_line: &'a str) -> Self {
        Self(command_line)
    }

    /// The value of the first such word.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        let mut words = self.0.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The same, as a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}
