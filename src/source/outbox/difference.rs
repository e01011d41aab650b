//! What a push would change, for people: all of it is counted, what is too much to read is said.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek};

use gix::ObjectId;

use super::{Outbox, Update, Way};
use crate::source::error::SourceError;
use crate::source::git::{Git, Run};

/// A longer line is cut, in bytes.
const LONGEST: usize = 2000;

/// The beginning of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// Its first lines.
    pub text: String,
    /// How many more there are.
    pub more: u64,
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
        let tmp = self.ctx.home.tmp();
        let mut file = tempfile::tempfile_in(&tmp).map_err(SourceError::io(&tmp))?;
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let run = Run {
            env: &self.lazy(),
            // Larger ones are not compared line by line.
            settings: &[("core.bigFileThreshold", OsStr::new("4m"))],
            output: Some(&file),
            hidden,
            ..self.here(remote, &args)
        };
        git.run(run)?;
        file.rewind().and_then(|()| first(&file, most)).map_err(SourceError::io(&tmp))
    }
}

fn first(file: &File, most: usize) -> io::Result<Lines> {
    let mut reader = BufReader::new(file);
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
    let more = all - kept.len() as u64;
    let text = kept.iter().map(|line| format!("{}\n", String::from_utf8_lossy(line))).collect();
    Ok(Lines { text, more })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_not_shown_is_counted() {
        let mut file = tempfile::tempfile().expect("made");
        let long = "x".repeat(1 << 20);
        write!(file, "a\n{long}\nb\n\nlast").expect("written");
        let of = |most| {
            (&file).rewind().expect("whole");
            first(&file, most).expect("read")
        };
        let all = of(9);
        assert_eq!((all.text.len(), all.more), (2 + LONGEST + 1 + 2 + 1 + 5, 0));
        assert_eq!(of(2).more, 3);
        assert_eq!(of(0), Lines { text: String::new(), more: 5 });
    }
}
