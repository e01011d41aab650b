//! The seam between an overlay and what presents it to the kernel.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::overlay::Overlay;

/// How serving a mount begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// It was just mounted: nothing was read from the device yet.
    Mounted,
    /// Another process served it and was killed; the kernel waits for answers to what it had
    /// taken. Only for drivers that [`Capabilities::take_over`].
    TakenOver,
}

/// What a driver can do beyond what all of them can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Go on with a mount whose daemon was killed.
    pub take_over: bool,
    /// Files made without a name (O_TMPFILE).
    pub nameless_files: bool,
    /// A request that takes too long is answered nevertheless.
    pub deadlines: bool,
}

/// Something that speaks a kernel's protocol for overlays.
pub trait Driver: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Answers the requests that come through `device` (a mounted `/dev/fuse`) from threads of
    /// its own, until it is unmounted.
    fn serve(
        &self,
        device: OwnedFd,
        overlay: Arc<Overlay>,
        start: Start,
    ) -> io::Result<Box<dyn Serving>>;
}

/// An overlay that is being presented. Dropping this changes nothing.
pub trait Serving: Send {
    /// Whether it has ended: it was unmounted, or failed.
    fn is_finished(&self) -> bool;

    /// Waits for the end. When this returns, the driver has let go of the overlay.
    fn wait(self: Box<Self>) -> io::Result<()>;
}
