//! A vCPU: comes in by a signal, is served, and goes on.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

use hypercall_abi::{
    Errno, HypercallNr, VcpuId,
    callback::CallbackType,
    peer::PeerPtr,
    peer_field,
    xen::{VcpuGuestContext, VcpuInfo, multicall::MulticallEntry},
};

use super::{
    bounce::Why,
    direct::{self, Call, DONE, LOOK},
    faults::Fault,
    monitor::Monitor,
    registers::Registers,
    signals::{KICK, MONITOR_START},
    sysenter,
    timer::Timer,
};
use crate::core::processor::Callback;

/// In which of its modes the guest is: both are the processor's user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Kernel,
    User,
}

/// What others know of a vCPU's thread.
#[derive(Debug, Default)]
pub(super) struct Thread {
    id: AtomicI32,
    /// It runs the guest's code, or is about to.
    runs: AtomicBool,
}

impl Thread {
    /// Has it look whether an upcall is due.
    pub(super) fn kick(&self) {
        if self.runs.load(Ordering::SeqCst) {
            let (process, thread) = (std::process::id(), self.id.load(Ordering::Relaxed));
            // SAFETY: a signal for which there is a handler.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, KICK) };
        }
    }

    fn is_me(&self) {
        // SAFETY: asks for the thread's number.
        let id = unsafe { libc::gettid() };
        self.id.store(id, Ordering::Relaxed);
    }
}

/// All that the monitor keeps of a vCPU on its own thread.
#[derive(Debug)]
pub(super) struct Cpu {
    pub(super) monitor: &'static Monitor,
    pub(super) id: VcpuId,
    pub(super) mode: Mode,
    pub(super) fs_base: u64,
    /// The base of `gs` that the other mode has.
    pub(super) other_gs_base: u64,
    pub(super) cr4: u64,
    first_gs_base: u64,
    /// What it is to start with.
    start: Option<Box<Registers>>,
    timer: Option<Timer>,
    /// The access that was to go on last, and how often in a row it was to.
    pub(super) again: (u64, u64, u32),
    /// What the last direct call was answered that had to look.
    answer: u64,
    /// Whether a non-maskable interrupt is being handled.
    pub(super) in_nmi: bool,
}

impl Cpu {
    pub(super) fn new(monitor: &'static Monitor, id: VcpuId, start: Registers) -> Self {
        Self {
            monitor,
            id,
            mode: Mode::Kernel,
            fs_base: 0,
            other_gs_base: 0,
            first_gs_base: 0,
            cr4: super::emulate::CR4,
            start: Some(Box::new(start)),
            timer: None,
            again: (0, 0, 0),
            answer: 0,
            in_nmi: false,
        }
    }

    /// Takes over what else a vCPU is to start with than its registers.
    pub(super) fn start_with(&mut self, context: &VcpuGuestContext) {
        self.fs_base = context.fs_base;
        self.first_gs_base = context.gs_base_kernel;
        self.other_gs_base = context.gs_base_user;
        self.with_processor(|cpu| {
            for entry in context.trap_ctxt.iter().filter(|entry| entry.address != 0) {
                cpu.set_gate(entry);
            }
            cpu.kernel_sp = context.kernel_sp;
            for (register, value) in (0..).zip(context.debugreg) {
                // What the guest may not watch is left as it is.
                let _refused =
                    cpu.debug_registers
                        .write(register, value, crate::hypercalls::is_guests);
            }
            for (kind, address, masks) in [
                (CallbackType::EVENT, context.event_callback_eip, true),
                (CallbackType::FAILSAFE, context.failsafe_callback_eip, false),
                (CallbackType::SYSCALL, context.syscall_callback_eip, false),
            ] {
                if address != 0 {
                    cpu.set_callback(kind.0, Some(Callback { address, masks }));
                }
            }
        });
    }

    fn thread(&self) -> &'static Thread {
        &self.monitor.threads[self.id.0 as usize]
    }

    /// Serves a signal; answers what the base of `fs` is to be.
    pub(super) fn enter(
        &mut self,
        signal: libc::c_int,
        context: &mut libc::ucontext_t,
        call: &Call,
        fs_base: u64,
    ) -> u64 {
        let mut registers = Registers::of(context);
        let is_over = direct::is_over(registers.rip);
        if is_over && signal == KICK && !call.ends_by_trap() {
            registers = call.registers;
        }
        if signal == KICK && registers.rip >= MONITOR_START {
            let Some(first) = self.start.take() else {
                // The thread has not begun yet; or a direct call begins, or ends by a
                // trap.
                call.kicked.store(1, Ordering::Relaxed);
                return fs_base;
            };
            registers = *first;
            self.begin(context);
        } else {
            self.thread().runs.store(false, Ordering::SeqCst);
            self.fs_base = fs_base;
            match signal {
                _ if sysenter::take_back(context) => self.sysenter(&mut registers),
                KICK => self.monitor.domain.tick(),
                libc::SIGSYS => self.system_call(&mut registers),
                _ => self.fault(&mut registers, Fault::of(context)),
            }
        }
        self.leave(&mut registers);
        registers.put(context);
        self.fs_base
    }

    /// The vCPU's first steps.
    fn begin(&mut self, context: &mut libc::ucontext_t) {
        crate::engine::vcpus::set_current(self.id);
        self.thread().is_me();
        match Timer::new(KICK) {
            _ if self.monitor.is_virtual => {}
            Ok(timer) => self.timer = Some(timer),
            Err(error) => super::report::fail(&format!("no timer for a vCPU: {error}")),
        }
        let state = context.uc_mcontext.fpregs;
        if !state.is_null() {
            // SAFETY: the kernel passes a valid context, with this part of it.
            let state = unsafe { &mut *state };
            // As `fninit` leaves it, with exceptions masked.
            (state.cwd, state.swd, state.ftw, state.mxcsr) = (0x37f, 0, 0, 0x1f80);
            // SAFETY: plain numbers, of which zero is one.
            state._st = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            state._xmm = unsafe { std::mem::zeroed() };
        }
        set_gs_base(self.first_gs_base);
    }

    fn system_call(&mut self, registers: &mut Registers) {
        const INT_80: [u8; 2] = [0xcd, 0x80];
        let mut code = [0; 2];
        let at = registers.rip.wrapping_sub(2);
        if self.monitor.read(at, &mut code).is_ok() && code == INT_80 {
            registers.rip = at;
            return self.interrupt(registers, 0x80);
        }
        if self.mode == Mode::User {
            return self.call_back(registers, CallbackType::SYSCALL);
        }
        self.hypercall(registers);
    }

    /// A hypercall that came without a trap: whether it is [`DONE`], or what is to be
    /// called for by one.
    pub(super) fn call_directly(&mut self, registers: &mut Registers, fs_base: u64) -> u64 {
        self.thread().runs.store(false, Ordering::Relaxed);
        self.fs_base = fs_base;
        if self.mode == Mode::User {
            return registers.rax;
        }
        if self.monitor.is_debugged {
            super::gdb::stop();
        }
        let (nr, args) = called(registers);
        if nr == HypercallNr::MULTICALL && self.iret_in(args[0], args[1]).is_some() {
            // It goes on elsewhere: by a trap.
            return registers.rax;
        }
        self.monitor
            .trace
            .call(self.id, nr, &args, &self.monitor.view);
        let domain = self.monitor.domain;
        let answer = domain.serve(&*self.monitor.view, nr, args.map(|arg| arg as usize));
        let is_as_before = self.is_as_before(nr, answer);
        let answer = match is_as_before {
            true => answer.map_or_else(Errno::to_answer, usize::cast_signed),
            false => domain.finish(&*self.monitor.view, nr, args[0] as usize, answer),
        };
        self.monitor.trace.answer(self.id, nr, &args, answer);
        registers.rax = answer as u64;
        self.answer = registers.rax;
        if is_as_before || self.look().is_none() {
            return DONE;
        }
        self.thread().runs.store(false, Ordering::Relaxed);
        LOOK
    }

    /// A hypercall, by whatever way it came.
    pub(super) fn hypercall(&mut self, registers: &mut Registers) {
        if registers.rax == u64::from(HypercallNr::IRET.0) {
            return self.iret(registers);
        }
        if self.monitor.is_debugged {
            super::gdb::stop();
        }
        if registers.rax == LOOK {
            self.monitor.domain.tick();
            registers.rax = self.answer;
            return;
        }
        let (nr, mut args) = called(registers);
        let way_back = match nr {
            HypercallNr::MULTICALL => self.iret_in(args[0], args[1]),
            _ => None,
        };
        if let Some((before, _)) = way_back {
            // What comes behind it is not done.
            args[1] = before;
        }
        self.monitor
            .trace
            .call(self.id, nr, &args, &self.monitor.view);
        let monitor = self.monitor;
        let answer = monitor
            .domain
            .dispatch(&*monitor.view, nr, args.map(|arg| arg as usize));
        self.monitor.trace.answer(self.id, nr, &args, answer);
        registers.rax = answer as u64;
        if let Some((_, result_at)) = way_back.filter(|_| answer == 0) {
            self.iret(registers);
            // If that is there where it goes on.
            let _gone = self.monitor.write(result_at, &registers.rax.to_le_bytes());
        }
    }

    /// Where the first `iret` of a list of calls is: how many come before it, and where
    /// its result goes.
    fn iret_in(&self, list: u64, count: u64) -> Option<(u64, u64)> {
        const ENTRY_BYTES: u64 = size_of::<MulticallEntry>() as u64;
        for index in 0..count {
            let at = list.wrapping_add(index.wrapping_mul(ENTRY_BYTES));
            let mut nr = [0; 8];
            // Where the list ends is told by who reads it.
            self.monitor.read(at, &mut nr).ok()?;
            if u64::from_le_bytes(nr) == u64::from(HypercallNr::IRET.0) {
                let result_at = at.wrapping_add(offset_of!(MulticallEntry, result) as u64);
                return Some((index, result_at));
            }
        }
        None
    }

    /// Before the guest goes on: what it changed becomes so, and what is due is
    /// delivered.
    fn leave(&mut self, registers: &mut Registers) {
        loop {
            let due = self.look();
            match due {
                None => break,
                Some(why) => {
                    self.thread().runs.store(false, Ordering::SeqCst);
                    self.deliver(registers, why);
                }
            }
        }
    }

    /// Whether a call changed nothing of what is to be looked after before the guest
    /// goes on: in the common case that is quickly told, without a clock. Then it is
    /// counted, and all that comes after it.
    fn is_as_before(&mut self, nr: HypercallNr, answer: Result<usize, Errno>) -> bool {
        let domain = self.monitor.domain;
        let mut guard = domain.lock();
        let next_ns = guard.world.next_ns();
        let state = &mut *guard;
        state.note_call(nr);
        let stale = (state.memory.tables.as_ref())
            .is_none_or(crate::core::memory::page_tables::Tables::is_stale);
        let vcpu = state.vcpus.get(self.id.0 as usize);
        let Some((vcpu, info)) = vcpu.zip(state.ports.vcpu_info(self.id)) else {
            return false;
        };
        let goes_on = vcpu.is_up && state.ending.is_none() && !vcpu.run_times.has_news();
        let timer = self.timer.as_ref().is_some_and(|it| it.is_for(next_ns));
        if !goes_on || stale || vcpu.processor.has_news() || !timer || answer == Err(Errno::ENOSYS)
        {
            return false;
        }
        self.thread().runs.store(true, Ordering::SeqCst);
        !is_due(info)
    }

    /// Does what is to be done before the guest goes on, and says what it is to
    /// be told first.
    fn look(&mut self) -> Option<Why> {
        let domain = self.monitor.domain;
        let mut state = domain.lock();
        let now_ns = state.world.now_ns();
        if self.monitor.is_virtual {
            super::trace::set_virtual_time(now_ns);
        }
        let next_ns = state.world.next_ns();
        let state = &mut *state;
        if state
            .memory
            .tables
            .as_ref()
            .is_some_and(crate::core::memory::page_tables::Tables::is_stale)
            && let Err(error) = self.monitor.space.sync(&mut state.memory)
        {
            super::report::fail(&format!("the guest's memory cannot be mapped: {error}"));
        }
        let info = state.ports.vcpu_info(self.id)?;
        self.monitor.clock.tell(self.id, state, info, now_ns);
        let vcpu = state.vcpus.get_mut(self.id.0 as usize)?;
        self.take_bases(&mut vcpu.processor);
        if vcpu.processor.has_nmi && !self.in_nmi && vcpu.processor.nmi.is_some() {
            return Some(Why::Nmi);
        }
        // First: whoever makes something pending from here on sends a signal, which
        // comes when the guest goes on.
        self.thread().runs.store(true, Ordering::SeqCst);
        if is_due(info) {
            return Some(Why::Events);
        }
        if let Some(timer) = &mut self.timer {
            timer.set(next_ns, now_ns);
        }
        None
    }

    fn take_bases(&mut self, processor: &mut crate::core::processor::Processor) {
        if let Some(base) = processor.fs_base.take() {
            self.fs_base = base;
        }
        let (mine, others) = match self.mode {
            Mode::Kernel => (&mut processor.gs_base_kernel, &mut processor.gs_base_user),
            Mode::User => (&mut processor.gs_base_user, &mut processor.gs_base_kernel),
        };
        if let Some(base) = others.take() {
            self.other_gs_base = base;
        }
        if let Some(base) = mine.take() {
            set_gs_base(base);
        }
    }

    /// Goes to the guest's other mode, with its tables and its `gs`.
    pub(super) fn toggle(&mut self, mode: Mode) -> Result<(), Errno> {
        if self.mode == mode {
            return Ok(());
        }
        let domain = self.monitor.domain;
        let mut state = domain.lock();
        let tables = state.memory.tables.as_mut().ok_or(Errno::EINVAL)?;
        let user = tables.user_root.ok_or(Errno::EINVAL)?;
        let kernel = tables.view.root();
        if mode == Mode::User {
            tables.kernel_root = kernel;
        }
        let root = match mode {
            Mode::Kernel => tables.kernel_root,
            Mode::User => user,
        };
        if root != kernel {
            tables.view.set_root(root);
            tables.all_changed();
        }
        drop(state);
        self.mode = mode;
        let base: u64;
        // SAFETY: reads a register.
        unsafe { std::arch::asm!("rdgsbase {}", out(reg) base) };
        set_gs_base(std::mem::replace(&mut self.other_gs_base, base));
        Ok(())
    }
}

/// The call that a guest's registers say, and its arguments.
fn called(registers: &Registers) -> (HypercallNr, [u64; 5]) {
    let nr = u32::try_from(registers.rax).map_or(HypercallNr(u32::MAX), HypercallNr);
    let args = [
        registers.rdi,
        registers.rsi,
        registers.rdx,
        registers.r10,
        registers.r8,
    ];
    (nr, args)
}

/// Whether an upcall is due.
fn is_due(info: PeerPtr<'static, VcpuInfo>) -> bool {
    let pending = peer_field!(info, VcpuInfo, evtchn_upcall_pending);
    let mask = peer_field!(info, VcpuInfo, evtchn_upcall_mask);
    pending.load_acquire().trust() != 0 && mask.load_acquire().trust() == 0
}

pub(super) fn set_gs_base(base: u64) {
    // SAFETY: the monitor uses no `gs`; the base is canonical.
    unsafe { std::arch::asm!("wrgsbase {}", in(reg) base) };
}
