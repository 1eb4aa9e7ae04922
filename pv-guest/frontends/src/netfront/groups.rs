//! Multicast groups: which are wanted, and what the backend said to them.
//!
//! A backend that passes only what is asked for has a limit (Linux's: 64 groups), and
//! says so in its answer to the request. Source: `io/netif.h`
//! (`XEN_NETIF_EXTRA_TYPE_MCAST_ADD`).

use hypercall_abi::io::netif::NetifExtraType;
use litemap::LiteMap;

use super::Mac;

/// Whether packets to a multicast group come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It was not joined.
    No,
    /// It was joined; the backend has not answered yet.
    Asked,
    /// They come.
    Joined,
    /// They do not: the backend refuses to pass more groups.
    Refused,
}

/// Whether the backend passes only what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// It does.
    Groups,
    /// All comes.
    Nothing,
    /// There is no backend.
    Unknown,
}

/// Whether the user wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    In,
    Out,
}

/// What the backend knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// It was asked to pass it, or no longer to.
    Asked(NetifExtraType),
    Joined,
    Refused,
}

/// All groups that somebody wants, or wanted.
#[derive(Debug)]
pub(super) struct Groups {
    all: LiteMap<Mac, (Wish, Told)>,
    filter: Filter,
}

impl Groups {
    pub(super) const fn new() -> Self {
        Self {
            all: LiteMap::new_vec(),
            filter: Filter::Unknown,
        }
    }

    /// It is wanted; one that was refused is asked for again.
    pub(super) fn join(&mut self, group: Mac) {
        let (wish, told) = self.all.entry(group).or_insert((Wish::In, Told::Nothing));
        *wish = Wish::In;
        if *told == Told::Refused {
            *told = Told::Nothing;
        }
    }

    /// It is not wanted any more.
    pub(super) fn leave(&mut self, group: Mac) {
        if let Some((wish, _)) = self.all.get_mut(&group) {
            *wish = Wish::Out;
        }
        self.forget(group);
    }

    /// What is not wanted and not known to the backend is nothing.
    fn forget(&mut self, group: Mac) {
        let entry = self.all.get(&group).copied();
        if let Some((Wish::Out, Told::Nothing | Told::Refused)) = entry {
            self.all.remove(&group);
        }
    }

    /// There is another backend, or none, that was told nothing.
    pub(super) fn begin(&mut self, filter: Filter) {
        self.filter = filter;
        self.all.retain(|_, (wish, _)| *wish == Wish::In);
        for (_, (_, told)) in &mut self.all {
            *told = Told::Nothing;
        }
    }

    /// What the backend is to be told next.
    pub(super) fn next(&self) -> Option<(NetifExtraType, Mac)> {
        let mut all = self.all.iter().filter(|_| self.filter == Filter::Groups);
        all.find_map(|(group, state)| match state {
            (Wish::In, Told::Nothing) => Some((NetifExtraType::MCAST_ADD, *group)),
            (Wish::Out, Told::Joined) => Some((NetifExtraType::MCAST_DEL, *group)),
            _ => None,
        })
    }

    /// It was told.
    pub(super) fn asked(&mut self, kind: NetifExtraType, group: Mac) {
        if let Some((_, told)) = self.all.get_mut(&group) {
            *told = Told::Asked(kind);
        }
    }

    /// It answered.
    pub(super) fn answered(&mut self, answer: Answer) {
        let Answer {
            kind,
            group,
            is_done,
        } = answer;
        if let Some((_, told)) = self.all.get_mut(&group) {
            *told = match kind {
                NetifExtraType::MCAST_ADD if is_done => Told::Joined,
                NetifExtraType::MCAST_ADD => Told::Refused,
                _ => Told::Nothing,
            };
        }
        self.forget(group);
    }

    /// Whether something is still to be told, or to be answered.
    pub(super) fn waits(&self) -> bool {
        let is_asked = |(_, told): &(Wish, Told)| matches!(told, Told::Asked(_));
        self.next().is_some() || self.all.values().any(is_asked)
    }

    pub(super) fn membership(&self, group: Mac) -> Membership {
        match (self.all.get(&group), self.filter) {
            (None | Some((Wish::Out, _)), _) => Membership::No,
            (Some((_, Told::Refused)), Filter::Groups) => Membership::Refused,
            (Some((_, Told::Joined)), Filter::Groups) | (Some(_), Filter::Nothing) => {
                Membership::Joined
            }
            (Some(_), Filter::Groups | Filter::Unknown) => Membership::Asked,
        }
    }
}

/// What a backend answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) kind: NetifExtraType,
    pub(super) group: Mac,
    pub(super) is_done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: Mac = Mac([1, 0, 0x5e, 0, 0, 1]);
    const ADD: NetifExtraType = NetifExtraType::MCAST_ADD;
    const DEL: NetifExtraType = NetifExtraType::MCAST_DEL;

    fn answer(kind: NetifExtraType, is_done: bool) -> Answer {
        Answer {
            kind,
            group: GROUP,
            is_done,
        }
    }

    #[test]
    fn the_last_wish_counts_whenever_the_answer_comes() {
        let mut groups = Groups::new();
        groups.join(GROUP);
        assert_eq!(
            (groups.next(), groups.membership(GROUP)),
            (None, Membership::Asked)
        );
        groups.begin(Filter::Groups);
        assert_eq!(groups.next(), Some((ADD, GROUP)));
        groups.asked(ADD, GROUP);
        // It is left and joined again before the answer: nothing more is to be told.
        groups.leave(GROUP);
        assert_eq!(
            (groups.next(), groups.membership(GROUP)),
            (None, Membership::No)
        );
        groups.join(GROUP);
        groups.answered(answer(ADD, true));
        assert_eq!(
            (groups.next(), groups.membership(GROUP)),
            (None, Membership::Joined)
        );
        // There is no backend for a while: nothing comes, and the next one is asked.
        groups.begin(Filter::Unknown);
        assert_eq!(
            (groups.next(), groups.membership(GROUP)),
            (None, Membership::Asked)
        );
        groups.begin(Filter::Groups);
        assert_eq!(groups.next(), Some((ADD, GROUP)));
        groups.asked(ADD, GROUP);
        groups.answered(answer(ADD, true));
        // It is left, and joined while the backend forgets it: it is told once more.
        groups.leave(GROUP);
        assert_eq!(groups.next(), Some((DEL, GROUP)));
        groups.asked(DEL, GROUP);
        groups.join(GROUP);
        assert!(groups.waits() && groups.next().is_none());
        groups.answered(answer(DEL, true));
        assert_eq!(groups.next(), Some((ADD, GROUP)));
    }

    #[test]
    fn a_refusal_is_known_and_asked_again_only_when_that_is_wanted() {
        let mut groups = Groups::new();
        groups.begin(Filter::Groups);
        groups.join(GROUP);
        groups.asked(ADD, GROUP);
        groups.answered(answer(ADD, false));
        assert_eq!(groups.membership(GROUP), Membership::Refused);
        assert!(!groups.waits());
        groups.join(GROUP);
        assert_eq!(groups.next(), Some((ADD, GROUP)));
        groups.asked(ADD, GROUP);
        groups.leave(GROUP);
        groups.answered(answer(ADD, false));
        assert!(groups.all.is_empty());
        // The next backend may pass more, or all.
        groups.join(GROUP);
        groups.begin(Filter::Nothing);
        assert_eq!(
            (groups.next(), groups.membership(GROUP)),
            (None, Membership::Joined)
        );
    }
}
