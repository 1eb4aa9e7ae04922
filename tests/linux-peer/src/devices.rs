//! Linux's character devices for events and grants: `include/uapi/xen` in its
//! sources.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use hypercall_abi::{DomId, GrantRef, PAGE_SIZE, Port};

const fn request(letter: u8, number: u64, bytes: usize) -> u64 {
    (bytes as u64) << 16 | (letter as u64) << 8 | number
}

fn open(path: &str) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("cannot open {path}"))
}

/// Makes an ioctl whose argument is words that are read and written.
fn control<const N: usize>(
    file: &File,
    letter: u8,
    number: u64,
    words: &mut [u32; N],
) -> io::Result<u32> {
    let request = request(letter, number, size_of::<[u32; N]>());
    // SAFETY: the request's number says how long the argument is.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), request, words.as_mut_ptr()) };
    u32::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// A port of this process's.
#[derive(Debug)]
pub(crate) struct Ports {
    file: File,
    port: Port,
}

const EVTCHN: &str = "/dev/xen/evtchn";

impl Ports {
    /// Offers a port.
    pub(crate) fn offer(peer: DomId) -> Result<Self> {
        let file = open(EVTCHN)?;
        let port = control(&file, b'E', 2, &mut [u32::from(peer.0)]).context("no port")?;
        let port = Port(port);
        Ok(Self { file, port })
    }

    /// Binds an offered one.
    pub(crate) fn bind(peer: DomId, port: Port) -> Result<Self> {
        let file = open(EVTCHN)?;
        let words = &mut [u32::from(peer.0), port.0];
        let port = control(&file, b'E', 1, words).context("the port cannot be bound")?;
        let port = Port(port);
        Ok(Self { file, port })
    }

    pub(crate) const fn port(&self) -> Port {
        self.port
    }

    pub(crate) fn notify(&self) -> Result<()> {
        control(&self.file, b'E', 4, &mut [self.port.0]).context("cannot notify")?;
        Ok(())
    }

    /// Waits for an event, and unmasks the port again.
    pub(crate) fn wait(&mut self) -> Result<()> {
        let mut port = [0; 4];
        self.file.read_exact(&mut port).context("no event")?;
        self.file.write_all(&port).context("cannot unmask")
    }
}

/// A page that is mapped here.
#[derive(Debug)]
struct Page(NonNull<u8>);

impl Page {
    fn map(file: &File, offset: u64) -> Result<Self> {
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let offset = libc::off_t::try_from(offset)?;
        // SAFETY: the kernel chooses the address.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_SIZE,
                both,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if place == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("cannot map the page");
        }
        NonNull::new(place.cast()).map(Self).context("no page")
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: mapped while this value lives, aligned; the other side's
        // changes are those of another thread.
        unsafe { self.0.cast().as_ref() }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped in `map`, and borrowed by nobody.
        unsafe { libc::munmap(self.0.as_ptr().cast(), PAGE_SIZE) };
    }
}

/// A page lent to a peer.
#[derive(Debug)]
pub(crate) struct Lent {
    page: Page,
    gref: GrantRef,
    _file: File,
}

impl Lent {
    pub(crate) fn to(peer: DomId) -> Result<Self> {
        const WRITABLE: u32 = 1;
        let file = open("/dev/xen/gntalloc")?;
        // domid and flags, count, index (two words), reference.
        let mut words = [u32::from(peer.0) | WRITABLE << 16, 1, 0, 0, 0, 0];
        control(&file, b'G', 5, &mut words).context("no grant")?;
        let index = u64::from(words[2]) | u64::from(words[3]) << 32;
        let page = Page::map(&file, index)?;
        Ok(Self {
            page,
            gref: GrantRef(words[4]),
            _file: file,
        })
    }

    pub(crate) const fn gref(&self) -> GrantRef {
        self.gref
    }

    pub(crate) fn load(&self) -> u32 {
        self.page.word().load(Ordering::Acquire)
    }

    pub(crate) fn store(&self, value: u32) {
        self.page.word().store(value, Ordering::Release);
    }
}

/// A peer's page, mapped.
#[derive(Debug)]
pub(crate) struct Mapped {
    page: Page,
    _file: File,
}

impl Mapped {
    pub(crate) fn of(peer: DomId, gref: GrantRef) -> Result<Self> {
        let file = open("/dev/xen/gntdev")?;
        // Count, padding, index (two words), domid, reference.
        let mut words = [1, 0, 0, 0, u32::from(peer.0), gref.0];
        control(&file, b'G', 0, &mut words).context("the grant cannot be mapped")?;
        let index = u64::from(words[2]) | u64::from(words[3]) << 32;
        let page = Page::map(&file, index)?;
        Ok(Self { page, _file: file })
    }

    pub(crate) fn load(&self) -> u32 {
        self.page.word().load(Ordering::Acquire)
    }

    pub(crate) fn store(&self, value: u32) {
        self.page.word().store(value, Ordering::Release);
    }
}
