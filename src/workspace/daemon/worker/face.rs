//! What an overlay is served by: the kernel's FUSE, or a server of NFS.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use zagi_fuse::driver::Serving;
use zagi_fuse::nfs::{self, Secret, Server};
use zagi_fuse::overlay::{Caller, Overlay};

use crate::context::Context;
use crate::workspace::description::Description;
use crate::workspace::nfs::Export;

/// One writable face of a delta.
pub(super) enum Face {
    /// Its threads end when the kernel lets go.
    Fuse { _serving: Box<dyn Serving> },
    /// It ends when this is dropped.
    Nfs { _server: Server },
}

/// Where a workspace is to listen, and what it is known by. One that is to be mounted already
/// listens where it did: its clients still ask there.
pub(super) fn listen(
    ctx: &Context,
    description: &Description,
) -> Result<(TcpListener, Export), Box<dyn std::error::Error>> {
    let (home, id) = (&ctx.home, &description.id);
    if description.is_mounted(home)
        && let Some(export) = Export::read(home, id)?
    {
        let port = export.port;
        let listener =
            nfs::listen(port).map_err(|e| format!("cannot listen at port {port} again: {e}"))?;
        return Ok((listener, export));
    }
    let listener = nfs::listen(0)?;
    let export = Export { port: listener.local_addr()?.port(), secret: Secret::new()? };
    export.write(home, id)?;
    Ok((listener, export))
}

/// Serves `overlay` at `listener`.
pub(super) fn serve(
    listener: TcpListener,
    overlay: Arc<Overlay>,
    export: Export,
) -> io::Result<Face> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let owner = Caller { uid, gid, umask: 0 };
    let server = Server::start(listener, overlay, owner, export.secret)?;
    Ok(Face::Nfs { _server: server })
}

/// Serves `overlay` at the socket that a predecessor listened at.
pub(super) fn take_over(
    ctx: &Context,
    description: &Description,
    socket: OwnedFd,
    overlay: Arc<Overlay>,
) -> Result<Face, Box<dyn std::error::Error>> {
    let export = Export::read(&ctx.home, &description.id)?;
    let export = export.ok_or("what it was known by is lost")?;
    Ok(serve(TcpListener::from(socket), overlay, export)?)
}
