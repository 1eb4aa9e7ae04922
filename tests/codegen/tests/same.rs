//! Compiles this package for kernels, and compares the machine code of each
//! typed hypercall with that of its hand-written twin.

use std::{env, fs, path::Path, process::Command};

use object::{Object, ObjectSection, ObjectSymbol};

/// The code of a function.
fn code(file: &object::File<'_>, name: &str) -> Vec<u8> {
    let symbol = file
        .symbols()
        .find(|symbol| symbol.name() == Ok(name))
        .unwrap_or_else(|| panic!("{name} was not compiled"));
    let section = file
        .section_by_index(symbol.section_index().expect("it has a section"))
        .expect("the section is there");
    let data = section.data().expect("the section has bytes");
    let start = (symbol.address() - section.address()) as usize;
    data[start..start + symbol.size() as usize].to_vec()
}

#[test]
fn typed_hypercalls_are_the_assembly_that_a_person_would_write() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel");
    let status = Command::new(env!("CARGO"))
        .args([
            "rustc",
            "--quiet",
            "--release",
            "--lib",
            "--package",
            "codegen",
        ])
        .args(["--target", "x86_64-unknown-none", "--target-dir"])
        .arg(&target)
        .args(["--", "--emit=obj", "-Ccodegen-units=1"])
        // With it the compiler leaves code generation to the linker.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the package builds for kernels");
    let folder = target.join("x86_64-unknown-none/release/deps");
    let path = fs::read_dir(folder)
        .expect("cargo made the folder")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "o"))
        .max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok())
        .expect("the compiler made an object file");
    let bytes = fs::read(path).expect("it can be read");
    let file = object::File::parse(&*bytes).expect("it is an object file");
    for name in codegen::NAMES {
        let typed = code(&file, &format!("{name}_typed"));
        let by_hand = code(&file, &format!("{name}_by_hand"));
        println!("{name}: {typed:02x?}");
        assert!(!typed.is_empty());
        assert_eq!(typed, by_hand, "{name}: typed (left) and by hand (right)");
    }
}
