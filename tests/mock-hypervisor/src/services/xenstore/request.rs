//! What domains ask of the store.

use std::hash::{DefaultHasher, Hash, Hasher};

use hypercall_abi::{
    DomId,
    io::xs_wire::{XENSTORE_PAYLOAD_MAX, XsMessageType},
};

use super::{
    Store, StoreError, Transaction, Watch, home,
    tree::{Change, Tree, apply_to, is_valid},
    watch_event,
};

/// The texts of a payload, each ended by a zero.
fn texts(payload: &[u8]) -> Result<Vec<&[u8]>, StoreError> {
    let list = payload.strip_suffix(b"\0").ok_or(StoreError::EINVAL)?;
    Ok(list.split(|byte| *byte == 0).collect())
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| StoreError::EINVAL)
}

fn number<T: std::str::FromStr>(bytes: &[u8]) -> Result<T, StoreError> {
    text(bytes)?.parse().map_err(|_| StoreError::EINVAL)
}

/// The absolute form of a path as a domain writes it.
fn absolute(domid: DomId, path: &[u8]) -> Result<String, StoreError> {
    let path = text(path)?;
    let whole = if path.starts_with('/') {
        path.to_string()
    } else {
        format!("{}/{path}", home(domid))
    };
    if is_valid(&whole) {
        Ok(whole)
    } else {
        Err(StoreError::EINVAL)
    }
}

const OK: &[u8] = b"OK\0";

impl Store {
    /// Answers a request.
    pub(super) fn answer(
        &mut self,
        domid: DomId,
        kind: XsMessageType,
        tx: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        match kind {
            XsMessageType::READ => {
                let path = self.look(domid, tx, payload)?;
                self.view(tx)?.read(domid, &path).map(<[u8]>::to_vec)
            }
            XsMessageType::DIRECTORY => {
                let path = self.look(domid, tx, payload)?;
                let names = self.view(tx)?.list(domid, &path)?;
                if names.len() > XENSTORE_PAYLOAD_MAX {
                    return Err(StoreError::E2BIG);
                }
                Ok(names)
            }
            XsMessageType::DIRECTORY_PART => self.directory_part(domid, tx, payload),
            XsMessageType::GET_PERMS => {
                let path = self.look(domid, tx, payload)?;
                let perms = self.view(tx)?.perms(domid, &path)?;
                let perms = perms.iter().map(|(letter, who)| format!("{letter}{who}\0"));
                Ok(perms.collect::<String>().into_bytes())
            }
            XsMessageType::WRITE => {
                let zero = payload.iter().position(|byte| *byte == 0);
                let (path, value) = payload.split_at(zero.ok_or(StoreError::EINVAL)?);
                let path = absolute(domid, path)?;
                self.make(domid, tx, Change::Write(domid, path, value[1..].to_vec()))
            }
            XsMessageType::MKDIR => {
                let path = self.one_path(domid, payload)?;
                self.make(domid, tx, Change::Mkdir(domid, path))
            }
            XsMessageType::RM => {
                let path = self.one_path(domid, payload)?;
                self.make(domid, tx, Change::Remove(path))
            }
            XsMessageType::SET_PERMS => {
                let texts = texts(payload)?;
                let (path, perms) = texts.split_first().ok_or(StoreError::EINVAL)?;
                let perms: Result<Vec<_>, StoreError> = perms
                    .iter()
                    .map(|perm| match perm.split_first() {
                        Some((letter @ (b'n' | b'r' | b'w' | b'b'), who)) => {
                            Ok((char::from(*letter), DomId(number(who)?)))
                        }
                        _ => Err(StoreError::EINVAL),
                    })
                    .collect();
                let perms = perms.and_then(|perms| {
                    if perms.is_empty() {
                        Err(StoreError::EINVAL)
                    } else {
                        Ok(perms)
                    }
                });
                let path = absolute(domid, path)?;
                self.make(domid, tx, Change::SetPerms(path, perms?))
            }
            XsMessageType::WATCH => self.watch(domid, payload),
            XsMessageType::UNWATCH => {
                let texts = texts(payload)?;
                let [path, token] = texts[..] else {
                    return Err(StoreError::EINVAL);
                };
                let path = match path {
                    [b'@', ..] => text(path)?.to_string(),
                    path => absolute(domid, path)?,
                };
                let same = |watch: &Watch| {
                    watch.domid == domid && watch.path == path && watch.token == token
                };
                let at = self.watches.iter().position(same);
                self.watches.remove(at.ok_or(StoreError::ENOENT)?);
                Ok(OK.into())
            }
            XsMessageType::RESET_WATCHES => {
                self.watches.retain(|watch| watch.domid != domid);
                Ok(OK.into())
            }
            XsMessageType::TRANSACTION_START => self.start(domid),
            XsMessageType::TRANSACTION_END => self.end(domid, tx, payload),
            XsMessageType::GET_DOMAIN_PATH => {
                let whose: u16 = number(payload.strip_suffix(b"\0").unwrap_or(payload))?;
                Ok(format!("{}\0", home(DomId(whose))).into_bytes())
            }
            // For privileged domains.
            XsMessageType::CONTROL
            | XsMessageType::IS_DOMAIN_INTRODUCED
            | XsMessageType::INTRODUCE
            | XsMessageType::RELEASE
            | XsMessageType::RESUME
            | XsMessageType::SET_TARGET => Err(StoreError::EACCES),
            _ => Err(StoreError::ENOSYS),
        }
    }

    fn one_path(&self, domid: DomId, payload: &[u8]) -> Result<String, StoreError> {
        match texts(payload)?[..] {
            [path] => absolute(domid, path),
            _ => Err(StoreError::EINVAL),
        }
    }

    /// The one path of a request, which its transaction depends on from now.
    fn look(&mut self, domid: DomId, tx: u32, payload: &[u8]) -> Result<String, StoreError> {
        let path = self.one_path(domid, payload)?;
        if let Some(transaction) = self.transaction(domid, tx)? {
            transaction.seen.push(path.clone());
        }
        Ok(path)
    }

    fn transaction(
        &mut self,
        domid: DomId,
        tx: u32,
    ) -> Result<Option<&mut Transaction>, StoreError> {
        if tx == 0 {
            return Ok(None);
        }
        let transaction = self.transactions.get_mut(&tx);
        let own = transaction.filter(|transaction| transaction.domid == domid);
        own.map(Some).ok_or(StoreError::ENOENT)
    }

    fn view(&self, tx: u32) -> Result<&Tree, StoreError> {
        if tx == 0 {
            return Ok(&self.tree.now);
        }
        let transaction = self.transactions.get(&tx).ok_or(StoreError::ENOENT)?;
        Ok(&transaction.tree)
    }

    fn make(&mut self, domid: DomId, tx: u32, change: Change) -> Result<Vec<u8>, StoreError> {
        let view = self.view(tx)?;
        view.check(domid, &change)?;
        view.check_quota(domid, &change, self.quotas.nodes)?;
        *self.written.entry(domid).or_default() += 1;
        let (Change::Write(_, path, _)
        | Change::Mkdir(_, path)
        | Change::Remove(path)
        | Change::SetPerms(path, _)) = &change;
        let path = path.clone();
        if let Some(transaction) = self.transaction(domid, tx)? {
            apply_to(&mut transaction.tree, &change)?;
            transaction.seen.push(path);
            transaction.changes.push(change);
        } else {
            self.change(&change)?;
        }
        Ok(OK.into())
    }

    fn directory_part(
        &mut self,
        domid: DomId,
        tx: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let texts = texts(payload)?;
        let [path, offset] = texts[..] else {
            return Err(StoreError::EINVAL);
        };
        let path = absolute(domid, path)?;
        let offset: usize = number(offset)?;
        let names = self.view(tx)?.list(domid, &path)?;
        let mut hasher = DefaultHasher::new();
        names.hash(&mut hasher);
        let mut part = format!("{}\0", hasher.finish() >> 1).into_bytes();
        let rest = names.get(offset..).ok_or(StoreError::EINVAL)?;
        let room = XENSTORE_PAYLOAD_MAX - part.len() - 1;
        if rest.len() <= room {
            part.extend(rest);
            // The end: an empty name.
            part.push(0);
        } else {
            let whole = rest[..room].iter().rposition(|byte| *byte == 0);
            part.extend(&rest[..whole.map_or(0, |at| at + 1)]);
        }
        Ok(part)
    }

    fn watch(&mut self, domid: DomId, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        let texts = texts(payload)?;
        let (path, token, depth) = match texts[..] {
            [path, token] => (path, token, None),
            [path, token, depth] => (path, token, Some(number(depth)?)),
            _ => return Err(StoreError::EINVAL),
        };
        let (whole, prefix) = match path {
            [b'@', ..] => (text(path)?.to_string(), 0),
            [b'/', ..] => (absolute(domid, path)?, 0),
            _ => (absolute(domid, path)?, home(domid).len() + 1),
        };
        let own = self.watches.iter().filter(|watch| watch.domid == domid);
        if own
            .clone()
            .any(|watch| watch.path == whole && watch.token == token)
        {
            return Err(StoreError::EEXIST);
        }
        if own.count() >= self.quotas.watches {
            return Err(StoreError::E2BIG);
        }
        self.watches.push(Watch {
            domid,
            path: whole,
            token: token.into(),
            prefix,
            depth,
        });
        // Once for the registration itself.
        self.events.push((domid, watch_event(path, token)));
        Ok(OK.into())
    }

    fn start(&mut self, domid: DomId) -> Result<Vec<u8>, StoreError> {
        let own = self
            .transactions
            .values()
            .filter(|other| other.domid == domid);
        if own.count() >= self.quotas.transactions {
            return Err(StoreError::ENOSPC);
        }
        self.last_transaction += 1;
        self.transactions.insert(
            self.last_transaction,
            Transaction {
                domid,
                started: self.tree.generation,
                tree: self.tree.now.clone(),
                seen: Vec::new(),
                changes: Vec::new(),
            },
        );
        Ok(format!("{}\0", self.last_transaction).into_bytes())
    }

    fn end(&mut self, domid: DomId, tx: u32, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        self.transaction(domid, tx)?.ok_or(StoreError::ENOENT)?;
        let commit = match payload {
            b"T\0" => true,
            b"F\0" => false,
            _ => return Err(StoreError::EINVAL),
        };
        let transaction = self.transactions.remove(&tx).ok_or(StoreError::ENOENT)?;
        if !commit {
            return Ok(OK.into());
        }
        if self
            .tree
            .changed_since(&transaction.seen, transaction.started)
        {
            return Err(StoreError::EAGAIN);
        }
        for change in &transaction.changes {
            self.change(change)?;
        }
        Ok(OK.into())
    }
}
