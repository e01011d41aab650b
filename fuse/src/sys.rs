//! Every `unsafe` of this crate: descriptors through Unix sockets, files that share blocks, one
//! attribute of the process, its free memory.

#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// The most descriptors that go with one message. (The kernel allows 253.)
pub const MAX_DESCRIPTORS: usize = 64;

/// Sends `bytes`, of which there must be at least one, and `fds` with them. Returns how many
/// bytes were sent; the descriptors went with the first.
pub fn send_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let iov = [IoSlice::new(bytes)];
    loop {
        let socket = socket.as_fd().as_raw_fd();
        match sendmsg::<UnixAddr>(socket, &iov, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Receives bytes into `buf`, and the descriptors that came with them. They are closed in
/// programs that this one executes. 0 bytes mean that the other side has hung up.
pub fn recv_fds(socket: impl AsFd, buf: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let mut iov = [IoSliceMut::new(buf)];
    let message = loop {
        let socket = socket.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<UnixAddr>(socket, &mut iov, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else
            // knows their numbers, so each is owned here and only here.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if message.flags.contains(MsgFlags::MSG_CTRUNC) {
        // Descriptors were lost on the way: the message is not what was sent.
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    Ok((message.bytes, fds))
}

/// Tells the kernel that file systems wait for this process when memory is short
/// (PR_SET_IO_FLUSHER, prctl(2)): what it allocates is then not found by writing to them. It needs
/// CAP_SYS_RESOURCE.
#[cfg(target_os = "linux")]
pub fn set_io_flusher() -> io::Result<()> {
    /// Of linux/prctl.h.
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    // SAFETY: this command takes four numbers and touches no memory of the process.
    match unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the empty file `to` share all blocks of `from` (ioctl_ficlone(2)). Most disks cannot:
/// EOPNOTSUPP, EINVAL, EXDEV.
#[cfg(target_os = "linux")]
pub fn clone_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: FICLONE takes a descriptor by value and touches no memory of this process; both
    // descriptors are borrowed, and so open until it returns.
    let result = unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE as _, from.as_raw_fd()) };
    Errno::result(result).map(drop)
}

/// Gives the machine back what memory is free: glibc keeps what lies between pieces that are in
/// use (malloc_trim(3)).
pub fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: no pointer goes in, and any thread may ask at any time (MT-Safe).
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_arrive_with_their_bytes_and_close_on_exec() {
        let (left, right) = UnixStream::pair().expect("a socket pair");
        let (mut reader, writer) = io::pipe().expect("a pipe");
        assert_eq!(send_fds(&left, b"take this", &[writer.as_fd()]).expect("sent"), 9);
        drop(writer);
        let mut buf = [0; 32];
        let (count, fds) = recv_fds(&right, &mut buf).expect("received");
        assert_eq!((&buf[..count], fds.len()), (&b"take this"[..], 1));
        let flags = nix::fcntl::fcntl(&fds[0], nix::fcntl::FcntlArg::F_GETFD).expect("open");
        assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        let mut writer = File::from(fds.into_iter().next().expect("one"));
        writer.write_all(b"through").expect("the pipe is open");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("the last writer is closed");
        assert_eq!(text, "through");
    }

    #[test]
    fn bytes_go_without_descriptors_and_the_end_is_seen() {
        let (left, right) = UnixStream::pair().expect("a socket pair");
        send_fds(&left, b"x", &[]).expect("sent");
        drop(left);
        let mut buf = [0; 8];
        assert_eq!(recv_fds(&right, &mut buf).expect("received").0, 1);
        assert_eq!(recv_fds(&right, &mut buf).expect("the end").0, 0);
    }
}
