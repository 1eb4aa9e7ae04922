//! All tests: the host's own, the scenarios, and the claims.

use std::{fs, process::Command, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{
    checks::{
        builders, ends, flood, foreign,
        matrix::{self, Column, Verdict},
        narrow, outward, refused, reset, same,
        scenario::{self, Scenario, is_wanted},
        silence, size, start_cost, surroundings, tools, waiting, words,
    },
    folders,
    job::Platform,
    reports::{
        abi,
        bench::sizes,
        claims::{self, Form},
    },
    say::say,
    workers,
};

/// The host's own tests: those of everything that has some, with the features that some
/// of them need, in one build.
const HOST_TESTS: &[&str] = &[
    "--workspace",
    "--exclude=hello",
    "--exclude=disk",
    "--exclude=echo",
    "--exclude=web",
    "--exclude=load",
    "--features",
    "mock-hypervisor/user,xenstore-client/std,pv-guest/critical-section,\
     pv-guest/embassy-net,pv-guest/ext4-view,pv-guest/picoserve",
];

/// A test that is tried on each platform of some: its name, on which, and what it does.
type ColumnTest = (&'static str, fn(Platform) -> bool, fn(Column) -> Result<()>);

const COLUMN_TESTS: &[ColumnTest] = &[
    ("every line arrives", |_| true, flood::check),
    // A process of the mock's was built so before.
    (
        "development profile",
        Platform::boots_kernels,
        surroundings::check_development,
    ),
    (
        "machines without ACPI",
        |platform| platform == Platform::Qemu,
        reset::check,
    ),
    (
        "sizes of the examples",
        |platform| platform == Platform::User,
        sizes::check,
    ),
    ("smallest guest", Platform::boots_kernels, size::check),
    ("odd command lines", Platform::is_xen, words::check),
    (
        "nothing leads out of the machine",
        Platform::is_xen,
        outward::check,
    ),
    (
        "nobody reads the console for 8 s",
        Platform::is_xen,
        silence::check_short,
    ),
    (
        "nightly: nobody reads the console for 38 s",
        Platform::is_xen,
        silence::check_long,
    ),
    (
        "a panic while nobody reads the console",
        Platform::is_xen,
        silence::check_panic,
    ),
];

/// Runs all tests.
pub(crate) fn run(columns: &[Column], filter: &str, forms: &[Form]) -> Result<u8> {
    let mut failures = Vec::new();
    if filter.is_empty() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        // One that fails keeps no other back.
        let status = Command::new(cargo)
            .current_dir(folders::root())
            .args(["test", "--no-fail-fast"])
            .args(HOST_TESTS)
            .status()
            .context("cannot run cargo test")?;
        if !status.success() {
            let arguments = HOST_TESTS.join(" ");
            failures.push(format!("host: cargo test {arguments} failed"));
        }
    }
    let has = |platform| columns.iter().any(|column| column.platform == platform);
    let mut passed = 0;
    let is_for = |scenario: &Scenario, column: &Column| {
        scenario.is_wanted(*column, filter) && scenario.is_for(*column)
    };
    let scenarios: Vec<_> = scenario::all()
        .filter(|scenario| columns.iter().any(|column| is_for(scenario, column)))
        .collect();
    let mut tries: Vec<Try<'_>> = Vec::new();
    if "domain builder".contains(filter) && has(Platform::User) {
        for column in columns.iter().filter(|it| it.platform == Platform::XenPv) {
            let check = move || builders::compare(column.xen);
            tries.push(Try::on(*column, "domain builder", check));
        }
    }
    // The other build takes minutes.
    const TWO_BUILDS: &str = "nightly: the same seeds in two builds";
    if is_wanted(TWO_BUILDS, filter) {
        tries.push(Try::by_itself(TWO_BUILDS, two_builds));
    }
    let user: &[Platform] = &[Platform::User];
    for (name, platforms, check) in [
        (
            "the same file",
            &[Platform::User, Platform::XenPv][..],
            same::check as fn() -> Result<()>,
        ),
        ("gdb", user, tools::debug),
        ("coverage", user, tools::coverage),
        ("grub", user, foreign::grub),
        ("an ordinary user", user, narrow::check),
        ("how a process ends", user, ends::check),
        ("refused calls", user, refused::check),
        ("the cost of a start", user, start_cost::check),
        ("virtual time", user, tools::steady),
        ("a guest that waits", user, waiting::check),
        (
            "folders and flags",
            &[
                Platform::User,
                Platform::Mock,
                Platform::Qemu,
                Platform::XenPv,
            ],
            surroundings::check,
        ),
    ] {
        if name.contains(filter) && platforms.iter().all(|platform| has(*platform)) {
            tries.push(Try::by_itself(name, check));
        }
    }
    for (name, is_for, check) in COLUMN_TESTS {
        if is_wanted(name, filter) {
            for column in columns.iter().filter(|it| is_for(it.platform)) {
                tries.push(Try::on(*column, name, move || check(*column)));
            }
        }
    }
    if filter.is_empty() {
        for column in columns {
            let check = move || isolation(*column);
            tries.push(Try::on(*column, "a claim that ends its guest", check));
        }
    }
    if filter.is_empty() && abi::report(&[], false)? != 0 {
        failures.push("hypercall-abi is not what Xen's headers say".to_owned());
    }
    let mut table = Vec::new();
    let both = scenarios.iter().flat_map(|scenario| {
        let wanted = columns.iter().filter(|column| is_for(scenario, column));
        wanted.map(move |column| (scenario, *column))
    });
    let single = tries.len();
    tries.extend(both.map(|(scenario, column)| {
        Try::on(column, scenario.name, move || {
            scenario.check(column).map_err(anyhow::Error::msg)
        })
    }));
    let mut results = workers::do_all(&tries, |it| it.place, Try::check).into_iter();
    for (it, result) in tries.iter().zip(results.by_ref().take(single)) {
        match result {
            Ok(()) => passed += 1,
            Err(why) => failures.push(format!("{}: {why}", it.name)),
        }
    }
    for scenario in &scenarios {
        let mut row = format!("{:24}", scenario.name);
        for column in columns {
            let result = match is_for(scenario, column) {
                true => results.next(),
                false => None,
            };
            let verdict = match &result {
                Some(Ok(())) => "ok",
                Some(Err(_)) => "FAILED",
                None => "-",
            };
            row.push_str(&format!("{verdict:>12}"));
            match result {
                Some(Ok(())) => passed += 1,
                Some(Err(why)) => {
                    failures.push(format!("{} on {}: {why}", scenario.name, column.name()));
                }
                None => {}
            }
        }
        table.push(row);
    }
    let start = Instant::now();
    let matrix = matrix::try_all(columns, filter, "")?;
    if !matrix.rows.is_empty() {
        say!("\n{}", matrix.to_text());
        let seconds = start.elapsed().as_secs_f32();
        say!("{} claims tried in {seconds:.1} s", matrix.rows.len());
        passed += matrix.rows.len() * matrix.columns.len() - matrix.failures().len();
        failures.extend(matrix.failures());
    }
    for form in forms {
        say!("report: {}", claims::write(&matrix, *form)?.display());
    }
    for failure in &failures {
        say!("\nFAILED: {failure}");
    }
    if !scenarios.is_empty() {
        let names: String = columns
            .iter()
            .map(|column| format!("{:>12}", column.name()))
            .collect();
        say!("\n{:24}{names}", "scenario");
        for row in table {
            say!("{row}");
        }
    }
    say!("\n{passed} passed, {} failed", failures.len());
    Ok(u8::from(!failures.is_empty()))
}

/// Where something is tried: one thing at a time in each place, in two places at once.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// On several platforms, or none.
    Several,
    On(Column),
}

/// Something that is tried.
struct Try<'t> {
    place: Place,
    name: String,
    check: Box<dyn Fn() -> Result<()> + Sync + 't>,
}

impl<'t> Try<'t> {
    fn by_itself(name: &str, check: impl Fn() -> Result<()> + Sync + 't) -> Self {
        Self {
            place: Place::Several,
            name: name.to_owned(),
            check: Box::new(check),
        }
    }

    fn on(column: Column, name: &str, check: impl Fn() -> Result<()> + Sync + 't) -> Self {
        Self {
            place: Place::On(column),
            name: format!("{name} on {}", column.name()),
            check: Box::new(check),
        }
    }

    /// Tries it, and says what was wrong.
    fn check(&self) -> Result<(), String> {
        let start = Instant::now();
        let result = (self.check)().map_err(|why| format!("{why:#}"));
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        let seconds = start.elapsed().as_secs_f32();
        say!("{} ... {verdict} ({seconds:.1} s)", self.name);
        result
    }
}

/// That a seed's trace is the same in a build with other optimizations.
fn two_builds() -> Result<()> {
    const TEST: [&str; 6] = [
        "test",
        "--quiet",
        "--package",
        "conformance",
        "--test",
        "pair",
    ];
    const MARK: &str = "traces of 100 runs: ";
    let traces = [&[][..], &["--release"]].map(|profile| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(folders::root())
            .args(TEST)
            .args(profile)
            .args(["--", "--nocapture", "the_same_seed_is_the_same_run"])
            .stderr(std::process::Stdio::inherit())
            .output()
            .context("cannot run cargo test")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let told = text.lines().find_map(|line| Some(line.split_once(MARK)?.1));
        told.map(str::to_owned).context("it tells no trace")
    });
    let [debug, release] = traces;
    let (debug, release) = (debug?, release?);
    if debug != release {
        bail!("one build has {debug}, the other {release}");
    }
    say!("the same seeds have the same traces in two builds: {debug}");
    Ok(())
}

/// That a claim which ends its guest takes no other with it.
fn isolation(column: Column) -> Result<()> {
    const ENDS: &str = "memory::pages_are_zeroed_and_apart";
    let matrix = matrix::try_all(&[column], "memory::", &format!("crash-in={ENDS}"))?;
    for row in &matrix.rows {
        let crashed = matches!(row.verdicts.first(), Some(Verdict::Crashed(_)));
        if crashed != (row.name == ENDS) {
            bail!("{} is told wrongly", row.name);
        }
    }
    if matrix.rows.len() < 2 {
        bail!("too few claims are left to tell");
    }
    Ok(())
}

/// Writes the skeleton of a new claim.
pub(crate) fn new(name: &str) -> Result<u8> {
    let Some((group, claim)) = name.split_once("::") else {
        bail!("a claim is named GROUP::NAME, like events::ports_ring");
    };
    let is_word = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    if !is_word(group) || !is_word(claim) {
        bail!("names are of lower-case letters, digits and underscores");
    }
    let claims = folders::root().join("tests/conformance/src/claims");
    let path = claims.join(format!("{group}.rs"));
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "there is no group {group}: a group is a file of {}",
            claims.display()
        )
    })?;
    if text.contains(&format!("fn {claim}(")) {
        bail!("{group} has {claim} already");
    }
    let list_end = "    },\n};\n";
    let Some(at) = text.find(list_end) else {
        bail!("{} has no list of claims", path.display());
    };
    let (list, rest) = text.split_at(at);
    let text = format!(
        "{list}        on_xen({claim}): \"HEADER.h: WHAT\",\n{rest}\n\
         fn {claim}(guest: &Guest) -> Verdict {{\n    \
             let _platform = guest.platform();\n    \
             ensure(false, \"it is not written yet\")\n}}\n"
    );
    fs::write(&path, text)?;
    say!("{}: {claim} is there, and fails", path.display());
    say!("write it, name its source, then: cargo lab test --filter {name}");
    Ok(0)
}
