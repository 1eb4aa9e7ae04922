//! The hypercalls, as Xen takes them: functions over its state, which say what is to follow
//! (sleep, an end, a vCPU that starts) rather than do that themselves.

mod cpu;
mod events;
mod grants;
mod hvm;
mod legacy;
mod memory;
mod mmu;
mod physdev;
mod sched;
mod vcpu;
mod version;

use hypercall_abi::{
    DomId, Errno, HypercallNr, Port, VcpuId,
    sched::ShutdownReason,
    xen::{
        VmAssist,
        vm_assist::{VMASST_CMD_DISABLE, VMASST_CMD_ENABLE},
    },
};
use zerocopy::{FromBytes, IntoBytes};

#[cfg(feature = "user")]
pub(crate) use self::cpu::{is_canonical, is_guests};
pub(crate) use self::vcpu::tell_areas;
use crate::core::{
    domain_state::State,
    machine::{Actor, Core},
    memory::GuestMemory,
};

fn read<T: FromBytes + IntoBytes>(memory: &impl GuestMemory, address: usize) -> Result<T, Errno> {
    let mut value = T::new_zeroed();
    memory.copy_in(address, value.as_mut_bytes())?;
    Ok(value)
}

/// What is to follow a call that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Others run first.
    Yield,
    /// The vCPU lets upcalls through, and sleeps until there is one.
    Block,
    /// It sleeps until one of the ports is pending, or until a time.
    Poll(Vec<Port>, Option<u64>),
    /// The domain ends, or is suspended.
    ShutDown {
        reason: ShutdownReason,
        start_info: usize,
    },
    /// A vCPU that was initialised starts.
    Up(VcpuId),
    /// A vCPU goes down.
    Down(VcpuId),
}

/// A call: whose it is, and what it changes.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    core: &'a mut Core,
    domid: DomId,
    /// The vCPU that makes it.
    vcpu: VcpuId,
    effect: Option<Effect>,
}

/// Takes a call of a vCPU's: its answer, and what is to follow. Lists of calls, and what has
/// all of the guest's registers (`iret`), are for who runs the guest.
pub(crate) fn take(
    core: &mut Core,
    (domid, vcpu): Actor,
    memory: &impl GuestMemory,
    nr: HypercallNr,
    args: [usize; 5],
) -> (Result<usize, Errno>, Option<Effect>) {
    let mut call = Call {
        core,
        domid,
        vcpu,
        effect: None,
    };
    let answer = call.serve(memory, nr, args);
    (answer, call.effect)
}

impl Call<'_> {
    /// The domain that asks.
    fn state(&mut self) -> &mut State {
        let state = self.core.domains.get_mut(&self.domid);
        state.expect("a domain's state is there for as long as the domain")
    }

    /// This is to follow.
    fn then(&mut self, effect: Effect) -> Result<usize, Errno> {
        self.effect = Some(effect);
        Ok(0)
    }

    /// That there is such a vCPU.
    fn has_vcpu(&mut self, vcpu: VcpuId) -> Result<(), Errno> {
        let known = self.state().vcpus.get(vcpu.0 as usize);
        known.map(|_| ()).ok_or(Errno::ENOENT)
    }

    fn serve(
        &mut self,
        memory: &impl GuestMemory,
        nr: HypercallNr,
        args: [usize; 5],
    ) -> Result<usize, Errno> {
        let [a1, a2, a3, a4, _] = args;
        let is_pvh = self.state().is_pvh();
        match nr {
            _ if is_pvh && is_for_pv(nr) => Err(Errno::ENOSYS),
            HypercallNr::XEN_VERSION => self.xen_version(memory, a1, a2),
            HypercallNr::SCHED_OP => self.sched_op(memory, a1, a2, a3),
            HypercallNr::SCHED_OP_COMPAT => self.sched_op_compat(memory, a1, a2, a3),
            HypercallNr::EVENT_CHANNEL_OP_COMPAT => self.event_channel_op_compat(memory, a1),
            HypercallNr::PHYSDEV_OP_COMPAT => self.physdev_op_compat(memory, a1),
            HypercallNr::EVENT_CHANNEL_OP => self.event_channel_op(memory, a1, a2),
            HypercallNr::MEMORY_OP => self.memory_op(memory, a1, a2),
            HypercallNr::GRANT_TABLE_OP => self.grant_table_op(memory, a1, a2, a3),
            HypercallNr::VCPU_OP => self.vcpu_op(memory, a1, VcpuId(a2 as u32), a3),
            HypercallNr::SET_TIMER_OP => self.set_timer(a1 as u64),
            HypercallNr::VM_ASSIST => self.vm_assist(a1, a2),
            HypercallNr::MMU_UPDATE => self.mmu_update(memory, [a1, a2, a3, a4]),
            // It has tables of its own.
            HypercallNr::MMUEXT_OP if is_pvh => Err(Errno::EINVAL),
            HypercallNr::MMUEXT_OP => self.mmuext_op(memory, [a1, a2, a3, a4]),
            HypercallNr::UPDATE_VA_MAPPING => self.update_va_mapping(a1, a2, DomId::SELF),
            HypercallNr::UPDATE_VA_MAPPING_OTHERDOMAIN => {
                self.update_va_mapping(a1, a2, DomId(a4 as u16))
            }
            HypercallNr::SET_TRAP_TABLE => self.set_trap_table(memory, a1),
            HypercallNr::SET_GDT => self.set_gdt(memory, a1, a2),
            HypercallNr::UPDATE_DESCRIPTOR => self.update_descriptor(a1 as u64, a2 as u64),
            HypercallNr::SET_SEGMENT_BASE => self.set_segment_base(a1, a2 as u64),
            HypercallNr::SET_DEBUGREG => self.set_debugreg(a1, a2 as u64),
            HypercallNr::GET_DEBUGREG => self.get_debugreg(a1),
            HypercallNr::CALLBACK_OP => self.callback_op(memory, a1, a2),
            HypercallNr::NMI_OP => self.nmi_op(memory, a1, a2),
            HypercallNr::HVM_OP => self.hvm_op(memory, a1, a2),
            HypercallNr::PHYSDEV_OP => self.physdev_op(memory, a1, a2),
            HypercallNr::STACK_SWITCH => self.stack_switch(a2 as u64),
            HypercallNr::SET_CALLBACKS => self.set_callbacks([a1, a2, a3]),
            HypercallNr::FPU_TASKSWITCH => self.fpu_taskswitch(a1),
            // As Xen is started, unless it is asked for them.
            HypercallNr::XENPMU_OP => Err(Errno::EOPNOTSUPP),
            // What the toolstack asks for is read before it is refused.
            HypercallNr::PLATFORM_OP | HypercallNr::SYSCTL | HypercallNr::DOMCTL => {
                read::<u64>(memory, a1).and(Err(Errno::EPERM))
            }
            HypercallNr::KEXEC_OP if is_pvh => Err(Errno::ENOSYS),
            // A release Xen takes nothing from a guest.
            HypercallNr::CONSOLE_IO | HypercallNr::KEXEC_OP | HypercallNr::HYPFS_OP => {
                Err(Errno::EPERM)
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    /// An unprivileged domain may only name itself.
    fn own(&self, domid: DomId) -> Result<(), Errno> {
        if domid == DomId::SELF || domid == self.domid {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    /// Help that a guest may switch on; of a guest that is no image it changes
    /// nothing.
    fn vm_assist(&mut self, command: usize, help: usize) -> Result<usize, Errno> {
        // Xen looks at the help before it looks at the command, and takes from a 64-bit
        // guest what only one of 32 bits has a use for.
        const OF_PV: &[VmAssist] = &[
            VmAssist::SEGMENTS_4GB,
            VmAssist::SEGMENTS_4GB_NOTIFY,
            VmAssist::WRITABLE_PAGETABLES,
            VmAssist::PAE_EXTENDED_CR3,
            VmAssist::ARCHITECTURAL_IOPL,
            VmAssist::RUNSTATE_UPDATE_FLAG,
            VmAssist::M2P_STRICT,
        ];
        const OF_PVH: &[VmAssist] = &[VmAssist::RUNSTATE_UPDATE_FLAG];
        let known = match self.state().is_pvh() {
            true => OF_PVH,
            false => OF_PV,
        };
        let help = VmAssist(help as u32);
        if !known.contains(&help) {
            return Err(Errno::EINVAL);
        }
        let assists = &mut self.state().assists;
        match command as u32 as usize {
            VMASST_CMD_ENABLE => *assists |= 1 << help.0,
            VMASST_CMD_DISABLE => *assists &= !(1 << help.0),
            _ => return Err(Errno::ENOSYS),
        }
        Ok(0)
    }
}

/// Calls that only PV guests have.
fn is_for_pv(nr: HypercallNr) -> bool {
    [
        HypercallNr::SET_TRAP_TABLE,
        HypercallNr::MMU_UPDATE,
        HypercallNr::SET_GDT,
        HypercallNr::STACK_SWITCH,
        HypercallNr::SET_CALLBACKS,
        HypercallNr::FPU_TASKSWITCH,
        HypercallNr::SET_DEBUGREG,
        HypercallNr::GET_DEBUGREG,
        HypercallNr::UPDATE_DESCRIPTOR,
        HypercallNr::UPDATE_VA_MAPPING,
        HypercallNr::UPDATE_VA_MAPPING_OTHERDOMAIN,
        HypercallNr::SET_SEGMENT_BASE,
        HypercallNr::CALLBACK_OP,
        HypercallNr::NMI_OP,
        HypercallNr::SCHED_OP_COMPAT,
        HypercallNr::EVENT_CHANNEL_OP_COMPAT,
        HypercallNr::PHYSDEV_OP_COMPAT,
    ]
    .contains(&nr)
}
