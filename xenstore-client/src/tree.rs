//! What can be done with nodes, in a transaction or outside of any.

use alloc::{
    string::{String, ToString as _},
    vec::Vec,
};
use core::str::FromStr;

use hypercall_abi::{Errno, io::xs_wire::XsMessageType};

use crate::{
    Client, Error, ErrorKind, Path, Permission, Transport,
    perms::{from_bytes, to_bytes},
    value,
};

/// The longest list of names that [`Tree::directory`] gives, with a byte behind each.
pub const MAX_LIST_BYTES: usize = 256 << 10;
/// The most names in it.
pub const MAX_NAMES: usize = 16 << 10;
/// The most parts that a list is asked for, with those that were in vain because it changed
/// meanwhile. A list of [`MAX_LIST_BYTES`] comes in about 65.
const MAX_PARTS: u32 = 1024;
/// How often a list may change while it is read.
const MAX_CHANGES: u32 = 100;

/// The nodes, as they are now or as a transaction sees them.
#[derive(Debug)]
pub struct Tree<'c, T: Transport> {
    pub(crate) client: &'c Client<T>,
    pub(crate) tx_id: u32,
}

impl<T: Transport> Clone for Tree<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Transport> Copy for Tree<'_, T> {}

fn check(path: &str) -> Result<Path<'_>, Error> {
    Path::new(path).map_err(|error| ErrorKind::Path(error).at(path))
}

/// Names, each ended by a zero.
fn names(list: &[u8]) -> Result<Vec<String>, ErrorKind> {
    let Some(list) = list.strip_suffix(b"\0") else {
        return if list.is_empty() {
            Ok(Vec::new())
        } else {
            Err(ErrorKind::Protocol("a list without an end"))
        };
    };
    // Each name takes many times its length: of short ones, there could be too many.
    if list.split(|byte| *byte == 0).nth(MAX_NAMES).is_some() {
        return Err(ErrorKind::ListTooLong);
    }
    let texts = list.split(|byte| *byte == 0).map(core::str::from_utf8);
    let texts: Result<Vec<&str>, _> = texts.collect();
    let texts = texts.map_err(|_| ErrorKind::Protocol("a name is no text"))?;
    Ok(texts.into_iter().map(String::from).collect())
}

impl<'c, T: Transport> Tree<'c, T> {
    pub(crate) const fn new(client: &'c Client<T>, tx_id: u32) -> Self {
        Self { client, tx_id }
    }

    async fn ask(self, kind: XsMessageType, path: &str, parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
        let path = check(path)?.as_str();
        if path.starts_with('@') {
            return Err(ErrorKind::Server(Errno::EINVAL).at(path));
        }
        let [first, second, third] = match parts {
            [] => [&b""[..]; 3],
            [first] => [*first, b"", b""],
            [first, second, ..] => [*first, *second, b""],
        };
        let parts = [path.as_bytes(), first, second, third];
        self.client
            .ask(kind, self.tx_id, &parts)
            .await
            .map_err(|error| error.with_path(path))
    }

    /// A node's value: any bytes, none included.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn read(self, path: &str) -> Result<Vec<u8>, Error> {
        self.ask(XsMessageType::READ, path, &[b"\0"]).await
    }

    /// A node's value as text.
    ///
    /// # Errors
    /// [`Error`]; [`ErrorKind::Value`].
    pub async fn read_text(self, path: &str) -> Result<String, Error> {
        let value = self.read(path).await?;
        String::from_utf8(value).map_err(|_| ErrorKind::Value("text").at(path))
    }

    /// A node's value as a number, or what else can be read from text; white space and
    /// NULs around it are no part of it ([`value::parse`]).
    ///
    /// # Errors
    /// [`Error`]; [`ErrorKind::Value`].
    pub async fn read_as<V: FromStr>(self, path: &str) -> Result<V, Error> {
        let value = self.read(path).await?;
        let wanted = core::any::type_name::<V>();
        value::parse(&value).ok_or_else(|| ErrorKind::Value(wanted).at(path))
    }

    /// A node's value, or `None` if there is no such node.
    ///
    /// # Errors
    /// [`Error`], but not `ENOENT`.
    pub async fn try_read(self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.read(path).await {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sets a node's value, and makes the node and those above it if need be.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write(self, path: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let parts: [&[u8]; 2] = [b"\0", value.as_ref()];
        self.ask(XsMessageType::WRITE, path, &parts)
            .await
            .map(|_| ())
    }

    /// [`write`](Self::write), of what can be displayed.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn write_as(self, path: &str, value: impl core::fmt::Display) -> Result<(), Error> {
        self.write(path, value.to_string()).await
    }

    /// Makes a node, if there is none, and those above it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mkdir(self, path: &str) -> Result<(), Error> {
        self.ask(XsMessageType::MKDIR, path, &[b"\0"])
            .await
            .map(|_| ())
    }

    /// Removes a node and all below it. One that is not there is no error if
    /// the node above it is.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn remove(self, path: &str) -> Result<(), Error> {
        self.ask(XsMessageType::RM, path, &[b"\0"])
            .await
            .map(|_| ())
    }

    /// Whether there is such a node.
    ///
    /// # Errors
    /// [`Error`], but not `ENOENT`.
    pub async fn exists(self, path: &str) -> Result<bool, Error> {
        self.try_read(path).await.map(|value| value.is_some())
    }

    /// The names of the nodes below a node, however many there are: a list that
    /// does not fit into one message comes in parts, which belong together.
    ///
    /// # Errors
    /// [`Error`]; [`ErrorKind::ListTooLong`]; [`ErrorKind::Conflicts`]: it changed a
    /// hundred times while it was read.
    pub async fn directory(self, path: &str) -> Result<Vec<String>, Error> {
        match self.ask(XsMessageType::DIRECTORY, path, &[b"\0"]).await {
            Ok(list) => names(&list).map_err(|kind| kind.at(path)),
            Err(error) if error.errno() == Some(Errno::E2BIG) => self.directory_parts(path).await,
            Err(error) => Err(error),
        }
    }

    async fn directory_parts(self, path: &str) -> Result<Vec<String>, Error> {
        let mut list: Vec<u8> = Vec::new();
        let mut generation: Option<Vec<u8>> = None;
        let mut changes = 0;
        let broken = |what| ErrorKind::Protocol(what).at(path);
        for _ in 0..MAX_PARTS {
            let offset = alloc::format!("{}\0", list.len());
            let part = self
                .ask(
                    XsMessageType::DIRECTORY_PART,
                    path,
                    &[b"\0", offset.as_bytes()],
                )
                .await?;
            let end = part.iter().position(|byte| *byte == 0);
            let (this, rest) = part.split_at(end.ok_or_else(|| broken("no generation"))?);
            let _: u64 = value::parse(this).ok_or_else(|| broken("a generation is no number"))?;
            let rest = rest.get(1..).unwrap_or(&[]);
            if generation.as_deref().is_some_and(|first| first != this) {
                // It changed meanwhile: once more from the start.
                changes += 1;
                if changes > MAX_CHANGES {
                    return Err(ErrorKind::Conflicts.at(path));
                }
                list.clear();
                generation = None;
                continue;
            }
            generation = Some(this.into());
            // An empty name ends the list.
            if let Some(last) = rest.strip_suffix(b"\0")
                && (last.is_empty() || last.ends_with(b"\0"))
            {
                list.extend(last);
                return names(&list).map_err(|kind| kind.at(path));
            }
            if rest.is_empty() {
                return Err(broken("an empty part of a list"));
            }
            if list.len() + rest.len() > MAX_LIST_BYTES {
                break;
            }
            list.extend(rest);
        }
        Err(ErrorKind::ListTooLong.at(path))
    }

    /// Who may do what with a node.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn permissions(self, path: &str) -> Result<Vec<Permission>, Error> {
        let answer = self.ask(XsMessageType::GET_PERMS, path, &[b"\0"]).await?;
        from_bytes(&answer).ok_or_else(|| ErrorKind::Protocol("no permissions").at(path))
    }

    /// Sets who may do what with a node: its owner first.
    ///
    /// # Errors
    /// [`Error`]; `EINVAL`: there must be an owner.
    pub async fn set_permissions(
        self,
        path: &str,
        permissions: &[Permission],
    ) -> Result<(), Error> {
        let list = to_bytes(permissions);
        self.ask(XsMessageType::SET_PERMS, path, &[b"\0", &list])
            .await
            .map(|_| ())
    }
}
