//! What a service says: `log`, and `log.1` with what came before it, of bounded size.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The newer half.
pub(super) const FILE: &str = "log";
const OLDER: &str = "log.1";
/// Each half is at most so long, but for one piece of output.
const MOST: u64 = 1 << 20;
/// Between two looks at a log that is followed.
const PAUSE: Duration = Duration::from_millis(100);

/// A log that is written.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    file: File,
    length: u64,
}

impl Log {
    /// That of the service whose directory is `dir`.
    pub(super) fn open(dir: &Path) -> io::Result<Log> {
        let file = File::options().create(true).append(true).open(dir.join(FILE))?;
        let length = file.metadata()?.len();
        Ok(Log { dir: dir.to_owned(), file, length })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length > 0 && self.length + bytes.len() as u64 > MOST {
            fs::rename(self.dir.join(FILE), self.dir.join(OLDER))?;
            *self = Log::open(&self.dir)?;
        }
        self.file.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Takes in all that `from` has, as it comes.
    pub(super) fn take(log: &std::sync::Mutex<Log>, mut from: impl Read) {
        let mut some = [0; 8192];
        loop {
            match from.read(&mut some) {
                Ok(0) => return,
                // A full disk must not stop the service: what cannot be kept is dropped.
                Ok(n) => {
                    let mut log = log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let _ = log.write(&some[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// How long the log is now: where what comes next begins.
pub(super) fn length(dir: &Path) -> u64 {
    fs::metadata(dir.join(FILE)).map_or(0, |meta| meta.len())
}

/// The last `lines` lines since the log was `length` long.
pub(super) fn tail_since(dir: &Path, length: u64, lines: usize) -> Vec<String> {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(dir.join(FILE)) {
        // It was begun anew meanwhile where it is shorter.
        let begin = file.metadata().map_or(0, |meta| if meta.len() < length { 0 } else { length });
        let _ = file.seek(SeekFrom::Start(begin)).and_then(|_| file.read_to_end(&mut bytes));
    }
    last(&bytes, lines)
}

/// The last `lines` lines of the log of the service whose directory is `dir`.
pub fn tail(dir: &Path, lines: usize) -> Vec<String> {
    let mut bytes = fs::read(dir.join(OLDER)).unwrap_or_default();
    bytes.extend(fs::read(dir.join(FILE)).unwrap_or_default());
    last(&bytes, lines)
}

fn last(bytes: &[u8], lines: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Hands what comes from now on to `each`, until that says that it is enough.
pub fn follow(dir: &Path, each: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
    let path = dir.join(FILE);
    let mut file = match File::open(&path) {
        Ok(mut file) => {
            file.seek(SeekFrom::End(0))?;
            Some(file)
        }
        Err(_) => None,
    };
    loop {
        let mut some = Vec::new();
        if let Some(file) = &mut file {
            file.read_to_end(&mut some)?;
        }
        if !each(&some) {
            return Ok(());
        }
        let another = match (&file, fs::metadata(&path)) {
            (Some(file), Ok(now)) => file.metadata()?.ino() != now.ino(),
            (None, Ok(_)) => true,
            (_, Err(_)) => false,
        };
        // The old one has been read to its end, but for what came since.
        if another && some.is_empty() {
            file = File::open(&path).ok();
        } else if some.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_its_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        let line = [b'x'; 999];
        for n in 0..4000 {
            log.write(format!("{n}\n").as_bytes()).unwrap();
            log.write(&line).unwrap();
            log.write(b"\n").unwrap();
        }
        for file in [FILE, OLDER] {
            let length = fs::metadata(dir.path().join(file)).unwrap().len();
            assert!(length <= MOST, "{file}: {length}");
        }
        let tail = tail(dir.path(), 3);
        assert_eq!((tail.len(), tail[1].as_str()), (3, "3999"));
        let length = length(dir.path());
        log.write(b"one\ntwo\nthree\n").unwrap();
        assert_eq!(tail_since(dir.path(), length, 2), ["two", "three"]);
        assert_eq!(tail_since(dir.path(), length, 9), ["one", "two", "three"]);
    }

    #[test]
    fn what_is_followed_goes_on_in_the_next_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        log.write(b"before\n").unwrap();
        let mut seen = Vec::new();
        let mut step = 0;
        follow(dir.path(), &mut |bytes| {
            seen.extend(bytes);
            step += 1;
            match step {
                1 => log.write(b"one ").unwrap(),
                2 => {
                    log.length = MOST;
                    log.write(b"two").unwrap();
                }
                _ => {}
            }
            !seen.ends_with(b"two") && step < 100
        })
        .unwrap();
        assert_eq!(String::from_utf8(seen).unwrap(), "one two");
    }
}
