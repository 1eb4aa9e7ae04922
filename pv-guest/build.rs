//! Puts the linker script where `-Tpv-guest.ld` finds it.

use std::{env, fs, path::PathBuf};

/// What a kernel's objects ask the linker for (`entry!`), which finds it by the linker
/// script only.
const LINKED: &str = "linked/link-the-kernel-with-pv-guest.ld-as-the-README-of-pv-guest-says";

fn main() {
    let variable = |name| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let (out, package) = (variable("OUT_DIR"), variable("CARGO_MANIFEST_DIR"));
    let script = fs::read_to_string("pv-guest.ld").expect("the linker script is in the package");
    let linked = package.join(LINKED);
    let folder = linked.parent().unwrap_or(&package).display().to_string();
    fs::write(
        out.join("pv-guest.ld"),
        format!("SEARCH_DIR(\"{folder}\")\n{script}"),
    )
    .expect("cargo's folder can be written");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rerun-if-changed=pv-guest.ld");
    // By its whole path: a workspace that was moved has its script made anew.
    println!("cargo::rerun-if-changed={}", linked.display());
}
