//! Values in xenstore as toolstacks and scripts write them: with white space and NULs.

use hypercall_abi::platform::Clock;
use mock_hypervisor::{Config, DiskConfig, Outcome, Time, Xen};
use pv_frontends::{
    blkfront::{self, Disk, Geometry},
    xenbus::Bus,
};

use crate::kernel;

const FRONTEND: &str = "/local/domain/1/device/vbd/51712";
const BACKEND: &str = "/local/domain/0/backend/vbd/1/51712";

/// What is known of a disk that connects within a second, while this value is in the store.
fn geometry(folder: &str, name: &str, value: &[u8]) -> Option<Geometry> {
    let xen = Xen::new(Time::Virtual);
    let domain = xen.domain(Config::default()).unwrap();
    xen.attach_disk(domain.domid(), DiskConfig::default());
    xen.store_write(&format!("{folder}/{name}"), value).unwrap();
    let outcome = domain.run(|domain| {
        let deadline_ns = domain.now_ns() + 1_000_000_000;
        let ready = kernel::run_until(domain, Some(deadline_ns), async |bus: Bus<'_, _>| {
            let disk = Disk::new(bus, "51712", blkfront::Config::default());
            disk.ready().await.ok()
        });
        ready.unwrap().flatten()
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
    ] {
        let text = String::from_utf8_lossy(value);
        let known = geometry(folder, name, value);
        assert!(known.is_some(), "{name} = {text:?}");
        let nonsense = geometry(folder, name, b"nonsense");
        assert_ne!(nonsense, known, "{name}");
    }
}

#[test]
fn a_value_says_the_same_with_them() {
    let usual = geometry(BACKEND, "unknown", b"1").unwrap();
    let read_only = geometry(BACKEND, "mode", b"r").unwrap();
    assert_ne!(read_only, usual);
    for value in ["r\0", "r\n", " r", "\tr \n\0"] {
        let told = geometry(BACKEND, "mode", value.as_bytes());
        assert_eq!(told, Some(read_only), "{value:?}");
    }
}
