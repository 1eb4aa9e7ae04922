//! What a request does.

use hypercall_abi::{
    PAGE_SIZE,
    io::blkif::{
        BLKIF_MAX_SEGMENTS_PER_REQUEST, BlkifOp, BlkifRequest, BlkifRequestDiscard,
        BlkifRequestIndirect, BlkifRequestSegment, BlkifResponse, BlkifStatus, VdiskInfo,
    },
    peer::PeerSlice,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{Blk, medium::SECTOR_BYTES};
use crate::{
    core::{grant_uses::Use, memory::Access},
    services::Services,
};

/// Grants that are kept mapped, as Linux's backend does.
const MAX_PERSISTENT: usize = 1056;
/// Segments of a page of them.
const SEGMENTS_PER_PAGE: usize = PAGE_SIZE / size_of::<BlkifRequestSegment>();

/// Pages that a request uses, of which those that are not kept are let go.
type Pages = Vec<(PeerSlice<'static>, Option<Use>)>;

/// The longest that a request takes because of a fault.
const MAX_SLOW_NS: u64 = 10_000_000;

/// How much longer a request takes.
pub(super) fn slow_ns(services: &mut Services) -> u64 {
    let chance = services.chance.as_mut();
    let number = chance.and_then(|chance| chance.number(|faults| faults.io_slow));
    number.map_or(0, |number| number % MAX_SLOW_NS)
}

impl Blk {
    pub(super) fn execute(
        &mut self,
        services: &mut Services,
        request: &BlkifRequest,
    ) -> BlkifResponse {
        let (operation, status, id) = match request.operation {
            BlkifOp::INDIRECT => {
                let read = BlkifRequestIndirect::read_from_prefix(request.as_bytes());
                match read {
                    Ok((request, _)) => self.indirect(services, &request),
                    Err(_) => (request.operation, BlkifStatus::ERROR, request.id),
                }
            }
            BlkifOp::DISCARD => {
                let read = BlkifRequestDiscard::read_from_prefix(request.as_bytes());
                match read {
                    Ok((request, _)) => (request.operation, self.discard(&request), request.id),
                    Err(_) => (request.operation, BlkifStatus::ERROR, request.id),
                }
            }
            operation => {
                let count = usize::from(request.nr_segments);
                let status = match request.seg.get(..count) {
                    Some(segments) if count <= BLKIF_MAX_SEGMENTS_PER_REQUEST => {
                        self.transfer(services, operation, request.sector_number, segments)
                    }
                    _ => BlkifStatus::ERROR,
                };
                (operation, status, request.id)
            }
        };
        BlkifResponse {
            id,
            operation,
            status,
            ..BlkifResponse::default()
        }
    }

    fn indirect(
        &mut self,
        services: &mut Services,
        request: &BlkifRequestIndirect,
    ) -> (BlkifOp, BlkifStatus, u64) {
        let operation = request.indirect_op;
        let failed = (operation, BlkifStatus::ERROR, request.id);
        let count = usize::from(request.nr_segments);
        let is_rw = matches!(operation, BlkifOp::READ | BlkifOp::WRITE);
        if !is_rw || count == 0 || count > self.config.indirect_segments as usize {
            return failed;
        }
        let mut segments = Vec::new();
        for (page, gref) in request.indirect_grefs.iter().enumerate() {
            let first = page * SEGMENTS_PER_PAGE;
            if first >= count {
                break;
            }
            let (domid, front) = self.domids;
            // One that keeps grants mapped maps them all to write, as Linux's.
            let access = if self.is_persistent {
                Access::Write
            } else {
                Access::Read
            };
            let Ok(used) = services.acquire(domid, front, *gref, access) else {
                return failed;
            };
            let mut bytes = [0; PAGE_SIZE];
            if let Some(page) = services.granted_page(&used) {
                page.copy_to(&mut bytes);
            }
            services.release(&used, access);
            let (slots, _) = bytes.as_chunks::<{ size_of::<BlkifRequestSegment>() }>();
            for slot in slots.iter().take(count - first) {
                match BlkifRequestSegment::read_from_bytes(slot) {
                    Ok(segment) => segments.push(segment),
                    Err(_) => return failed,
                }
            }
        }
        let status = self.transfer(services, operation, request.sector_number, &segments);
        (operation, status, request.id)
    }

    fn discard(&mut self, request: &BlkifRequestDiscard) -> BlkifStatus {
        if self.config.info.contains(VdiskInfo::READONLY) {
            return BlkifStatus::ERROR;
        }
        if !self.config.discard {
            return BlkifStatus::EOPNOTSUPP;
        }
        let end = request.sector_number.checked_add(request.nr_sectors);
        if end.is_none_or(|end| end > self.sectors) {
            return BlkifStatus::ERROR;
        }
        let zeros = vec![0; (request.nr_sectors * SECTOR_BYTES) as usize];
        match self
            .bytes
            .write(request.sector_number * SECTOR_BYTES, &zeros)
        {
            true => BlkifStatus::OKAY,
            false => BlkifStatus::ERROR,
        }
    }

    fn transfer(
        &mut self,
        services: &mut Services,
        operation: BlkifOp,
        first: u64,
        segments: &[BlkifRequestSegment],
    ) -> BlkifStatus {
        match operation {
            BlkifOp::FLUSH_DISKCACHE if !self.config.flush => return BlkifStatus::EOPNOTSUPP,
            BlkifOp::WRITE_BARRIER if !self.config.barrier => return BlkifStatus::EOPNOTSUPP,
            BlkifOp::READ | BlkifOp::WRITE | BlkifOp::FLUSH_DISKCACHE | BlkifOp::WRITE_BARRIER => {}
            _ => return BlkifStatus::EOPNOTSUPP,
        }
        let writes = operation != BlkifOp::READ;
        let is_flush = matches!(operation, BlkifOp::FLUSH_DISKCACHE | BlkifOp::WRITE_BARRIER);
        let is_read_only = self.config.info.contains(VdiskInfo::READONLY);
        // As `dispatch_rw_block_io`: no bytes are an error, but of a flush; and nothing is
        // written to a disk that can only be read, not even nothing.
        if (writes && is_read_only) || (segments.is_empty() && !is_flush) || self.fails(services) {
            return BlkifStatus::ERROR;
        }
        let unit = u64::from(self.config.sector_bytes) / SECTOR_BYTES;
        if !first.is_multiple_of(unit) {
            return BlkifStatus::ERROR;
        }
        let mut sectors = 0;
        for segment in segments {
            let (first, last) = (segment.first_sect, segment.last_sect);
            let is_whole = u64::from(first) % unit == 0 && (u64::from(last) + 1) % unit == 0;
            if last < first || u64::from(last) >= PAGE_SIZE as u64 / SECTOR_BYTES || !is_whole {
                return BlkifStatus::ERROR;
            }
            sectors += u64::from(last - first) + 1;
        }
        if first
            .checked_add(sectors)
            .is_none_or(|end| end > self.sectors)
        {
            return BlkifStatus::ERROR;
        }
        let Some(pages) = self.pages(services, segments) else {
            return BlkifStatus::ERROR;
        };
        let mut at = first * SECTOR_BYTES;
        let mut done = true;
        for (segment, (page, _)) in segments.iter().zip(&pages) {
            let offset = usize::from(segment.first_sect) * SECTOR_BYTES as usize;
            let len =
                (usize::from(segment.last_sect - segment.first_sect) + 1) * SECTOR_BYTES as usize;
            let Some(part) = page.get(offset, len) else {
                continue;
            };
            let mut bytes = [0; PAGE_SIZE];
            let bytes = &mut bytes[..len];
            if writes {
                part.copy_to(bytes);
                done &= self.bytes.write(at, bytes);
            } else {
                done &= self.bytes.read(at, bytes);
                part.copy_from(bytes);
            }
            at += len as u64;
        }
        for (_, used) in pages {
            match used {
                Some(used) if self.hoards_all => self.hoarded.push(used),
                Some(used) => services.release(&used, Access::Write),
                None => {}
            }
        }
        if done {
            BlkifStatus::OKAY
        } else {
            BlkifStatus::ERROR
        }
    }

    fn fails(&mut self, services: &mut Services) -> bool {
        if let Some(rest) = self.failing.checked_sub(1) {
            self.failing = rest;
            return true;
        }
        services.happens(|faults| faults.io_fails)
    }

    /// The pages of a request; `None`: one of them cannot be had.
    fn pages(
        &mut self,
        services: &mut Services,
        segments: &[BlkifRequestSegment],
    ) -> Option<Pages> {
        let (domid, front) = self.domids;
        let mut pages = Pages::new();
        for segment in segments {
            if let Some((_, page)) = self.persistent.get(&segment.gref) {
                pages.push((*page, None));
                continue;
            }
            let used = services.acquire(domid, front, segment.gref, Access::Write);
            let page = used
                .ok()
                .and_then(|used| Some((services.granted_page(&used)?, used)));
            match page {
                Some((page, used)) => {
                    if self.is_persistent && self.persistent.len() < MAX_PERSISTENT {
                        self.persistent.insert(segment.gref, (used, page));
                        pages.push((page, None));
                    } else {
                        pages.push((page, Some(used)));
                    }
                }
                None => {
                    for (_, used) in pages {
                        if let Some(used) = used {
                            services.release(&used, Access::Write);
                        }
                    }
                    return None;
                }
            }
        }
        Some(pages)
    }
}
