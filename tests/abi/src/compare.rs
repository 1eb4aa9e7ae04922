//! What one set of headers says, beside what `hypercall-abi` says.

use std::collections::{BTreeMap, BTreeSet};

use hypercall_abi::facts;

use crate::{
    c::{Compound, Facts, Kind, Value},
    left_out,
};

/// How many of a kind there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) covered: usize,
    pub(crate) left_out: usize,
    pub(crate) missing: usize,
}

/// The outcome.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) headers: Count,
    pub(crate) structs: Count,
    pub(crate) fields: Count,
    pub(crate) constants: Count,
    pub(crate) calls: Count,
    /// What is missing or different, in words.
    pub(crate) complaints: Vec<String>,
}

/// What the crate says, by the names of the headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ours {
    pub(crate) structs: BTreeMap<&'static str, facts::Struct>,
    pub(crate) numbers: BTreeMap<&'static str, i128>,
    pub(crate) texts: BTreeMap<&'static str, &'static str>,
}

impl Ours {
    /// All of it.
    pub(crate) fn all() -> Self {
        let mut ours = Self::default();
        for module in facts::MODULES {
            for fact in module.structs.iter().copied().flatten() {
                ours.structs.insert(fact.c_name, *fact);
            }
            for fact in module.constants.iter().copied().flatten() {
                ours.numbers.insert(fact.c_name, fact.value);
            }
            for fact in module.texts.iter().copied().flatten() {
                ours.texts.insert(fact.c_name, fact.value);
            }
        }
        ours
    }
}

/// Whether a name is one of a pattern's, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(found) = rest.find(part) else {
            return false;
        };
        rest = &rest[found + part.len()..];
    }
    true
}

fn is_left_out(list: &[(&str, &str)], name: &str) -> bool {
    list.iter().any(|(pattern, _)| matches(pattern, name))
}

/// Which of a set's headers are to be read: the others are left out.
pub(crate) fn headers_to_read(all: &BTreeSet<String>) -> (Vec<String>, usize) {
    let read: Vec<String> = all
        .iter()
        .filter(|header| {
            !left_out::HEADERS
                .iter()
                .any(|(path, _)| *header == path || path.ends_with('/') && header.starts_with(path))
        })
        .cloned()
        .collect();
    let left_out = all.len() - read.len();
    (read, left_out)
}

/// Compares.
pub(crate) fn compare(theirs: &Facts, ours: &Ours) -> Comparison {
    let mut outcome = Comparison::default();
    outcome.headers.covered = theirs.headers.len();
    for (name, compound) in &theirs.compounds {
        compare_compound(name, compound, theirs, ours, &mut outcome);
    }
    for (name, (header, value)) in &theirs.values {
        compare_value(name, header, value, theirs, ours, &mut outcome);
    }
    compare_calls(theirs, &mut outcome);
    // Neither a number nor a text: types and code, which are no interface.
    outcome.constants.left_out += theirs.other_macros.len();
    outcome
}

/// A ring's head: all are the same as the one that is written down.
const RING: &str = "blkif_sring";

fn compare_compound(
    name: &str,
    theirs: &Compound,
    all: &Facts,
    ours: &Ours,
    outcome: &mut Comparison,
) {
    if is_left_out(left_out::STRUCTS, name) {
        outcome.structs.left_out += 1;
        return;
    }
    let name_here = if name.ends_with("_sring") { RING } else { name };
    let Some(here) = ours.structs.get(name_here) else {
        if theirs.kind == Kind::Union && is_covered_union(name, all, ours) {
            outcome.structs.covered += 1;
            outcome.fields.covered += theirs.fields.len();
            return;
        }
        outcome.structs.missing += 1;
        outcome.fields.missing += theirs.fields.len();
        outcome.complaints.push(format!(
            "{}: {name}, {} bytes, is not covered: {}",
            theirs.header,
            theirs.size,
            fields(theirs)
        ));
        return;
    };
    // Where a tail of unknown length starts, the structure ends.
    let tail = theirs
        .fields
        .iter()
        .find(|field| is_tail(name, &field.name));
    let their_size = tail.map_or(theirs.size, |field| field.offset);
    // Newer headers may have added to its end.
    let added = here.fields.iter().find(|field| is_newer(name, field.name));
    let here_then = added.map_or(here.size, |field| field.offset);
    if [here.size as u64, here_then as u64].contains(&their_size) {
        outcome.structs.covered += 1;
    } else {
        outcome.structs.missing += 1;
        outcome.complaints.push(format!(
            "{}: {name} has {} bytes there, {} here",
            theirs.header, theirs.size, here.size
        ));
    }
    for field in &theirs.fields {
        // What follows a head of variable length takes no place in it.
        if field.size == 0 || is_tail(name, &field.name) {
            outcome.fields.covered += 1;
            continue;
        }
        let same_place = here
            .fields
            .iter()
            .any(|f| f.offset as u64 == field.offset && f.size as u64 >= field.size)
            // Whatever a union may be has a place in it.
            || theirs.kind == Kind::Union && here.size as u64 >= field.size;
        let found = here
            .fields
            .iter()
            .find(|f| f.name.trim_start_matches("r#") == field.name);
        match found {
            Some(f) if f.offset as u64 == field.offset && f.size as u64 == field.size => {
                outcome.fields.covered += 1;
            }
            Some(f) => {
                outcome.fields.missing += 1;
                outcome.complaints.push(format!(
                    "{}: {name}.{} is at {} with {} bytes there, at {} with {} here",
                    theirs.header, field.name, field.offset, field.size, f.offset, f.size
                ));
            }
            // One of several names for a place, of which one is enough.
            None if same_place && shares_place(theirs, field) => outcome.fields.covered += 1,
            None => {
                outcome.fields.missing += 1;
                outcome.complaints.push(format!(
                    "{}: {name}.{}, at {} with {} bytes, is not covered",
                    theirs.header, field.name, field.offset, field.size
                ));
            }
        }
    }
}

/// Whether a field is an array of unknown length.
fn is_tail(name: &str, field: &str) -> bool {
    left_out::TAILS
        .iter()
        .any(|(pattern, tail)| matches(pattern, name) && *tail == field)
}

/// Whether a field is one that newer headers have added.
fn is_newer(name: &str, field: &str) -> bool {
    left_out::NEWER
        .iter()
        .any(|(path, _)| path.split_once('.') == Some((name, field)))
}

/// What the crate says and none of the headers does.
pub(crate) fn unknown(ours: &Ours, sets: &[Facts]) -> Vec<String> {
    let is_newer = |name: &str| left_out::NEWER.iter().any(|(newer, _)| *newer == name);
    let values = ours.numbers.keys().chain(ours.texts.keys());
    let structs = ours.structs.keys();
    let unknown_values = values
        .filter(|name| !is_newer(name) && !sets.iter().any(|set| set.values.contains_key(**name)));
    let unknown_structs = structs.filter(|name| {
        !is_newer(name) && !sets.iter().any(|set| set.compounds.contains_key(**name))
    });
    unknown_values
        .chain(unknown_structs)
        .map(|name| format!("{name} is in none of these headers"))
        .collect()
}

/// Whether another field starts at the same place: an unnamed union's.
fn shares_place(compound: &Compound, field: &crate::c::Field) -> bool {
    compound.kind == Kind::Union
        || compound
            .fields
            .iter()
            .any(|other| other.name != field.name && other.offset == field.offset)
}

/// Whether a union within a structure (or a ring's slot) is there by what can be
/// in it: the structure has its place, and each of its structures is covered.
fn is_covered_union(name: &str, all: &Facts, ours: &Ours) -> bool {
    let outer_is_covered = match name.rsplit_once('.') {
        Some((outer, _)) => ours.structs.contains_key(outer),
        // A slot of a ring is a request or a response; both are structures.
        None => name.ends_with("_sring_entry") || NAMED_UNIONS.contains(&name),
    };
    let inner_are_covered = all
        .compounds
        .iter()
        .filter(|(inner, _)| {
            inner
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('.'))
        })
        .all(|(inner, _)| ours.structs.contains_key(inner.as_str()));
    outer_is_covered && inner_are_covered
}

/// Unions that have names of their own: their structures are covered each on
/// its own.
const NAMED_UNIONS: [&str; 2] = ["grant_entry_v2", "xen_add_to_physmap_batch_extra"];

fn fields(compound: &Compound) -> String {
    let fields: Vec<String> = compound
        .fields
        .iter()
        .map(|field| {
            format!(
                "{} {}..{}",
                field.name,
                field.offset,
                field.offset + field.size
            )
        })
        .collect();
    fields.join(", ")
}

fn compare_value(
    name: &str,
    header: &str,
    theirs: &Value,
    all: &Facts,
    ours: &Ours,
    outcome: &mut Comparison,
) {
    let same = match theirs {
        Value::Number(number) => ours.numbers.get(name).map(|here| {
            let same = here == number;
            (same, number.to_string(), here.to_string())
        }),
        Value::Text(text) => ours.texts.get(name).map(|here| {
            let same = here == text;
            (same, format!("{text:?}"), format!("{here:?}"))
        }),
    };
    match same {
        Some((true, ..)) => outcome.constants.covered += 1,
        Some((false, there, here)) => {
            outcome.constants.missing += 1;
            outcome
                .complaints
                .push(format!("{header}: {name} is {there} there, {here} here"));
        }
        None if is_left_out(left_out::CONSTANTS, name) || is_bit_number(name, theirs, all) => {
            outcome.constants.left_out += 1;
        }
        None => {
            outcome.constants.missing += 1;
            outcome
                .complaints
                .push(format!("{header}: {name} = {theirs:?} is not covered"));
        }
    }
}

/// How the names of calls start.
const CALL_PREFIXES: [&str; 17] = [
    "CALLBACKOP_",
    "CONSOLEIO_",
    "EVTCHNOP_",
    "GNTTABOP_",
    "HVMOP_",
    "MMUEXT_",
    "MMU_",
    "PHYSDEVOP_",
    "SCHEDOP_",
    "SEGBASE_",
    "VCPUOP_",
    "VMASST_CMD_",
    "XENMEM_",
    "XENNMI_",
    "XENPMU_",
    "XENVER_",
    "XEN_ARGO_OP_",
];

/// Whether there is a function for each call.
fn compare_calls(theirs: &Facts, outcome: &mut Comparison) {
    let is_call = |name: &str| {
        name.starts_with("__HYPERVISOR_")
            || CALL_PREFIXES
                .iter()
                .any(|prefix| name.strip_prefix(prefix).is_some())
    };
    for (name, (header, _)) in theirs.values.iter().filter(|(name, _)| is_call(name)) {
        if facts::CALLS.iter().any(|call| call.c_name == name) {
            outcome.calls.covered += 1;
        } else if is_left_out(left_out::CALLS, name) {
            outcome.calls.left_out += 1;
        } else {
            outcome.calls.missing += 1;
            outcome
                .complaints
                .push(format!("{header}: there is no function for {name}"));
        }
    }
}

/// Whether `_NAME` is the number of the bit that `NAME` is.
fn is_bit_number(name: &str, value: &Value, all: &Facts) -> bool {
    let Some(flag) = name.strip_prefix('_') else {
        return false;
    };
    match (value, all.values.get(flag)) {
        (Value::Number(bit), Some((_, Value::Number(flag)))) => {
            u32::try_from(*bit).is_ok_and(|bit| 1_i128.checked_shl(bit) == Some(*flag))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c;

    /// A set of headers that says some of what the crate says.
    fn headers(text: &str) -> Facts {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write(
            "xen-compat.h",
            "#define __XEN_LATEST_INTERFACE_VERSION__ 0x00041300\n",
        );
        write("event_channel.h", "");
        write("grant_table.h", "");
        write("xen.h", text);
        c::read(folder.path(), &["xen.h".to_owned()]).unwrap()
    }

    const GOOD: &str = "
        #ifndef GUARD
        #define GUARD
        #define SCHEDOP_yield 0
        #define SCHEDOP_poll 3
        #define _GTF_reading 3
        #define GTF_reading (1U<<_GTF_reading)
        #define GNTST_eagain (-12)
        #define XENKBD_DRIVER_NAME \"vkbd\"
        #define with_arguments(x) (x)
        enum xenbus_state { XenbusStateConnected = 4 };
        struct mmu_update { uint64_t ptr; uint64_t val; };
        struct evtchn_status {
            uint16_t dom; uint32_t port; uint32_t status; uint32_t vcpu;
            union {
                struct { uint16_t dom; } unbound;
                struct { uint16_t dom; uint32_t port; } interdomain;
                uint32_t pirq;
            } u;
        };
        typedef struct { uint8_t a[16]; } xen_uuid_t;
        #endif";

    #[test]
    fn what_is_the_same_is_covered() {
        let outcome = compare(&headers(GOOD), &Ours::all());
        assert_eq!(outcome.complaints, [""; 0]);
        assert_eq!(outcome.structs.covered, 6);
        assert_eq!(outcome.fields.covered, 2 + 5 + 3 + 1 + 2 + 1);
        assert_eq!(outcome.constants.covered, 6);
        assert_eq!(outcome.constants.left_out, 1);
        assert_eq!(outcome.calls.covered, 2);
    }

    #[test]
    fn each_difference_is_told() {
        for (there, instead, complaint) in [
            (
                "SCHEDOP_poll 3",
                "SCHEDOP_poll 4",
                "SCHEDOP_poll is 4 there, 3 here",
            ),
            ("(-12)", "(-13)", "GNTST_eagain is -13 there, -12 here"),
            ("\"vkbd\"", "\"kbd\"", "XENKBD_DRIVER_NAME is \"kbd\" there"),
            (
                "Connected = 4",
                "Connected = 5",
                "XenbusStateConnected is 5 there",
            ),
            (
                "SCHEDOP_yield 0",
                "SCHEDOP_new 9",
                "there is no function for SCHEDOP_new",
            ),
            (
                "SCHEDOP_yield 0",
                "OTHER 9",
                "OTHER = Number(9) is not covered",
            ),
            (
                "_GTF_reading 3",
                "_GTF_reading 4",
                "GTF_reading is 16 there, 8 here",
            ),
            (
                "uint64_t ptr; uint64_t val;",
                "uint64_t val; uint64_t ptr;",
                "mmu_update.val is at 0",
            ),
            (
                "uint64_t ptr; ",
                "uint32_t ptr; ",
                "mmu_update.ptr is at 0 with 4 bytes there",
            ),
            (
                "uint64_t val; }",
                "uint64_t val, more; }",
                "mmu_update has 24 bytes there, 16 here",
            ),
            (
                "uint64_t val; }",
                "uint64_t value; }",
                "mmu_update.value, at 8 with 8 bytes",
            ),
            (
                "struct mmu_update",
                "struct mmu_other",
                "mmu_other, 16 bytes, is not covered",
            ),
            (
                "} unbound;",
                "} somebody;",
                "evtchn_status.u, 8 bytes, is not covered",
            ),
            ("a[16]", "a[8]", "xen_uuid_t has 8 bytes there, 16 here"),
        ] {
            let text = GOOD.replacen(there, instead, 1);
            assert_ne!(text, GOOD, "{there}");
            let outcome = compare(&headers(&text), &Ours::all());
            assert!(
                outcome.complaints.iter().any(|c| c.contains(complaint)),
                "{complaint}: {:?}",
                outcome.complaints
            );
        }
    }

    #[test]
    fn a_change_here_is_told_too() {
        let theirs = headers(GOOD);
        let mut ours = Ours::all();
        ours.numbers.insert("SCHEDOP_poll", 4);
        assert_eq!(compare(&theirs, &ours).constants.missing, 1);
        let mut ours = Ours::all();
        ours.structs.get_mut("mmu_update").unwrap().fields = &[
            facts::Field {
                name: "ptr",
                offset: 0,
                size: 8,
            },
            facts::Field {
                name: "val",
                offset: 4,
                size: 8,
            },
        ];
        assert_eq!(compare(&theirs, &ours).fields.missing, 1);
        ours.structs.remove("xen_uuid_t");
        assert_eq!(compare(&theirs, &ours).structs.missing, 1);
        assert!(unknown(&Ours::all(), &[theirs]).len() > 1000);
    }

    #[test]
    fn each_call_is_made_by_the_conformance_kernel() {
        const NOT_HARMLESS: [&str; 2] = ["EVTCHNOP_reset", "SCHEDOP_block"];
        let tables = concat!(
            include_str!("../../conformance/src/calls/events.rs"),
            include_str!("../../conformance/src/calls/grants.rs"),
            include_str!("../../conformance/src/calls/hvm.rs"),
            include_str!("../../conformance/src/calls/memory.rs"),
            include_str!("../../conformance/src/calls/others.rs"),
            include_str!("../../conformance/src/calls/pv.rs"),
            include_str!("../../conformance/src/calls/sched.rs"),
            include_str!("../../conformance/src/calls/vcpu.rs"),
            include_str!("../../conformance/src/calls/versions.rs"),
        );
        for call in facts::CALLS {
            let name = call.c_name.trim_start_matches("__HYPERVISOR_");
            let made = tables.contains(&format!("\"{name}\","));
            assert_eq!(made, !NOT_HARMLESS.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("a*", "abc", true),
            ("*_ring", "x_ring", true),
            ("*_ring", "x_ring.y", false),
            ("*_sring.pvt*", "a_sring.pvt.b", true),
            ("PRI*_xen_*", "PRIu_xen_pfn", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
