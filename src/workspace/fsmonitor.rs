//! Git's question «what changed since», and the answer from the overlay's journal.
//!
//! Git runs the program that `core.fsmonitor` names (githooks(5), `fsmonitor-watchman`, version
//! 2) with a token that it was given before, and is told a new token and paths, each with a NUL
//! behind it. It then looks at nothing else. So the answer may name too much, and must never
//! name too little: where there is doubt it is `/`, everything; where nobody can be asked there
//! is none, and git looks at everything by itself.
//!
//! A token is either that of the index that we made ([`Origin::token`]): since the layers; the
//! answer is all that the delta holds. Or it is a session of the overlay's journal and a
//! position in it. One of another session, or that the journal does not reach back to, is
//! answered with `/`.
//!
//! Git then looks at every file, but not every command looks for untracked files, and what the
//! index says of those it keeps as it was: stale, under the new token. So a token that came with
//! a `/` says so, and is answered with every directory there is, which git then looks into.
//!
//! In `workspaces/<id>/` there are two links for this: `fsmonitor`, to this program, which knows
//! by that name what it is asked for, and `socket`, to the daemon's.

use std::io;
use std::path::{Path, PathBuf};

use zagi_fuse::overlay::{Event, Overlay};

use super::index_layer::Origin;
use super::{daemon, description};
use crate::context::Context;

/// The name that the program is run under.
pub const PROGRAM: &str = "fsmonitor";
/// The name of the link to the socket.
pub(super) const SOCKET: &str = "socket";
/// So many directories that came from elsewhere are named one by one.
const DIRECTORIES: usize = 4096;
/// And so many in all.
const ALL: usize = 1 << 20;
/// What a token that came with a `/` ends in.
const UNSEEN: &[u8] = b":all";
/// Git's own directory.
const GIT: &[u8] = b".git";
/// A name that git need not find: it makes it look at the directory.
const ANY: &[u8] = b"/-";

/// What git is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The token, and the paths.
    pub text: Vec<u8>,
    /// Whether some paths are directories, of which git before 2.38 does not know that they
    /// stand for all that is in them.
    pub directories: bool,
}

/// What changed in `overlay`, which shows the layers of `origin`, since git was given `token`.
pub fn answer(overlay: &Overlay, origin: &Origin, token: &[u8]) -> Answer {
    let session = overlay.journal().session();
    let (seen, unseen) = match token.strip_suffix(UNSEEN) {
        Some(token) => (token, true),
        None => (token, false),
    };
    let events = if token == origin.token().as_bytes() {
        Some(overlay.differences())
    } else {
        position(session, seen).and_then(|position| overlay.events(position))
    };
    let named = events.and_then(|(now, events)| Some((now, Paths::of(overlay, &events, unseen)?)));
    let Some((now, Paths { text, directories })) = named else {
        let now = overlay.journal().position();
        let text = format!("zagi:{session:032x}:{now}\0").into_bytes();
        return Answer { text, directories: false }.plain();
    };
    let mut all = format!("zagi:{session:032x}:{now}\0").into_bytes();
    all.extend_from_slice(&text);
    Answer { text: all, directories }
}

impl Answer {
    /// The same in one word, as for a git that does not know what a directory stands for:
    /// everything.
    pub fn plain(mut self) -> Answer {
        let token = self.text.iter().position(|byte| *byte == 0).unwrap_or(0);
        self.text.truncate(token);
        self.text.extend_from_slice(&[UNSEEN, b"\0/\0"].concat());
        Answer { directories: false, ..self }
    }
}

/// The position in a token of this session.
fn position(session: u128, token: &[u8]) -> Option<u64> {
    let begin = format!("zagi:{session:032x}:");
    let digits = token.strip_prefix(begin.as_bytes())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Paths as git wants them.
#[derive(Default)]
struct Paths {
    text: Vec<u8>,
    directories: bool,
}

impl Paths {
    /// Those that `events` speak of, and if git's knowledge of all directories is `unseen`, of
    /// those; `None` if they are too many to be found one by one.
    fn of(overlay: &Overlay, events: &[Event], unseen: bool) -> Option<Paths> {
        let mut paths = Paths::default();
        if unseen {
            let all = overlay.directories(b"", GIT, ALL).ok().flatten()?;
            let any = |path: &Vec<u8>| if path.is_empty() { &ANY[1..] } else { ANY };
            all.iter().for_each(|path| paths.add(&[path, any(path)].concat(), false));
        }
        let mut left = DIRECTORIES;
        for event in events {
            paths.add(&event.path, event.below);
            if !event.arrived || unseen {
                continue;
            }
            // Git keeps for each directory what is untracked in it, by path. Of one that was
            // moved here it would believe what it knows of the one that was here before.
            let found = overlay.directories(&event.path, GIT, left).ok().flatten()?;
            left -= found.len();
            found.iter().for_each(|path| paths.add(&[path, ANY].concat(), false));
        }
        Some(paths)
    }

    fn add(&mut self, path: &[u8], below: bool) {
        let is_git = |name: &[u8]| name.eq_ignore_ascii_case(GIT);
        let mut end = 0;
        for name in path.split(|byte| *byte == b'/') {
            if is_git(name) {
                // Git refuses such a path. Its own directory is none of its business; another
                // makes a repository of the directory it is in.
                if end > 0 {
                    let dir = path[..end - 1].to_vec();
                    self.put(&dir, true);
                    self.put(&[&dir, ANY].concat(), false);
                }
                return;
            }
            end += name.len() + 1;
        }
        if !path.is_empty() {
            self.put(path, below);
        }
    }

    fn put(&mut self, path: &[u8], below: bool) {
        self.text.extend_from_slice(path);
        self.text.push(0);
        if below {
            self.directories = true;
            self.text.extend_from_slice(path);
            self.text.extend_from_slice(b"/\0");
        }
    }
}

/// Where git finds the program in the workspace `id`.
pub fn program(ctx: &Context, id: &str) -> PathBuf {
    description::directory(&ctx.home, id).join(PROGRAM)
}

/// Makes the two links for the workspace `id` say what is so now.
pub fn link(ctx: &Context, id: &str) -> io::Result<()> {
    let dir = description::directory(&ctx.home, id);
    let (_, socket) = daemon::socket(ctx);
    for (name, target) in [(PROGRAM, &ctx.program), (SOCKET, &socket)] {
        set(&dir.join(name), target)?;
    }
    Ok(())
}

fn set(link: &Path, target: &Path) -> io::Result<()> {
    if std::fs::read_link(link).is_ok_and(|found| found == *target) {
        return Ok(());
    }
    let beside = link.with_extension("new");
    let _ = std::fs::remove_file(&beside); // of a process that was killed here
    std::os::unix::fs::symlink(target, &beside)?;
    std::fs::rename(&beside, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(path: &str, below: bool) -> String {
        let mut paths = Paths::default();
        paths.add(path.as_bytes(), below);
        String::from_utf8(paths.text).expect("it is text")
    }

    #[test]
    fn a_directory_is_named_with_and_without_its_slash() {
        assert_eq!(paths("a/b", false), "a/b\0");
        assert_eq!(paths("a/b", true), "a/b\0a/b/\0");
        assert_eq!(paths("", true), "");
    }

    #[test]
    fn of_gits_own_directory_nothing_is_said_and_of_another_where_it_is() {
        assert_eq!(paths(".git/index", false), "");
        assert_eq!(paths(".GIT", true), "");
        assert_eq!(paths("sub/.git/HEAD", false), "sub\0sub/\0sub/-\0");
        assert_eq!(paths("a/.github/x", false), "a/.github/x\0");
    }

    #[test]
    fn only_this_sessions_tokens_have_a_position() {
        assert_eq!(position(7, b"zagi:00000000000000000000000000000007:42"), Some(42));
        for token in ["", "zagi:7:42", "zagi:00000000000000000000000000000008:42", "1700000000000"]
        {
            assert_eq!(position(7, token.as_bytes()), None, "{token}");
        }
    }

    #[test]
    fn an_old_git_is_told_to_look_at_everything() {
        let answer = Answer { text: b"token\0a\0a/\0".to_vec(), directories: true };
        assert_eq!(answer.plain(), Answer { text: b"token:all\0/\0".to_vec(), directories: false });
    }
}
