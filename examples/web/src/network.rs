//! The guest's addresses.

use pv_guest::{
    abi::io::netif::NetifHashTypes,
    net::{self, Stack, V4, V6},
    netfront::{self, Steering},
    println, time,
};

use crate::memory::Memory;

/// What the command line says of a name.
pub(crate) fn word<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = command_line.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The network interface that the command line wants: by default, one queue.
pub(crate) fn device(
    command_line: &str,
    memory: &Memory,
) -> Result<netfront::Config, &'static str> {
    let queues = word(command_line, "queues").map(str::parse).transpose();
    let queues = queues.map_err(|_| "queues= is a number")?.unwrap_or(1);
    // A connection's packets all come on one queue, whoever made it.
    let key = core::array::from_fn(|at| (time::now_ns() >> (at % 8 * 3)) as u8 | 1);
    Ok(netfront::Config {
        queues,
        rx_pages: memory.rx_pages(queues),
        steering: Some(Steering {
            key,
            hashes: NetifHashTypes::IPV4_TCP | NetifHashTypes::IPV6_TCP,
        }),
        ..netfront::Config::default()
    })
}

/// What the command line says: static addresses, or DHCP.
pub(crate) fn config(command_line: &str) -> Result<net::Config, &'static str> {
    let word = |name| word(command_line, name);
    let v4 = match word("ip") {
        None | Some("dhcp") => V4::Dhcp,
        Some(address) => {
            let gateway = word("gateway").map(str::parse).transpose();
            V4::Static {
                address: address
                    .parse()
                    .map_err(|()| "ip= is an address and the length of its prefix: 192.0.2.5/24")?,
                gateway: gateway.map_err(|_| "gateway= is an address: 192.0.2.1")?,
            }
        }
    };
    let v6 = match word("ip6") {
        None => V6::None,
        Some(address) => V6::Static {
            address: address
                .parse()
                .map_err(|()| "ip6= is an address and the length of its prefix: 2001:db8::5/64")?,
            gateway: None,
        },
    };
    Ok(net::Config {
        v4,
        v6,
        ..net::Config::default()
    })
}

/// Says where the server is, when it is known.
pub(crate) async fn announce(stack: &Stack<'_>, port: u16) -> Result<(), net::Error> {
    stack.ready().await?;
    if let Some(address) = stack.v4() {
        println!("web: http://{}:{port}/", address.address());
    }
    if let Some(address) = stack.v6() {
        println!("web: http://[{}]:{port}/", address.address());
    }
    Ok(())
}
