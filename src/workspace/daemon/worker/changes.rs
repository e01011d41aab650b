//! What changes in a mount, for git and for whoever follows it.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zagi_fuse::overlay::{Journal, Overlay};

use crate::workspace::daemon::{PathEvent, Response};
use crate::workspace::fsmonitor;
use crate::workspace::index_layer::Origin;

/// How long a follower waits before it looks whether there is still somebody, and a mount.
const LOOK: Duration = Duration::from_millis(250);
/// How long it lets changes gather, so that a file written in many pieces is one line.
const GATHER: Duration = Duration::from_millis(10);

/// The answer to git's question with `token` in a mount; `None` if it asks in something else.
pub(super) fn git(stream: &UnixStream, mount: Option<(Arc<Overlay>, Origin)>, token: &str) {
    let Some((overlay, origin)) = mount else {
        let message = "git asks of another directory than the mount".into();
        let _ = say(stream, &Response::Failed { message });
        return;
    };
    let answer = fsmonitor::answer(&overlay, &origin, token.as_bytes());
    let (length, directories) = (answer.text.len(), answer.directories);
    let _ = say(stream, &Response::Git { length, directories })
        .and_then(|()| { stream }.write_all(&answer.text));
}

/// Tells all that changes in the mount that `now` gives, until it is gone or another, or nobody
/// listens.
pub(super) fn follow(stream: &UnixStream, now: &dyn Fn() -> Option<Arc<Overlay>>) {
    let Some(journal) = now().map(|overlay| Arc::clone(overlay.journal())) else {
        let message = "the workspace is not mounted".into();
        let _ = say(stream, &Response::Failed { message });
        return;
    };
    let mut position = journal.position();
    let mut told = say(stream, &Response::Events(Vec::new()));
    while told.is_ok() {
        let more = journal.wait(position, LOOK);
        // Not held while waiting: after an unmount the overlay is to end.
        let Some(overlay) = now().filter(|now| is_of(now, &journal)) else {
            let _ = say(stream, &Response::Done);
            return;
        };
        if !more {
            if has_gone(stream) {
                return;
            }
            continue;
        }
        std::thread::sleep(GATHER);
        let events = match overlay.events(position) {
            Some((now, events)) => {
                position = now;
                events.into_iter().map(PathEvent::from).collect()
            }
            None => {
                position = journal.position();
                vec![PathEvent::everything()]
            }
        };
        drop(overlay);
        told = say(stream, &Response::Events(events));
    }
}

fn is_of(overlay: &Overlay, journal: &Arc<Journal>) -> bool {
    Arc::ptr_eq(overlay.journal(), journal)
}

/// Who asked says nothing more: if there is something to read, it is the end.
fn has_gone(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// One line.
pub(super) fn say(mut stream: &UnixStream, answer: &Response) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer).expect("an answer is plain data");
    line.push(b'\n');
    stream.write_all(&line)
}
