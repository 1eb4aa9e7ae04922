//! How a network interface's backend chooses queues, as its frontend tells it by
//! the control ring.

use hypercall_abi::{
    DomId, GrantRef, PAGE_SIZE, Port,
    io::{
        netif::{
            NetifCtrlRequest, NetifCtrlResponse, NetifCtrlStatus, NetifCtrlType, NetifHashTypes,
            XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ,
        },
        ring::{BackRing, Notify},
    },
};

use super::Mapped;
use crate::{core::memory::Access, services::Services};

const SLOT_BYTES: usize = size_of::<NetifCtrlRequest>();
/// As Linux's backend has them.
const MAX_KEY_BYTES: u32 = 40;
const MAX_ENTRIES: u32 = 128;

/// The control ring, and what it was told.
#[derive(Debug)]
pub(super) struct Steering {
    ring: BackRing<Mapped, SLOT_BYTES>,
    /// The frontend's port, and this side's end.
    pub(super) port: (Port, Port),
    is_broken: bool,
    algorithm: u32,
    hashes: NetifHashTypes,
    key: Vec<u8>,
    table: Vec<u32>,
}

impl Steering {
    pub(super) const fn new(ring: BackRing<Mapped, SLOT_BYTES>, port: (Port, Port)) -> Self {
        Self {
            ring,
            port,
            is_broken: false,
            algorithm: 0,
            hashes: NetifHashTypes::empty(),
            key: Vec::new(),
            table: Vec::new(),
        }
    }

    pub(super) const fn memory(&self) -> &Mapped {
        self.ring.memory()
    }

    /// Does what is asked.
    pub(super) fn serve(
        &mut self,
        services: &mut Services,
        (domid, front): (DomId, DomId),
        queues: u32,
    ) {
        while !self.is_broken {
            let request = match self.ring.pop::<NetifCtrlRequest>() {
                Ok(Some(request)) => request,
                Ok(None) if self.ring.listen() => continue,
                Ok(None) => break,
                Err(_) => {
                    self.is_broken = true;
                    break;
                }
            };
            let result = self.execute(services, (domid, front), queues, &request);
            let (status, data) = match result {
                Ok(data) => (NetifCtrlStatus::SUCCESS, data),
                Err(status) => (status, 0),
            };
            let _room = self.ring.push(&NetifCtrlResponse {
                id: request.id,
                r#type: request.r#type,
                status,
                data,
            });
        }
        if self.ring.publish() == Notify::Yes {
            services.notify_front(front, self.port.0);
        }
    }

    fn execute(
        &mut self,
        services: &mut Services,
        domids: (DomId, DomId),
        queues: u32,
        request: &NetifCtrlRequest,
    ) -> Result<u32, NetifCtrlStatus> {
        const WRONG: NetifCtrlStatus = NetifCtrlStatus::INVALID_PARAMETER;
        let [first, second, third] = request.data;
        match request.r#type {
            NetifCtrlType::GET_HASH_FLAGS => return Ok(NetifHashTypes::all().bits()),
            NetifCtrlType::SET_HASH_FLAGS => {
                self.hashes = NetifHashTypes::from_bits(first).ok_or(WRONG)?;
            }
            NetifCtrlType::SET_HASH_ALGORITHM => {
                if first > XEN_NETIF_CTRL_HASH_ALGORITHM_TOEPLITZ.into() {
                    return Err(WRONG);
                }
                self.algorithm = first;
            }
            NetifCtrlType::SET_HASH_KEY if second <= MAX_KEY_BYTES => {
                self.key = copy(services, domids, first, second as usize).ok_or(WRONG)?;
            }
            NetifCtrlType::SET_HASH_KEY => return Err(NetifCtrlStatus::BUFFER_OVERFLOW),
            NetifCtrlType::GET_HASH_MAPPING_SIZE => return Ok(MAX_ENTRIES),
            NetifCtrlType::SET_HASH_MAPPING_SIZE => {
                if first > MAX_ENTRIES {
                    return Err(WRONG);
                }
                self.table = vec![0; first as usize];
            }
            NetifCtrlType::SET_HASH_MAPPING => {
                let end = third.checked_add(second).ok_or(WRONG)? as usize;
                let target = self.table.get_mut(third as usize..end).ok_or(WRONG)?;
                let bytes = copy(services, domids, first, second as usize * 4).ok_or(WRONG)?;
                for (entry, bytes) in target.iter_mut().zip(bytes.as_chunks().0) {
                    *entry = u32::from_le_bytes(*bytes);
                    if *entry >= queues {
                        return Err(WRONG);
                    }
                }
            }
            _ => return Err(NetifCtrlStatus::NOT_SUPPORTED),
        }
        Ok(0)
    }

    /// The hash of a packet, its kind, and the queue that it goes to; `None`: the
    /// backend chooses as it likes.
    pub(super) fn choose(&self, packet: &[u8]) -> Option<(u8, u32, u32)> {
        if self.algorithm == 0 || self.table.is_empty() {
            return None;
        }
        const TCP: u8 = 6;
        let (addresses, ports, is_tcp, kinds) = match packet.get(12..14)? {
            [0x08, 0x00] => {
                let is_tcp = *packet.get(23)? == TCP;
                (packet.get(26..34)?, packet.get(34..38), is_tcp, (0, 1))
            }
            [0x86, 0xdd] => {
                let is_tcp = *packet.get(20)? == TCP;
                (packet.get(22..54)?, packet.get(54..58), is_tcp, (2, 3))
            }
            _ => return None,
        };
        let wants = |kind: u8| self.hashes.bits() & (1 << kind) != 0;
        let (kind, bytes) = if is_tcp && wants(kinds.1) {
            (kinds.1, [addresses, ports?].concat())
        } else if wants(kinds.0) {
            (kinds.0, addresses.to_vec())
        } else {
            return None;
        };
        let hash = toeplitz(&self.key, &bytes);
        let entry = hash as usize % self.table.len();
        Some((kind, hash, *self.table.get(entry)?))
    }
}

/// The start of a page that the frontend lent.
fn copy(
    services: &mut Services,
    (domid, front): (DomId, DomId),
    gref: u32,
    len: usize,
) -> Option<Vec<u8>> {
    if len > PAGE_SIZE {
        return None;
    }
    let gref = GrantRef(gref);
    let used = services.acquire(domid, front, gref, Access::Read).ok()?;
    let mut bytes = vec![0; len];
    let copied = services
        .granted_page(&used)
        .map(|page| page.copy_to(&mut bytes));
    services.release(&used, Access::Read);
    copied.map(|_| bytes)
}

/// Toeplitz's hash. Source: `io/netif.h`, "Hash algorithms".
fn toeplitz(key: &[u8], bytes: &[u8]) -> u32 {
    let bit = |at: usize| {
        let byte = key.get(at / 8).copied().unwrap_or(0);
        u32::from(byte >> (7 - at % 8) & 1)
    };
    let mut window = (0..32).fold(0, |window, at| window << 1 | bit(at));
    let mut hash = 0;
    for (index, byte) in bytes.iter().enumerate() {
        for at in 0..8 {
            if byte << at & 0x80 != 0 {
                hash ^= window;
            }
            window = window << 1 | bit(32 + index * 8 + at);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures that the inventors of receive side scaling publish.
    #[test]
    fn hashes_are_the_published_ones() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
            0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
            0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        let addresses = [66, 9, 149, 187, 161, 142, 100, 80];
        assert_eq!(toeplitz(&key, &addresses), 0x323e_8fc2);
        let ports = [2794_u16.to_be_bytes(), 1766_u16.to_be_bytes()].concat();
        let whole = [&addresses[..], &ports].concat();
        assert_eq!(toeplitz(&key, &whole), 0x51cc_c178);
    }
}
