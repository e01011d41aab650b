//! The record of each use: `$ZAGI_HOME/audit/secrets.log`, JSON lines, version 1.
//!
//! ```json
//! {"version":1,"row":1,"time":"2026-11-27T14:00:00Z","action":"get","names":["STRIPE_KEY"],
//!  "file":"/home/u/web/.zagi/secrets.enc","project":"<id>","revision":3,
//!  "uid":1000,"pid":4242,"by":"zsh","previous":"<BLAKE3 of the line before, without its end>"}
//! ```
//! A row is written and synced, under a lock, *before* what it speaks of: [`Log::append`] gives a
//! [`Receipt`], and nothing gives a value without one. The first row's `previous` is 64 zeros.
//!
//! `secrets.head` beside it, `<rows> <BLAKE3 of the last row>`, is written after the row: so a log
//! that was cut is noticed. After a crash between the two it is one row behind, and a row may be
//! there in part; the next row mends both. Everything else that is not as it was written stops
//! every release. It tells of tampering by who does not know of the chain; who may write both
//! files can make a new one.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::error::SecretsError;

/// The version of the format above.
const VERSION: u32 = 1;
const BEGIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What is about to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The command: `get`, `edit`, `set`, …
    pub action: String,
    /// The secrets that it is about.
    pub names: Vec<String>,
    /// Who gets them: a command, or a request. Empty: who says the command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub to: String,
    /// The file that they are in.
    pub file: String,
    /// The project's id.
    pub project: String,
    /// The file's revision.
    pub revision: u64,
    /// The user.
    pub uid: u32,
    /// This process.
    pub pid: u32,
    /// The program that started it, as it calls itself.
    pub by: String,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    version: u32,
    /// Its number, from 1 on.
    pub row: u64,
    /// When, as RFC 3339 has it, in UTC.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub of: Use,
    previous: String,
}

/// A row is on disk: what it names may be released.
#[derive(Debug)]
pub struct Receipt {
    project: String,
    names: BTreeSet<String>,
}

impl Receipt {
    pub(super) fn covers(&self, project: &str, name: &str) -> bool {
        self.project == project && self.names.contains(name)
    }

    pub(super) fn is_of(&self, project: &str) -> bool {
        self.project == project
    }
}

/// The log of a home.
#[derive(Debug, Clone)]
pub struct Log {
    /// The file.
    pub path: PathBuf,
    head: PathBuf,
    /// The end, as this log wrote it last: while neither file was touched since, what is before it
    /// has been looked through already.
    written: Arc<Mutex<Option<Written>>>,
}

/// The end that was written, and what both files were then.
type Written = (End, [Stamp; 2]);

/// Where the next row goes, and what it follows.
#[derive(Debug, Clone)]
struct End {
    rows: u64,
    last: String,
    /// The bytes of whole rows.
    length: u64,
    /// Whether there is a row in part behind them.
    torn: bool,
}

/// By what the kernel tells that a file was touched: inode, length, and the time that nobody sets
/// (inode(7), ctime).
type Stamp = (u64, u64, i64, i64);

fn stamp(meta: &std::fs::Metadata) -> Stamp {
    (meta.ino(), meta.len(), meta.ctime(), meta.ctime_nsec())
}

/// A log that was read.
struct Chain {
    rows: Vec<Row>,
    last: String,
    /// The bytes of whole rows.
    length: u64,
    /// Whether there is a row in part behind them.
    torn: bool,
}

impl Log {
    /// Of the home at `home`.
    pub fn new(home: &Path) -> Log {
        let dir = home.join("audit");
        let (path, head) = (dir.join("secrets.log"), dir.join("secrets.head"));
        Log { path, head, written: Arc::default() }
    }

    /// Writes a row; `now` is in seconds since the epoch.
    pub fn append(&self, now: i64, of: Use) -> Result<Receipt, SecretsError> {
        let failed = |source| SecretsError::Audit { path: self.path.clone(), source };
        super::private_directory(self.path.parent().unwrap_or(Path::new("/")))?;
        let file = self.open(true).map_err(failed)?;
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| failed(e.into()))?;
        let end = self.end(&file)?;
        let receipt =
            Receipt { project: of.project.clone(), names: of.names.iter().cloned().collect() };
        let time = jiff::Timestamp::from_second(now).unwrap_or_default().to_string();
        let number = end.rows + 1;
        let row = Row { version: VERSION, row: number, time, of, previous: end.last.clone() };
        let mut line = serde_json::to_string(&row).expect("every field has a form in JSON");
        let hash = blake3::hash(line.as_bytes()).to_hex();
        line.push('\n');
        // What was left of a row that a crash cut.
        let written = match end.torn {
            true => file.set_len(end.length),
            false => Ok(()),
        };
        let written = written
            .and_then(|()| file.write_all_at(line.as_bytes(), end.length))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.write_head(number, &hash));
        if written.is_err() {
            // It is of something that will not happen.
            let _ = file.set_len(end.length);
        }
        written.map_err(failed)?;
        let length = end.length + line.len() as u64;
        let end = End { rows: number, last: hash.to_string(), length, torn: false };
        *self.written() = self.stamps(&file).ok().map(|stamps| (end, stamps));
        Ok(receipt)
    }

    fn written(&self) -> MutexGuard<'_, Option<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stamps(&self, file: &File) -> io::Result<[Stamp; 2]> {
        Ok([stamp(&file.metadata()?), stamp(&std::fs::metadata(&self.head)?)])
    }

    /// The end of what is there, which was looked through.
    fn end(&self, file: &File) -> Result<End, SecretsError> {
        let failed = |source| SecretsError::Audit { path: self.path.clone(), source };
        let known = self.written().take();
        if let (Some((end, then)), Ok(now)) = (known, self.stamps(file))
            && then == now
        {
            return Ok(end);
        }
        let chain = self.read(file)?;
        let rows = chain.rows.len() as u64;
        if self.head_rows()? < rows {
            self.write_head(rows, &chain.last).map_err(failed)?;
        }
        Ok(End { rows, last: chain.last, length: chain.length, torn: chain.torn })
    }

    /// Its rows, checked; what is wrong with the first that is not as it was written. Whether the
    /// last row is there in part only.
    pub fn rows(&self) -> Result<(Vec<Row>, bool), SecretsError> {
        let failed = |source| SecretsError::Audit { path: self.path.clone(), source };
        let file = match self.open(false) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return match self.head_rows()? {
                    0 => Ok((Vec::new(), false)),
                    n => Err(self.broken(format!("the file is gone, and had {n} rows"))),
                };
            }
            Err(e) => return Err(failed(e)),
        };
        let file = Flock::lock(file, FlockArg::LockShared).map_err(|(_, e)| failed(e.into()))?;
        let chain = self.read(&file)?;
        Ok((chain.rows, chain.torn))
    }

    fn open(&self, make: bool) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(make).create(make).mode(0o600);
        options.custom_flags(nix::libc::O_NOFOLLOW).open(&self.path)
    }

    fn broken(&self, reason: String) -> SecretsError {
        SecretsError::AuditBroken { path: self.path.clone(), reason }
    }

    /// All of it, compared with itself and with the head.
    fn read(&self, mut file: &File) -> Result<Chain, SecretsError> {
        let failed = |source| SecretsError::Audit { path: self.path.clone(), source };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.read_to_end(&mut bytes).map_err(failed)?;
        let length = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
        let head = self.head()?;
        let mut chain =
            Chain { rows: Vec::new(), last: BEGIN.into(), length: length as u64, torn: false };
        let mut at_head = BEGIN.to_owned();
        for line in bytes[..length].split_inclusive(|byte| *byte == b'\n') {
            let line = &line[..line.len() - 1];
            let number = chain.rows.len() as u64 + 1;
            let row: Row = serde_json::from_slice(line)
                .map_err(|_| self.broken(format!("row {number} is no row")))?;
            if row.version != VERSION || row.row != number || row.previous != chain.last {
                let reason = format!("row {number} does not follow from the one before it");
                return Err(self.broken(reason));
            }
            chain.last = blake3::hash(line).to_hex().to_string();
            if number == head.0 {
                at_head.clone_from(&chain.last);
            }
            chain.rows.push(row);
        }
        chain.torn = length < bytes.len();
        let rows = chain.rows.len() as u64;
        match head {
            (seen, _) if seen > rows => {
                Err(self.broken(format!("it has {rows} rows, and had {seen}: it was cut")))
            }
            (seen, _) if seen + 1 < rows => {
                Err(self.broken(format!("row {} was added by something else", seen + 1)))
            }
            (seen, hash) if hash != at_head => {
                Err(self.broken(format!("row {seen} is another than was written")))
            }
            _ => Ok(chain),
        }
    }

    fn head_rows(&self) -> Result<u64, SecretsError> {
        Ok(self.head()?.0)
    }

    fn head(&self) -> Result<(u64, String), SecretsError> {
        let text = match std::fs::read_to_string(&self.head) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((0, BEGIN.into())),
            Err(source) => return Err(SecretsError::Audit { path: self.head.clone(), source }),
        };
        let parsed = text.trim_end().split_once(' ');
        let parsed = parsed.and_then(|(rows, hash)| Some((rows.parse().ok()?, hash.to_owned())));
        parsed.ok_or_else(|| self.broken(format!("`{}` is not what it was", self.head.display())))
    }

    fn write_head(&self, rows: u64, hash: &str) -> io::Result<()> {
        let dir = self.head.parent().unwrap_or(Path::new("/"));
        let mut tmp = tempfile::NamedTempFile::new_in(dir)?;
        writeln!(tmp, "{rows} {hash}")?;
        tmp.as_file().sync_all()?;
        tmp.persist(&self.head).map_err(|e| e.error)?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, Log) {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path());
        (dir, log)
    }

    fn a_use(name: &str) -> Use {
        Use {
            to: String::new(),
            action: "get".into(),
            names: vec![name.into()],
            file: "/w/.zagi/secrets.enc".into(),
            project: "p".into(),
            revision: 1,
            uid: 0,
            pid: 1,
            by: "sh".into(),
        }
    }

    fn reason(log: &Log) -> String {
        let read = log.rows().unwrap_err();
        let append = log.append(0, a_use("X")).unwrap_err();
        assert_eq!(read.to_string(), append.to_string());
        read.to_string()
    }

    fn three() -> (tempfile::TempDir, Log, String) {
        let (dir, log) = log();
        for name in ["A", "B", "C"] {
            let receipt = log.append(1_756_684_800, a_use(name)).unwrap();
            assert!(receipt.covers("p", name) && !receipt.covers("q", name));
            assert!(!receipt.covers("p", "D"));
        }
        let text = std::fs::read_to_string(&log.path).unwrap();
        (dir, log, text)
    }

    #[test]
    fn rows_follow_from_each_other() {
        let (_dir, log, text) = three();
        let (rows, torn) = log.rows().unwrap();
        assert_eq!((rows.len(), torn), (3, false));
        assert_eq!(rows[2].time, "2025-09-01T00:00:00Z");
        let begin =
            r#"{"version":1,"row":1,"time":"2025-09-01T00:00:00Z","action":"get","names":["A"],"#;
        assert!(text.starts_with(begin), "{text}");
    }

    #[test]
    fn what_was_changed_is_found_and_stops_every_release() {
        let (_dir, log, text) = three();
        let lines: Vec<&str> = text.lines().collect();
        let write = |text: String| std::fs::write(&log.path, text).unwrap();
        write(text.replace("[\"A\"]", "[\"Z\"]"));
        assert!(reason(&log).contains("row 2 does not follow"));
        write(text.replace("[\"C\"]", "[\"Z\"]"));
        assert!(reason(&log).contains("row 3 is another than was written"));
        write(format!("{}\n{}\n", lines[0], lines[2]));
        assert!(reason(&log).contains("row 2 does not follow"));
        write(format!("{}\n{}\n", lines[0], lines[1]));
        assert!(reason(&log).contains("it has 2 rows, and had 3: it was cut"));
        write(format!("{text}nonsense\n"));
        assert!(reason(&log).contains("row 4 is no row"));
        write(String::new());
        assert!(reason(&log).contains("it was cut"));
        std::fs::remove_file(&log.path).unwrap();
        assert!(log.rows().unwrap_err().to_string().contains("is gone, and had 3 rows"));
        write(text.clone());
        std::fs::write(&log.head, "x").unwrap();
        assert!(reason(&log).contains("secrets.head` is not what it was"));
        std::fs::remove_file(&log.head).unwrap();
        assert!(reason(&log).contains("row 1 was added by something else"));
    }

    #[test]
    fn what_a_crash_leaves_is_mended_by_the_next_row() {
        let (_dir, log, text) = three();
        let head = std::fs::read_to_string(&log.head).unwrap();
        log.append(0, a_use("D")).unwrap();
        let four = std::fs::read_to_string(&log.path).unwrap();
        for cut in text.len()..=four.len() {
            std::fs::write(&log.path, &four[..cut]).unwrap();
            std::fs::write(&log.head, &head).unwrap();
            let whole = if cut == four.len() { 4 } else { 3 };
            let torn = cut > text.len() && cut < four.len();
            let (rows, found) = log.rows().unwrap();
            assert_eq!((rows.len(), found), (whole, torn), "{cut}");
        }
        // Both at once: the head is behind, and then half a row is there.
        std::fs::write(&log.path, format!("{four}{{\"ver")).unwrap();
        log.append(0, a_use("E")).unwrap();
        let (rows, torn) = log.rows().unwrap();
        assert_eq!((rows.len(), torn), (5, false));
    }
}
