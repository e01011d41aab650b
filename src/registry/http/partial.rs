//! What there is of a file that broke off, locked while somebody adds to it.
//!
//! ```text
//! <name>.part   the first bytes of the file
//! <name>.etag   the address that they came from, and what its server calls that version
//! ```
//!
//! The digest says at the end whether it is the right file. The tag only spares a server, and
//! us, the rest of a file that has changed since. Without a part it means nothing.
//!
//! What nobody came back for goes: see [`sweep`].

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::{HttpError, cache};
use crate::registry::digest::{Digest, Hasher};

/// For how many seconds a part waits for somebody to go on with it.
const KEPT: i64 = 7 * 86_400;

/// How many bytes of parts wait at most; the oldest go first.
const MOST: u64 = 8 << 30;

/// A longer tag is not kept.
const LONGEST_TAG: usize = 1024;

/// A partial file, locked by us, with the hash of what it holds.
pub(super) struct Partial {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) hasher: Hasher,
    pub(super) length: u64,
    /// The address that its bytes came from, and the tag there.
    tag: Option<(String, String)>,
}

pub(super) enum Claim {
    /// Somebody finished it while we waited.
    Done,
    Ours(Box<Partial>),
}

/// Opens and locks the partial file of `path`, waiting while another process adds to it.
pub(super) fn claim(path: &Path, expected: &Digest) -> Result<Claim, HttpError> {
    let part = path.with_extension("part");
    let io = || cache(&part);
    loop {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(&part).map_err(io())?;
        file.lock().map_err(io())?;
        if path.is_file() {
            // Ours is either that very file, or one made just after it got its name.
            if !same_file(&file, path).map_err(io())? {
                let _ = fs::remove_file(&part);
            }
            return Ok(Claim::Done);
        }
        // Whoever held the lock may have removed or renamed what we opened.
        if !same_file(&file, &part).map_err(io())? {
            continue;
        }
        let mut hasher = expected.hasher();
        let length = hash(&mut file, &mut hasher).map_err(io())?;
        let tag = read_tag(&part).filter(|_| length > 0);
        let partial = Partial { file, path: part, hasher, length, tag };
        return Ok(Claim::Ours(Box::new(partial)));
    }
}

impl Partial {
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), HttpError> {
        self.file.write_all(bytes).map_err(cache(&self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// From nothing again, of what `url` has now under `tag`.
    pub(super) fn restart(
        &mut self,
        expected: &Digest,
        url: &str,
        tag: Option<&str>,
    ) -> Result<(), HttpError> {
        if self.length > 0 {
            self.file.set_len(0).map_err(cache(&self.path))?;
            self.file.seek(SeekFrom::Start(0)).map_err(cache(&self.path))?;
        }
        self.hasher = expected.hasher();
        self.length = 0;
        self.tag = tag.filter(|tag| is_strong(tag)).map(|tag| (url.to_owned(), tag.to_owned()));
        let path = tag_path(&self.path);
        // At the worst the next process goes on without it.
        let _ = match &self.tag {
            Some((url, tag)) => fs::write(path, format!("{url}\n{tag}\n")),
            None => fs::remove_file(path),
        };
        Ok(())
    }

    /// What the server at `url` called the version that the bytes are of.
    pub(super) fn tag_at(&self, url: &str) -> Option<&str> {
        self.tag.as_ref().filter(|(from, _)| from == url).map(|(_, tag)| tag.as_str())
    }

    /// Takes away what would be of no use to anybody.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
        self.forget_tag();
    }

    /// The file is whole, or gone.
    pub(super) fn forget_tag(&self) {
        let _ = fs::remove_file(tag_path(&self.path));
    }
}

/// Removes from `directory` the parts that nobody has added to for a week, and the oldest of
/// more than there should be. Those that somebody adds to stay. `now` is in seconds since the
/// epoch.
pub(super) fn sweep(directory: &Path, now: i64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut parts: Vec<(i64, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let meta = path.symlink_metadata().ok().filter(|meta| meta.is_file())?;
            let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
            let is_part = path.extension().is_some_and(|ending| ending == "part");
            is_part.then(|| (i64::try_from(since).unwrap_or(i64::MAX), meta.len(), path))
        })
        .collect();
    parts.sort_by_key(|(since, _, _)| std::cmp::Reverse(*since));
    let mut bytes: u64 = 0;
    for (since, length, path) in parts {
        bytes = bytes.saturating_add(length);
        if now.saturating_sub(since) <= KEPT && bytes <= MOST {
            continue;
        }
        // Removed under its lock: whoever waits for it then finds that it is gone.
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_file(tag_path(&path));
        }
    }
}

fn tag_path(part: &Path) -> PathBuf {
    part.with_extension("etag")
}

fn read_tag(part: &Path) -> Option<(String, String)> {
    let text = fs::read_to_string(tag_path(part)).ok()?;
    let (url, tag) = text.strip_suffix('\n')?.split_once('\n')?;
    is_strong(tag).then(|| (url.to_owned(), tag.to_owned()))
}

/// A tag that stands for the very bytes (RFC 9110, 8.8.3): `"…"`, and not `W/"…"`.
fn is_strong(tag: &str) -> bool {
    let inside = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    tag.len() <= LONGEST_TAG && inside.is_some_and(|tag| tag.bytes().all(|b| b > b' ' && b != b'"'))
}

fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(theirs) => Ok(ours.dev() == theirs.dev() && ours.ino() == theirs.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn hash(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    let mut length = 0;
    // A device has no length, and reading it may never end.
    if file.metadata()?.len() == 0 {
        return Ok(0);
    }
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            n => {
                hasher.update(&buffer[..n]);
                length += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_tags_stand_for_bytes() {
        assert!(is_strong("\"abc\"") && is_strong("\"\""));
        for tag in ["W/\"abc\"", "abc", "\"", "\"a b\"", "\"a\nb\"", "\"a\"b\""] {
            assert!(!is_strong(tag), "{tag}");
        }
        assert!(!is_strong(&format!("\"{}\"", "a".repeat(LONGEST_TAG))));
    }
}
