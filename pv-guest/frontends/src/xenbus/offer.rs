//! What a backend says of itself: texts, of which anything may be wrong.

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use core::{ops::RangeInclusive, str::FromStr};

use hypercall_abi::DomId;
use xenstore_client::value;

use super::Fault;

/// Values that were read from a directory of the store, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes(Vec<(String, Vec<u8>)>);

impl Nodes {
    /// Values by name: of several of one name the first.
    pub fn new(values: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        Self(values.into_iter().collect())
    }

    fn get(&self, name: &str) -> Option<&[u8]> {
        let mut all = self.0.iter();
        let node = all.find(|(other, _)| other == name);
        node.map(|(_, value)| &**value)
    }

    /// A value as text, without white space and NULs around it
    /// ([`xenstore_client::value::trim`]); `None` if there is none.
    ///
    /// # Errors
    /// [`Fault::Value`]: it is no text.
    pub fn text(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        let value = self.get(name);
        value
            .map(|value| value::text(value).ok_or(Fault::Value(name)))
            .transpose()
    }

    /// A value as a number, read as [`xenstore_client::value::parse`] does; `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`Fault::Value`]: it is no number of this type.
    pub fn number<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Fault> {
        let value = self.get(name);
        value
            .map(|value| value::parse(value).ok_or(Fault::Value(name)))
            .transpose()
    }

    /// A number that there must be.
    ///
    /// # Errors
    /// [`Fault::Missing`], [`Fault::Value`].
    pub fn required<T: FromStr>(&self, name: &'static str) -> Result<T, Fault> {
        self.number(name)?.ok_or(Fault::Missing(name))
    }

    /// Whether a feature is there: its node is, with another number than 0.
    /// What makes no sense counts as not there.
    pub fn has(&self, name: &'static str) -> bool {
        self.number::<u64>(name)
            .is_ok_and(|value| value.is_some_and(|value| value != 0))
    }

    /// How much of something is used: what the backend can, no more than this
    /// side wants. What makes no sense, or is not there, is the least.
    pub fn up_to(&self, name: &'static str, wanted: RangeInclusive<u32>) -> u32 {
        let offered = self.number(name).ok().flatten().unwrap_or(0);
        offered.min(*wanted.end()).max(*wanted.start())
    }
}

/// What there is to agree on: the backend's values and the frontend's own.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Who has the backend.
    pub domid: DomId,
    /// The backend's.
    pub backend: Nodes,
    /// The frontend's own, which the toolstack wrote.
    pub own: Nodes,
}

/// Whose word a frontend takes for whether its backend is to be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// The toolstack's (`trusted` in the device's directory): only 0 means no, also with
    /// something behind it. It is what Linux's frontends do unless they are told otherwise
    /// (`xen_blkfront.trusted`).
    #[default]
    Toolstack,
    /// Nobody's: no backend is trusted.
    Nobody,
}

/// Whether a backend is trusted: memory of the caller's is granted only to one that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// It is.
    Yes,
    /// It is not: it sees only pages of the driver's own, which hold what it is told.
    No,
}

impl Trust {
    /// A frontend's own key that the toolstack writes ([`Frontend::OWN_KEYS`](super::Frontend::OWN_KEYS)).
    pub const KEY: &'static str = "trusted";

    /// Whether the backend of this offer is trusted.
    pub fn of(self, offer: &Offer) -> Trusted {
        let told = offer.own.get(Self::KEY);
        match (self, told.and_then(value::leading_number)) {
            (Self::Nobody, _) | (_, Some(0)) => Trusted::No,
            (Self::Toolstack, _) => Trusted::Yes,
        }
    }
}

/// A key that a frontend writes into its directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, relative to the device's directory.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Key {
    /// A key.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Self {
        Self {
            name: name.into(),
            value: value.to_string(),
        }
    }

    /// A key of one queue: of the only one, in the device's own directory; of
    /// one of several, in the queue's.
    pub fn of_queue(queue: usize, queues: usize, name: &str, value: impl ToString) -> Self {
        match queues {
            1 => Self::new(name.to_owned(), value),
            _ => Self::new(alloc::format!("queue-{queue}/{name}"), value),
        }
    }
}

/// A key that a protocol has for frontends to write, or a series of such keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// The key of this name.
    One(&'static str),
    /// The keys whose names are this and a number: of `ring-ref`, `ring-ref0` and
    /// `ring-ref15`; of `queue-`, the directories of queues with all that is in them.
    Numbered(&'static str),
}

impl KeyName {
    /// Whether a node of a device's directory has this name.
    pub fn matches(&self, node: &str) -> bool {
        match self {
            Self::One(name) => *name == node,
            Self::Numbered(name) => node.strip_prefix(name).is_some_and(|number| {
                !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keys() {
        let (one, row) = (KeyName::One("ring-ref"), KeyName::Numbered("ring-ref"));
        assert!(one.matches("ring-ref") && !row.matches("ring-ref"));
        assert!(row.matches("ring-ref0") && row.matches("ring-ref15"));
        for other in ["ring-re", "ring-ref-1", "ring-ref1x", "a-ring-ref1", ""] {
            assert!(!one.matches(other) && !row.matches(other), "{other}");
        }
    }

    fn nodes(values: &[(&str, &[u8])]) -> Nodes {
        Nodes::new(
            values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.to_vec())),
        )
    }

    #[test]
    fn only_zero_is_not_to_be_trusted() {
        for (value, trusted) in [
            (&b"0"[..], Trusted::No),
            (b"0\n", Trusted::No),
            (b"00", Trusted::No),
            (b"0x0", Trusted::No),
            (b"1", Trusted::Yes),
            (b"", Trusted::Yes),
            (b"no", Trusted::Yes),
        ] {
            let offer = Offer {
                domid: DomId(0),
                backend: Nodes::default(),
                own: nodes(&[(Trust::KEY, value)]),
            };
            assert_eq!(Trust::Toolstack.of(&offer), trusted, "{value:?}");
            assert_eq!(Trust::Nobody.of(&offer), Trusted::No);
        }
    }

    #[test]
    fn nonsense_is_not_there_or_an_error() {
        let nodes = nodes(&[
            ("good", b"7"),
            ("huge", b"99999999999999999999"),
            ("minus", b"-1"),
            ("binary", b"\xff\xfe"),
            ("empty", b""),
            ("script", b"1\n"),
            ("toolstack", b"4096\0"),
            ("mode", b"w\0"),
        ]);
        assert_eq!(nodes.number::<u32>("good"), Ok(Some(7)));
        assert_eq!(nodes.number::<u32>("absent"), Ok(None));
        assert_eq!(
            nodes.required::<u32>("absent"),
            Err(Fault::Missing("absent"))
        );
        for name in ["huge", "minus", "binary", "empty"] {
            assert_eq!(nodes.number::<u32>(name), Err(Fault::Value(name)));
            assert!(!nodes.has(name));
            assert_eq!(nodes.up_to(name, 1..=8), 1);
        }
        assert!(nodes.has("good") && !nodes.has("absent"));
        assert!(nodes.has("script"));
        assert_eq!(nodes.required::<u64>("toolstack"), Ok(4096));
        assert_eq!(nodes.text("mode"), Ok(Some("w")));
        assert_eq!(nodes.up_to("good", 1..=4), 4);
        assert_eq!(nodes.up_to("good", 1..=8), 7);
    }
}
