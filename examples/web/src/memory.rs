//! What each part of the server may have of the memory that is free at its start.

use pv_guest::{net, netfront};

/// What a client takes beside the stack's buffers: a request's head, and a future.
const CLIENT_BYTES: usize = 8 << 10;
const PAGE_BYTES: usize = 4096;
/// Of a disk's pieces.
const PIECE_BYTES: usize = 32 << 10;

/// The parts. The eighth that is left over is for what nobody counts: requests on their way,
/// lists of the bus and the store.
pub(crate) struct Memory {
    free_bytes: usize,
}

impl Memory {
    /// What is free now.
    pub(crate) fn free() -> Self {
        #[cfg(target_os = "none")]
        let free_bytes = pv_guest::heap::remaining_bytes();
        // A guest that is a process does not know.
        #[cfg(not(target_os = "none"))]
        let free_bytes = 64 << 20;
        Self { free_bytes }
    }

    /// Pages of a queue that packets come in: an eighth.
    pub(crate) fn rx_pages(&self, queues: u32) -> u32 {
        let most = netfront::Config::default().rx_pages;
        let pages = self.free_bytes / 8 / PAGE_BYTES / queues.max(1) as usize;
        u32::try_from(pages).unwrap_or(most).clamp(18, most)
    }

    /// Bytes of the buffers of connections: a quarter.
    pub(crate) fn buffer_bytes(&self) -> usize {
        (self.free_bytes / 4).min(net::Config::default().memory_bytes)
    }

    /// Connections: what they take beside their buffers is a quarter, for all may come at
    /// once.
    pub(crate) fn connections(&self) -> usize {
        (self.free_bytes / 4 / CLIENT_BYTES).min(net::Config::default().connections)
    }

    /// Bytes of whole files that are kept: an eighth.
    pub(crate) const fn kept_bytes(&self) -> usize {
        self.free_bytes / 8
    }

    /// Pieces of the disk that are kept, of what the file system is made of: an eighth.
    pub(crate) fn kept_pieces(&self) -> usize {
        (self.free_bytes / 8 / PIECE_BYTES).clamp(1, 16)
    }
}
