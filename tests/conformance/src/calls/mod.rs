//! Every call that is harmless to make (all but `SCHEDOP_block`, which would sleep
//! for good, and `EVTCHNOP_reset`, which closes the console's port), made once with good arguments and once
//! with bad ones, and what Xen must answer: the documentation of
//! `hypercall-abi`, as claims.

mod events;
mod grants;
mod hvm;
mod legacy;
mod memory;
mod others;
mod pv;
mod sched;
mod vcpu;
mod versions;

use alloc::{format, string::String};

use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr, Port, VcpuId,
    platform::{Hypercall, Pages},
    version,
};
use pv_guest::{Guest, GuestType};

use crate::{
    claim::{NO_XEN, Verdict, refused, skip},
    suite::{Case, Test},
};

type P = pv_guest::Current;
type Answer = Result<(), Errno>;

/// What must be answered.
#[derive(Clone, Copy)]
enum Expect {
    /// It is done.
    Done,
    /// It fails with one of these.
    Fails(&'static [Errno]),
    /// One or the other, as the guest chose one of two interfaces.
    Chosen(fn(&Guest) -> Expect),
}

use Expect::{Chosen, Done, Fails};

pub(crate) struct Row {
    call: &'static str,
    with: &'static str,
    run: fn(&P) -> Answer,
    pv: Expect,
    hvm: Expect,
    /// The first minor version of Xen 4 that has it.
    since: u16,
}

/// What a PV guest is told that asks for what only HVM and PVH guests have.
const NOT_PV: Expect = Fails(&[Errno::EINVAL]);
/// And the other way round.
const NOT_HVM: Expect = Fails(&[Errno::ENOSYS]);
/// A port that is never open.
const CLOSED: Port = Port(1000);
const NOWHERE: Port = Port(1 << 20);
const NO_VCPU: VcpuId = VcpuId(4000);
const NO_DOMAIN: DomId = DomId(0x7000);
const VCPU: VcpuId = VcpuId(0);

/// A call that all guests answer alike.
const fn both(
    call: &'static str,
    with: &'static str,
    run: fn(&P) -> Answer,
    expect: Expect,
) -> Row {
    split(call, with, run, expect, expect)
}

/// A call that PV guests answer in one way, HVM and PVH guests in another.
const fn split(
    call: &'static str,
    with: &'static str,
    run: fn(&P) -> Answer,
    pv: Expect,
    hvm: Expect,
) -> Row {
    Row {
        call,
        with,
        run,
        pv,
        hvm,
        since: 0,
    }
}

/// Whether Xen is older than 4 and this.
fn is_before(guest: &Guest, minor: u16) -> bool {
    version::version(guest.platform()).is_ok_and(|version| version.minor < minor)
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

/// A list of operations whose count goes where nothing is.
fn untold(p: &P, nr: HypercallNr, list: usize, len: usize) -> Answer {
    const NOWHERE: usize = 8;
    let foreign = usize::from(DomId::SELF.0);
    // SAFETY: of no operation, or of one that changes nothing; nothing is written.
    done(Errno::check(unsafe {
        p.call5(nr, list, len, NOWHERE, foreign, 0)
    }))
}

/// The page at `place`, as Xen names it.
fn fresh_page(p: &P) -> Result<(core::ptr::NonNull<u8>, Gfn), Errno> {
    let page = p.alloc(1).ok_or(Errno::ENOMEM)?;
    Ok((page, p.gfn_of(page).ok_or(Errno::ENOMEM)?))
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

/// What one hypercall does.
struct Table {
    hypercall: &'static str,
    /// The header that says so.
    header: &'static str,
    rows: &'static [Row],
}

/// The headers of calls whose table has several, by how their names begin.
const HEADERS: [(&str, &str); 20] = [
    ("CALLBACKOP_", "callback.h"),
    ("XENNMI_", "nmi.h"),
    ("PHYSDEVOP_", "physdev.h"),
    ("XEN_ARGO_", "argo.h"),
    ("XENPMU_", "pmu.h"),
    ("MMU", "xen.h"),
    ("SEGBASE_", "arch-x86/xen-x86_64.h"),
    ("set_trap_table", "arch-x86/xen.h"),
    ("set_gdt", "arch-x86/xen.h"),
    ("update_descriptor", "arch-x86/xen.h"),
    ("stack_switch", "arch-x86/xen.h"),
    ("set_callbacks", "arch-x86/xen.h"),
    ("HVM_PARAM", "hvm/params.h"),
    ("HVMOP_get_param", "hvm/params.h"),
    ("HVMOP_set_param", "hvm/params.h"),
    ("platform_op", "platform.h"),
    ("sysctl", "sysctl.h"),
    ("domctl", "domctl.h"),
    ("kexec_op", "kexec.h"),
    ("hypfs_op", "hypfs.h"),
];

/// All of them.
const TABLES: [Table; 10] = [
    Table {
        hypercall: "xen_version",
        header: "version.h",
        rows: versions::ROWS,
    },
    Table {
        hypercall: "sched_op",
        header: "sched.h",
        rows: sched::ROWS,
    },
    Table {
        hypercall: "event_channel_op",
        header: "event_channel.h",
        rows: events::ROWS,
    },
    Table {
        hypercall: "grant_table_op",
        header: "grant_table.h",
        rows: grants::ROWS,
    },
    Table {
        hypercall: "memory_op",
        header: "memory.h",
        rows: memory::ROWS,
    },
    Table {
        hypercall: "vcpu_op",
        header: "vcpu.h",
        rows: vcpu::ROWS,
    },
    Table {
        hypercall: "pv",
        header: "xen.h",
        rows: pv::ROWS,
    },
    Table {
        hypercall: "hvm_op",
        header: "hvm/hvm_op.h",
        rows: hvm::ROWS,
    },
    Table {
        hypercall: "legacy",
        header: "xen.h",
        rows: legacy::ROWS,
    },
    Table {
        hypercall: "other",
        header: "xen.h",
        rows: others::ROWS,
    },
];

impl Table {
    /// The header that tells what a call does.
    fn header(&self, call: &str) -> &'static str {
        let mut headers = HEADERS.iter();
        let own = headers.find(|(begin, _)| call.starts_with(begin));
        own.map_or(self.header, |(_, header)| header)
    }
}

/// A claim for each row.
pub(crate) fn cases() -> impl Iterator<Item = Case> {
    TABLES.iter().flat_map(|table| {
        table.rows.iter().map(|row| Case {
            name: row.name(table.hypercall),
            source: format!("{}: {}", table.header(row.call), row.call),
            test: Test::Call(row),
        })
    })
}

impl Row {
    /// Older versions do not have it.
    const fn since(self, minor: u16) -> Self {
        Self {
            since: minor,
            ..self
        }
    }

    /// `hypercall::CALL(with_what)`.
    fn name(&self, hypercall: &str) -> String {
        let call = self.call.replace(' ', "_");
        let with = self.with.replace(' ', "_");
        match with.as_str() {
            "" => format!("{hypercall}::{call}"),
            _ => format!("{hypercall}::{call}({with})"),
        }
    }

    /// Makes the call.
    pub(crate) fn check(&self, guest: &Guest) -> Verdict {
        let expected = match guest.guest_type() {
            GuestType::Bare => return skip(NO_XEN),
            GuestType::Pv => self.pv,
            GuestType::Pvh => self.hvm,
        };
        let answer = (self.run)(guest.platform());
        if let Some((minor, since)) = version::version(guest.platform())
            .ok()
            .map(|version| (version.minor, self.since))
            .filter(|(minor, since)| minor < since)
        {
            refused(answer, Errno::ENOSYS)?;
            return skip(format!("since Xen 4.{since}, and this is 4.{minor}"));
        }
        let expected = match expected {
            Chosen(choose) => choose(guest),
            other => other,
        };
        match (expected, answer) {
            (Done, Ok(())) => Ok(()),
            (Fails(errors), Err(error)) if errors.contains(&error) => Ok(()),
            (_, Ok(())) => Err("it was done".into()),
            (_, Err(error)) => Err(error.into()),
        }
    }
}
