//! A guest with one network interface.

use mock_hypervisor::{Config, Domain, NicConfig, NicId, Outcome, Tap, Time, Xen};
use pv_frontends::{
    netfront::{self, Nic},
    xenbus::Bus,
};

use crate::kernel;

pub(crate) const MAC: [u8; 6] = [0, 0x16, 0x3e, 0, 0, 1];
pub(crate) const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

pub(crate) fn guest(xen: &Xen) -> Domain {
    let config = Config {
        memory_mib: 16,
        ..Config::default()
    };
    xen.domain(config).unwrap()
}

/// What a test has of its host.
pub(crate) struct Host {
    pub(crate) xen: Xen,
    pub(crate) id: NicId,
    pub(crate) tap: Tap,
}

/// Runs a guest with one network interface.
pub(crate) fn with_nic<T>(
    config: NicConfig,
    wanted: netfront::Config,
    main: impl for<'g> AsyncFnOnce(&Host, Nic<'g, &'g Domain>) -> T,
) -> T {
    let xen = Xen::new(Time::Virtual);
    let domain = guest(&xen);
    let id = xen.attach_nic(domain.domid(), config);
    let tap = xen.tap("xenbr0");
    let host = Host { xen, id, tap };
    let outcome = domain.run(|domain| {
        let value = kernel::run_until(domain, Some(3_000_000_000_000), async |bus: Bus<'_, _>| {
            let ids = bus.devices("vif").await.unwrap();
            assert_eq!(ids, ["0"]);
            main(&host, Nic::new(bus, ids[0].as_str(), wanted)).await
        });
        let value = value.unwrap().expect("it waits for ever");
        let kept = host.xen.remove_nic(host.id);
        assert_eq!(domain.grants_in_use(), kept);
        value
    });
    match outcome {
        Outcome::Returned(value) => value,
        Outcome::Shutdown(shutdown) => panic!("{shutdown:?}"),
    }
}

pub(crate) fn ethernet(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &OTHER, &kind.to_be_bytes(), payload].concat()
}

pub(crate) fn plain(to: [u8; 6], len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 14)
        .map(|at| (at as u8).wrapping_mul(7) ^ (at >> 8) as u8)
        .collect();
    ethernet(to, 0x88b5, &payload)
}
