//! Values in xenstore as toolstacks and scripts write them: with white space and NULs.

#[expect(dead_code, reason = "nothing here pauses")]
mod kernel;

use hypercall_abi::platform::Clock;
use mock_hypervisor::{Config, DiskConfig, Outcome, Time, Xen};
use pv_guest::{
    blkfront::{self, Disk},
    xenbus::Bus,
};

const FRONTEND: &str = "/local/domain/1/device/vbd/51712";
const BACKEND: &str = "/local/domain/0/backend/vbd/1/51712";

/// Whether a disk connects within a second.
fn connects(folder: &str, name: &str, value: &[u8]) -> bool {
    let xen = Xen::new(Time::Virtual);
    let domain = xen.domain(Config::default()).unwrap();
    xen.attach_disk(domain.domid(), DiskConfig::default());
    xen.store_write(&format!("{folder}/{name}"), value).unwrap();
    let outcome = domain.run(|domain| {
        let deadline_ns = domain.now_ns() + 1_000_000_000;
        let ready = kernel::run_until(domain, Some(deadline_ns), async |bus: Bus<'_, _>| {
            let disk = Disk::new(bus, "51712", blkfront::Config::default());
            disk.ready().await.is_ok()
        });
        ready.unwrap() == Some(true)
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

#[test]
fn white_space_and_nuls_around_a_value_are_no_part_of_it() {
    for (folder, name, value) in [
        (FRONTEND, "backend-id", &b"0\n"[..]),
        (FRONTEND, "backend-id", b" 0"),
        (FRONTEND, "backend-id", b"0\0"),
        (FRONTEND, "state", b"1\n"),
        (FRONTEND, "state", b"1\0"),
        (FRONTEND, "trusted", b"1\0"),
        (
            FRONTEND,
            "backend",
            b"/local/domain/0/backend/vbd/1/51712\0",
        ),
        (
            FRONTEND,
            "backend",
            b"/local/domain/0/backend/vbd/1/51712\n",
        ),
        (BACKEND, "online", b"1\n"),
        (BACKEND, "online", b"1\0"),
        (BACKEND, "feature-max-indirect-segments", b"32\0"),
        (BACKEND, "mode", b"w\0"),
    ] {
        let text = String::from_utf8_lossy(value);
        assert!(connects(folder, name, value), "{name} = {text:?}");
    }
    // The test can fail.
    assert!(!connects(FRONTEND, "backend-id", b"zero"));
}
