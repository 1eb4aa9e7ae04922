//! The other mode of a PV guest: how its kernel goes there, how it comes back, and
//! what interrupts both.

use crate::claim::{Group, claims, kernel_code, on_pv_processor};

pub(super) const GROUP: Group = Group {
    name: "user_mode",
    claims: claims! {
        on_pv_processor(a_call_of_user_mode_comes_to_the_kernel): "callback.h: CALLBACKTYPE_syscall",
        on_pv_processor(a_sysenter_is_no_instruction_or_comes_to_the_kernel): "callback.h: CALLBACKTYPE_sysenter",
        on_pv_processor(events_interrupt_user_mode): "arch-x86/xen.h: HYPERVISOR_iret",
        on_pv_processor(an_nmi_comes_whatever_is_held_back): "vcpu.h: VCPUOP_send_nmi; nmi.h",
    },
};

kernel_code! {
    modes:
    a_call_of_user_mode_comes_to_the_kernel,
    a_sysenter_is_no_instruction_or_comes_to_the_kernel,
    an_nmi_comes_whatever_is_held_back,
    events_interrupt_user_mode,
}

#[cfg(target_os = "none")]
pub(super) mod modes {
    use core::{
        arch::{asm, naked_asm},
        cell::UnsafeCell,
        ptr::NonNull,
        sync::atomic::{AtomicU64, Ordering},
    };

    use event_channels::Channel;
    use hypercall_abi::{
        Mfn, PAGE_SIZE, VcpuId,
        arch_x86::cpuid::Cpuid,
        callback::{self, CallbackFlags, CallbackType},
        nmi,
        peer::PeerPtr,
        peer_field,
        platform::Pages,
        vcpu,
        xen::{
            SharedInfo, VcpuInfo,
            mmu::{self, MmuextOp},
            traps::{FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_SS, stack_switch},
        },
    };
    use pv_guest::{Current, Guest};

    use crate::{
        claim::{Stop, Verdict, ensure, same},
        probe,
    };

    /// What user mode calls with.
    const NUMBER: u64 = 77;
    const ARGUMENT: u64 = 0x1234_5678;
    const STACK_PAGES: usize = 4;

    /// What was found on the way back. The assembly knows the places.
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    struct Visit {
        kernel_sp: u64,
        number: u64,
        argument: u64,
        rip: u64,
        cs: u64,
        user_sp: u64,
        stack: u64,
        /// How often user mode is to look whether it was interrupted.
        looks: u64,
    }

    #[repr(transparent)]
    struct Place(UnsafeCell<Visit>);

    // SAFETY: one vCPU uses it, and no upcall.
    unsafe impl Sync for Place {}

    static PLACE: Place = Place(UnsafeCell::new(Visit {
        kernel_sp: 0,
        number: 0,
        argument: 0,
        rip: 0,
        cs: 0,
        user_sp: 0,
        stack: 0,
        looks: 0,
    }));

    /// Goes to user mode, to this code, with this stack; returns when that calls.
    #[unsafe(naked)]
    unsafe extern "C" fn visit(user_sp: u64, code: u64) {
        naked_asm!(
            "push rbx",
            "push rbp",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            "mov [rip + {place}], rsp",
            // Xen's frame: stack, flags (events let through), code, the way there.
            "push {ss}",
            "push rdi",
            "push 0x202",
            "push {cs}",
            "push rsi",
            "push 0",
            "push rcx",
            "push r11",
            "push rax",
            "mov eax, 23",
            "syscall",
            "ud2",
            place = sym PLACE,
            ss = const FLAT_USER_SS as u64,
            cs = const FLAT_USER_CS as u64,
        )
    }

    /// User mode.
    #[unsafe(naked)]
    unsafe extern "C" fn code() {
        naked_asm!(
            "2: mov rax, [rip + {place} + 56]",
            "test rax, rax",
            "jz 3f",
            "dec qword ptr [rip + {place} + 56]",
            "jmp 2b",
            "3: mov edi, {argument}",
            "mov eax, {number}",
            "syscall",
            "ud2",
            place = sym PLACE,
            argument = const ARGUMENT,
            number = const NUMBER,
        )
    }

    /// User mode that calls by another instruction, of which some hosts want that the
    /// lower half of `rbp` leads to a word.
    #[unsafe(naked)]
    unsafe extern "C" fn enters() {
        naked_asm!(
            "lea rbp, [rsp - 16]",
            "mov edi, {argument}",
            "mov eax, {number}",
            "sysenter",
            "ud2",
            argument = const ARGUMENT,
            number = const NUMBER,
        )
    }

    /// Where its call comes: a frame like that of an exception.
    #[unsafe(naked)]
    unsafe extern "C" fn called() {
        naked_asm!(
            "mov [rip + {place} + 8], rax",
            "mov [rip + {place} + 16], rdi",
            "mov [rip + {place} + 48], rsp",
            "mov rax, [rsp + 16]",
            "mov [rip + {place} + 24], rax",
            "mov rax, [rsp + 24]",
            "mov [rip + {place} + 32], rax",
            "mov rax, [rsp + 40]",
            "mov [rip + {place} + 40], rax",
            "mov rsp, [rip + {place}]",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbp",
            "pop rbx",
            "ret",
            place = sym PLACE,
        )
    }

    /// Stacks for both modes.
    pub(in crate::claims) struct Stacks<'p> {
        platform: &'p Current,
        user: NonNull<u8>,
        kernel: NonNull<u8>,
    }

    impl<'p> Stacks<'p> {
        pub(in crate::claims) fn new(guest: &'p Guest) -> Result<Self, Stop> {
            let platform = guest.platform();
            let user = platform.alloc(STACK_PAGES).ok_or("no pages")?;
            let kernel = platform.alloc(STACK_PAGES).ok_or("no pages")?;
            Ok(Self {
                platform,
                user,
                kernel,
            })
        }

        fn top(page: NonNull<u8>) -> u64 {
            (page.addr().get() + STACK_PAGES * PAGE_SIZE) as u64
        }

        /// Sets user mode up, with the kernel's tables, and goes there.
        fn visit(&self, looks: u64) -> Result<Visit, Stop> {
            self.visit_by(CallbackType::SYSCALL, code, looks)
        }

        /// Goes to code that calls with an answer.
        pub(in crate::claims) fn answer_of(
            &self,
            code: unsafe extern "C" fn(),
        ) -> Result<u64, Stop> {
            let found = self.visit_by(CallbackType::SYSCALL, code, 0)?;
            Ok(found.argument)
        }

        /// Goes to other code, which comes back by such a call.
        fn visit_by(
            &self,
            way: CallbackType,
            code: unsafe extern "C" fn(),
            looks: u64,
        ) -> Result<Visit, Stop> {
            let top: u64;
            // SAFETY: reads a register; Xen does that for a PV guest.
            unsafe { asm!("mov {}, cr3", out(reg) top) };
            let frame = Mfn(top / PAGE_SIZE as u64);
            let mut done = 0;
            let tables = [MmuextOp::new_user_baseptr(frame)];
            // SAFETY: they are in use already.
            unsafe { mmu::mmuext_op(self.platform, &tables, &mut done) }?;
            // SAFETY: a stack of its own.
            unsafe { stack_switch(self.platform, FLAT_KERNEL_SS, Self::top(self.kernel)) }?;
            let address = (called as *const ()).addr() as u64;
            let flags = CallbackFlags::empty();
            // SAFETY: made for it.
            unsafe { callback::register(self.platform, way, flags, address) }?;
            // SAFETY: nobody else uses it.
            unsafe { (*PLACE.0.get()).looks = looks };
            // SAFETY: all is set up; what it calls comes back.
            unsafe { visit(Self::top(self.user), (code as *const ()).addr() as u64) };
            // SAFETY: as above.
            Ok(unsafe { *PLACE.0.get() })
        }
    }

    impl Drop for Stacks<'_> {
        fn drop(&mut self) {
            for page in [self.user, self.kernel] {
                // SAFETY: from `alloc`, and nobody is there any more.
                unsafe { self.platform.free(page, STACK_PAGES) };
            }
        }
    }

    /// With the registers as they were, on the stack that the kernel named; and what
    /// lies there says where user mode was.
    pub(super) fn a_call_of_user_mode_comes_to_the_kernel(guest: &Guest) -> Verdict {
        const FRAME_BYTES: u64 = 7 * 8;
        let stacks = Stacks::new(guest)?;
        let found = stacks.visit(0)?;
        same((found.number, found.argument), (NUMBER, ARGUMENT))?;
        same(found.user_sp, Stacks::top(stacks.user))?;
        same(found.stack, Stacks::top(stacks.kernel) - FRAME_BYTES)?;
        // The half above is the mask of events.
        same(found.cs & 3, 3)?;
        let start = (code as *const ()).addr() as u64;
        ensure(
            (start..start + 64).contains(&found.rip),
            "the code was elsewhere",
        )
    }

    /// In the kernel's own mode: for processors where it raises an exception.
    #[unsafe(naked)]
    unsafe extern "C" fn sysenter(_: u64) -> u64 {
        naked_asm!("sysenter", "xor eax, eax", "ret")
    }

    /// AMD's processors do not have it in this mode; others forget by it where user mode
    /// was.
    pub(super) fn a_sysenter_is_no_instruction_or_comes_to_the_kernel(guest: &Guest) -> Verdict {
        // SAFETY: a PV guest.
        let vendor = unsafe { Cpuid::forced() }.vendor();
        if matches!(&vendor, b"AuthenticAMD" | b"HygonGenuine") {
            // SAFETY: it changes nothing.
            let caught = unsafe { probe::fault(sysenter, 0) }?;
            return same(
                (caught.frame.vector, probe::place(&caught, sysenter)),
                (6, 0),
            );
        }
        let stacks = Stacks::new(guest)?;
        let found = stacks.visit_by(CallbackType::SYSENTER, enters, 0)?;
        let way = CallbackType::SYSENTER;
        let _gone: Result<(), hypercall_abi::Errno> = callback::unregister(guest.platform(), way);
        same((found.number, found.argument), (NUMBER, ARGUMENT))?;
        same((found.rip, found.user_sp), (0, 0))?;
        same(found.cs & 3, 3)
    }

    /// The byte that holds events back from the first vCPU.
    fn mask_of_events(guest: &Guest) -> Result<PeerPtr<'_, u8>, Stop> {
        // SAFETY: this vCPU's mask is set and put back, with no lock held.
        let shared = unsafe { guest.shared_info() }.ok_or("no shared page")?;
        let words = peer_field!(shared, SharedInfo, vcpu_info).get(0);
        let words = words.ok_or("no words")?;
        Ok(peer_field!(words, VcpuInfo, evtchn_upcall_mask))
    }

    /// And user mode goes on.
    pub(super) fn events_interrupt_user_mode(guest: &Guest) -> Verdict {
        const LOOKS: u64 = 200_000;
        const DELAY_NS: u64 = 200_000;
        let stacks = Stacks::new(guest)?;
        let ports = guest.ports()?;
        let bell = Channel::ipi(ports, VcpuId(0)).map_err(|_| "no port")?;
        bell.unmask().map_err(|_| "a port cannot be unmasked")?;
        // One that is pending when user mode is entered, and perhaps a timer's later.
        let mask = mask_of_events(guest)?;
        let before = mask.swap(1);
        bell.notify().map_err(|_| "it cannot be sent on")?;
        let held = bell.events();
        let at_ns = hypercall_abi::platform::Clock::now_ns(guest.platform()) + DELAY_NS;
        let flags = vcpu::SingleshotFlags::empty();
        let _no_timer = vcpu::set_singleshot_timer(guest.platform(), VcpuId(0), at_ns, flags);
        let found = stacks.visit(LOOKS)?;
        let came = bell.events();
        mask.store_release(before.trust());
        same((held, came), (0, 1))?;
        same((found.number, found.looks), (NUMBER, 0))
    }

    static NMIS: AtomicU64 = AtomicU64::new(0);

    /// Where they come: it counts, and goes back.
    #[unsafe(naked)]
    unsafe extern "C" fn on_nmi() {
        naked_asm!(
            "lock inc qword ptr [rip + {count}]",
            "pop rcx",
            "pop r11",
            "push 0",
            "push rcx",
            "push r11",
            "push rax",
            "mov eax, 23",
            "syscall",
            "ud2",
            count = sym NMIS,
        )
    }

    /// To itself: it came when the call returns.
    pub(super) fn an_nmi_comes_whatever_is_held_back(guest: &Guest) -> Verdict {
        let platform = guest.platform();
        let address = (on_nmi as *const ()).addr() as u64;
        // SAFETY: made for it.
        unsafe { nmi::register_callback(platform, address) }?;
        let mask = mask_of_events(guest)?;
        let before = mask.swap(1);
        let mut counts = [0; 3];
        for count in &mut counts {
            let sent = vcpu::send_nmi(platform, VcpuId(0));
            *count = NMIS.load(Ordering::Relaxed);
            sent?;
        }
        let masked = mask.load_acquire().trust();
        mask.store_release(before.trust());
        let _gone: Result<(), hypercall_abi::Errno> = nmi::unregister_callback(platform);
        same((counts, masked), ([1, 2, 3], 1))
    }
}
