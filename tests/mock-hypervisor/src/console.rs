//! The console's daemon: reads what the guest writes, writes what it is to
//! read.

use std::{collections::VecDeque, io::Write};

use hypercall_abi::{io::console::XenconsInterface, peer::PeerPtr, peer_field};

/// The daemon's state.
pub(crate) struct Console {
    page: PeerPtr<'static, XenconsInterface>,
    /// All that the guest wrote, if it is kept.
    pub(crate) captured: Vec<u8>,
    /// Where it goes otherwise.
    pub(crate) writer: Option<Box<dyn Write + Send>>,
    /// What the guest is yet to be given.
    pub(crate) input: VecDeque<u8>,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console")
            .field("captured", &self.captured.len())
            .field("input", &self.input.len())
            .finish_non_exhaustive()
    }
}

impl Console {
    pub(crate) fn new(
        page: PeerPtr<'static, XenconsInterface>,
        writer: Option<Box<dyn Write + Send>>,
    ) -> Self {
        Self {
            page,
            captured: Vec::new(),
            writer,
            input: VecDeque::new(),
        }
    }

    /// The ring's page.
    pub(crate) const fn page(&self) -> PeerPtr<'static, XenconsInterface> {
        self.page
    }

    /// Takes the guest's output and gives it input; says whether anything
    /// moved. The guest's indices are not trusted either.
    pub(crate) fn serve(&mut self) -> bool {
        let wrote = self.take_output();
        let read = self.give_input();
        wrote || read
    }

    fn take_output(&mut self) -> bool {
        let consumer = peer_field!(self.page, XenconsInterface, out_cons);
        let out = peer_field!(self.page, XenconsInterface, out);
        let mut at = consumer.load().trust();
        let end = peer_field!(self.page, XenconsInterface, out_prod)
            .load_acquire()
            .trust();
        let size = out.as_slice().len_bytes();
        if end.wrapping_sub(at) as usize > size || end == at {
            return false;
        }
        let mut bytes = Vec::new();
        while at != end {
            if let Some(byte) = out.get(at as usize % size) {
                bytes.push(byte.load().trust());
            }
            at = at.wrapping_add(1);
        }
        consumer.store_release(at);
        match &mut self.writer {
            Some(writer) => {
                // A reader that went away is no reason to stop the guest.
                let _closed: std::io::Result<()> =
                    writer.write_all(&bytes).and_then(|()| writer.flush());
            }
            None => self.captured.extend(bytes),
        }
        true
    }

    fn give_input(&mut self) -> bool {
        let producer = peer_field!(self.page, XenconsInterface, in_prod);
        let ring = peer_field!(self.page, XenconsInterface, r#in);
        let size = ring.as_slice().len_bytes();
        let mut at = producer.load().trust();
        let read = peer_field!(self.page, XenconsInterface, in_cons)
            .load_acquire()
            .trust();
        let before = at;
        while (at.wrapping_sub(read) as usize) < size {
            let Some(byte) = self.input.pop_front() else {
                break;
            };
            if let Some(slot) = ring.get(at as usize % size) {
                slot.store(byte);
            }
            at = at.wrapping_add(1);
        }
        producer.store_release(at);
        at != before
    }
}
