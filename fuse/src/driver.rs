//! The seam between an overlay and what presents it to the kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::overlay::Overlay;

/// Something that speaks a kernel's protocol for an overlay.
pub trait Driver: Send + Sync {
    /// Answers the requests that come through `device` (a mounted `/dev/fuse`, on which
    /// nothing was read yet) from threads of its own, until it is unmounted.
    fn serve(&self, device: OwnedFd, overlay: Arc<Overlay>) -> io::Result<Box<dyn Serving>>;
}

/// An overlay that is being presented. Dropping this changes nothing.
pub trait Serving: Send {
    /// Whether it has ended: it was unmounted, or failed.
    fn is_finished(&self) -> bool;

    /// Waits for the end. When this returns, the driver has let go of the overlay.
    fn wait(self: Box<Self>) -> io::Result<()>;
}
