//! What the store keeps past the seam, and in what shape it is found after a cut.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// What of the store passes the seam by: caches, locks, half-made things.
pub const OUTSIDE: [&str; 9] = [
    "index.db",
    "index.db-wal",
    "index.db-shm",
    "index.lock",
    "collect.lock",
    "farm",
    "known",
    "places",
    "tmp",
];

/// In what shape the caches are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// As they were when the power went.
    Same,
    /// As they were when the simulation began.
    Older,
    /// Not there.
    Missing,
    /// Each file cut in half.
    Halved,
    /// Each file with its second half overwritten.
    Garbage,
}

/// Every shape.
pub const OUTSIDES: [Outside; 5] =
    [Outside::Same, Outside::Older, Outside::Missing, Outside::Halved, Outside::Garbage];

/// A temporary directory in memory where there is such a thing: syncs that are simulated need
/// not be waited for.
pub fn memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies the caches of the store `root`.
pub fn copy_outside(root: &Path) -> TempDir {
    let to = memory();
    for name in OUTSIDE.iter().filter(|name| !name.ends_with("lock") && **name != "tmp") {
        let from = root.join(name);
        if from.is_dir() {
            copy(&from, &to.path().join(name));
        } else if from.exists() {
            fs::copy(&from, to.path().join(name)).unwrap();
        }
    }
    to
}

/// Copies what is in a directory, times and modes and links included, into another.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let done = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(done.unwrap().success(), "cannot copy {}", from.display());
}

/// Damages the copies in `to` of all files in `from`, keeping their times, as a power cut does.
pub fn spoil(from: &Path, to: &Path, how: Outside) {
    for entry in walkdir::WalkDir::new(from).into_iter().map(Result::unwrap) {
        if !entry.file_type().is_file() {
            continue;
        }
        let path = to.join(entry.path().strip_prefix(from).unwrap());
        // The log would mend the database, were it not spoiled too.
        let mut bytes = fs::read(entry.path()).unwrap();
        let half = bytes.len() / 2;
        // A farm's file of the right length and time would be taken for whole; no journaling
        // file system shows a length before the bytes.
        if how == Outside::Halved || entry.path().starts_with(from.join("farm")) {
            bytes.truncate(half);
        } else {
            bytes[half..].fill(0xa5);
        }
        let found = fs::metadata(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_permissions(found.permissions()).unwrap();
        file.set_modified(found.modified().unwrap()).unwrap();
    }
}
