//! Starts the lab, and has it built first where that has to be.
//!
//! `cargo run --package lab` does the same. But cargo takes longer for that than a
//! small guest runs, since it looks at every package of the workspace first.

#[path = "../../src/fresh.rs"]
mod fresh;

use std::{
    env,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

fn main() -> ExitCode {
    // As cargo says now: the workspace may be a copy of the one it was built in.
    let Some(here) = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from) else {
        return failed("start it with cargo lab");
    };
    let root = here.ancestors().nth(3).unwrap_or(&here);
    let lab = fresh::target_dir(root).join("debug/lab");
    match fresh::build(&lab, root, &["--package", "lab"]) {
        Ok(true) => {}
        Ok(false) => return failed("the lab does not build: the reason is above"),
        Err(error) => return failed(&format!("cannot run cargo: {error}")),
    }
    let error = Command::new(&lab)
        .args(env::args_os().skip(1))
        .env("CARGO_MANIFEST_DIR", root.join("tests/lab"))
        .exec();
    failed(&format!("cannot run {}: {error}", lab.display()))
}

fn failed(why: &str) -> ExitCode {
    eprintln!("lab: {why}");
    ExitCode::FAILURE
}
