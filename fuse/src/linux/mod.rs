//! Presents overlays through the kernel's FUSE, by our own reading of its protocol.
//!
//! | room | what |
//! |---|---|
//! | `abi` | the protocol's structures, from bytes and to bytes |
//! | `dispatch` | a request → a call of the overlay → its answer |
//! | `pool` | the threads that answer, one pool over all mounts |
//! | `desk` | what each thread works on: interrupts and deadlines |
//! | `pace` | how long a thread stays with a mount |
//!
//! OPEN and OPENDIR are answered ENOSYS: from then on the kernel opens by itself, keeps what it
//! has read, and neither OPEN nor RELEASE is sent. All state hangs on inode numbers, so another
//! process can take over a mount whose daemon was killed: it is given the same descriptor, and the
//! kernel sends again what was not answered (`FUSE_NOTIFY_RESEND`, Linux 6.9). Names and attributes
//! are valid for a day, as nobody but the kernel on the other side changes anything.
//!
//! A mount costs no thread and no buffer. One thread waits for a mount's next request
//! (`EPOLLONESHOT`, epoll(7)); before anything slow it lets another wait, so that nobody is held
//! up; when none is left to wait, a thread is added, up to 64, and those without work end.

mod abi;
mod desk;
mod dispatch;
mod pace;
mod pool;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::{Capabilities, Driver, Serving, Start};
use crate::overlay::Overlay;
use pool::Pool;

/// How long a request may take, but for those that wait for a disk to sync: then whoever waits
/// gets ETIMEDOUT.
const DEADLINE: Duration = Duration::from_secs(300);

/// The driver. Its threads serve all its mounts, and end with the last of them.
#[derive(Clone)]
pub struct LinuxDriver(Arc<Pool>);

impl LinuxDriver {
    /// A driver without mounts and threads.
    pub fn new() -> io::Result<LinuxDriver> {
        LinuxDriver::with_deadline(DEADLINE)
    }

    /// One whose requests may take `deadline`.
    pub fn with_deadline(deadline: Duration) -> io::Result<LinuxDriver> {
        Ok(LinuxDriver(Arc::new(Pool::new(deadline)?)))
    }
}

impl Driver for LinuxDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities { take_over: true, nameless_files: true, deadlines: true }
    }

    fn serve(
        &self,
        device: OwnedFd,
        overlay: Arc<Overlay>,
        start: Start,
    ) -> io::Result<Box<dyn Serving>> {
        Ok(Box::new(self.0.serve(device, overlay, start)?))
    }
}
