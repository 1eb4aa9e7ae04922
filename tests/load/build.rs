//! A stack of 256 KiB: what works on many tasks is made on it.

fn main() {
    if std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|os| os == "none") {
        println!("cargo::rustc-link-arg-bins=--defsym=__boot_stack_bytes=0x40000");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
