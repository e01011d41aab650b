//! Who asks at the socket: which user, and whether they are one outside of every sandbox.
//!
//! The user's number alone (`SO_PEERCRED`, unix(7)) does not say that: what zagi confines keeps it, and so does
//! whoever makes a user namespace; root's number is kept, too, by who has none of root's rights. So who asks must be
//! in the broker's own user namespace. The broker, another user without capabilities, may not look at
//! `/proc/PID/ns` (ptrace(2), `PTRACE_MODE_READ_FSCREDS`); `/proc/PID/uid_map` everybody may read
//! (user_namespaces(7)), and it is the broker's own in the broker's own namespace. One with the same map and
//! below it is made by nobody but root.
//!
//! A process's number may be another's by the time it is looked up. So the process itself is held
//! (`SO_PEERPIDFD`, Linux 6.5), its number is asked of what holds it, and what was read counts if it lives
//! after that. There is no way back out of a user namespace, so it never was in another before, either.
//! Where a kernel cannot do that nobody is answered.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

/// Whose numbers this process sees, and as which.
const OWN: &str = "/proc/self/uid_map";

/// The process that made a connection.
#[derive(Debug)]
pub(super) struct Peer {
    user: u32,
    process: OwnedFd,
}

impl Peer {
    /// Holds it.
    pub fn of(stream: &UnixStream) -> Result<Peer, String> {
        let failed = |e: Errno| format!("cannot tell who asks: {e}");
        let user = getsockopt(stream, sockopt::PeerCredentials).map_err(failed)?.uid();
        let process = getsockopt(stream, sockopt::PeerPidfd).map_err(|e| match e {
            Errno::ENOPROTOOPT => {
                "this kernel cannot tell who asks (SO_PEERPIDFD): Linux 6.5 or newer is needed"
                    .into()
            }
            // It was gone before it was held; later kernels tell that by what holds it.
            Errno::ESRCH | Errno::EINVAL | Errno::ENODATA => gone(),
            e => failed(e),
        })?;
        Ok(Peer { user, process })
    }

    /// Its user, if it lives and is in this process's user namespace.
    pub fn user(&self) -> Result<u32, String> {
        let own = fs::read_to_string(OWN).map_err(|e| format!("cannot read `{OWN}`: {e}"))?;
        let theirs = self.map();
        // Only now: until then its number is nobody else's.
        if !self.lives().map_err(|e| format!("cannot tell who asks: {e}"))? {
            return Err(gone());
        }
        match theirs? == own {
            true => Ok(self.user),
            false => Err("the broker answers nobody in a user namespace of their own, as all that zagi confines \
                          is, and what `unshare --user` starts: ask from a shell outside of it"
                .into()),
        }
    }

    fn map(&self) -> Result<String, String> {
        let held = format!("/proc/self/fdinfo/{}", self.process.as_raw_fd());
        let unreadable = |path: &str, e| {
            format!(
                "the broker cannot look at who asks (`{path}`: {e}): /proc must show it every user's processes"
            )
        };
        let about = fs::read_to_string(&held).map_err(|e| unreadable(&held, e))?;
        let number = about.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap_or_default();
        // 0 where it has none in the broker's pid namespace, and -1 where it is gone.
        let path = format!("/proc/{}/uid_map", number.trim());
        fs::read_to_string(&path).map_err(|e| unreadable(&path, e))
    }

    /// Not a zombie, either: that one does not ask.
    fn lives(&self) -> nix::Result<bool> {
        let mut held = [PollFd::new(self.process.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut held, PollTimeout::ZERO)? == 0)
    }
}

fn gone() -> String {
    "who asked is gone: the broker answers processes that live".into()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_is_beside_it_is_who_they_are() {
        let (stream, _other) = UnixStream::pair().unwrap();
        assert_eq!(Peer::of(&stream).unwrap().user(), Ok(nix::unistd::geteuid().as_raw()));
    }

    /// Held while it lived; and not before it was gone. First as a zombie, then as nothing.
    #[test]
    fn who_is_gone_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()";
        let mut python = Command::new("python3");
        let mut child =
            python.args(["-c", script]).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let peer = Peer::of(&stream).unwrap();
        assert_eq!(peer.user(), Ok(nix::unistd::geteuid().as_raw()));
        drop(child.stdin.take());
        // It has closed its end, and so is at its end.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        let id = nix::unistd::Pid::from_raw(child.id() as i32);
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(id), flags).unwrap();
        assert_eq!(peer.user(), Err(gone()), "a zombie");
        child.wait().unwrap();
        assert_eq!(peer.user(), Err(gone()));
        assert_eq!(Peer::of(&stream).and_then(|peer| peer.user()), Err(gone()));
    }
}
