//! Links the image by the script of `pv-guest`. Arguments of a build script stay where
//! `RUSTFLAGS` replaces those of `.cargo/config.toml`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        // A stack of 256 KiB: the network stack is made on it, with its many sockets.
        println!("cargo::rustc-link-arg-bins=--defsym=__boot_stack_bytes=0x40000");
        // Loaders copy segments: they need not lie on pages in the file.
        for argument in ["-Tpv-guest.ld", "--no-pie", "--nmagic"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
