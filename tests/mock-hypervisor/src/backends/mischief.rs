//! What a backend that means harm does.

use hypercall_abi::{
    io::{
        blkif::{BlkifResponse, BlkifStatus},
        ring::{RingMemory, Sring},
    },
    peer::PeerPtr,
    peer_field,
};

use super::Backend;
use crate::world::World;

/// Something that a backend must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// It answers a request that there is not, by this number.
    Answer(u64),
    /// It answers its last request once more.
    AnswerAgain,
    /// It writes this as its index of responses.
    Index(u32),
    /// It says that it is in this state, and goes on.
    State(u32),
    /// It writes this as the value of all that it offers.
    Offers(&'static str),
    /// It says that the disk has this size.
    Sectors(&'static str),
    /// It keeps a page mapped for ever.
    Hoard,
    /// It rings and rings.
    Storm,
    /// Its directory is gone, and it goes on.
    Vanish,
}

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
        let (which, value) = (next() % 9, next());
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
            _ => Self::Vanish,
        }
    }
}

impl Backend {
    /// Perhaps it does something that it must not do.
    pub(super) fn misbehave(&mut self, world: &mut World) {
        let Some(play) = world.play.as_mut() else {
            return;
        };
        let often = play.faults().mischief;
        if play.happens(often) {
            let mischief = Mischief::any(|| play.next());
            self.commit(world, mischief);
        }
    }

    /// It does it.
    pub(super) fn commit(&mut self, world: &mut World, mischief: Mischief) {
        let front = self.device.domids.1;
        match mischief {
            Mischief::Answer(id) => {
                let response = BlkifResponse {
                    id,
                    status: BlkifStatus::OKAY,
                    ..BlkifResponse::default()
                };
                self.answer(world, response);
            }
            Mischief::AnswerAgain => {
                if let Some(last) = self.device.queues.first().map(|queue| queue.last) {
                    self.answer(world, last);
                }
            }
            Mischief::Index(index) => {
                for queue in &self.device.queues {
                    if let Some(head) = queue.ring.memory().page(0).and_then(|page| page.at(0)) {
                        let head: PeerPtr<'_, Sring> = head;
                        peer_field!(head, Sring, rsp_prod).store_release(index);
                    }
                    world.tell_front(front, queue.front_port());
                }
            }
            Mischief::State(state) => {
                let path = format!("{}/state", self.path);
                world.store.write(&path, state.to_string().as_bytes());
            }
            Mischief::Offers(text) => {
                for (name, _) in self.device.offers() {
                    let path = format!("{}/{name}", self.path);
                    world.store.write(&path, text.as_bytes());
                }
            }
            Mischief::Sectors(text) => {
                let path = format!("{}/sectors", self.path);
                world.store.write(&path, text.as_bytes());
            }
            Mischief::Hoard => self.device.hoard(),
            Mischief::Storm => {
                let ports: Vec<_> = self
                    .device
                    .queues
                    .iter()
                    .map(|it| it.front_port())
                    .collect();
                for port in ports {
                    world.storm(front, port);
                }
            }
            Mischief::Vanish => world.store.remove(&self.path),
        }
    }

    /// Puts an answer into the first ring, whether it was asked or not.
    fn answer(&mut self, world: &mut World, response: BlkifResponse) {
        let front = self.device.domids.1;
        let Some(queue) = self.device.queues.first_mut() else {
            return;
        };
        queue.force(&response);
        world.tell_front(front, queue.front_port());
    }
}
