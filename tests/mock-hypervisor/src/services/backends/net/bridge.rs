//! Bridges: packets from one interface to the others, and to those who look from outside.

use std::{
    collections::{BTreeMap, VecDeque},
    io::Write,
    os::unix::net::UnixStream,
};

use super::MAX_WAITING;
use crate::services::{Services, backends::Frame};

/// Those who look at bridges from outside.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    all: BTreeMap<u64, Watcher>,
    last: u64,
}

/// One of them.
#[derive(Debug)]
struct Watcher {
    bridge: String,
    frames: VecDeque<Frame>,
    /// What is written to when a frame comes and none waits: for whoever waits for other
    /// things as well.
    bell: Option<UnixStream>,
}

impl Taps {
    pub(crate) fn add(&mut self, bridge: &str) -> u64 {
        self.last += 1;
        let watcher = Watcher {
            bridge: bridge.to_owned(),
            frames: VecDeque::new(),
            bell: None,
        };
        self.all.insert(self.last, watcher);
        self.last
    }

    pub(crate) fn set_bell(&mut self, id: u64, bell: UnixStream) {
        if let Some(watcher) = self.all.get_mut(&id) {
            watcher.bell = Some(bell);
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.all.remove(&id);
    }

    pub(crate) fn receive(&mut self, id: u64) -> Option<Frame> {
        self.all.get_mut(&id)?.frames.pop_front()
    }

    pub(crate) fn is_empty(&self, id: u64) -> bool {
        self.all
            .get(&id)
            .is_none_or(|watcher| watcher.frames.is_empty())
    }
}

impl Services {
    /// Passes packets on, until there are none.
    pub(crate) fn switch_frames(&mut self) {
        loop {
            let mut sent: Vec<(u64, String, Frame)> = Vec::new();
            for (id, backend) in &mut self.backends.all {
                if let Some(nic) = backend.device.nic() {
                    let bridge = nic.config.bridge.clone();
                    let frames = std::mem::take(&mut nic.sent).into_iter();
                    sent.extend(frames.map(|frame| (*id, bridge.clone(), frame)));
                }
            }
            if sent.is_empty() {
                return;
            }
            for (id, bridge, frame) in sent {
                self.pass(&bridge, Some(id), None, &frame);
            }
        }
    }

    /// Somebody outside sends a packet.
    pub(crate) fn send_frame(&mut self, bridge: &str, tap: u64, frame: Frame) {
        self.pass(bridge, None, Some(tap), &frame);
    }

    fn pass(&mut self, bridge: &str, nic: Option<u64>, tap: Option<u64>, frame: &Frame) {
        for (id, watcher) in &mut self.backends.taps.all {
            let frames = &mut watcher.frames;
            if watcher.bridge == bridge && Some(*id) != tap && frames.len() < MAX_WAITING {
                if let Some(bell) = watcher.bell.as_mut().filter(|_| frames.is_empty()) {
                    // One that is full has been heard.
                    let _full = bell.write(&[1]);
                }
                frames.push_back(frame.clone());
            }
        }
        let ids: Vec<u64> = self.backends.all.keys().copied().collect();
        for id in ids.into_iter().filter(|id| Some(*id) != nic) {
            self.with_backend(id, |services, backend| {
                if let Some(nic) = backend
                    .device
                    .nic()
                    .filter(|nic| nic.config.bridge == bridge)
                {
                    nic.offer(frame);
                    nic.deliver(services);
                }
            });
        }
    }
}
