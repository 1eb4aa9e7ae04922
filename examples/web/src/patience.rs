//! More clients than there are sockets: none is turned away.
//!
//! A network stack answers whoever knocks while no socket listens with a reset, and
//! his connection is refused. An answer that is not given is better: he knocks again
//! after a second, and a socket may listen then.

use core::task::Context;

use pv_guest::adapt::embassy_net::driver::{
    Capabilities, Driver, HardwareAddress, LinkState, TxToken,
};

/// A driver that sends no resets to those who knock at a port.
pub(crate) struct Patient<D> {
    driver: D,
    port: u16,
}

impl<D> Patient<D> {
    pub(crate) const fn new(driver: D, port: u16) -> Self {
        Self { driver, port }
    }
}

impl<D: Driver> Driver for Patient<D> {
    type RxToken<'a>
        = D::RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Looked<D::TxToken<'a>>
    where
        Self: 'a;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(D::RxToken<'_>, Self::TxToken<'_>)> {
        let port = self.port;
        let (came, token) = self.driver.receive(cx)?;
        Some((came, Looked { token, port }))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Self::TxToken<'_>> {
        let port = self.port;
        let token = self.driver.transmit(cx)?;
        Some(Looked { token, port })
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        self.driver.link_state(cx)
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn hardware_address(&self) -> HardwareAddress {
        self.driver.hardware_address()
    }
}

/// Room for a packet, which is looked at before it goes.
pub(crate) struct Looked<T> {
    token: T,
    port: u16,
}

impl<T: TxToken> TxToken for Looked<T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut small = [0; MOST_BYTES];
        let Some(packet) = small.get_mut(..len) else {
            return self.token.consume(len, fill);
        };
        let value = fill(packet);
        if !turns_away(packet, self.port) {
            self.token.consume(len, |room| room.copy_from_slice(packet));
        }
        value
    }
}

const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
/// A TCP header without options.
const TCP_BYTES: usize = 20;
/// A reset is not larger.
const MOST_BYTES: usize = ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES;

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
const RESET: u8 = 0x04;

/// Whether a packet is the answer to one who knocked while nobody listened: a reset
/// that tells no number of its own, for there is no connection (RFC 9293, 3.10.7.1).
fn turns_away(packet: &[u8], port: u16) -> bool {
    let find = || {
        let (ethernet, rest) = packet.split_at_checked(ETHERNET_BYTES)?;
        let (protocol, header_bytes) = match *ethernet.last_chunk()? {
            IPV4 => (*rest.get(9)?, IPV4_BYTES),
            IPV6 => (*rest.get(6)?, IPV6_BYTES),
            _ => return None,
        };
        let header: [u8; TCP_BYTES] = *rest.get(header_bytes..)?.first_chunk()?;
        Some((protocol, header))
    };
    find().is_some_and(|(protocol, header)| {
        let [
            from_high,
            from_low,
            _,
            _,
            n0,
            n1,
            n2,
            n3,
            ..,
            flags,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = header;
        protocol == TCP
            && u16::from_be_bytes([from_high, from_low]) == port
            && [n0, n1, n2, n3] == [0; 4]
            && flags & RESET != 0
    })
}
