//! What a push would change, for people: what is too much to read is counted, and what is too much to count
//! is said.
//!
//! It is somebody else's, who may have made it as large as they like: git compares no large files, takes no large
//! piece of memory, and is ended when it has said enough.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;

use gix::ObjectId;

use super::{Outbox, Update, Way};
use crate::source::error::SourceError;
use crate::source::git::{Git, Run};

/// A longer line is cut, in bytes.
const LONGEST: usize = 2000;
/// More of what git says is not read, in bytes.
const COUNTED: u64 = 64 << 20;
/// Settings: larger files are not compared line by line, whatever anybody's attributes say of them.
const SETTINGS: [(&str, &str); 3] =
    [("core.bigFileThreshold", "4m"), ("core.attributesFile", "/dev/null"), ("attr.tree", "")];
/// Variables: as much memory it takes at once, for a commit's message say; and as above.
const LIMITS: [(&str, &str); 2] = [("GIT_ALLOC_LIMIT", "256m"), ("GIT_ATTR_NOSYSTEM", "1")];

/// The beginning of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// Its first lines.
    pub text: String,
    /// How many more there are.
    pub more: u64,
    /// There are more than these, too: they were not counted to the end.
    pub cut: bool,
}

/// What an update changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// A line a commit that is new.
    pub commits: Lines,
    /// A line a commit that the remote would have no more.
    pub lost: Lines,
    /// A line a file.
    pub files: Lines,
    /// What differs in them.
    pub diff: Lines,
    /// The command that shows what differs, whole.
    pub command: Option<String>,
}

/// How a commit is shown.
const LOG: [&str; 5] =
    ["log", "--no-color", "--no-decorate", "--no-show-signature", "--format=%h %an  %s"];
/// How files are compared: by nothing that the user has set, or the tree has.
const DIFF: [&str; 7] = [
    "diff-tree",
    "-r",
    "--no-renames",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--ignore-submodules=none",
];

impl Outbox<'_> {
    /// What `update` of `remote` changes; a new branch is compared with what it has in common with `base`.
    /// Of each part the first `lines` are given. What of it is only at the remote is fetched.
    pub fn difference(
        &self,
        remote: &str,
        update: &Update,
        (base, lines): (Option<ObjectId>, usize),
    ) -> Result<Difference, SourceError> {
        if let Some(old) = update.old {
            self.fetch(remote, &[old])?;
        }
        let (git, hidden) = self.for_remote(remote, Way::Fetch)?;
        let ask = |args: &[&str]| self.lines(&git, (remote, &hidden), args, lines);
        let hex = |id: ObjectId| id.to_hex().to_string();
        let (old, new) = match (update.old, update.new) {
            (None, None) => return Ok(Difference::default()),
            (Some(old), None) => {
                let not = base.map(|base| format!("^{}", hex(base)));
                let lost = ask(&[
                    &LOG[..],
                    &[&hex(old)],
                    &not.as_deref().into_iter().collect::<Vec<_>>(),
                ]
                .concat())?;
                return Ok(Difference { lost, ..Difference::default() });
            }
            (old, Some(new)) => (old.map(hex), hex(new)),
        };
        let common = match (&old, base) {
            (Some(old), _) => Some(old.clone()),
            (None, Some(base)) => {
                let said = self.git(&["merge-base", &hex(base), &new]).ok();
                said.map(|said| String::from_utf8_lossy(&said).trim().to_owned())
            }
            (None, None) => None,
        };
        let range = common.as_ref().map_or(new.clone(), |from| format!("{from}..{new}"));
        let commits = ask(&[&LOG[..], &[&range]].concat())?;
        let lost = match &old {
            Some(old) => ask(&[&LOG[..], &[&format!("{new}..{old}")]].concat())?,
            None => Lines::default(),
        };
        let empty = ObjectId::empty_tree(gix::hash::Kind::Sha1);
        let from = common.unwrap_or_else(|| hex(empty));
        let files = ask(&[&DIFF[..], &["--stat=1000,800", &from, &new]].concat())?;
        let diff = ask(&[&DIFF[..], &["-p", &from, &new]].concat())?;
        let dir = self.dir.display();
        let command = format!("git --git-dir='{dir}' diff --text --no-renames {from} {new}");
        Ok(Difference { commits, lost, files, diff, command: Some(command) })
    }

    /// What git says, of which only the beginning is kept.
    fn lines(
        &self,
        git: &Git<'_>,
        (remote, hidden): (&str, &[String]),
        args: &[&str],
        most: usize,
    ) -> Result<Lines, SourceError> {
        let failed = |e| SourceError::io(&self.dir)(e);
        let (reading, writing) = io::pipe().map_err(failed)?;
        let writing = File::from(OwnedFd::from(writing));
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let settings = SETTINGS.map(|(name, value)| (name, OsStr::new(value)));
        let limits = LIMITS.map(|(name, value)| (name, OsStr::new(value)));
        let env = [&self.lazy()[..], &limits].concat();
        std::thread::scope(|scope| {
            // With the end that is read from goes git.
            let lines = scope.spawn(move || first(reading, most, COUNTED));
            let (env, settings, output) = (&env[..], &settings[..], Some(&writing));
            let ran = git.run(Run { env, settings, output, hidden, ..self.here(remote, &args) });
            drop(writing);
            let lines = lines.join().expect("reading does not panic").map_err(failed)?;
            if !lines.cut {
                ran?;
            }
            Ok(lines)
        })
    }
}

/// The first `most` lines of the first `bytes`.
fn first(from: impl Read, most: usize, bytes: u64) -> io::Result<Lines> {
    let mut reader = BufReader::new(from.take(bytes.saturating_add(1)));
    let (mut kept, mut line, mut all, mut begun) = (Vec::new(), Vec::new(), 0_u64, false);
    loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            break;
        }
        let end = part.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(part.len(), |end| end + 1);
        let room = LONGEST.saturating_sub(line.len());
        line.extend(part[..end.unwrap_or(part.len())].iter().take(room));
        begun = end.is_none();
        reader.consume(used);
        if end.is_some() {
            all += 1;
            if kept.len() < most {
                kept.push(std::mem::take(&mut line));
            }
            line.clear();
        }
    }
    if begun {
        all += 1;
        if kept.len() < most {
            kept.push(line);
        }
    }
    let cut = reader.into_inner().limit() == 0;
    let more = all - kept.len() as u64;
    let text = kept.iter().map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    Ok(Lines { text, more, cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_shown_is_counted() {
        let long = "x".repeat(1 << 20);
        let text = format!("a\n{long}\nb\n\nlast");
        let of = |most, bytes| first(text.as_bytes(), most, bytes).expect("read");
        let whole = text.len() as u64;
        let all = of(9, whole);
        assert_eq!((all.text.len(), all.more, all.cut), (2 + LONGEST + 1 + 2 + 1 + 5, 0, false));
        assert_eq!(of(2, whole).more, 3);
        assert_eq!(of(0, whole), Lines { text: String::new(), more: 5, cut: false });
        assert_eq!(of(1, 5), Lines { text: "a\n".into(), more: 1, cut: true });
        assert!(of(9, whole - 1).cut);
    }

    #[test]
    fn what_never_ends_is_read_no_further() {
        let lines = first(io::repeat(b'\n'), 2, 1000).expect("read");
        assert_eq!(lines, Lines { text: "\n\n".into(), more: 999, cut: true });
    }
}
