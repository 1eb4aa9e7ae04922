//! The guest's addresses.

use embassy_net::{ConfigV6, Ipv4Cidr, Ipv6Cidr, Stack, StaticConfigV4, StaticConfigV6};
use pv_guest::{
    abi::io::netif::NetifHashTypes,
    netfront::{self, Steering},
    println, time,
};

/// What the command line says of a name.
pub(crate) fn word<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = command_line.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The network interface that the command line wants: by default, one queue.
pub(crate) fn device(command_line: &str) -> Result<netfront::Config, &'static str> {
    let queues = word(command_line, "queues").map(str::parse).transpose();
    let queues = queues.map_err(|_| "queues= is a number")?.unwrap_or(1);
    // A connection's packets all come on one queue, whoever made it.
    let key = core::array::from_fn(|at| (time::now_ns() >> (at % 8 * 3)) as u8 | 1);
    Ok(netfront::Config {
        queues,
        steering: Some(Steering {
            key,
            hashes: NetifHashTypes::IPV4_TCP | NetifHashTypes::IPV6_TCP,
        }),
        ..netfront::Config::default()
    })
}

/// What the command line says: static addresses, or DHCP.
pub(crate) fn config(command_line: &str) -> Result<embassy_net::Config, &'static str> {
    let word = |name| word(command_line, name);
    let mut config = match word("ip") {
        None | Some("dhcp") => embassy_net::Config::dhcpv4(embassy_net::DhcpConfig::default()),
        Some(address) => {
            let address: Ipv4Cidr = address
                .parse()
                .map_err(|()| "ip= is an address and the length of its prefix: 192.0.2.5/24")?;
            let gateway = word("gateway").map(str::parse).transpose();
            embassy_net::Config::ipv4_static(StaticConfigV4 {
                address,
                gateway: gateway.map_err(|_| "gateway= is an address: 192.0.2.1")?,
                dns_servers: Default::default(),
            })
        }
    };
    if let Some(address) = word("ip6") {
        let address: Ipv6Cidr = address
            .parse()
            .map_err(|()| "ip6= is an address and the length of its prefix: 2001:db8::5/64")?;
        config.ipv6 = ConfigV6::Static(StaticConfigV6 {
            address,
            gateway: None,
            dns_servers: Default::default(),
        });
    }
    Ok(config)
}

/// Says where the server is, when it is known.
pub(crate) async fn announce(stack: Stack<'static>, port: u16) {
    stack.wait_config_up().await;
    if let Some(config) = stack.config_v4() {
        println!("web: http://{}:{port}/", config.address.address());
    }
    if let Some(config) = stack.config_v6() {
        println!("web: http://[{}]:{port}/", config.address.address());
    }
}
