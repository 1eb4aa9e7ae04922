//! A guest on a real Xen: the job that the initial domain is given, and what it
//! says about it.

use std::{
    fs,
    io::{BufRead, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use guest_names::Names;

use crate::{
    build::{
        disk,
        guest::{self, Build, Tool},
        spoil,
    },
    folders::{self, run_folder},
    job::{
        Debug, Job, Report, Show, Start, With,
        disk::{Access, Disk},
        exit::Ended,
    },
    platforms::{
        crash,
        run::{Watchdog, announce, feed, invite, show},
    },
    say::Patient,
    xen_machine::{
        job_disk::{self, Lent},
        linux,
        machine::{Parts, debugger, write_job},
        relay::Relay,
        scene,
    },
};

const JOB_SCRIPT: &str = include_str!("../../dom0/job.sh");
const DEVICES_SCRIPT: &str = include_str!("../../dom0/devices.sh");
const SILENCE_SCRIPT: &str = include_str!("../../dom0/silence.sh");
const TROUBLE_SCRIPT: &str = include_str!("../../dom0/trouble.sh");

/// The second guest's.
const PEER_COMMAND_LINE: &str = "pair=back";

fn configuration(job: &Job, name: &str, command_line: &str) -> String {
    let kind = job.platform.guest_type();
    // xl reads strings as Python does, in single or double quotes.
    let (ramdisk, options, least_mib) = if job.guest == linux::NAME {
        (
            "ramdisk=\"/job/ramdisk\"\n",
            linux::OPTIONS,
            linux::MEMORY_MIB,
        )
    } else if job.module.is_some() {
        ("ramdisk=\"/job/ramdisk\"\n", "", 0)
    } else {
        ("", "", 0)
    };
    let disks = job.disks.iter().enumerate();
    let mut disks: Vec<String> = disks.map(|(at, disk)| target(job, at, disk)).collect();
    match job.with {
        With::DiskFaults => disks = vec!["\"phy:/dev/dm-0,xvda,w\"".to_owned()],
        With::Bench => disks = vec!["\"phy:/dev/ram0,xvda,w\"".to_owned()],
        _ => {}
    }
    // For the claims: more than one page of the queues' array has.
    let channels = match job.with {
        With::Toolstack => "max_event_channels=2000\n",
        _ => "",
    };
    let has_network = job.net.is_some() || job.with == With::Bench || scene::has_network(job);
    let interface = match job.with {
        With::Density => NETWORK_INTERFACE_OF_MANY,
        _ => NETWORK_INTERFACE,
    };
    let mut interfaces = vec![interface.to_owned()];
    interfaces.retain(|_| has_network);
    if job.with == With::Devices {
        let disk = |at| format!("\"phy:/dev/ram0,xvd{},r\"", letters(at));
        disks = (0..number_of(job, "disks")).map(disk).collect();
        if job.command_line.contains("devices=odd") {
            let disk = |(at, device)| format!("\"phy:/dev/{device},xvd{},w\"", letters(at));
            disks = ODD_DISKS.into_iter().enumerate().map(disk).collect();
        }
        let nic = |at| format!("\"mac=00:16:3e:00:01:{at:02x},bridge=xenbr0,script=vif\"");
        interfaces = (0..number_of(job, "nics")).map(nic).collect();
    }
    let maxmem = job.max_memory_mib.map(|mib| format!("maxmem={mib}\n"));
    let maxmem = maxmem.unwrap_or_default();
    let command_line = format!("{options} {command_line}");
    let command_line = quoted(command_line.trim_start());
    format!(
        "name=\"{name}\"\ntype=\"{kind}\"\nkernel=\"/job/image\"\nmemory={}\nvcpus={}\n\
         cmdline={command_line}\ntsc_mode=\"native\"\non_poweroff=\"destroy\"\n\
         on_crash=\"destroy\"\non_reboot=\"destroy\"\non_watchdog=\"destroy\"\n{maxmem}{channels}{ramdisk}disk=[{}]\nvif=[{}]\n",
        job.memory_mib.max(least_mib),
        job.vcpus,
        disks.join(", "),
        interfaces.join(", ")
    )
}

/// A text as `xl` reads it.
fn quoted(text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{text}\"")
}

/// What domain 0 has for `devices=odd`.
const ODD_DISKS: [&str; 3] = ["loop4", "loop6", "loop5"];

/// The value of a `name=number` word of the guest's command line; 0: there is none.
fn number_of(job: &Job, name: &str) -> usize {
    let mut words = job.command_line.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// How the disk of a number is called: a, b, ... z, aa, ab, ...
fn letters(index: usize) -> String {
    let letter = char::from(b'a' + (index % 26) as u8);
    match index / 26 {
        0 => letter.to_string(),
        above => letters(above - 1) + &letter.to_string(),
    }
}

/// A network interface in the guest's configuration, on the bridge that leads out.
const NETWORK_INTERFACE: &str = "\"mac=00:16:3e:00:00:01,bridge=xenbr0,script=vif\"";

/// One of which there are many: the toolstack chooses each one's address.
const NETWORK_INTERFACE_OF_MANY: &str = "\"bridge=xenbr0,script=vif\"";

/// The configuration of a Linux guest on the same bridge.
fn neighbour(job: &Job) -> String {
    format!(
        "name=\"peer\"\ntype=\"{}\"\nkernel=\"/job/neighbour\"\nramdisk=\"/job/ramdisk\"\n\
         memory={}\nvcpus=1\ncmdline=\"{} visit=10.0.2.15\"\n\
         vif=[\"mac=00:16:3e:00:00:02,bridge=xenbr0,script=vif\"]\n\
         on_poweroff=\"destroy\"\non_crash=\"destroy\"\n",
        job.platform.guest_type(),
        linux::MEMORY_MIB,
        linux::OPTIONS,
    )
}

/// What domain 0 fetches, of a guest that has such an address.
const VISITED: &str = "http://[fd00::15]/files/hello.txt";

/// Whether a disk lies on the job's own, where the guest reads it. One that Linux
/// looks at is a file.
/// Whether the guest gets the disk's file itself, and no copy of it.
fn is_lent(job: &Job, disk: &Disk) -> bool {
    disk.access == Access::Read && job.with != With::Check
}

/// A disk in the guest's configuration: the job sets up a device for each.
fn target(job: &Job, index: usize, disk: &Disk) -> String {
    let letter = char::from(b'a' + (index % 26) as u8);
    let mode = match disk.access {
        Access::Read => 'r',
        Access::Write => 'w',
    };
    let device = match is_lent(job, disk) {
        true => format!("dm-{}", 16 + index),
        false => format!("loop{index}"),
    };
    format!("\"phy:/dev/{device},xvd{letter},{mode}\"")
}

/// What the initial domain's console says, sorted.
#[derive(Default)]
struct Transcript {
    mark: String,
    console: String,
    log: Vec<String>,
    ended: Option<Ended>,
    stage: Stage,
    create_log: String,
}

/// Whose words a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Guests,
    Others,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Before,
    Guest,
    Log,
}

impl Transcript {
    /// Expects lines of the job's own behind `mark`.
    fn new(mark: String) -> Self {
        Self {
            mark,
            ..Self::default()
        }
    }

    /// Whether the start of a line may turn out to be the job's own.
    fn could_be_ours(&self, line: &[u8]) -> bool {
        let len = line.len().min(self.mark.len());
        line.get(..len) == self.mark.as_bytes().get(..len)
    }

    /// Takes a line, and says whose it was.
    fn line(&mut self, line: &str) -> Whose {
        if let Some(word) = line.trim_end().strip_prefix(&self.mark) {
            let word = word.trim_start();
            match word.split_once(' ').map_or(word, |(word, _)| word) {
                "begin" | "peers" => self.stage = Stage::Guest,
                "log" => self.stage = Stage::Log,
                "refused" => self.ended = Some(Ended::Refused(self.create_log.trim().to_owned())),
                "end" => {
                    let reason = word.rsplit(' ').next().and_then(|word| word.parse().ok());
                    self.ended = Some(reason.map_or_else(
                        || Ended::Died("without telling why".to_owned()),
                        Ended::Shutdown,
                    ));
                }
                _ => {}
            }
            return Whose::Others;
        }
        match self.stage {
            Stage::Before => {
                self.create_log.push_str(line);
                Whose::Others
            }
            Stage::Guest => {
                self.console.push_str(line);
                Whose::Guests
            }
            Stage::Log => {
                // Xen lists the state that it saves when it starts a guest. What a guest
                // writes there has its number in front.
                let is_xens = line.starts_with("(XEN)") || line.starts_with("(d");
                if is_xens && !line.contains(" save: ") {
                    self.log.push(line.trim_end().to_owned());
                }
                Whose::Others
            }
        }
    }
}

/// Runs a guest on a real Xen.
pub(crate) fn run(job: &Job) -> Result<Report> {
    let is_linux = job.guest == linux::NAME;
    let kernel_path = if is_linux {
        let _lock = folders::lock()?;
        Parts::ensure(job.xen)?.linux()
    } else {
        guest::build(&job.guest, Build::Kernel)?
    };
    let mut kernel = fs::read(&kernel_path)?;
    announce(job, &kernel);
    if let Some(spoil) = job.spoil {
        kernel = spoil::image(&kernel, spoil)?;
    }
    let parts = {
        let _lock = folders::lock()?;
        let parts = Parts::ensure(job.xen)?;
        if job.start == Start::Restored {
            parts.ensure_saved(job.pace)?;
        }
        parts
    };
    let folder = run_folder()?;
    let name = match job.with {
        With::Density => "guest@NUMBER@",
        _ => "guest",
    };
    let mut own = configuration(job, name, &job.command_line).into_bytes();
    for line in &job.xl {
        own.extend_from_slice(line);
        own.push(b'\n');
    }
    let peer = configuration(job, "peer", PEER_COMMAND_LINE);
    let script = match job.debug {
        Debug::Off => scene::script(job.with).unwrap_or(JOB_SCRIPT).to_owned(),
        Debug::Gdb => JOB_SCRIPT.replace("(sleep", "read -r _\n(sleep"),
    };
    let mut files: Vec<(&str, Vec<u8>)> = vec![
        ("image", kernel.clone()),
        ("guest.cfg", own),
        ("run.sh", script.into_bytes()),
    ];
    if is_linux {
        let ramdisk = linux::ramdisk(&parts.tree, &job.command_line)?;
        files.push(("ramdisk", ramdisk));
    } else if let Some(module) = &job.module {
        let content = fs::read(module);
        let content = content.with_context(|| format!("there is no {}", module.display()))?;
        files.push(("ramdisk", content));
    }
    let names: Vec<String> = (0..job.disks.len()).map(|at| format!("disk{at}")).collect();
    let mut lent = Vec::new();
    for (index, (name, disk)) in names.iter().zip(&job.disks).enumerate() {
        let content = fs::read(&disk.path);
        let content = content.with_context(|| format!("there is no {}", disk.path.display()))?;
        match is_lent(job, disk) {
            true => lent.push(Lent { index, content }),
            false => files.push((name, content)),
        }
    }
    files.push(("lent", job_disk::list(&lent)?.into_bytes()));
    match job.with {
        With::Check => files.push(("check", disk::partitions().into_bytes())),
        With::Nobody | With::Crowd | With::Clients => {}
        With::Neighbour => {
            files.push(("peer.cfg", neighbour(job).into_bytes()));
            files.push(("neighbour", fs::read(parts.linux())?));
            files.push(("ramdisk", linux::ramdisk(&parts.tree, "")?));
        }
        With::Scene | With::Density => files.extend(scene::files(job)?),
        With::Visitor => files.push(("visit6", VISITED.into())),
        With::Peer => files.push(("peer.cfg", peer.into_bytes())),
        With::Linux => {
            let tool = guest::build_tool(Tool::LinuxPeer)?;
            files.push(("linux-peer", fs::read(tool)?));
        }
        With::DiskFaults => files.push(("trouble", TROUBLE_SCRIPT.into())),
        With::Bench => files.push(("bench", fs::read(guest::build_tool(Tool::LinuxLoad)?)?)),
        With::Devices => {
            files.push(("devices", DEVICES_SCRIPT.into()));
            // The other side of the guest's connections.
            if job.command_line.contains("devices=offloads") {
                files.push(("load", fs::read(guest::build_tool(Tool::LinuxLoad)?)?));
            }
        }
        With::Outward => files.push(("outward", Vec::new())),
        With::Silence => files.push(("silence", SILENCE_SCRIPT.into())),
        With::Toolstack => files.push(("toolstack", Vec::new())),
        With::Echo | With::Store => {
            files.push(("xs", fs::read(guest::build_tool(Tool::Store)?)?));
            if job.with == With::Store {
                files.push(("busy", Vec::new()));
            }
        }
    }
    write_job(folder.path(), &files, &lent)?;
    let relay = job.net.map(|net| Relay::open(net.address())).transpose()?;
    let port = relay.as_ref().map(Relay::inner);
    let mut machine = parts.start(folder.path(), job.start, job.pace, port, job.debug)?;
    if job.debug == Debug::Gdb {
        let socket = debugger(folder.path());
        invite(
            &kernel_path,
            &socket,
            "the guest starts when you press Enter here",
        );
    }
    // Starting Xen is not the guest's time.
    let allowance = Duration::from_secs(if job.start == Start::Cold { 90 } else { 20 });
    let watchdog = Watchdog::start(machine.pid(), job.timeout + allowance);
    let mut input = machine.input()?;
    let mut output = machine.output()?;
    // Nothing that a guest writes is taken for the job's word: it cannot know the mark.
    let run = folder.path().file_name().unwrap_or_default();
    let mark = format!("@@LAB-{}", run.to_string_lossy());
    let mut transcript = Transcript::new(mark.clone());
    // An archive has a header of 512 bytes for each file, and pads it.
    let bytes: usize = files.iter().map(|(_, content)| content.len() + 1024).sum();
    let blocks = bytes / 65536 + 2;
    let start = format!(
        "dd if=/dev/vda bs=64k count={blocks} iflag=direct 2>/dev/null | tar xf - -C /job; \
         mark={mark} sh /job/run.sh\n"
    );
    if job.start == Start::Cold {
        machine.wait_until_ready(&mut output)?;
    }
    input.write_all(start.as_bytes())?;
    input.flush()?;

    let input = Arc::new(Mutex::new(Some(input)));
    let names = Names::of(&kernel_path);
    let guest_watchdog = follow(
        job,
        &names,
        &mut output,
        &mut transcript,
        &input,
        machine.pid(),
    );
    let expired = watchdog.stop() | guest_watchdog.is_some_and(Watchdog::stop);
    if job.show == Show::Verbose {
        for line in &transcript.log {
            eprintln!("{line}");
        }
    }
    let ended = if expired {
        Ended::TimedOut
    } else {
        transcript
            .ended
            .unwrap_or_else(|| Ended::Died("with its machine".to_owned()))
    };
    Ok(Report {
        ended,
        console: transcript.console,
        diagnosis: crash::stack_overflow(&transcript.log, &crash::guards(&kernel), &names),
        hypervisor_log: transcript.log,
        complaint: None,
    })
}

type SharedInput = Arc<Mutex<Option<std::process::ChildStdin>>>;

/// Reads the machine's console until the guest has ended.
fn follow(
    job: &Job,
    names: &Names,
    output: &mut impl BufRead,
    transcript: &mut Transcript,
    input: &SharedInput,
    pid: u32,
) -> Option<Watchdog> {
    let mut watchdog = None;
    let mut line = Vec::new();
    let mut shown = 0;
    // An empty line is not shown before the next one: the last is the initial
    // domain's, before its mark.
    let mut gap: &[u8] = b"";
    while transcript.ended.is_none() {
        let chunk = match output.fill_buf() {
            Ok(chunk) if !chunk.is_empty() => chunk.to_vec(),
            _ => break,
        };
        output.consume(chunk.len());
        for byte in chunk.into_iter().filter(|byte| *byte != b'\r') {
            if byte == b'\n' {
                line.extend(names.suffix(&line).as_bytes());
            }
            line.push(byte);
            if byte == b'\n' {
                let text = String::from_utf8_lossy(&line);
                if transcript.line(&text) == Whose::Guests {
                    show(job, std::mem::take(&mut gap), Patient(std::io::stdout()));
                    if line == b"\n" {
                        gap = b"\n";
                    } else {
                        show(
                            job,
                            line.get(shown..).unwrap_or(&[]),
                            Patient(std::io::stdout()),
                        );
                    }
                }
                line.clear();
                shown = 0;
            }
        }
        if transcript.stage == Stage::Guest {
            // A prompt has no end of line: show what can only be the guest's.
            if !transcript.could_be_ours(&line) {
                show(job, std::mem::take(&mut gap), Patient(std::io::stdout()));
                show(
                    job,
                    line.get(shown..).unwrap_or(&[]),
                    Patient(std::io::stdout()),
                );
                shown = line.len();
            }
            if watchdog.is_none() {
                watchdog = Some(Watchdog::start(pid, job.timeout));
                if job.show != Show::Kept {
                    let input = input.lock().unwrap_or_else(PoisonError::into_inner).take();
                    if let Some(input) = input {
                        feed(input);
                    }
                }
            }
        }
    }
    watchdog
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Platform;

    #[test]
    fn the_guests_words_and_xens_are_told_apart() {
        let mut transcript = Transcript::new("@@LAB-x".to_owned());
        for line in [
            "noise\n",
            "@@LAB-x begin\n",
            "hello\n",
            "(XEN) a guest may write this, too\n",
            "@@LAB end reason code 7\n",
            "@@LAB-x peers\n",
            "the other\n",
            "@@LAB-x log\n",
            "(XEN) crashed\n",
            "@@LAB-x end reason code 3\n",
        ] {
            transcript.line(line);
        }
        assert_eq!(
            transcript.console,
            "hello\n(XEN) a guest may write this, too\n@@LAB end reason code 7\nthe other\n"
        );
        assert_eq!(transcript.log, ["(XEN) crashed"]);
        assert_eq!(transcript.ended, Some(Ended::Shutdown(3)));
    }

    #[test]
    fn a_prompt_is_shown_before_its_line_ends() {
        let transcript = Transcript::new("@@LAB-x".to_owned());
        assert!(!transcript.could_be_ours(b"name? "));
        for ours in [b"".as_slice(), b"@@", b"@@LAB-x end"] {
            assert!(transcript.could_be_ours(ours));
        }
    }

    #[test]
    fn a_refused_guest_says_why() {
        let mut transcript = Transcript::new("@@LAB-x".to_owned());
        transcript.line("xl: bad image\n");
        transcript.line("@@LAB-x refused\n");
        assert_eq!(
            transcript.ended,
            Some(Ended::Refused("xl: bad image".into()))
        );
    }

    #[test]
    fn a_command_line_cannot_leave_its_quotes() {
        let job = Job {
            command_line: "a\"\nextra=\"b\\".into(),
            disks: vec!["x:ro".parse().unwrap(), "y".parse().unwrap()],
            ..Job::new("hello", Platform::XenPvh)
        };
        let text = configuration(&job, "guest", &job.command_line);
        assert!(text.contains(r#"cmdline="a\"\nextra=\"b\\""#));
        assert!(text.contains("type=\"pvh\"\n"));
        assert!(text.contains("disk=[\"phy:/dev/dm-16,xvda,r\", \"phy:/dev/loop1,xvdb,w\"]\n"));
    }
}
