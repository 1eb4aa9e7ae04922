//! Virtual processors: `xen/include/public/vcpu.h`.

pub(crate) mod calls;

use crate::Gfn;

pub use calls::*;

crate::facts::open_enum! {
    /// What a vCPU does.
    pub struct RunState(u32) {
        /// It runs on a processor.
        RUNNING = 0, "RUNSTATE_running";
        /// It could run, but no processor is free: stolen time.
        RUNNABLE = 1, "RUNSTATE_runnable";
        /// It waits.
        BLOCKED = 2, "RUNSTATE_blocked";
        /// It is down or paused.
        OFFLINE = 3, "RUNSTATE_offline";
    }
}

crate::facts::flags! {
    /// [`VcpuSetSingleshotTimer::flags`].
    pub struct SingleshotFlags: u32 {
        /// Refuse a time that is over, with `ETIME`.
        FUTURE = 1 << 0, "VCPU_SSHOTTMR_future";
    }
}

crate::facts::constants! {
    /// Set what a vCPU starts with.
    VCPUOP_INITIALISE: usize = 0, "VCPUOP_initialise";
    /// Start it.
    VCPUOP_UP: usize = 1, "VCPUOP_up";
    /// Stop it.
    VCPUOP_DOWN: usize = 2, "VCPUOP_down";
    /// Does it run?
    VCPUOP_IS_UP: usize = 3, "VCPUOP_is_up";
    /// How long did it do what?
    VCPUOP_GET_RUNSTATE_INFO: usize = 4, "VCPUOP_get_runstate_info";
    /// Keep telling that at an address.
    VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: usize = 5, "VCPUOP_register_runstate_memory_area";
    /// Start its periodic timer.
    VCPUOP_SET_PERIODIC_TIMER: usize = 6, "VCPUOP_set_periodic_timer";
    /// Stop its periodic timer.
    VCPUOP_STOP_PERIODIC_TIMER: usize = 7, "VCPUOP_stop_periodic_timer";
    /// Start its one-shot timer.
    VCPUOP_SET_SINGLESHOT_TIMER: usize = 8, "VCPUOP_set_singleshot_timer";
    /// Stop its one-shot timer.
    VCPUOP_STOP_SINGLESHOT_TIMER: usize = 9, "VCPUOP_stop_singleshot_timer";
    /// Choose the place of its [`VcpuInfo`](crate::xen::VcpuInfo).
    VCPUOP_REGISTER_VCPU_INFO: usize = 10, "VCPUOP_register_vcpu_info";
    /// Send it a non-maskable interrupt.
    VCPUOP_SEND_NMI: usize = 11, "VCPUOP_send_nmi";
    /// The processor's identifiers (initial domain).
    VCPUOP_GET_PHYSID: usize = 12, "VCPUOP_get_physid";
    /// Keep telling the time at an address.
    VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: usize = 13, "VCPUOP_register_vcpu_time_memory_area";
    /// Keep telling the runstate at a physical address.
    VCPUOP_REGISTER_RUNSTATE_PHYS_AREA: usize = 14, "VCPUOP_register_runstate_phys_area";
    /// Keep telling the time at a physical address.
    VCPUOP_REGISTER_VCPU_TIME_PHYS_AREA: usize = 15, "VCPUOP_register_vcpu_time_phys_area";
    /// [`VcpuRunstateInfo::state_entry_time`]: Xen is writing (with
    /// [`crate::xen::VmAssist::RUNSTATE_UPDATE_FLAG`]).
    XEN_RUNSTATE_UPDATE: u64 = 9_223_372_036_854_775_808;
}

crate::facts::structs! {
    /// How long a vCPU did what.
    "vcpu_runstate_info" 48
    pub struct VcpuRunstateInfo {
        /// What it does now.
        state: RunState = 0,
        #[doc(hidden)]
        _gap0: [u8; 4] = 4,
        /// Since when, in system time.
        state_entry_time: u64 = 8,
        /// Nanoseconds in each [`RunState`].
        time: [u64; 4] = 16,
    }

    /// The argument of `VCPUOP_register_runstate_*_area`.
    "vcpu_register_runstate_memory_area" 8
    pub struct VcpuRegisterRunstateMemoryArea {
        /// The address of a [`VcpuRunstateInfo`].
        addr: u64 = 0,
    }

    /// The argument of `VCPUOP_register_vcpu_time_*_area`.
    "vcpu_register_time_memory_area" 8
    pub struct VcpuRegisterTimeMemoryArea {
        /// The address of a [`VcpuTimeInfo`](crate::xen::VcpuTimeInfo).
        addr: u64 = 0,
    }

    /// The argument of `VCPUOP_set_periodic_timer`.
    "vcpu_set_periodic_timer" 8
    pub struct VcpuSetPeriodicTimer {
        /// Nanoseconds from tick to tick.
        period_ns: u64 = 0,
    }

    /// The argument of `VCPUOP_set_singleshot_timer`.
    "vcpu_set_singleshot_timer" 16
    pub struct VcpuSetSingleshotTimer {
        /// The system time.
        timeout_abs_ns: u64 = 0,
        /// [`SingleshotFlags`].
        flags: u32 = 8,
        #[doc(hidden)]
        _gap0: [u8; 4] = 12,
    }

    /// The argument of `VCPUOP_register_vcpu_info`.
    "vcpu_register_vcpu_info" 16
    pub struct VcpuRegisterVcpuInfo {
        /// The frame.
        mfn: Gfn = 0,
        /// The place in it.
        offset: u32 = 8,
        /// Zero.
        rsvd: u32 = 12,
    }

    /// The argument of `VCPUOP_get_physid`.
    "vcpu_get_physid" 8
    pub struct VcpuGetPhysid {
        /// The local interrupt controller's identifier, and ACPI's in the high
        /// word.
        phys_id: u64 = 0,
    }
}
