//! Every call that is harmless to make (all but `SCHEDOP_block`, which would sleep
//! for good, and `EVTCHNOP_reset`, which closes the console's port), made once with good arguments and once
//! with bad ones, and what Xen must answer: the documentation of
//! `hypercall-abi`, as a table that a real Xen confirms.

use hypercall_abi::{
    DomId, Errno, Gfn, GrantRef, HypercallNr, Mfn, Port, VcpuId,
    argo::{self, ArgoAddr, ArgoRingDataEnt, ArgoSendAddr, ArgoUnregisterRing},
    callback::{self, CallbackFlags, CallbackType},
    event_channel::{self, BindPirqFlags, ChannelStatus},
    grant_table::{
        self, CopyFlags, GnttabCopy, GnttabMapGrantRef, GnttabSwapGrantRef, GnttabUnmapGrantRef,
        GrantStatus, MapFlags,
    },
    hvm::{self, HvmAltp2mOp, HvmParam, MemType},
    memory::{self, MapSpace, MemoryExchange, MemoryMapEntry, VnumaTopologyInfo},
    nmi, physdev,
    platform::{Clock, Hypercall, Pages},
    pmu::{self, PmuOp},
    sched::{self, ShutdownReason},
    vcpu::{self, SingleshotFlags, VcpuState},
    version::{self, LongText},
    xen::{
        Virq, VmAssist, console_io, cpu,
        mmu::{self, Flush, MmuUpdate, MmuextOp},
        multicall::{self, MulticallEntry},
        traps::{self, SegmentBase},
        vm_assist,
    },
};
use pv_guest::{Error, Guest, GuestType, println};

type P = pv_guest::Current;
type Answer = Result<(), Errno>;

/// What must be answered.
#[derive(Clone, Copy)]
enum Expect {
    /// It is done.
    Done,
    /// It fails with one of these.
    Fails(&'static [Errno]),
    /// Either: it depends on how Xen was built or configured.
    Depends(&'static [Errno]),
}

use Expect::{Depends, Done, Fails};

struct Row {
    call: &'static str,
    with: &'static str,
    run: fn(&P) -> Answer,
    pv: Expect,
    hvm: Expect,
}

const NOT_PV: Expect = Fails(&[Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EINVAL]);
const NOT_HVM: Expect = NOT_PV;
/// A port that is never open.
const CLOSED: Port = Port(1000);
const NOWHERE: Port = Port(1 << 20);
const NO_VCPU: VcpuId = VcpuId(4000);
const NO_DOMAIN: DomId = DomId(0x7000);
const VCPU: VcpuId = VcpuId(0);

macro_rules! rows {
    ($($call:literal, $with:literal, $run:expr => $pv:expr $(, $hvm:expr)?;)*) => {
        const ROWS: &[Row] = &[$(
            Row { call: $call, with: $with, run: $run, pv: $pv, hvm: second!($pv $(, $hvm)?) },
        )*];
    };
}
macro_rules! second {
    ($one:expr) => {
        $one
    };
    ($one:expr, $two:expr) => {
        $two
    };
}

fn done<T>(answer: Result<T, Errno>) -> Answer {
    answer.map(|_| ())
}

/// That a thing is as it should be; `EDOM`, which Xen never answers, if not.
fn check(holds: bool) -> Answer {
    if holds { Ok(()) } else { Err(Errno::EDOM) }
}

/// A subop and the address of its argument, as they are.
fn raw(p: &P, nr: HypercallNr, op: usize, arg: usize) -> Answer {
    // SAFETY: nothing is at the addresses that the rows name, or Xen only reads.
    done(Errno::check(unsafe { p.call5(nr, op, arg, 0, 0, 0) }))
}

/// Does something with a fresh port for this domain, and closes it.
fn with_port(p: &P, run: impl FnOnce(Port) -> Answer) -> Answer {
    let port = event_channel::alloc_unbound(p, DomId::SELF)?;
    let answer = run(port);
    event_channel::close(p, port)?;
    answer
}

/// The page at `place`, as Xen names it.
fn fresh_page(p: &P) -> Result<(core::ptr::NonNull<u8>, Gfn), Errno> {
    let page = p.alloc(1).ok_or(Errno::ENOMEM)?;
    Ok((page, p.gfn_of(page).ok_or(Errno::ENOMEM)?))
}

fn status(status: GrantStatus, expected: GrantStatus) -> Answer {
    check(status == expected)
}

rows! {
    "XENVER_version", "", |p| check(version::version(p)?.major >= 4) => Done;
    "XENVER_extraversion", "", |p| done(version::extraversion(p)) => Done;
    "XENVER_extraversion", "null", |p| raw(p, HypercallNr::XEN_VERSION, 1, 0) => Fails(&[Errno::EFAULT]);
    "XENVER_compile_info", "", |p| done(version::compile_info(p)) => Done;
    "XENVER_capabilities", "", |p| check(version::capabilities(p)?.as_str().contains("xen-3.0")) => Done;
    "XENVER_changeset", "", |p| done(version::changeset(p)) => Done;
    "XENVER_platform_parameters", "", |p| done(version::platform_parameters(p)) => Done;
    "XENVER_get_features", "0", |p| check(!version::features(p)?.is_empty()) => Done;
    "XENVER_get_features", "99", |p| done(version::feature_word(p, 99)) => Fails(&[Errno::EINVAL]);
    "XENVER_pagesize", "", |p| check(version::page_size(p)? == 4096) => Done;
    "XENVER_guest_handle", "", |p| check(version::guest_handle(p)? != Default::default()) => Done;
    "XENVER_commandline", "", |p| done(version::command_line(p)) => Done;
    "XENVER_build_id", "", |p| done(version::long_text(p, LongText::BuildId, &mut [0; 64])) => Depends(&[Errno::ENODATA, Errno::EPERM]);
    "XENVER_extraversion2", "", |p| check(version::long_text(p, LongText::Extraversion, &mut [0; 64])?.len() < 100) => Done;
    "XENVER_extraversion2", "no room", |p| done(version::long_text(p, LongText::Capabilities, &mut [0; 1])) => Fails(&[Errno::ENOBUFS]);
    "XENVER_capabilities2", "", |p| check(version::long_text(p, LongText::Capabilities, &mut [0; 300])?.starts_with(b"xen-3.0")) => Done;
    "XENVER_changeset2", "", |p| done(version::long_text(p, LongText::Changeset, &mut [0; 64])) => Done;
    "XENVER_commandline2", "", |p| done(version::long_text(p, LongText::CommandLine, &mut [0; 600])) => Fails(&[Errno::EPERM]);
    "XENVER_*", "unknown", |p| raw(p, HypercallNr::XEN_VERSION, 99, 0) => Fails(&[Errno::ENOSYS]);

    "SCHEDOP_yield", "", |p| { sched::yield_now(p); Ok(()) } => Done;
    "SCHEDOP_poll", "a time that is over", |p| sched::poll(p, &[], Some(1)) => Done;
    "SCHEDOP_poll", "129 ports", |p| sched::poll(p, &[Port(1); 129], Some(1)) => Fails(&[Errno::EINVAL]);
    "SCHEDOP_poll", "a port out of range", |p| sched::poll(p, &[NOWHERE], Some(1)) => Fails(&[Errno::EINVAL]);
    "SCHEDOP_poll", "null", |p| raw(p, HypercallNr::SCHED_OP, 3, 0) => Fails(&[Errno::EFAULT]);
    "SCHEDOP_shutdown", "null", |p| raw(p, HypercallNr::SCHED_OP, 2, 0) => Fails(&[Errno::EFAULT]);
    "SCHEDOP_shutdown_code", "", |p| sched::shutdown_code(p, ShutdownReason::POWEROFF) => Done;
    "SCHEDOP_watchdog", "start and stop", |p| { let id = sched::watchdog(p, 0, 60)?; done(sched::watchdog(p, id, 0)) } => Done;
    "SCHEDOP_watchdog", "one that is not", |p| done(sched::watchdog(p, 77, 1)) => Fails(&[Errno::EINVAL, Errno::EEXIST]);
    "SCHEDOP_*", "unknown", |p| raw(p, HypercallNr::SCHED_OP, 99, 0) => Fails(&[Errno::ENOSYS]);

    "EVTCHNOP_alloc_unbound", "", |p| with_port(p, |_| Ok(())) => Done;
    "EVTCHNOP_alloc_unbound", "null", |p| raw(p, HypercallNr::EVENT_CHANNEL_OP, 6, 0) => Fails(&[Errno::EFAULT]);
    "EVTCHNOP_bind_interdomain", "to oneself", |p| with_port(p, |port| {
        let bound = event_channel::bind_interdomain(p, DomId::SELF, port)?;
        let status = event_channel::status(p, bound)?.interdomain();
        event_channel::close(p, bound)?;
        check(status.is_some_and(|other| other.port == port))
    }) => Done;
    "EVTCHNOP_bind_interdomain", "a closed port", |p| done(event_channel::bind_interdomain(p, DomId(0), CLOSED)) => Fails(&[Errno::EINVAL]);
    "EVTCHNOP_bind_interdomain", "no domain", |p| done(event_channel::bind_interdomain(p, NO_DOMAIN, Port(1))) => Fails(&[Errno::ESRCH]);
    "EVTCHNOP_bind_virq", "the timer", |p| {
        let port = event_channel::bind_virq(p, Virq::TIMER, VCPU)?;
        let status = event_channel::status(p, port)?;
        event_channel::close(p, port)?;
        check(status.status == ChannelStatus::VIRQ && status.interrupt() == Some(Virq::TIMER.0))
    } => Done;
    "EVTCHNOP_bind_virq", "no such interrupt", |p| done(event_channel::bind_virq(p, Virq(99), VCPU)) => Fails(&[Errno::EINVAL]);
    "EVTCHNOP_bind_virq", "no such vCPU", |p| done(event_channel::bind_virq(p, Virq::TIMER, NO_VCPU)) => Fails(&[Errno::ENOENT]);
    "EVTCHNOP_bind_pirq", "not given", |p| done(event_channel::bind_pirq(p, 9, BindPirqFlags::empty())) => Fails(&[Errno::EPERM, Errno::EINVAL]), Depends(&[Errno::EPERM, Errno::EINVAL]);
    "EVTCHNOP_bind_ipi", "", |p| { let port = event_channel::bind_ipi(p, VCPU)?; event_channel::close(p, port) } => Done;
    "EVTCHNOP_bind_ipi", "no such vCPU", |p| done(event_channel::bind_ipi(p, NO_VCPU)) => Fails(&[Errno::ENOENT]);
    "EVTCHNOP_close", "a closed port", |p| event_channel::close(p, CLOSED) => Fails(&[Errno::EINVAL]);
    "EVTCHNOP_close", "a port out of range", |p| event_channel::close(p, NOWHERE) => Fails(&[Errno::EINVAL]);
    "EVTCHNOP_send", "", |p| with_port(p, |port| event_channel::send(p, port)) => Done;
    "EVTCHNOP_send", "a closed port", |p| event_channel::send(p, CLOSED) => Fails(&[Errno::EINVAL]);
    "EVTCHNOP_send", "null", |p| raw(p, HypercallNr::EVENT_CHANNEL_OP, 4, 0) => Fails(&[Errno::EFAULT]);
    "EVTCHNOP_status", "", |p| with_port(p, |port| check(event_channel::status(p, port)?.unbound().is_some())) => Done;
    "EVTCHNOP_status", "a closed port", |p| {
        let port = event_channel::alloc_unbound(p, DomId::SELF)?;
        event_channel::close(p, port)?;
        check(event_channel::status(p, port)?.status == ChannelStatus::CLOSED)
    } => Done;
    "EVTCHNOP_status", "a port out of range", |p| done(event_channel::status(p, NOWHERE)) => Fails(&[Errno::EINVAL]);
    "EVTCHNOP_bind_vcpu", "", |p| with_port(p, |port| event_channel::bind_vcpu(p, port, VCPU)) => Done;
    "EVTCHNOP_bind_vcpu", "no such vCPU", |p| with_port(p, |port| event_channel::bind_vcpu(p, port, NO_VCPU)) => Fails(&[Errno::ENOENT]);
    "EVTCHNOP_bind_vcpu", "a closed port", |p| event_channel::bind_vcpu(p, CLOSED, VCPU) => Fails(&[Errno::EINVAL]);
    "EVTCHNOP_unmask", "", |p| with_port(p, |port| event_channel::unmask(p, port)) => Done;
    "EVTCHNOP_unmask", "a port out of range", |p| event_channel::unmask(p, NOWHERE) => Fails(&[Errno::EINVAL]);
    // SAFETY: no such place: nothing comes of it.
    "EVTCHNOP_init_control", "an odd place", |p| done(unsafe { event_channel::init_control(p, Gfn(0), 1, VCPU) }) => Fails(&[Errno::EINVAL]);
    // SAFETY: as above.
    "EVTCHNOP_init_control", "no such vCPU", |p| done(unsafe { event_channel::init_control(p, Gfn(0), 0, NO_VCPU) }) => Fails(&[Errno::ENOENT]);
    // SAFETY: the interface is not in use: nothing comes of it.
    "EVTCHNOP_expand_array", "2-level", |p| unsafe { event_channel::expand_array(p, Gfn(0)) } => Fails(&[Errno::EOPNOTSUPP]);
    "EVTCHNOP_set_priority", "2-level", |p| with_port(p, |port| event_channel::set_priority(p, port, 0)) => Fails(&[Errno::ENOSYS]);
    "EVTCHNOP_*", "unknown", |p| raw(p, HypercallNr::EVENT_CHANNEL_OP, 99, 0) => Fails(&[Errno::ENOSYS]);

    "GNTTABOP_query_size", "", |p| check(grant_table::query_size(p)?.max_nr_frames >= 1) => Done;
    "GNTTABOP_query_size", "null", |p| raw3(p, HypercallNr::GRANT_TABLE_OP, 6, 0, 1) => Fails(&[Errno::EFAULT]);
    "GNTTABOP_setup_table", "a frame", |p| { let mut frames = [Gfn(0)]; grant_table::setup_table(p, &mut frames) } => Done;
    "GNTTABOP_setup_table", "too many", |p| grant_table::setup_table(p, &mut [Gfn(0); 5000]) => Fails(&[Errno::EINVAL]);
    "GNTTABOP_get_version", "", |p| check([1, 2].contains(&grant_table::get_version(p, DomId::SELF)?)) => Done;
    "GNTTABOP_get_version", "another's", |p| done(grant_table::get_version(p, DomId(0))) => Fails(&[Errno::EPERM]);
    // SAFETY: the version that there is.
    "GNTTABOP_set_version", "the same", |p| done(unsafe { grant_table::set_version(p, grant_table::get_version(p, DomId::SELF)?) }) => Done;
    // SAFETY: no such version: nothing comes of it.
    "GNTTABOP_set_version", "7", |p| done(unsafe { grant_table::set_version(p, 7) }) => Fails(&[Errno::EINVAL]);
    "GNTTABOP_map_grant_ref", "nothing granted", |p| {
        let mut op = [GnttabMapGrantRef {
            host_addr: 0x1000_0000, flags: MapFlags::HOST_MAP.bits(), r#ref: GrantRef(100), dom: DomId(0),
            ..Default::default()
        }];
        // SAFETY: nothing is granted: nothing is mapped.
        unsafe { grant_table::map(p, &mut op) }?;
        status(op[0].status, GrantStatus::GENERAL_ERROR)
    } => Done;
    "GNTTABOP_map_grant_ref", "no such entry", |p| {
        let mut op = [GnttabMapGrantRef {
            flags: MapFlags::HOST_MAP.bits(), r#ref: GrantRef(1 << 30), dom: DomId(0),
            ..Default::default()
        }];
        // SAFETY: there is no such entry: nothing is mapped.
        unsafe { grant_table::map(p, &mut op) }?;
        status(op[0].status, GrantStatus::BAD_GNTREF)
    } => Done;
    "GNTTABOP_map_grant_ref", "no domain", |p| {
        let mut op = [GnttabMapGrantRef { flags: MapFlags::HOST_MAP.bits(), dom: NO_DOMAIN, ..Default::default() }];
        // SAFETY: as above.
        unsafe { grant_table::map(p, &mut op) }?;
        status(op[0].status, GrantStatus::BAD_DOMAIN)
    } => Done;
    "GNTTABOP_map_grant_ref", "null", |p| raw3(p, HypercallNr::GRANT_TABLE_OP, 0, 0, 1) => Fails(&[Errno::EFAULT]);
    "GNTTABOP_unmap_grant_ref", "no mapping", |p| {
        let mut op = [GnttabUnmapGrantRef { handle: 4000, ..Default::default() }];
        // SAFETY: nothing is mapped: nothing is unmapped.
        unsafe { grant_table::unmap(p, &mut op) }?;
        status(op[0].status, GrantStatus::BAD_HANDLE)
    } => Done;
    "GNTTABOP_copy", "between one's own pages", |p| {
        let (from, from_gfn) = fresh_page(p)?;
        let (to, to_gfn) = fresh_page(p)?;
        let side = |gfn: Gfn, offset| grant_table::GnttabCopyPtr { u: gfn.0, domid: DomId::SELF, offset, ..Default::default() };
        let mut op = [GnttabCopy { source: side(from_gfn, 0), dest: side(to_gfn, 8), len: 8, ..Default::default() }];
        // SAFETY: a whole page of ours.
        unsafe { from.cast::<u64>().write_volatile(0x1234_5678) };
        // SAFETY: the pages are ours, and reached by pointers only.
        unsafe { grant_table::copy(p, &mut op) }?;
        // SAFETY: within a page of ours.
        let place = unsafe { to.cast::<u64>().add(1) };
        // SAFETY: as above.
        let copied = unsafe { place.read_volatile() };
        // SAFETY: allocated above, and not used any more.
        unsafe { p.free(from, 1) };
        // SAFETY: as above.
        unsafe { p.free(to, 1) };
        op[0].status.check().map_err(|_| Errno::EIO)?;
        check(copied == 0x1234_5678)
    } => Done;
    "GNTTABOP_copy", "out of the page", |p| {
        let mut op = [GnttabCopy { len: 8, flags: CopyFlags::SOURCE_GREF.bits(), ..Default::default() }];
        op[0].source.domid = DomId(0);
        op[0].dest.domid = DomId::SELF;
        op[0].dest.offset = 4092;
        // SAFETY: nothing can be copied so.
        unsafe { grant_table::copy(p, &mut op) }?;
        check(op[0].status.check().is_err())
    } => Done;
    "GNTTABOP_swap_grant_ref", "out of range", |p| {
        let mut op = [GnttabSwapGrantRef { ref_a: GrantRef(1 << 20), ref_b: GrantRef(1 << 21), ..Default::default() }];
        grant_table::swap(p, &mut op)?;
        status(op[0].status, GrantStatus::BAD_GNTREF)
    } => Done;
    "GNTTABOP_dump_table", "", |p| grant_table::dump_table(p, DomId::SELF) => Fails(&[Errno::EPERM, Errno::EINVAL, Errno::ENOSYS]);
    // SAFETY: of no frame.
    "GNTTABOP_transfer", "none", |p| unsafe { grant_table::transfer(p, &mut []) } => Done, NOT_HVM;
    // SAFETY: of no mapping.
    "GNTTABOP_unmap_and_replace", "none", |p| unsafe { grant_table::unmap_and_replace(p, &mut []) } => Done, NOT_HVM;
    "GNTTABOP_get_status_frames", "version 1", |p| grant_table::get_status_frames(p, &mut [0]) => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: of no memory.
    "GNTTABOP_cache_flush", "none", |p| unsafe { grant_table::cache_flush(p, &mut []) } => Depends(&[Errno::ENOSYS]);
    "GNTTABOP_*", "unknown", |p| raw(p, HypercallNr::GRANT_TABLE_OP, 99, 0) => Fails(&[Errno::ENOSYS]);

    "XENMEM_current_reservation", "", |p| check(memory::current_reservation(p)? > 100) => Done;
    "XENMEM_maximum_reservation", "", |p| check(memory::maximum_reservation(p)? >= memory::current_reservation(p)?) => Done;
    "XENMEM_maximum_gpfn", "", |p| done(memory::maximum_gpfn(p)) => Done;
    "XENMEM_maximum_ram_page", "", |p| check(memory::maximum_ram_page(p)? > 100) => Done;
    "XENMEM_current_reservation", "null", |p| raw(p, HypercallNr::MEMORY_OP, 3, 0) => Fails(&[Errno::EFAULT]);
    "XENMEM_populate_physmap", "a frame given back", |p| populate(p) => Done;
    // SAFETY: of no frame.
    "XENMEM_populate_physmap", "none", |p| check(unsafe { memory::populate_physmap(p, &mut [], 0, 0) }? == 0) => Done;
    "XENMEM_increase_reservation", "none", |p| check(memory::increase_reservation(p, &mut [], 0, 0)? == 0) => Done;
    // SAFETY: no such frame: nothing comes of it.
    "XENMEM_decrease_reservation", "no such frame", |p| check(unsafe { memory::decrease_reservation(p, &mut [1 << 40], 0) }? == 0) => Done;
    // SAFETY: of nothing.
    "XENMEM_exchange", "nothing", |p| unsafe { memory::exchange(p, &mut MemoryExchange::default()) } => Done, Depends(&[Errno::ENOSYS, Errno::EOPNOTSUPP]);
    "XENMEM_machphys_mfn_list", "one", |p| check(memory::machphys_mfn_list(p, &mut [Mfn(0)])? == 1) => Done, Depends(&[Errno::ENOSYS, Errno::EOPNOTSUPP]);
    "XENMEM_machphys_compat_mfn_list", "one", |p| done(memory::machphys_compat_mfn_list(p, &mut [Mfn(0)])) => Depends(&[Errno::ENOSYS, Errno::EOPNOTSUPP]);
    "XENMEM_machphys_mapping", "", |p| check(memory::machphys_mapping(p)?.max_mfn > 100) => Done, NOT_HVM;
    // SAFETY: no such place: nothing comes of it.
    "XENMEM_add_to_physmap", "no such frame", |p| unsafe { memory::add_to_physmap(p, MapSpace::GRANT_TABLE, 1 << 30, Gfn(1 << 40)) } => Fails(&[Errno::EACCES]), Fails(&[Errno::EINVAL]);
    // SAFETY: as above.
    "XENMEM_add_to_physmap", "no such space", |p| unsafe { memory::add_to_physmap(p, MapSpace(99), 0, Gfn(1 << 40)) } => Fails(&[Errno::EACCES]), Fails(&[Errno::ENOSYS, Errno::EINVAL]);
    "XENMEM_add_to_physmap_batch", "no such frame", |p| {
        let mut errors = [0];
        // SAFETY: as above.
        unsafe { memory::add_to_physmap_batch(p, MapSpace::GRANT_TABLE, &[1 << 30], &[Gfn(1 << 40)], &mut errors) }?;
        Errno::check_status(errors[0])
    } => Fails(&[Errno::EACCES]), Fails(&[Errno::EINVAL, Errno::EPERM, Errno::EOPNOTSUPP]);
    // SAFETY: as above.
    "XENMEM_remove_from_physmap", "nothing there", |p| unsafe { memory::remove_from_physmap(p, Gfn(1 << 40)) } => Fails(&[Errno::EACCES]), Fails(&[Errno::ENOENT, Errno::EINVAL]);
    "XENMEM_memory_map", "", |p| check(memory::memory_map(p, &mut [MemoryMapEntry::default(); 32])? > 0) => Depends(&[Errno::ENOSYS]);
    // SAFETY: there is no room for anything.
    "XENMEM_get_vnumainfo", "no nodes", |p| unsafe { memory::get_vnumainfo(p, &mut VnumaTopologyInfo { domid: DomId::SELF, ..Default::default() }) } => Fails(&[Errno::EOPNOTSUPP, Errno::ENOBUFS]);
    "XENMEM_*", "unknown", |p| raw(p, HypercallNr::MEMORY_OP, 63, 0) => Fails(&[Errno::ENOSYS]);

    "VCPUOP_is_up", "", |p| check(vcpu::state(p, VCPU)? == VcpuState::Up) => Done;
    "VCPUOP_is_up", "no such vCPU", |p| done(vcpu::state(p, NO_VCPU)) => Fails(&[Errno::ENOENT]);
    // SAFETY: it runs already: nothing comes of it.
    "VCPUOP_up", "one that runs", |p| unsafe { vcpu::up(p, VCPU) } => Done;
    "VCPUOP_down", "no such vCPU", |p| vcpu::down(p, NO_VCPU) => Fails(&[Errno::ENOENT]);
    // SAFETY: there is no such vCPU.
    "VCPUOP_initialise", "no such vCPU", |p| unsafe { vcpu::initialise_hvm(p, NO_VCPU, &mut Default::default()) } => Fails(&[Errno::ENOENT]);
    "VCPUOP_get_runstate_info", "", |p| check(vcpu::get_runstate_info(p, VCPU)?.time[0] > 0) => Done;
    "VCPUOP_get_runstate_info", "null", |p| raw3(p, HypercallNr::VCPU_OP, 4, 0, 0) => Fails(&[Errno::EFAULT]);
    // SAFETY: nothing is mapped there: Xen refuses it, or ends it.
    "VCPUOP_register_runstate_memory_area", "end it", |p| unsafe { vcpu::register_runstate_memory_area(p, VCPU, 0) } => Depends(&[Errno::EFAULT]);
    // SAFETY: as above.
    "VCPUOP_register_vcpu_time_memory_area", "end it", |p| unsafe { vcpu::register_vcpu_time_memory_area(p, VCPU, 0) } => Depends(&[Errno::EFAULT]);
    // SAFETY: there is no such memory.
    "VCPUOP_register_runstate_phys_area", "no such frame", |p| unsafe { vcpu::register_runstate_phys_area(p, VCPU, 1 << 50) } => Fails(&[Errno::EINVAL, Errno::ENXIO, Errno::ENOENT]);
    // SAFETY: as above.
    "VCPUOP_register_vcpu_time_phys_area", "no such frame", |p| unsafe { vcpu::register_vcpu_time_phys_area(p, VCPU, 1 << 50) } => Fails(&[Errno::EINVAL, Errno::ENXIO, Errno::ENOENT]);
    "VCPUOP_set_periodic_timer", "too short", |p| vcpu::set_periodic_timer(p, VCPU, 1) => Fails(&[Errno::EINVAL]);
    "VCPUOP_stop_periodic_timer", "", |p| vcpu::stop_periodic_timer(p, VCPU) => Done;
    "VCPUOP_set_singleshot_timer", "", |p| vcpu::set_singleshot_timer(p, VCPU, p.now_ns() + 1_000_000_000, SingleshotFlags::FUTURE) => Done;
    "VCPUOP_set_singleshot_timer", "a time that is over", |p| vcpu::set_singleshot_timer(p, VCPU, 1, SingleshotFlags::FUTURE) => Depends(&[Errno::ETIME]);
    "VCPUOP_stop_singleshot_timer", "", |p| vcpu::stop_singleshot_timer(p, VCPU) => Done;
    // SAFETY: no such place: nothing comes of it.
    "VCPUOP_register_vcpu_info", "an odd place", |p| unsafe { vcpu::register_vcpu_info(p, VCPU, Gfn(0), 4095) } => Fails(&[Errno::EINVAL, Errno::ENXIO]);
    "VCPUOP_send_nmi", "no such vCPU", |p| vcpu::send_nmi(p, NO_VCPU) => Fails(&[Errno::ENOENT]);
    "VCPUOP_*", "unknown", |p| raw(p, HypercallNr::VCPU_OP, 99, 0) => Fails(&[Errno::ENOSYS]);

    "set_timer_op", "stop", |p| cpu::set_timer_op(p, 0) => Done;
    "multicall", "two", |p| {
        let mut calls = [
            MulticallEntry::new(HypercallNr::XEN_VERSION, &[0]),
            MulticallEntry::new(HypercallNr(62), &[]),
        ];
        // SAFETY: neither names memory.
        unsafe { multicall::multicall(p, &mut calls) }?;
        check(calls[0].check()? >= 4 << 16 && calls[1].check() == Err(Errno::ENOSYS))
    } => Done;
    "multicall", "null", |p| raw(p, HypercallNr::MULTICALL, 0, 1) => Fails(&[Errno::EFAULT]);
    "CONSOLEIO_write", "nothing", |p| console_io::write(p, &[]) => Depends(&[Errno::EPERM]);
    "CONSOLEIO_read", "nothing", |p| done(console_io::read(p, &mut [0; 4])) => Fails(&[Errno::EPERM]);
    "VMASST_CMD_enable", "runstate updates", |p| vm_assist::enable(p, VmAssist::RUNSTATE_UPDATE_FLAG) => Done;
    "VMASST_CMD_enable", "no such help", |p| vm_assist::enable(p, VmAssist(63)) => Fails(&[Errno::EINVAL]);
    // SAFETY: switched on above.
    "VMASST_CMD_disable", "runstate updates", |p| unsafe { vm_assist::disable(p, VmAssist::RUNSTATE_UPDATE_FLAG) } => Done;

    // SAFETY: of no entry.
    "MMU_NORMAL_PT_UPDATE", "none", |p| unsafe { mmu::mmu_update(p, &[], &mut 0) } => Done, NOT_HVM;
    "MMU_NORMAL_PT_UPDATE", "a frame of Xen's", |p| {
        let mut count = 7;
        let updates = [MmuUpdate { ptr: 1 << 50, val: 0 }];
        // SAFETY: there is no such frame.
        let answer = unsafe { mmu::mmu_update(p, &updates, &mut count) };
        answer.and(check(count == 1))
    } => Fails(&[Errno::EINVAL, Errno::EPERM, Errno::ESRCH]), NOT_HVM;
    // SAFETY: flushes take nothing away.
    "MMUEXT_TLB_FLUSH_LOCAL", "", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::tlb_flush_local()], &mut 0) } => Done, NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_INVLPG_LOCAL", "", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::invlpg_local(0x4010_0000)], &mut 0) } => Done, NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_TLB_FLUSH_ALL", "", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::tlb_flush_all(), MmuextOp::invlpg_all(0x4010_0000)], &mut 0) } => Done, NOT_HVM;
    // SAFETY: there is no device: nothing comes of it.
    "MMUEXT_FLUSH_CACHE", "no device", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::flush_cache()], &mut 0) } => Fails(&[Errno::EACCES, Errno::EPERM, Errno::EINVAL]), NOT_HVM;
    // SAFETY: there is no such frame.
    "MMUEXT_PIN_L1_TABLE", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L1, Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_UNPIN_TABLE", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::unpin(Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_CLEAR_PAGE", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::clear_page(Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: there is no such frame.
    "MMUEXT_PIN_L2_TABLE", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L2, Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_PIN_L3_TABLE", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L3, Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_PIN_L4_TABLE", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::pin(mmu::Level::L4, Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_NEW_BASEPTR", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::new_baseptr(Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: there is no user mode.
    "MMUEXT_NEW_USER_BASEPTR", "none", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::new_user_baseptr(Mfn(0))], &mut 0) } => Done, NOT_HVM;
    "MMUEXT_TLB_FLUSH_MULTI", "this vCPU", |p| {
        let mask = 1_u64;
        let address = (&raw const mask).expose_provenance() as u64;
        // SAFETY: flushes take nothing away; the mask outlives the call.
        unsafe { mmu::mmuext_op(p, &[MmuextOp::tlb_flush_multi(address)], &mut 0) }
    } => Done, NOT_HVM;
    "MMUEXT_INVLPG_MULTI", "this vCPU", |p| {
        let mask = 1_u64;
        let address = (&raw const mask).expose_provenance() as u64;
        // SAFETY: as above.
        unsafe { mmu::mmuext_op(p, &[MmuextOp::invlpg_multi(0x4010_0000, address)], &mut 0) }
    } => Done, NOT_HVM;
    // SAFETY: as above.
    "MMUEXT_INVLPG_ALL", "", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::invlpg_all(0x4010_0000)], &mut 0) } => Done, NOT_HVM;
    // SAFETY: there is no device: nothing comes of it.
    "MMUEXT_FLUSH_CACHE_GLOBAL", "no device", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::flush_cache_global()], &mut 0) } => Fails(&[Errno::EACCES, Errno::EPERM, Errno::EINVAL]), NOT_HVM;
    // SAFETY: refused.
    "MMUEXT_SET_LDT", "an odd address", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::set_ldt(0x4010_0001, 1)], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: there is no such frame.
    "MMUEXT_COPY_PAGE", "no such frame", |p| unsafe { mmu::mmuext_op(p, &[MmuextOp::copy_page(Mfn(1 << 40), Mfn(1 << 40))], &mut 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: there is no such frame.
    "MMU_MACHPHYS_UPDATE", "no such frame", |p| unsafe { mmu::mmu_update(p, &[MmuUpdate { ptr: (1 << 50) | mmu::MMU_MACHPHYS_UPDATE, val: 0 }], &mut 0) } => Fails(&[Errno::EINVAL, Errno::EPERM, Errno::ESRCH]), NOT_HVM;
    // SAFETY: as above.
    "MMU_PT_UPDATE_PRESERVE_AD", "no such frame", |p| unsafe { mmu::mmu_update(p, &[MmuUpdate { ptr: (1 << 50) | mmu::MMU_PT_UPDATE_PRESERVE_AD, val: 0 }], &mut 0) } => Fails(&[Errno::EINVAL, Errno::EPERM, Errno::ESRCH]), NOT_HVM;
    // SAFETY: as above.
    "MMU_PT_UPDATE_NO_TRANSLATE", "no such frame", |p| unsafe { mmu::mmu_update(p, &[MmuUpdate { ptr: (1 << 50) | mmu::MMU_PT_UPDATE_NO_TRANSLATE, val: 0 }], &mut 0) } => Fails(&[Errno::EINVAL, Errno::EPERM, Errno::ESRCH]), NOT_HVM;
    // SAFETY: there is no user mode to come from.
    "stack_switch", "", |p| unsafe { traps::stack_switch(p, traps::FLAT_KERNEL_SS, 0x4010_0000) } => Done, NOT_HVM;
    // SAFETY: nothing uses `gs`.
    "SEGBASE_GS_USER", "", |p| unsafe { traps::set_segment_base(p, SegmentBase::GsUser, 0) } => Done, NOT_HVM;
    // SAFETY: nothing uses `gs`.
    "SEGBASE_GS_KERNEL", "", |p| unsafe { traps::set_segment_base(p, SegmentBase::GsKernel, 0) } => Done, NOT_HVM;
    // SAFETY: nothing uses `gs`.
    "SEGBASE_GS_USER_SEL", "none", |p| unsafe { traps::set_segment_base(p, SegmentBase::GsUserSelector, 0) } => Done, NOT_HVM;
    // SAFETY: counting is off.
    "XENPMU_init", "off", |p| unsafe { pmu::pmu(p, PmuOp::Init, VCPU, Gfn(1 << 40)) } => Fails(&[Errno::EINVAL, Errno::EOPNOTSUPP]);
    // SAFETY: counting is off.
    "XENPMU_finish", "off", |p| unsafe { pmu::pmu(p, PmuOp::Finish, VCPU, Gfn(0)) } => Depends(&[Errno::EINVAL, Errno::EOPNOTSUPP]);
    // SAFETY: counting is off.
    "XENPMU_lvtpc_set", "off", |p| unsafe { pmu::pmu(p, PmuOp::LvtpcSet, VCPU, Gfn(0)) } => Fails(&[Errno::EINVAL, Errno::EOPNOTSUPP]);
    // SAFETY: no such frame.
    "PHYSDEVOP_pirq_eoi_gmfn_v1", "no such frame", |p| unsafe { physdev::set_pirq_eoi_gfn(p, Gfn(1 << 40), physdev::EoiBitmap::UnmaskingItself) } => Fails(&[Errno::EINVAL, Errno::ENOSPC]), NOT_HVM;
    // SAFETY: of no page.
    "XEN_ARGO_OP_register_ring", "too short", |p| unsafe { argo::register_ring(p, &mut argo::ArgoRegisterRing { aport: 7, partner_id: DomId(0), len: 3, ..Default::default() }, &[], argo::ArgoRegisterFlags::empty()) } => Fails(&[Errno::EINVAL, Errno::EOPNOTSUPP, Errno::ENOSYS]);
    // SAFETY: no table is there: nothing comes of it.
    "update_va_mapping", "no table", |p| unsafe { mmu::update_va_mapping(p, 0x10_0000, 0, Flush::None) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: as above.
    "update_va_mapping_otherdomain", "another's", |p| unsafe { mmu::update_va_mapping_otherdomain(p, 0x10_0000, 0, Flush::None, DomId(0)) } => Fails(&[Errno::EPERM, Errno::ESRCH]), NOT_HVM;
    // SAFETY: refused before it is made.
    "set_trap_table", "without an end", |p| unsafe { traps::set_trap_table(p, &[]) } => Fails(&[Errno::EINVAL]);
    "set_trap_table", "a bad address", |p| raw(p, HypercallNr::SET_TRAP_TABLE, 8, 0) => Fails(&[Errno::EFAULT]), NOT_HVM;
    // SAFETY: refused.
    "set_gdt", "too many entries", |p| unsafe { traps::set_gdt(p, &[Mfn(0); 16], 8000) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: refused.
    "update_descriptor", "no such frame", |p| unsafe { traps::update_descriptor(p, 1 << 50, 0) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: refused.
    "set_callbacks", "not canonical", |p| unsafe { traps::set_callbacks(p, 1 << 62, 1 << 62, 1 << 62) } => Done, NOT_HVM;
    // SAFETY: nothing uses `fs`.
    "SEGBASE_FS", "", |p| unsafe { traps::set_segment_base(p, SegmentBase::Fs, 0x4010_0000) } => Done, NOT_HVM;
    // SAFETY: refused.
    "SEGBASE_FS", "not canonical", |p| unsafe { traps::set_segment_base(p, SegmentBase::Fs, 1 << 62) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    "fpu_taskswitch", "clear", |p| cpu::fpu_taskswitch(p, cpu::FpuTaskswitch::Clear) => Done, NOT_HVM;
    "set_debugreg", "0", |p| cpu::set_debugreg(p, 0, 0x4010_0000) => Done, NOT_HVM;
    "set_debugreg", "99", |p| cpu::set_debugreg(p, 99, 0) => Fails(&[Errno::EINVAL, Errno::ENODEV]), NOT_HVM;
    "get_debugreg", "0", |p| check(cpu::get_debugreg(p, 0)? == 0x4010_0000) => Done, NOT_HVM;
    "get_debugreg", "99", |p| done(cpu::get_debugreg(p, 99)) => Fails(&[Errno::EINVAL, Errno::ENODEV]), NOT_HVM;
    // SAFETY: refused.
    "CALLBACKOP_register", "not canonical", |p| unsafe { callback::register(p, CallbackType::EVENT, CallbackFlags::empty(), 1 << 62) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: refused.
    "CALLBACKOP_register", "unknown", |p| unsafe { callback::register(p, CallbackType(99), CallbackFlags::empty(), 0) } => Fails(&[Errno::ENOSYS]), NOT_HVM;
    "CALLBACKOP_unregister", "upcalls", |p| callback::unregister(p, CallbackType::EVENT) => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: refused.
    "XENNMI_register_callback", "not canonical", |p| unsafe { nmi::register_callback(p, 1 << 62) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    "XENNMI_unregister_callback", "", |p| nmi::unregister_callback(p) => Done, NOT_HVM;
    // SAFETY: counting is off.
    "XENPMU_flush", "off", |p| unsafe { pmu::pmu(p, PmuOp::Flush, VCPU, Gfn(0)) } => Fails(&[Errno::EINVAL, Errno::EOPNOTSUPP]);

    "PHYSDEVOP_eoi", "no such interrupt", |p| physdev::eoi(p, 1 << 20) => Fails(&[Errno::EINVAL]), NOT_HVM;
    "PHYSDEVOP_irq_status_query", "no such interrupt", |p| done(physdev::irq_status_query(p, 1 << 20)) => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: no such frame.
    "PHYSDEVOP_pirq_eoi_gmfn_v2", "no such frame", |p| unsafe { physdev::set_pirq_eoi_gfn(p, Gfn(1 << 40), physdev::EoiBitmap::UnmaskedByGuest) } => Fails(&[Errno::EINVAL, Errno::ENOSPC]), NOT_HVM;
    "PHYSDEVOP_set_iopl", "4", |p| physdev::set_iopl(p, 4) => Fails(&[Errno::EINVAL]), NOT_HVM;
    // SAFETY: of no port.
    "PHYSDEVOP_set_iobitmap", "too big", |p| unsafe { physdev::set_iobitmap(p, 0, 70_000) } => Fails(&[Errno::EINVAL]), NOT_HVM;
    "PHYSDEVOP_map_pirq", "not given", |p| done(physdev::map_pirq(p, &mut physdev::PhysdevMapPirq { domid: DomId::SELF, r#type: physdev::MAP_PIRQ_TYPE_GSI, index: 9, pirq: -1, ..Default::default() })) => Fails(&[Errno::EPERM, Errno::EINVAL]), Fails(&[Errno::EPERM, Errno::EINVAL, Errno::ENOSYS]);
    "PHYSDEVOP_unmap_pirq", "no such interrupt", |p| physdev::unmap_pirq(p, 1 << 20) => Fails(&[Errno::EINVAL, Errno::EPERM]), Fails(&[Errno::EINVAL, Errno::EPERM, Errno::ENOSYS]);
    "PHYSDEVOP_get_free_pirq", "", |p| done(physdev::get_free_pirq(p, physdev::MAP_PIRQ_TYPE_GSI)) => Depends(&[Errno::ENOSPC, Errno::EPERM]), NOT_HVM;
    "PHYSDEVOP_*", "unknown", |p| raw(p, HypercallNr::PHYSDEV_OP, 99, 0) => Fails(&[Errno::ENOSYS]);

    "HVMOP_get_param", "the store's port", |p| check(hvm::get_param(p, HvmParam::STORE_EVTCHN)? > 0) => NOT_PV, Done;
    "HVMOP_get_param", "not for guests", |p| done(hvm::get_param(p, HvmParam::IOREQ_PFN)) => NOT_PV, Fails(&[Errno::EPERM]);
    "HVMOP_get_param", "no such parameter", |p| done(hvm::get_param(p, HvmParam(999))) => Fails(&[Errno::EINVAL]);
    "HVMOP_get_param", "null", |p| raw(p, HypercallNr::HVM_OP, 1, 0) => Fails(&[Errno::EFAULT]);
    // SAFETY: refused.
    "HVMOP_set_param", "not for guests", |p| unsafe { hvm::set_param(p, HvmParam::STORE_PFN, 0) } => NOT_PV, Fails(&[Errno::EPERM]);
    // SAFETY: refused.
    "HVMOP_set_evtchn_upcall_vector", "3", |p| unsafe { hvm::set_evtchn_upcall_vector(p, VCPU, 3) } => NOT_PV, Fails(&[Errno::EINVAL]);
    // SAFETY: refused.
    "HVMOP_set_evtchn_upcall_vector", "no such vCPU", |p| unsafe { hvm::set_evtchn_upcall_vector(p, NO_VCPU, 0x30) } => NOT_PV, Fails(&[Errno::ENOENT]);
    "HVMOP_flush_tlbs", "", |p| hvm::flush_tlbs(p) => NOT_PV, Done;
    "HVMOP_get_time", "", |p| { let now = hvm::get_time(p)?; check(now.abs_diff(p.now_ns()) < 1_000_000_000) } => Done;
    "HVMOP_get_mem_type", "the shared page's neighbour", |p| check(hvm::get_mem_type(p, Gfn(0x100))? == MemType::RAM_RW) => NOT_PV, Done;
    "HVMOP_pagetable_dying", "no shadow", |p| hvm::pagetable_dying(p, 0) => NOT_PV, Fails(&[Errno::EINVAL, Errno::EOPNOTSUPP, Errno::ENOSYS]);
    "HVMOP_xentrace", "", |p| hvm::xentrace(p, 1, &[1, 2]) => Done;
    "HVMOP_xentrace", "too much", |p| hvm::xentrace(p, 1, &[0; 8]) => Fails(&[Errno::EINVAL]);
    "HVMOP_guest_request_vm_event", "", |p| hvm::guest_request_vm_event(p) => Depends(&[Errno::EINVAL, Errno::ENOSYS, Errno::EOPNOTSUPP]);
    // SAFETY: refused.
    "HVMOP_altp2m", "not allowed", |p| unsafe { hvm::altp2m(p, &mut HvmAltp2mOp { cmd: hvm::HVMOP_ALTP2M_GET_DOMAIN_STATE, domain: DomId::SELF, ..Default::default() }) } => Fails(&[Errno::EOPNOTSUPP, Errno::ENOSYS, Errno::EINVAL, Errno::EPERM]);
    "HVMOP_*", "unknown", |p| raw(p, HypercallNr::HVM_OP, 99, 0) => Fails(&[Errno::ENOSYS]);

    "XEN_ARGO_OP_unregister_ring", "no such ring", |p| argo::unregister_ring(p, &mut ArgoUnregisterRing { aport: 7, partner_id: DomId(0), ..Default::default() }) => Fails(&[Errno::ENOENT, Errno::EOPNOTSUPP, Errno::ENOSYS]);
    // SAFETY: of no piece.
    "XEN_ARGO_OP_sendv", "nobody receives", |p| done(unsafe { argo::sendv(p, &mut ArgoSendAddr { src: ArgoAddr { domain_id: DomId(0x7ff4), ..Default::default() }, ..Default::default() }, &[], 0) }) => Fails(&[Errno::ECONNREFUSED, Errno::EINVAL, Errno::ESRCH, Errno::EOPNOTSUPP, Errno::ENOSYS]);
    "XEN_ARGO_OP_notify", "one ring", |p| argo::notify(p, &mut ArgoRingDataEnt::default()) => Depends(&[Errno::ENODEV, Errno::EOPNOTSUPP, Errno::ENOSYS]);

    "hypercall 62", "unknown", |p| raw(p, HypercallNr(62), 0, 0) => Fails(&[Errno::ENOSYS]);
    "platform_op", "not for guests", |p| raw(p, HypercallNr::PLATFORM_OP, 8, 0) => Fails(&[Errno::EPERM, Errno::EFAULT, Errno::ENOSYS]);
    "sysctl", "not for guests", |p| raw(p, HypercallNr::SYSCTL, 8, 0) => Fails(&[Errno::EPERM, Errno::EFAULT, Errno::ENOSYS]);
    "domctl", "not for guests", |p| raw(p, HypercallNr::DOMCTL, 8, 0) => Fails(&[Errno::EPERM, Errno::EFAULT, Errno::ENOSYS]);
    "kexec_op", "not for guests", |p| raw(p, HypercallNr::KEXEC_OP, 0, 0) => Fails(&[Errno::EPERM, Errno::ENOSYS]);
    "hypfs_op", "not for guests", |p| raw(p, HypercallNr::HYPFS_OP, 0, 0) => Fails(&[Errno::EPERM, Errno::ENOSYS, Errno::EOPNOTSUPP, Errno::EINVAL]);
}

/// A subop, the address of a list and its length.
fn raw3(p: &P, nr: HypercallNr, op: usize, arg: usize, count: usize) -> Answer {
    let (second, third) = if nr == HypercallNr::VCPU_OP {
        (0, arg)
    } else {
        (arg, count)
    };
    // SAFETY: nothing is at the addresses that the rows name.
    done(Errno::check(unsafe {
        p.call5(nr, op, second, third, 0, 0)
    }))
}

/// Gives a frame back and gets one in its place (PV guests: without mapping
/// it). The page is lost to the allocator.
fn populate(p: &P) -> Answer {
    let (_page, gfn) = fresh_page(p)?;
    if p.page_of(gfn).is_none() {
        return Err(Errno::EIO);
    }
    let before = memory::current_reservation(p)?;
    if matches!(
        hvm::get_param(p, HvmParam::STORE_EVTCHN),
        Err(Errno::EINVAL | Errno::ENOSYS)
    ) {
        // A PV guest maps the frame: Xen would not take it. Get one more, if it
        // may have one; else the answer is none.
        let mut extents = [0];
        let got = memory::increase_reservation(p, &mut extents, 0, 0)?;
        // SAFETY: the frame is new: nothing leads to it.
        let given = unsafe { memory::decrease_reservation(p, &mut extents[..got], 0) }?;
        return check(given == got && memory::current_reservation(p)? == before);
    }
    // SAFETY: a page of ours that nothing uses.
    let given = unsafe { memory::decrease_reservation(p, &mut [gfn.0], 0) }?;
    let between = memory::current_reservation(p)?;
    // SAFETY: nothing is there now.
    let got = unsafe { memory::populate_physmap(p, &mut [gfn.0], 0, 0) }?;
    check(given == 1 && got == 1 && between + 1 == before)
}

/// Makes all of them, and prints a table.
pub(crate) fn run(guest: &Guest) -> Result<(), Error> {
    let pv = guest.guest_type() == GuestType::Pv;
    let (mut good, mut bad) = (0, 0);
    for row in ROWS {
        let answer = (row.run)(guest.platform());
        let expected = if pv { row.pv } else { row.hvm };
        let as_told = match (expected, answer) {
            (Done | Depends(_), Ok(())) => true,
            (Fails(errors) | Depends(errors), Err(error)) => errors.contains(&error),
            _ => false,
        };
        let verdict = if as_told { "as documented" } else { "WRONG" };
        match answer {
            Ok(()) => println!("{:38} {:28} {:12} {verdict}", row.call, row.with, "done"),
            Err(error) => println!("{:38} {:28} {error:12?} {verdict}", row.call, row.with),
        }
        if as_told {
            good += 1;
        } else {
            bad += 1;
        }
    }
    println!("{good} answers are as documented, {bad} are not");
    if bad > 0 {
        return Err(Error::Failed("Xen answers otherwise than documented"));
    }
    Ok(())
}
