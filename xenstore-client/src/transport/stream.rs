//! A host's ways to the server: xenstored's socket, and the kernel's device
//! file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use core::{future::Future, pin::pin};

use super::{Link, Renewal, Transport};

/// Where xenstored listens.
const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
/// Where the kernel offers its own connection.
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];

#[derive(Debug)]
enum Ends {
    Socket(UnixStream),
    Device(File),
}

impl Ends {
    fn fd(&self) -> RawFd {
        match self {
            Self::Socket(socket) => socket.as_raw_fd(),
            Self::Device(file) => file.as_raw_fd(),
        }
    }
}

/// A connection by a file. A thread of its own waits for input while a task
/// does.
#[derive(Debug)]
pub struct Stream {
    ends: Ends,
    dead: AtomicBool,
    watcher: Arc<Watcher>,
    thread: Option<JoinHandle<()>>,
}

/// Who is to be woken when there is input.
#[derive(Debug, Default)]
struct Watcher {
    state: Mutex<Watching>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct Watching {
    waker: Option<Waker>,
    ended: bool,
}

impl Watcher {
    fn lock(&self) -> std::sync::MutexGuard<'_, Watching> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for input whenever somebody wants to hear of it.
    fn run(&self, fd: RawFd) {
        loop {
            let mut state = self.lock();
            while state.waker.is_none() && !state.ended {
                state = self
                    .rung
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended {
                return;
            }
            drop(state);
            if wait_readable(fd, LOOK_AGAIN)
                && let Some(waker) = self.lock().waker.take()
            {
                waker.wake();
            }
        }
    }
}

/// The watcher looks whether it is still wanted this often.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Whether there is something to read, or an end, within a time.
fn wait_readable(fd: RawFd, most: Duration) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let most = i32::try_from(most.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one structure of ours.
    unsafe { libc::poll(&raw mut poll, 1, most) > 0 }
}

impl Stream {
    /// By xenstored's socket if there is one, else by the kernel's device.
    ///
    /// # Errors
    /// There is neither.
    pub fn open() -> io::Result<Self> {
        Self::socket().or_else(|_| Self::device())
    }

    /// By xenstored's socket, at one of its usual places.
    ///
    /// # Errors
    /// It is not there, or not for this user.
    pub fn socket() -> io::Result<Self> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for place in SOCKETS {
            result = Self::socket_at(place);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// By a socket.
    ///
    /// # Errors
    /// It is not there, or not for this user.
    pub fn socket_at(place: impl AsRef<Path>) -> io::Result<Self> {
        let socket = UnixStream::connect(place)?;
        socket.set_nonblocking(true)?;
        Self::new(Ends::Socket(socket))
    }

    /// By the kernel's device.
    ///
    /// # Errors
    /// It is not there, or not for this user.
    pub fn device() -> io::Result<Self> {
        let mut result = Err(io::ErrorKind::NotFound.into());
        for place in DEVICES {
            result = Self::device_at(place);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// By a device.
    ///
    /// # Errors
    /// It is not there, or not for this user.
    pub fn device_at(place: impl AsRef<Path>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(place)?;
        Self::new(Ends::Device(file))
    }

    fn new(ends: Ends) -> io::Result<Self> {
        let watcher = Arc::new(Watcher::default());
        let (theirs, fd) = (Arc::clone(&watcher), ends.fd());
        let thread = thread::Builder::new()
            .name("xenstore".into())
            .spawn(move || theirs.run(fd))?;
        Ok(Self {
            ends,
            dead: AtomicBool::new(false),
            watcher,
            thread: Some(thread),
        })
    }

    /// How many bytes moved; an end or an error ends the connection.
    fn moved(&self, result: io::Result<usize>) -> usize {
        match result {
            Ok(0) => self.dead.store(true, Ordering::Relaxed),
            Ok(bytes) => return bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(_) => self.dead.store(true, Ordering::Relaxed),
        }
        0
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.watcher.lock().ended = true;
        self.watcher.rung.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has nothing that could panic.
            let _ended = thread.join();
        }
    }
}

impl Transport for Stream {
    fn link(&self) -> Link {
        if self.dead.load(Ordering::Relaxed) {
            Link::Dead
        } else {
            Link::Up
        }
    }

    fn send(&self, bytes: &[u8]) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        let sent = match &self.ends {
            Ends::Socket(socket) => (&*socket).write(bytes),
            Ends::Device(file) => (&*file).write(bytes),
        };
        self.moved(sent)
    }

    fn receive(&self, buffer: &mut [u8]) -> usize {
        let received = match &self.ends {
            Ends::Socket(socket) => (&*socket).read(buffer),
            Ends::Device(file) => (&*file).read(buffer),
        };
        self.moved(received)
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if wait_readable(self.ends.fd(), Duration::ZERO) {
            return Poll::Ready(());
        }
        let mut state = self.watcher.lock();
        state.waker = Some(cx.waker().clone());
        self.watcher.rung.notify_all();
        Poll::Pending
    }

    fn reconnect(&self) -> Renewal {
        Renewal::NotOffered
    }

    fn block_on<F: Future>(&self, most: Option<Duration>, future: F) -> Option<F::Output> {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let deadline = most.map(|most| Instant::now() + most);
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return Some(value);
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let rest = deadline.saturating_duration_since(Instant::now());
                    if rest.is_zero() {
                        return None;
                    }
                    thread::park_timeout(rest);
                }
            }
        }
    }
}
