//! The console's daemon: reads what the guest writes, writes what it is to
//! read.

use std::{collections::VecDeque, io::Write};

use hypercall_abi::{DomId, Port, io::console::XenconsInterface, peer::PeerPtr, peer_field};

use super::Services;

/// The daemon's state.
pub(crate) struct Console {
    page: PeerPtr<'static, XenconsInterface>,
    /// By which its guest is notified.
    pub(super) port: Port,
    /// All that the guest wrote, if it is kept.
    captured: Vec<u8>,
    /// Where it goes otherwise.
    writer: Option<Box<dyn Write + Send>>,
    /// What the guest is yet to be given.
    input: VecDeque<u8>,
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
        port: Port,
        writer: Option<Box<dyn Write + Send>>,
    ) -> Self {
        Self {
            page,
            port,
            captured: Vec::new(),
            writer,
            input: VecDeque::new(),
        }
    }

    /// Takes the guest's output and gives it input; says whether anything
    /// moved. The guest's indices are not trusted either.
    fn serve(&mut self) -> bool {
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

impl Services {
    /// A domain notified the daemon.
    pub(super) fn serve_console(&mut self, domid: DomId) {
        if let Some(console) = self.consoles.get_mut(&domid)
            && console.serve()
        {
            let port = console.port;
            self.set_pending(domid, port);
        }
    }

    /// What a domain wrote so far, where that is kept.
    pub(crate) fn console_output(&self, domid: DomId) -> Vec<u8> {
        let console = self.consoles.get(&domid);
        console.map_or_else(Vec::new, |console| console.captured.clone())
    }

    /// Gives a domain something to read.
    pub(crate) fn console_input(&mut self, domid: DomId, bytes: &[u8]) {
        if let Some(console) = self.consoles.get_mut(&domid) {
            console.input.extend(bytes);
        }
        self.serve_console(domid);
    }

    /// How many bytes that it was given it has no room for yet.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    pub(crate) fn console_waiting(&self, domid: DomId) -> usize {
        let console = self.consoles.get(&domid);
        console.map_or(0, |console| console.input.len())
    }

    /// A domain goes on elsewhere: its console has another port. Says where its page is.
    pub(crate) fn move_console(
        &mut self,
        domid: DomId,
        port: Port,
    ) -> Option<PeerPtr<'static, XenconsInterface>> {
        let console = self.consoles.get_mut(&domid)?;
        console.port = port;
        Some(console.page)
    }
}
