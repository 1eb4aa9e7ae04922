//! Puts the linker script where `-Tpv-guest.ld` finds it.

use std::{env, fs, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::copy("pv-guest.ld", out.join("pv-guest.ld")).expect("the linker script is in the package");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rerun-if-changed=pv-guest.ld");
}
