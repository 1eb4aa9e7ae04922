//! A guest that runs as an ordinary process, on a platform that its host made
//! (the mock hypervisor, say).

extern crate std;

use core::ptr::NonNull;

use hypercall_abi::{
    Gfn, PAGE_SIZE,
    peer::PeerPtr,
    platform::Pages,
    xen::{START_INFO_MAGIC_PREFIX, SharedInfo, StartInfo},
};

use super::entry;
use crate::{
    boot_info::{BootInfo, GuestType, RingLocation, StartInfoPlace, boot_map, taken::Taken},
    cpu::hosted,
    error::Error,
    guest::{Guest, SharedPage, place_shared_info, set_console},
    hypervisor::{Current, ports},
    kernel::{console, power},
    trap::{Frame, Outcome, Report, handle},
};

/// Runs `main` as the guest of `platform`, and ends the guest as `main` says.
///
/// # Safety
/// `start_info` and `shared_info` are those of the domain behind `platform`,
/// valid for as long as the process runs.
pub unsafe fn start(
    platform: Current,
    start_info: NonNull<StartInfo>,
    shared_info: NonNull<SharedInfo>,
    main: fn(Guest) -> Result<(), Error>,
) -> ! {
    hosted::set_platform(platform);
    // SAFETY: valid as the caller promised; only a suspend writes it again.
    let start = unsafe { start_info.read() };
    // A suspend changes the domain's: no reference leads there.
    let start: &'static StartInfo = std::boxed::Box::leak(std::boxed::Box::new(start));
    // SAFETY: this function's contract; the shared page is used as peer memory.
    let shared = unsafe { PeerPtr::new(shared_info) };
    let mut taken = Taken::new();
    if let Some(paddr) = platform.gfn_of(start_info.cast()).and_then(Gfn::address) {
        taken.push(paddr, PAGE_SIZE as u64);
    }
    if start.magic.starts_with(START_INFO_MAGIC_PREFIX) && start.console.mfn.0 != 0 {
        let location = RingLocation {
            gfn: start.console.mfn.into(),
            port: start.console.evtchn,
        };
        early_console(platform, Some(location), &taken);
    }
    let place = StartInfoPlace(start_info.as_ptr().expose_provenance());
    let adopted = boot_map()
        .and_then(|map| BootInfo::from_pv(start, None, map))
        .map(|mut info| {
            info.start_info = Some(place);
            info
        })
        .and_then(|info| adopt(platform, info, taken, shared));
    entry::finish(adopted.and_then(main))
}

/// The same for a PVH guest, whose start information lies at a physical address.
///
/// # Safety
/// It is that of the domain behind `platform`, and stays as it is for as long as
/// the process runs.
pub unsafe fn start_pvh(platform: Current, paddr: u64, main: fn(Guest) -> Result<(), Error>) -> ! {
    hosted::set_platform(platform);
    entry::finish(adopt_pvh(platform, paddr).and_then(main))
}

fn adopt_pvh(platform: Current, paddr: u64) -> Result<Guest, Error> {
    const PAGE: u64 = PAGE_SIZE as u64;
    let console = RingLocation::of_console(&platform);
    let memory = |paddr: u64, len_bytes: usize| {
        let first = paddr / PAGE;
        let page = Pages::page_of(&platform, Gfn(first))?;
        let end = paddr.checked_add(len_bytes as u64)?.div_ceil(PAGE);
        let whole = (first..end)
            .zip((page.addr().get()..).step_by(PAGE_SIZE))
            .all(|(gfn, address)| {
                let page = Pages::page_of(&platform, Gfn(gfn));
                page.is_some_and(|page| page.addr().get() == address)
            });
        if !whole {
            return None;
        }
        // SAFETY: within the first page.
        let start = unsafe { page.add((paddr % PAGE) as usize) };
        // SAFETY: pages of the guest's, in a row; the loader placed what is there,
        // and nobody writes it.
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), len_bytes) })
    };
    let mut taken = Taken::new();
    taken.push_pvh(paddr, &memory);
    early_console(platform, console, &taken);
    let mut info = BootInfo::from_pvh(paddr, &memory, GuestType::Pvh, boot_map()?, u64::MAX)?;
    info.console = console;
    info.store = RingLocation::of_store(&platform);
    let page = platform
        .alloc(1)
        .ok_or(Error::OutOfMemory("the shared page"))?;
    let gfn = Pages::gfn_of(&platform, page).ok_or(Error::OutOfMemory("a frame"))?;
    // SAFETY: a fresh page, which is given up for it.
    unsafe { place_shared_info(&platform, gfn) }?;
    // SAFETY: mapped for good, and used as peer memory.
    let shared = unsafe { PeerPtr::new(page.cast()) };
    adopt(platform, info, taken, shared)
}

/// Makes the console work before the rest of what the loader says is believed.
fn early_console(platform: Current, location: Option<RingLocation>, taken: &Taken) {
    let paddr = |location: &RingLocation| location.gfn.address();
    let free = location.filter(|at| paddr(at).is_some_and(|paddr| !taken.has(paddr)));
    // SAFETY: nothing else is known to lie there, and this process has no other pages of
    // the domain's.
    let _no_memory = free.and_then(|at| unsafe { set_console(platform, at, None) });
}

fn adopt(
    platform: Current,
    info: BootInfo,
    mut taken: Taken,
    shared: PeerPtr<'static, SharedInfo>,
) -> Result<Guest, Error> {
    taken.push_rings([info.console, info.store], |ring| Ok(ring.gfn.address()))?;
    let mut guest = Guest::adopt(platform, info);
    // SAFETY: those who call this have the page of this domain's; rings are where the
    // toolstack says, where nothing else lies; the host's platform keeps them.
    unsafe { guest.use_rings(SharedPage(shared)) }?;
    Ok(guest)
}

/// The entry of an event upcall, called by the hosting process.
///
/// # Safety
/// The host calls it, on the thread of the first vCPU, as that is interrupted by
/// an upcall: that is, while upcalls are not held back.
pub unsafe fn upcall() {
    ports::upcall();
}

/// Handles an exception of the guest's code, which its host caught: returns if
/// the code goes on, with the registers as they are then, else reports it and
/// ends the guest.
///
/// `registers` are r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx,
/// rdx, rsi, rdi, rip, rflags and rsp; `guard` is where the stack must not
/// reach.
///
/// # Safety
/// The host calls it, with the registers of code of this guest that raised the
/// exception, and has that code go on with those that are left: what
/// [`trap::set_handler`](crate::trap::set_handler) promises to its handler.
pub unsafe fn exception(
    vector: u32,
    error_code: u32,
    cr2: u64,
    registers: &mut [u64; 18],
    guard: (u64, u64),
) {
    let mut frame = Frame {
        error_code,
        vector,
        ..Frame::default()
    };
    for (register, place) in registers.iter().zip(places(&mut frame)) {
        *place = *register;
    }
    if handle(&mut frame, || cr2) == Outcome::Resume {
        for (register, place) in registers.iter_mut().zip(places(&mut frame)) {
            *register = *place;
        }
        return;
    }
    let guard = guard.0..guard.1;
    let report = Report {
        frame: &frame,
        cr2,
        guards: core::slice::from_ref(&guard),
    };
    let rip = frame.rip;
    console::print_dying(format_args!("{report}backtrace:\n  #0 {rip:#x}\n"));
    power::crash()
}

/// The registers of a frame, in the order in which the host tells them.
fn places(frame: &mut Frame) -> [&mut u64; 18] {
    [
        &mut frame.r15,
        &mut frame.r14,
        &mut frame.r13,
        &mut frame.r12,
        &mut frame.rbp,
        &mut frame.rbx,
        &mut frame.r11,
        &mut frame.r10,
        &mut frame.r9,
        &mut frame.r8,
        &mut frame.rax,
        &mut frame.rcx,
        &mut frame.rdx,
        &mut frame.rsi,
        &mut frame.rdi,
        &mut frame.rip,
        &mut frame.rflags,
        &mut frame.rsp,
    ]
}
