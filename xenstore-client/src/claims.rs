//! Who of a client's users has something of the store for himself.

use alloc::{string::String, vec::Vec};

use spin::Mutex;

use crate::{Client, Transport};

/// What somebody has.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<Vec<String>>);

/// A path that its holder alone uses, until this is dropped: see [`Client::claim`].
#[derive(Debug)]
pub struct Claim<'c, T: Transport> {
    client: &'c Client<T>,
    path: String,
}

impl<T: Transport> Client<T> {
    /// Takes `path` for one user, for as long as he keeps what this returns; `None`:
    /// another has it. The server knows nothing of this, and nobody is kept from reading
    /// or writing there: it is for those who ask first, as the drivers of devices do.
    pub fn claim(&self, path: &str) -> Option<Claim<'_, T>> {
        let mut claims = self.claims.0.lock();
        if claims.iter().any(|claimed| claimed == path) {
            return None;
        }
        claims.push(path.into());
        Some(Claim {
            client: self,
            path: path.into(),
        })
    }
}

impl<T: Transport> Drop for Claim<'_, T> {
    fn drop(&mut self) {
        let mut claims = self.client.claims.0.lock();
        claims.retain(|claimed| *claimed != self.path);
    }
}
