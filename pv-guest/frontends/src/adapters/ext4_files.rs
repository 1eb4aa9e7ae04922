//! Whole files of an `ext4-view` file system, kept in memory: a server's files.

use alloc::{boxed::Box, rc::Rc, string::String, vec::Vec};
use core::{cell::RefCell, fmt, ops::Deref};

use ext4_view::{Ext4, Ext4Error, File};

/// A file that takes more than this part of what may be kept is not kept.
const SHARE: usize = 4;
/// Bytes that a file takes beside its content and its path, more or less.
const OVERHEAD_BYTES: usize = 128;

/// The files of a file system, of which those that were read last are kept, whole, by their
/// paths: whoever asks for one again gets it without a look at the file system. What others
/// write to the disk meanwhile is not seen.
pub struct Files {
    files: Ext4,
    kept: RefCell<Kept>,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

/// What a file has in it.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Kept(Content),
    /// A file that is too large to be kept.
    Streamed(Streamed),
}

impl Body {
    /// Bytes of the file.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Kept(content) => content.len() as u64,
            Self::Streamed(file) => file.file.metadata().len(),
        }
    }
}

/// A whole file. Its clones are the same memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Rc<Vec<u8>>);

impl Deref for Content {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// A file that is read piece by piece.
#[derive(Debug)]
pub struct Streamed {
    file: Box<File>,
}

impl Streamed {
    /// Reads as much as there is room for, or left; says how much. The file system gives a
    /// block at a time, and this as many as it takes.
    ///
    /// # Errors
    /// [`Ext4Error`], if nothing can be read.
    pub fn read(&mut self, target: &mut [u8]) -> Result<usize, Ext4Error> {
        let mut filled = 0;
        while let Some(rest @ [_, ..]) = target.get_mut(filled..) {
            match self.file.read_bytes(rest) {
                Ok(0) => break,
                Ok(count) => filled += count,
                // It comes again with the next read.
                Err(_) if filled > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl Files {
    /// The files of `files`, of which so many bytes are kept at the most.
    pub const fn new(files: Ext4, max_bytes: usize) -> Self {
        Self {
            files,
            kept: RefCell::new(Kept::new(max_bytes)),
        }
    }

    /// The file system.
    pub const fn file_system(&self) -> &Ext4 {
        &self.files
    }

    /// Bytes that are kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept.borrow().bytes
    }

    /// The file at a path.
    ///
    /// # Errors
    /// Those of [`Ext4::open`]; [`Ext4Error::IsADirectory`].
    pub fn open(&self, path: &str) -> Result<Body, Ext4Error> {
        if let Some(content) = self.kept.borrow_mut().find(path) {
            return Ok(Body::Kept(content));
        }
        let mut file = Streamed {
            file: Box::new(self.files.open(path)?),
        };
        let len_bytes = usize::try_from(file.file.metadata().len()).unwrap_or(usize::MAX);
        let largest_bytes = self.kept.borrow().largest_bytes();
        let mut bytes = Vec::new();
        if cost(path, len_bytes) > largest_bytes || bytes.try_reserve_exact(len_bytes).is_err() {
            return Ok(Body::Streamed(file));
        }
        bytes.resize(len_bytes, 0);
        let count = file.read(&mut bytes)?;
        if count < len_bytes {
            // What cannot be read is not kept: it may be tried again.
            file.file = Box::new(self.files.open(path)?);
            return Ok(Body::Streamed(file));
        }
        let content = Content(Rc::new(bytes));
        self.kept.borrow_mut().keep(path, content.clone());
        Ok(Body::Kept(content))
    }
}

fn cost(path: &str, len_bytes: usize) -> usize {
    len_bytes.saturating_add(path.len() + OVERHEAD_BYTES)
}

struct Entry {
    path: String,
    content: Content,
    last_use: u64,
}

/// Files by their paths, in the order of these.
struct Kept {
    max_bytes: usize,
    entries: Vec<Entry>,
    bytes: usize,
    /// Goes up with each use.
    uses: u64,
}

impl Kept {
    const fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            entries: Vec::new(),
            bytes: 0,
            uses: 0,
        }
    }

    const fn largest_bytes(&self) -> usize {
        self.max_bytes / SHARE
    }

    fn place(&self, path: &str) -> Result<usize, usize> {
        let order = |entry: &Entry| entry.path.as_str().cmp(path);
        self.entries.binary_search_by(order)
    }

    fn find(&mut self, path: &str) -> Option<Content> {
        let at = self.place(path).ok()?;
        self.uses += 1;
        let entry = self.entries.get_mut(at)?;
        entry.last_use = self.uses;
        Some(entry.content.clone())
    }

    /// Keeps a file that takes no more than it may; those go that were not used for longest.
    fn keep(&mut self, path: &str, content: Content) {
        if self.place(path).is_ok() {
            return;
        }
        let bytes = cost(path, content.len());
        while self.bytes + bytes > self.max_bytes {
            let ages = self.entries.iter().enumerate();
            let Some((at, _)) = ages.min_by_key(|(_, entry)| entry.last_use) else {
                return;
            };
            let gone = self.entries.remove(at);
            self.bytes -= cost(&gone.path, gone.content.len());
        }
        let (Ok(at) | Err(at)) = self.place(path);
        self.uses += 1;
        self.bytes += bytes;
        let entry = Entry {
            path: path.into(),
            content,
            last_use: self.uses,
        };
        self.entries.insert(at, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(len: usize) -> Content {
        Content(Rc::new(alloc::vec![7; len]))
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let mut kept = Kept::new(10_000);
        for path in ["/b", "/a", "/c"] {
            assert_eq!(kept.find(path), None);
            kept.keep(path, content(2500));
        }
        // /b is used again, so /a is the oldest.
        assert_eq!(kept.find("/b").map(|found| found.len()), Some(2500));
        kept.keep("/d", content(2500));
        kept.keep("/d", content(2500));
        assert_eq!(kept.find("/a"), None);
        for path in ["/b", "/c", "/d"] {
            assert!(kept.find(path).is_some(), "{path}");
        }
        assert_eq!(kept.bytes, 3 * (2500 + 2 + OVERHEAD_BYTES));
    }

    #[test]
    fn empty_files_take_something_too() {
        let mut kept = Kept::new(10_000);
        for number in 0..1000 {
            kept.keep(&alloc::format!("/{number}"), content(0));
            assert!(kept.bytes <= 10_000);
        }
        assert!(kept.entries.len() < 80);
        // One that is still sent has its memory, kept or not.
        let last = kept.find("/999").unwrap();
        kept.keep("/large", content(9800));
        assert_eq!(kept.find("/999"), None);
        assert_eq!(last.len(), 0);
    }
}
