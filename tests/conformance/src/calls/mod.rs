//! Every call that is harmless to make (all but `SCHEDOP_block`, which would sleep
//! for good, and `EVTCHNOP_reset`, which closes the console's port), made once with good arguments and once
//! with bad ones, and what Xen must answer: the documentation of
//! `hypercall-abi`, as a table that a real Xen confirms.

mod events;
mod grants;
mod hvm;
mod memory;
mod others;
mod pv;
mod sched;
mod vcpu;
mod version;

use hypercall_abi::{
    DomId, Errno, Gfn, HypercallNr, Port, VcpuId,
    platform::{Hypercall, Pages},
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
    }
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

/// All of them.
const TABLES: [&[Row]; 9] = [
    version::ROWS,
    sched::ROWS,
    events::ROWS,
    grants::ROWS,
    memory::ROWS,
    vcpu::ROWS,
    pv::ROWS,
    hvm::ROWS,
    others::ROWS,
];

/// Makes all of them, and prints a table.
pub(crate) fn run(guest: &Guest) -> Result<(), Error> {
    let pv = guest.guest_type() == GuestType::Pv;
    let (mut good, mut bad) = (0, 0);
    for row in TABLES.into_iter().flatten() {
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
