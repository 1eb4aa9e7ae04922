//! Bugs that only a guest with a processor meets: of the process platform's front, and of what a
//! process over the mock skips. The claims are tried on each in a kernel's image.

use super::{Front, Mutant, bug};

const fn of_image(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant {
        front: Front::User,
        ..bug(name, file, from, to)
    }
}

pub(super) const IMAGE: &[Mutant] = &[
    of_image(
        "the machine's table takes no change",
        "hypercalls/mmu.rs",
        "memory.tell_machine(Gfn(address / PAGE_SIZE as u64), update.val);",
        "let _told = (memory, address);",
    ),
    of_image(
        "the level of ports is not the frame's",
        "front/image/bounce.rs",
        "self.take_io_level(context.rflags);",
        "",
    ),
    of_image(
        "the level of ports is always in the flags",
        "front/image/emulate.rs",
        "match state.assists & ARCHITECTURAL_IOPL {\n            0 => 0,",
        "match state.assists & ARCHITECTURAL_IOPL {\n            7 => 0,",
    ),
    of_image(
        "there is no iret in a list of calls",
        "front/image/vcpu.rs",
        "HypercallNr::MULTICALL => self.iret_in(args[0], args[1]),\n            _ => None,",
        "_ => None,",
    ),
    of_image(
        "what comes behind an iret in a list is done",
        "front/image/vcpu.rs",
        "args[1] = before;",
        "let _before = before;",
    ),
    of_image(
        "the result of an iret in a list is not told",
        "front/image/vcpu.rs",
        "let _gone = self.monitor.write(result_at, &registers.rax.to_le_bytes());",
        "let _untold = result_at;",
    ),
    of_image(
        "a map for the processor takes that for a device with it",
        "core/grant_uses.rs",
        "map.place = None;\n            ended += 1;",
        "map.place = None;\n            ended += 1 + u32::from(std::mem::take(&mut map.is_for_device));",
    ),
    of_image(
        "any address of a device's is that of a map",
        "core/grant_uses.rs",
        "if of_device && Some(what.dev_bus_addr) != map.gfn.address() {",
        "if false {",
    ),
    of_image(
        "no page at an address takes the place of a grant",
        "core/grant_uses.rs",
        "(Some(address), Place::Address(_)) => Some(memory.place_of(address)?),",
        "(Some(_), Place::Address(_)) => return None,",
    ),
    of_image(
        "the version changes while words of the status are mapped",
        "hypercalls/grants.rs",
        "if state.grants.busy() || is_seen {",
        "if state.grants.busy() || (is_seen && wanted == 2) {",
    ),
    of_image(
        "a guest's folder of devices is its own",
        "services/xenstore/mod.rs",
        "            \"device/suspend/event-channel\",",
        "            \"device\",\n            \"device/suspend/event-channel\",",
    ),
    of_image(
        "what a guest may not see is told to be missing",
        "services/xenstore/tree.rs",
        "None if self.may_see(domid, path) => Err(StoreError::ENOENT),",
        "None => Err(StoreError::ENOENT),",
    ),
    of_image(
        "any help is there that Xen has a number for",
        "hypercalls/mod.rs",
        "if !known.contains(&help) {",
        "if help.0 > 31 && !known.contains(&help) {",
    ),
    of_image(
        "help of which 64 bits have no use is refused",
        "hypercalls/mod.rs",
        "            VmAssist::PAE_EXTENDED_CR3,\n",
        "",
    ),
    of_image(
        "the status of debug registers begins at zero",
        "core/processor.rs",
        "(all[Self::STATUS], all[Self::CONTROL]) = (Self::STATUS_ONES, Self::CONTROL_ONES);",
        "all[Self::CONTROL] = Self::CONTROL_ONES;",
    ),
    of_image(
        "the control of debug registers begins at zero",
        "core/processor.rs",
        "(all[Self::STATUS], all[Self::CONTROL]) = (Self::STATUS_ONES, Self::CONTROL_ONES);",
        "all[Self::STATUS] = Self::STATUS_ONES;",
    ),
    of_image(
        "a register that there is not is zero",
        "front/image/emulate.rs",
        "MSR_KERNEL_GS_BASE => self.other_gs_base,\n            _ => return false,",
        "MSR_KERNEL_GS_BASE => self.other_gs_base,\n            _ => 0,",
    ),
    of_image(
        "a second of the wall clock has more than its nanoseconds",
        "front/image/clock.rs",
        "peer_field!(shared, SharedInfo, wc_nsec).store((start_ns % SECOND_NS) as u32);",
        "peer_field!(shared, SharedInfo, wc_nsec).store(u32::MAX - (start_ns % 2) as u32);",
    ),
    of_image(
        "no table leaves all gates",
        "hypercalls/cpu.rs",
        "self.with_processor(|cpu| cpu.gates.clear());",
        "",
    ),
    of_image(
        "user mode goes through a kernel's gates",
        "front/image/bounce.rs",
        "Mode::User => 3,",
        "Mode::User => 1,",
    ),
    of_image(
        "a kernel goes through anybody's gates",
        "front/image/bounce.rs",
        "Mode::Kernel => 1,",
        "Mode::Kernel => 0,",
    ),
    of_image(
        "a trap leaves the stack where it is",
        "front/image/bounce.rs",
        "(registers.rsp & !15, KERNEL_CS)",
        "(registers.rsp, KERNEL_CS)",
    ),
    of_image(
        "what a return from a system call discards is the frame's",
        "front/image/bounce.rs",
        "context.flags & hypercall_abi::xen::traps::VGCF_IN_SYSCALL == 0",
        "context.flags & hypercall_abi::xen::traps::VGCF_IN_SYSCALL != 1",
    ),
    of_image(
        "a selector leaves the base of fs",
        "front/image/emulate.rs",
        "Segment::Fs => self.fs_base = 0,",
        "Segment::Fs => {}",
    ),
    of_image(
        "32 bits of a port leave those above",
        "front/image/emulate.rs",
        "0xffff_ffff => bits,",
        "0xffff_ffff => registers.rax | bits,",
    ),
];
