//! What a backend that means harm does.

use std::mem::offset_of;

use hypercall_abi::io::ring::Sring;

use super::Backend;
use crate::services::Services;

/// Something that a backend must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// It answers a request that there is not: a disk by this number; a network
    /// interface puts these bytes into its ring of received packets.
    Answer(u64),
    /// It answers its last request once more.
    AnswerAgain,
    /// It answers that a slot of a packet that was sent had no packet. A disk's does nothing.
    AnswerNull,
    /// It writes this as its index of responses.
    Index(u32),
    /// It says that it is in this state, and goes on.
    State(u32),
    /// It writes this as the value of all that it offers.
    Offers(&'static str),
    /// It says that the disk has this size.
    Sectors(&'static str),
    /// It keeps pages mapped for ever: a network interface one for a packet and one of a
    /// ring.
    Hoard,
    /// From now on it keeps all pages that it maps, also when it ends and another begins.
    HoardAll,
    /// It rings and rings.
    Storm,
    /// Its directory is gone, and it goes on.
    Vanish,
}

/// How often a storm rings, where no play says so, and how long it waits in between.
const STORM: u32 = 10_000;
const STORM_PAUSE_NS: u64 = 1_000;

/// Those that are chosen from by chance.
const TEXTS: [&str; 7] = [
    "",
    "0",
    "-1",
    "4294967295",
    "18446744073709551615",
    "\u{fe}",
    "x",
];

impl Mischief {
    fn any(mut next: impl FnMut() -> u64) -> Self {
        let (which, value) = (next() % 10, next());
        let text = TEXTS[value as usize % TEXTS.len()];
        match which {
            0 => Self::Answer(value >> (value % 64)),
            1 => Self::AnswerAgain,
            2 => Self::Index(value as u32 >> (value % 32)),
            3 => Self::State((value % 12) as u32),
            4 => Self::Offers(text),
            5 => Self::Sectors(text),
            6 => Self::Hoard,
            7 => Self::Storm,
            8 => Self::AnswerNull,
            _ => Self::Vanish,
        }
    }
}

impl Backend {
    /// Perhaps it does something that it must not do.
    pub(super) fn misbehave(&mut self, services: &mut Services) {
        let Some(chance) = services.chance.as_mut() else {
            return;
        };
        if chance.happens(|faults| faults.mischief) {
            let mischief = Mischief::any(|| chance.next());
            self.commit(services, mischief);
        }
    }

    /// Rings again, if it is in a storm.
    pub(super) fn go_on_storming(&mut self, services: &mut Services, now_ns: u64) {
        let Some((left, next_ns)) = self.storm.filter(|(_, next_ns)| *next_ns <= now_ns) else {
            return;
        };
        for (port, _) in self.device.ports() {
            services.notify_front(self.device.front(), port);
        }
        self.storm = (left > 1).then(|| (left - 1, next_ns.max(now_ns) + STORM_PAUSE_NS));
    }

    /// It does it.
    pub(crate) fn commit(&mut self, services: &mut Services, mischief: Mischief) {
        match mischief {
            Mischief::Answer(value) => self.device.forge(value),
            Mischief::AnswerAgain => self.device.repeat(),
            Mischief::AnswerNull => self.device.answer_null(),
            Mischief::Index(index) => {
                for page in self.device.rings() {
                    if let Some(produced) = page.at::<u32>(offset_of!(Sring, rsp_prod)) {
                        produced.store_release(index);
                    }
                }
            }
            Mischief::State(state) => {
                let path = format!("{}/state", self.path);
                services.store.write(&path, state.to_string().as_bytes());
            }
            Mischief::Offers(text) => {
                for (name, _) in self.device.offers() {
                    let path = format!("{}/{name}", self.path);
                    services.store.write(&path, text.as_bytes());
                }
            }
            Mischief::Sectors(text) => {
                let path = format!("{}/sectors", self.path);
                services.store.write(&path, text.as_bytes());
            }
            Mischief::Hoard => self.device.hoard(services),
            Mischief::HoardAll => self.device.hoard_all(),
            Mischief::Storm => {
                for (port, _) in self.device.ports() {
                    services.storm(self.device.front(), port);
                }
                if services.chance.is_none() {
                    self.storm = Some((STORM, services.now_ns() + STORM_PAUSE_NS));
                }
            }
            Mischief::Vanish => services.store.remove(&self.path),
        }
        if matches!(
            mischief,
            Mischief::Answer(_) | Mischief::AnswerAgain | Mischief::AnswerNull | Mischief::Index(_)
        ) {
            for (port, _) in self.device.ports() {
                services.notify_front(self.device.front(), port);
            }
        }
    }
}
