//! Many guests of one host: whether all of them answer, and what they cost while nobody asks.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    domctl::Xen,
    http::{Client, Target},
    scene::FOLDER,
};

/// Until the last of them has begun to wait.
const SETTLE: Duration = Duration::from_secs(10);
/// How long they are looked at.
const WINDOW: Duration = Duration::from_secs(10);
/// Where an echo server listens, and how long it has to answer.
const ECHO_PORT: u16 = 7;
const PATIENCE: Duration = Duration::from_secs(10);
/// As many have addresses that differ in their last number.
const ROW: u32 = 200;

const fn address(number: u32) -> IpAddr {
    let (row, place) = ((number / ROW) as u8, (number % ROW) as u8 + 1);
    IpAddr::V4(Ipv4Addr::new(10, 9, row, place))
}

/// One of the guests.
struct Guest {
    domain: u32,
    number: u32,
}

/// Those in a list: a line for each, with its domain and its number.
fn guests(list: &str) -> Result<Vec<Guest>> {
    let guest = |line: &str| {
        let (domain, number) = line.split_once(' ').context("a line has two numbers")?;
        let (domain, number) = (domain.parse()?, number.parse()?);
        Ok(Guest { domain, number })
    };
    list.lines().map(guest).collect()
}

/// What the guest said last.
fn last_words(number: u32) -> String {
    let log = format!("/var/log/xen/console/guest-guest{number}.log");
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.trim_end().lines().last().unwrap_or("").to_owned()
}

/// Asks a server for something, and compares what it answers.
fn ask(server: &str, number: u32) -> Result<()> {
    let address = address(number);
    match server {
        "web" => Client::connect(&Target::new(address, Path::new(FOLDER), "1k")?)?.ask(),
        "echo" => {
            let sent = format!("guest {number}").repeat(100);
            let mut stream = TcpStream::connect_timeout(&(address, ECHO_PORT).into(), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(sent.as_bytes())?;
            let mut came = vec![0; sent.len()];
            stream.read_exact(&mut came)?;
            ensure!(came == sent.as_bytes(), "something else comes back");
            Ok(())
        }
        _ => bail!("there is no server {server}"),
    }
}

/// Asks all of a list, and looks how long they run when nobody does.
pub(crate) fn run(server: &str, list: &Path) -> Result<()> {
    thread::sleep(SETTLE);
    let guests = guests(&std::fs::read_to_string(list)?)?;
    let mut answered = 0;
    for Guest { number, .. } in &guests {
        match ask(server, *number) {
            Ok(()) => answered += 1,
            Err(error) => println!(
                "dom0: guest {number} does not answer: {error:#}; it said {:?}",
                last_words(*number)
            ),
        }
    }
    let xen = Xen::open().context("cannot reach Xen")?;
    // One that has ended does not run.
    let ran_ns = |guest: &Guest| xen.ran_ns(guest.domain).unwrap_or(0);
    thread::sleep(SETTLE);
    let (begun, before): (_, Vec<u64>) = (Instant::now(), guests.iter().map(ran_ns).collect());
    thread::sleep(WINDOW);
    let elapsed_ns = begun.elapsed().as_nanos() as u64;
    let mut all_ns = 0;
    for (guest, before_ns) in guests.iter().zip(before) {
        let ran_ns = ran_ns(guest).saturating_sub(before_ns);
        all_ns += ran_ns;
        if ran_ns > elapsed_ns / 10 {
            println!(
                "dom0: guest {} is busy, {} ms of {}; it said {:?}",
                guest.number,
                ran_ns / 1_000_000,
                elapsed_ns / 1_000_000,
                last_words(guest.number)
            );
        }
    }
    println!(
        "bench: measure {server} guests={} ops={answered} ns={elapsed_ns} ran={all_ns}",
        guests.len()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_has_its_address() {
        assert_eq!(address(0).to_string(), "10.9.0.1");
        assert_eq!(address(399).to_string(), "10.9.1.200");
    }

    #[test]
    fn lists_are_read() {
        let all = guests("7 0\n9 2\n").unwrap();
        assert_eq!((all.len(), all[1].domain, all[1].number), (2, 9, 2));
        assert!(guests("7\n").is_err());
    }
}
