//! The FIFO interface: an array of event words that grows by pages, and for
//! each vCPU a block with the heads of sixteen queues.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

use hypercall_abi::{
    Errno, PAGE_SIZE, Port, VcpuId,
    event_channel::{
        EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_NR_CHANNELS, EvtchnFifoControlBlock, expand_array,
        init_control,
    },
    peer::PeerPtr,
    peer_field,
    platform::{Hypercall, Pages},
};

use crate::{MAX_VCPUS, ports::Left, word};

const QUEUES: usize = EVTCHN_FIFO_MAX_QUEUES as usize;
/// Event words in a page.
const WORDS: u32 = 1024;
const PAGES: usize = (EVTCHN_FIFO_NR_CHANNELS / WORDS) as usize;
/// Bytes from one vCPU's control block to the next one's: 32 fill a page.
const BLOCK_BYTES: usize = PAGE_SIZE / MAX_VCPUS;

const _: () = assert!(BLOCK_BYTES >= size_of::<EvtchnFifoControlBlock>());

/// What the interface needs on this side.
#[derive(Debug)]
pub(crate) struct Fifo {
    /// The page of control blocks.
    control: PeerPtr<'static, [u8; PAGE_SIZE]>,
    pages: [AtomicPtr<[u32; WORDS as usize]>; PAGES],
    queues: [Queues; MAX_VCPUS],
}

/// Where a vCPU is in its queues: the events that it will look at next, or 0.
#[derive(Debug)]
struct Queues([AtomicU32; QUEUES]);

impl Fifo {
    /// Switches to this interface.
    pub(crate) fn start<P: Hypercall + Pages>(platform: &P) -> Result<Self, (Errno, Left)> {
        let alloc = || platform.alloc(1).ok_or((Errno::ENOMEM, Left::Nothing));
        let control = alloc()?;
        // Both pages first: there is no way back afterwards.
        let first = alloc().inspect_err(|_| {
            // SAFETY: just allocated, and used by nobody.
            unsafe { platform.free(control, 1) };
        })?;
        // SAFETY: a page of ours, for good if the next call succeeds; reached
        // by peer pointers only.
        let block = unsafe { PeerPtr::new(control.cast()) };
        let fifo = Self {
            control: block,
            pages: [const { AtomicPtr::new(core::ptr::null_mut()) }; PAGES],
            queues: [const { Queues([const { AtomicU32::new(0) }; QUEUES]) }; MAX_VCPUS],
        };
        let refused = match fifo.init_vcpu(platform, VcpuId(0)) {
            Err(errno) => {
                // SAFETY: the hypervisor did not take it.
                unsafe { platform.free(control, 1) };
                (errno, Left::Nothing)
            }
            Ok(()) => match fifo.give(platform, 0, first) {
                Ok(()) => return Ok(fifo),
                Err(errno) => (errno, Left::ControlBlock),
            },
        };
        // SAFETY: the hypervisor did not take it.
        unsafe { platform.free(first, 1) };
        Err(refused)
    }

    /// Gives a vCPU its queues.
    pub(crate) fn init_vcpu<P: Hypercall + Pages>(
        &self,
        platform: &P,
        vcpu: VcpuId,
    ) -> Result<(), Errno> {
        let offset = BLOCK_BYTES * vcpu.0 as usize;
        if offset >= PAGE_SIZE {
            return Err(Errno::ENOENT);
        }
        let page = NonNull::new(self.control.as_ptr().cast()).ok_or(Errno::EINVAL)?;
        let gfn = platform.gfn_of(page).ok_or(Errno::EINVAL)?;
        // SAFETY: a page of ours that is reached by peer pointers only, and
        // never freed once Xen has it.
        unsafe { init_control(platform, gfn, offset as u32, vcpu) }.map(|_| ())
    }

    fn give<P: Hypercall + Pages>(
        &self,
        platform: &P,
        index: usize,
        page: NonNull<u8>,
    ) -> Result<(), Errno> {
        let slot = self.pages.get(index).ok_or(Errno::ENOSPC)?;
        let gfn = platform.gfn_of(page).ok_or(Errno::EINVAL)?;
        // Before Xen writes to it: an event may come at once.
        slot.store(page.as_ptr().cast(), Ordering::Release);
        // SAFETY: a page of ours that is reached by peer pointers only, and
        // never freed once Xen has it.
        let given = unsafe { expand_array(platform, gfn) };
        if given.is_err() {
            slot.store(core::ptr::null_mut(), Ordering::Release);
        }
        given
    }

    /// Nothing is queued any more.
    pub(crate) fn forget(&self) {
        for block in (0..MAX_VCPUS as u32).filter_map(|vcpu| self.block(VcpuId(vcpu))) {
            peer_field!(block, EvtchnFifoControlBlock, ready).store(0);
            let heads = peer_field!(block, EvtchnFifoControlBlock, head);
            for head in (0..).map_while(|index| heads.get(index)) {
                head.store(0);
            }
        }
        for page in &self.pages {
            let Some(page) = NonNull::new(page.load(Ordering::Acquire)) else {
                continue;
            };
            // SAFETY: as in `word`.
            let page: PeerPtr<'_, [u32; WORDS as usize]> = unsafe { PeerPtr::new(page) };
            for word in (0..).map_while(|index| page.get(index)) {
                word.store(0);
            }
        }
        for place in self.queues.iter().flat_map(|Queues(queues)| queues) {
            place.store(0, Ordering::Relaxed);
        }
    }

    /// Gives the array as it is to a hypervisor that has none.
    pub(crate) fn give_again<P: Hypercall + Pages>(&self, platform: &P) -> Result<(), Errno> {
        for page in &self.pages {
            let Some(page) = NonNull::new(page.load(Ordering::Acquire)) else {
                break;
            };
            let gfn = platform.gfn_of(page.cast()).ok_or(Errno::EINVAL)?;
            // SAFETY: as in `give`.
            unsafe { expand_array(platform, gfn) }?;
        }
        Ok(())
    }

    /// Grows the array until it has a word for `port`. One caller at a time.
    pub(crate) fn grow<P: Hypercall + Pages>(&self, platform: &P, port: Port) -> Result<(), Errno> {
        let last = (port.0 / WORDS) as usize;
        for index in 0..=last {
            let slot = self.pages.get(index).ok_or(Errno::ENOSPC)?;
            if !slot.load(Ordering::Acquire).is_null() {
                continue;
            }
            let page = platform.alloc(1).ok_or(Errno::ENOMEM)?;
            if let Err(errno) = self.give(platform, index, page) {
                // SAFETY: the hypervisor did not take it.
                unsafe { platform.free(page, 1) };
                return Err(errno);
            }
        }
        Ok(())
    }

    /// The word of an event, if the array reaches so far.
    pub(crate) fn word(&self, port: Port) -> Option<PeerPtr<'_, u32>> {
        let slot = self.pages.get((port.0 / WORDS) as usize)?;
        let page = NonNull::new(slot.load(Ordering::Acquire))?;
        // SAFETY: a page that was given to Xen, and so is never freed.
        let page: PeerPtr<'_, [u32; WORDS as usize]> = unsafe { PeerPtr::new(page) };
        page.get((port.0 % WORDS) as usize)
    }

    fn block(&self, vcpu: VcpuId) -> Option<PeerPtr<'static, EvtchnFifoControlBlock>> {
        let byte = self.control.get(BLOCK_BYTES * vcpu.0 as usize)?;
        let place = NonNull::new(byte.as_ptr().cast::<EvtchnFifoControlBlock>())?;
        // SAFETY: blocks lie in the page at multiples of 128, where they fit
        // and are aligned.
        Some(unsafe { PeerPtr::new(place) })
    }

    /// Goes through the queues of `vcpu`, the most urgent first, and calls
    /// `event` for every event that is pending and not masked.
    pub(crate) fn consume(&self, vcpu: VcpuId, mut event: impl FnMut(Port, PeerPtr<'_, u32>)) {
        let Some(block) = self.block(vcpu) else {
            return;
        };
        let Some(Queues(queues)) = self.queues.get(vcpu.0 as usize) else {
            return;
        };
        let heads = peer_field!(block, EvtchnFifoControlBlock, head);
        let new = || {
            let ready = peer_field!(block, EvtchnFifoControlBlock, ready);
            ready.swap(0).trust()
        };
        let mut ready = new();
        // Sixteen queues: what lies above is no queue.
        while ready & 0xffff != 0 {
            let index = (ready & 0xffff).trailing_zeros();
            let (Some(place), Some(head)) = (queues.get(index as usize), heads.get(index as usize))
            else {
                return;
            };
            let mut at = place.load(Ordering::Relaxed);
            if at == 0 {
                at = head.load_acquire().trust();
            }
            let word = self.word(Port(at)).filter(|_| at != 0);
            let next = word.map_or(0, |word| word::unlink(&word));
            place.store(next, Ordering::Relaxed);
            if next == 0 {
                ready &= !(1 << index);
            }
            if let Some(word) = word {
                let now = word::EventWord::load(&word);
                if now & word::PENDING != 0 && now & word::MASKED == 0 {
                    event(Port(at), word);
                }
            }
            ready |= new();
        }
    }
}
