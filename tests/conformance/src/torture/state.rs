//! All that a processor keeps of a program: set, left alone for a moment, and read
//! back.

use alloc::{boxed::Box, format};
use core::{
    arch::{asm, naked_asm},
    cell::UnsafeCell,
};

use hypercall_abi::{
    HypercallNr,
    version::XENVER_VERSION,
    xen::traps::{SegmentBase, set_segment_base},
};
use pv_guest::{Guest, GuestType};

use super::Stop;
use crate::{hypercall_page::HypercallPage, noise::Noise};

/// As `xsave` writes it: enough for vectors of 512 bits.
const EXTENDED_BYTES: usize = 2816;
/// x87, and vectors of 128, 256 and 512 bits with their masks.
const WANTED: u64 = 0xe7;
/// Vectors of 512 bits, all three parts or none.
const WIDE: u64 = 0xe0;
const VECTORS: u64 = 4;
/// x87 and vectors of 128 bits: what `fxsave` writes.
const LEGACY: u64 = 3;
/// Carry, parity, adjust, zero, sign, direction, overflow, identification.
const FLAGS: u64 = 0x0020_0cd5;
/// As often the same values are looked for.
const SAME: u64 = 1000;

/// A processor's state. The assembly below knows where the parts are.
#[derive(Clone)]
#[repr(C, align(64))]
struct State {
    extended: [u8; EXTENDED_BYTES],
    /// As the processor numbers them; that of the stack is read only.
    general: [u64; 16],
    flags: u64,
    /// The words at 0 of `fs` and of `gs`.
    segments: [u64; 2],
}

const GENERAL_AT: usize = EXTENDED_BYTES;
const FLAGS_AT: usize = GENERAL_AT + 16 * 8;
const SEGMENTS_AT: usize = FLAGS_AT + 8;

/// What a run needs, where it has no registers left.
#[repr(C)]
struct Place {
    wanted: u64,
    found: u64,
    parts: u64,
    rdi: u64,
    rax: u64,
    /// A call by the hypercall page, amid all that.
    slot: u64,
}

#[repr(transparent)]
struct Shared(UnsafeCell<Place>);

// SAFETY: the first vCPU alone uses it, and no upcall.
unsafe impl Sync for Shared {}

static PLACE: Shared = Shared(UnsafeCell::new(Place {
    wanted: 0,
    found: 0,
    parts: 0,
    rdi: 0,
    rax: 0,
    slot: 0,
}));

/// Sets all that is wanted, waits for some instructions, and writes what is found.
/// With `parts` of 0 it does so by `fxsave`.
#[unsafe(naked)]
unsafe extern "C" fn exchange(wanted: *const State, found: *mut State, parts: u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rip + {place}], rdi",
        "mov [rip + {place} + 8], rsi",
        "mov [rip + {place} + 16], rdx",
        "mov eax, edx",
        "xor edx, edx",
        "test eax, eax",
        "jz 2f",
        "xrstor64 [rdi]",
        "jmp 3f",
        "2: fxrstor64 [rdi]",
        "3: push qword ptr [rdi + {flags}]",
        "mov rax, [rdi + {general}]",
        "mov rcx, [rdi + {general} + 8]",
        "mov rdx, [rdi + {general} + 16]",
        "mov rbx, [rdi + {general} + 24]",
        "mov rbp, [rdi + {general} + 40]",
        "mov rsi, [rdi + {general} + 48]",
        "mov r8, [rdi + {general} + 64]",
        "mov r9, [rdi + {general} + 72]",
        "mov r10, [rdi + {general} + 80]",
        "mov r11, [rdi + {general} + 88]",
        "mov r12, [rdi + {general} + 96]",
        "mov r13, [rdi + {general} + 104]",
        "mov r14, [rdi + {general} + 112]",
        "mov r15, [rdi + {general} + 120]",
        "mov rdi, [rdi + {general} + 56]",
        "popfq",
        "mov [rip + {place} + 32], rax",
        "call [rip + {place} + 40]",
        "mov rax, [rip + {place} + 32]",
        ".rept 48",
        "nop",
        ".endr",
        "mov [rip + {place} + 24], rdi",
        "mov rdi, [rip + {place} + 8]",
        "mov [rdi + {general}], rax",
        "mov [rdi + {general} + 8], rcx",
        "mov [rdi + {general} + 16], rdx",
        "mov [rdi + {general} + 24], rbx",
        "mov [rdi + {general} + 32], rsp",
        "mov [rdi + {general} + 40], rbp",
        "mov [rdi + {general} + 48], rsi",
        "mov [rdi + {general} + 64], r8",
        "mov [rdi + {general} + 72], r9",
        "mov [rdi + {general} + 80], r10",
        "mov [rdi + {general} + 88], r11",
        "mov [rdi + {general} + 96], r12",
        "mov [rdi + {general} + 104], r13",
        "mov [rdi + {general} + 112], r14",
        "mov [rdi + {general} + 120], r15",
        "mov rax, [rip + {place} + 24]",
        "mov [rdi + {general} + 56], rax",
        "pushfq",
        "pop qword ptr [rdi + {flags}]",
        "cld",
        "mov rax, fs:[0]",
        "mov [rdi + {segments}], rax",
        "mov rax, gs:[0]",
        "mov [rdi + {segments} + 8], rax",
        "mov rax, [rip + {place} + 16]",
        "xor edx, edx",
        "test eax, eax",
        "jz 4f",
        "xsave64 [rdi]",
        "jmp 5f",
        "4: fxsave64 [rdi]",
        "5: fninit",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        place = sym PLACE,
        general = const GENERAL_AT,
        flags = const FLAGS_AT,
        segments = const SEGMENTS_AT,
    )
}

impl State {
    fn empty() -> Box<Self> {
        Box::new(Self {
            extended: [0; EXTENDED_BYTES],
            general: [0; 16],
            flags: 0,
            segments: [0; 2],
        })
    }

    /// One of noise, as far as the processor takes any.
    fn of(noise: &mut Noise, parts: u64) -> Box<Self> {
        let mut state = Self::empty();
        let end = if parts & WIDE != 0 { 2688 } else { 832 };
        for word in state.extended[..end].chunks_exact_mut(8) {
            word.copy_from_slice(&noise.next().to_le_bytes());
        }
        let mut put = |at: usize, bytes: &[u8]| {
            state.extended[at..at + bytes.len()].copy_from_slice(bytes);
        };
        // x87: exceptions masked, precision and rounding any; no exception in the
        // status; where the last instruction was is nowhere.
        let control = 0x007f | (noise.next() as u16 & 0x0c00) | 0x0300;
        put(0, &control.to_le_bytes());
        put(2, &(noise.next() as u16 & 0x7900).to_le_bytes());
        put(5, &[0; 19]);
        // Vectors: exceptions masked; rounding, flushing and flags any.
        let control = 0x1f80 | (noise.next() as u32 & 0x607f);
        put(24, &control.to_le_bytes());
        put(28, &[0; 4]);
        // Eighty bits of each x87 register count.
        for register in 0..8 {
            put(32 + register * 16 + 10, &[0; 6]);
        }
        // What Intel leaves free, and the header.
        put(416, &[0; 96]);
        put(512, &parts.to_le_bytes());
        put(520, &[0; 56]);
        for word in &mut state.general {
            *word = noise.next();
        }
        // The call's argument, in rdi: what is told by its answer alone.
        state.general[7] = XENVER_VERSION as u64;
        state.flags = noise.next() & FLAGS | 2;
        state
    }

    /// Where the two differ.
    fn difference(&self, other: &Self) -> Option<alloc::string::String> {
        for (index, (is, was)) in self.general.iter().zip(&other.general).enumerate() {
            if is != was {
                return Some(format!("register {index} is {is:#x}, not {was:#x}"));
            }
        }
        if self.flags != other.flags {
            return Some(format!(
                "flags are {:#x}, not {:#x}",
                self.flags, other.flags
            ));
        }
        if self.segments != other.segments {
            let (is, was) = (self.segments, other.segments);
            return Some(format!("fs and gs lead to {is:x?}, not {was:x?}"));
        }
        let differs = |at: &usize| self.extended.get(*at) != other.extended.get(*at);
        let mut places = (0..EXTENDED_BYTES).filter(differs);
        let at = places.next()?;
        let (is, was) = (self.extended.get(at)?, other.extended.get(at)?);
        Some(format!(
            "byte {at} of the extended state is {is:#x}, not {was:#x}, and {} more differ",
            places.count()
        ))
    }
}

/// What there is to check.
pub(super) struct Checks {
    parts: u64,
    /// `fs` and `gs` lead here.
    words: Box<[u64; 2]>,
}

fn read_parts() -> u64 {
    const XSAVE_IS_ON: u32 = 1 << 27;
    // SAFETY: any processor of 64 bits has it.
    let told = core::arch::x86_64::__cpuid(1);
    if told.ecx & XSAVE_IS_ON == 0 {
        return 0;
    }
    let (low, high): (u32, u32);
    // SAFETY: there, as told.
    unsafe { asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high) };
    let parts = (u64::from(high) << 32 | u64::from(low)) & WANTED;
    match parts {
        // Then `fxsave` has it all; and where QEMU emulates the processor, `xsave` and
        // `xrstor` disregard CR0.TS, by which Xen keeps one guest's state from
        // another's.
        parts if parts & !LEGACY == 0 => 0,
        parts if parts & WIDE == WIDE => parts,
        parts => parts & !WIDE,
    }
}

impl Checks {
    pub(super) fn new(guest: &Guest) -> Result<Self, Stop> {
        if guest.guest_type() != GuestType::Pv {
            return Err(Stop::Skipped("for PV guests only".into()));
        }
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let words = Box::new([noise.next(), noise.next()]);
        let [fs, gs] = words
            .each_ref()
            .map(|word| core::ptr::from_ref(word).expose_provenance());
        let platform = guest.platform();
        // SAFETY: this kernel has nothing of its own behind them.
        unsafe { set_segment_base(platform, SegmentBase::Fs, fs as u64) }?;
        // SAFETY: as above.
        unsafe { set_segment_base(platform, SegmentBase::GsKernel, gs as u64) }?;
        let page = HypercallPage::new(guest)?;
        let slot = page.slot(HypercallNr::XEN_VERSION) as u64;
        // SAFETY: nobody else uses it.
        unsafe { (*PLACE.0.get()).slot = slot };
        Ok(Self {
            parts: read_parts(),
            words,
        })
    }

    /// Looks so often; says at what.
    pub(super) fn run(
        &self,
        count: u64,
        mut between: impl FnMut() -> Result<(), Stop>,
    ) -> Result<&'static str, Stop> {
        let mut noise = Noise(0xd1b5_4a32_d192_ed03);
        let mut found = State::empty();
        let (mut wanted, mut first) = (State::empty(), State::empty());
        for index in 0..count {
            if index % SAME == 0 {
                wanted = State::of(&mut noise, self.parts);
                first = State::empty();
                self.exchange(&wanted, &mut first);
                self.check_first(&wanted, &first)?;
            }
            between()?;
            self.exchange(&wanted, &mut found);
            if let Some(difference) = found.difference(&first) {
                return Err(format!("loop {index}: {difference}").into());
            }
        }
        Ok(match self.parts {
            0 => "x87 and vectors of 128 bits",
            parts if parts & WIDE != 0 => "x87 and vectors of 512 bits",
            parts if parts & VECTORS != 0 => "x87 and vectors of 256 bits",
            _ => "x87 and vectors of 128 bits",
        })
    }

    fn exchange(&self, wanted: &State, found: &mut State) {
        // SAFETY: both are aligned and large enough for the parts; this kernel's code
        // uses neither vectors nor x87, and flags are any compiler's to lose.
        unsafe { exchange(wanted, found, self.parts) };
        found.flags &= FLAGS | 2;
        // Which bits the second control register has, the processor adds.
        found.extended[28..32].fill(0);
        if self.parts & !LEGACY == 0 {
            found.extended[416..].fill(0);
        }
    }

    /// What was set was found, but for what the processor decides.
    fn check_first(&self, wanted: &State, first: &State) -> Result<(), Stop> {
        let mut expected = Box::new(wanted.clone());
        expected.general[4] = first.general[4];
        expected.segments.clone_from(&self.words);
        // Where the widest vectors are, the processor decides.
        let fixed = if self.parts & VECTORS != 0 { 832 } else { 416 };
        let rest = &first.extended[fixed..];
        expected.extended[fixed..].copy_from_slice(rest);
        match first.difference(&expected) {
            None => Ok(()),
            Some(difference) => Err(format!("as set: {difference}").into()),
        }
    }
}
