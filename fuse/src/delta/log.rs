//! The log file: replayed once, then appended to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::error::DeltaError;
use super::format::{self, FRAME_HEADER_LEN, Framed, HEADER_LEN, MAGIC, Op, VERSION};
use super::index::Index;

/// A log that grows beyond this and is mostly dead is written anew.
const COMPACT_FROM: u64 = 1 << 20;

/// How much room for the log is set aside on the disk at a time, in bytes, and how much of it is
/// kept for what removes something: on a full disk nothing else makes room.
const RESERVE: u64 = 16 << 10;
const FOR_REMOVALS: u64 = 8 << 10;

/// The open log of a delta.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// Everything before it is whole.
    end: u64,
    /// The disk has room for the log up to here.
    reserved: u64,
    /// When `end` reaches it, somebody should compact.
    limit: u64,
    /// After a sync that failed: the kernel says so once and then takes what it could not write
    /// for written (fsync(2), NOTES), so that only a log written anew can be trusted.
    doubtful: bool,
    /// After an append that could neither be done nor undone.
    broken: bool,
    dirty: bool,
}

/// What replaying gave.
pub struct Replayed {
    /// The state at the end.
    pub index: Index,
    /// Where the last whole frame ends.
    pub end: u64,
    /// The version of the format.
    pub version: u32,
}

/// Replays the bytes of a log, which came from `path`.
pub fn replay(path: &Path, bytes: &[u8]) -> Result<Replayed, DeltaError> {
    let mut index = Index::new();
    let Some(header) = bytes.get(..HEADER_LEN) else {
        // The header is written in one piece before anything else: a crash, or no delta.
        return if format::header().starts_with(bytes) {
            Ok(Replayed { index, end: 0, version: VERSION })
        } else {
            Err(DeltaError::NotADelta { path: path.into() })
        };
    };
    if &header[..8] != MAGIC {
        return Err(DeltaError::NotADelta { path: path.into() });
    }
    let version = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if version == 0 || version > VERSION {
        return Err(DeltaError::Version { path: path.into(), version });
    }
    let mut at = HEADER_LEN;
    while at < bytes.len() {
        let corrupt = |reason| DeltaError::Corrupt { path: path.into(), offset: at as u64, reason };
        let Framed::Payload(payload) = format::unframe(&bytes[at..]) else {
            if format::is_damage(&bytes[at..]) {
                return Err(corrupt("a record does not match its checksum"));
            }
            index.closed = false;
            break;
        };
        let ops = format::decode(payload).map_err(|source| DeltaError::Undecodable {
            path: path.into(),
            offset: at as u64,
            source,
        })?;
        index.apply(ops).map_err(|source| DeltaError::Contradiction {
            path: path.into(),
            offset: at as u64,
            source,
        })?;
        at += FRAME_HEADER_LEN + payload.len();
    }
    Ok(Replayed { index, end: at as u64, version })
}

impl Log {
    /// Opens (or begins) the log at `path`, drops a torn tail, and compacts it if it is
    /// mostly dead.
    pub fn open(path: &Path) -> Result<(Log, Index), DeltaError> {
        let failed =
            |operation| move |source| DeltaError::Io { operation, path: path.into(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed("open"))?;
        let bytes = std::fs::read(path).map_err(failed("read"))?;
        let Replayed { index, mut end, version } = replay(path, &bytes)?;
        if end == 0 {
            file.write_all_at(&format::header(), 0).map_err(failed("write"))?;
            end = HEADER_LEN as u64;
        }
        if (end as usize) < bytes.len() {
            file.set_len(end).map_err(failed("truncate"))?;
        }
        let mut log = Log {
            path: path.into(),
            file,
            end,
            reserved: end,
            limit: 0,
            doubtful: false,
            broken: false,
            dirty: true,
        };
        log.set_limit(index.weight());
        if log.end >= log.limit || version < VERSION {
            log.compact(&index).map_err(failed("compact"))?;
        }
        Ok((log, index))
    }

    /// Of which `live` bytes are not dead. What is written anew must not be due at once again.
    fn set_limit(&mut self, live: u64) {
        self.limit = COMPACT_FROM.max(live * 4);
    }

    /// Appends one transaction. If that fails, the log is as it was.
    pub fn append(&mut self, ops: &[Op]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let too_long = || io::Error::from_raw_os_error(libc::ENAMETOOLONG);
        let frame = format::frame(ops).ok_or_else(too_long)?;
        self.reserve(self.end + frame.len() as u64, ops)?;
        if let Err(error) = self.file.write_all_at(&frame, self.end) {
            self.broken = self.file.set_len(self.end).is_err();
            return Err(error);
        }
        self.end += frame.len() as u64;
        self.dirty = true;
        Ok(())
    }

    /// Sees to it that there is room for the log up to `end`, and some more.
    fn reserve(&mut self, end: u64, ops: &[Op]) -> io::Result<()> {
        if end + FOR_REMOVALS <= self.reserved {
            return Ok(());
        }
        let (at, flags) = (self.reserved.max(self.end), FallocateFlags::FALLOC_FL_KEEP_SIZE);
        let length = (end - self.end) + RESERVE;
        match fallocate(&self.file, flags, at as i64, length as i64) {
            Ok(()) => self.reserved = at + length,
            Err(errno @ (Errno::ENOSPC | Errno::EDQUOT)) => {
                let removes = |op: &Op| matches!(op, Op::Whiteout { .. } | Op::Remove { .. });
                if end > self.reserved || !ops.iter().any(removes) {
                    return Err(errno.into());
                }
            }
            // Where room cannot be set aside there is none for removals.
            Err(_) => {}
        }
        Ok(())
    }

    /// Makes everything appended so far, which is what `index` says, survive a loss of power.
    pub fn sync(&mut self, index: &Index) -> io::Result<()> {
        if self.doubtful {
            return self.compact(index);
        }
        if self.dirty {
            self.file.sync_data().inspect_err(|_| self.doubtful = true)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Whether the log has grown enough to be written anew.
    pub fn wants_compaction(&self) -> bool {
        self.end >= self.limit
    }

    /// Replaces the log by one that holds only `index`.
    pub fn compact(&mut self, index: &Index) -> io::Result<()> {
        // Should it fail, the next attempt waits until the log has doubled.
        self.limit = self.end * 2;
        let new = self.path.with_extension("new");
        let mut bytes = format::header().to_vec();
        for ops in index.snapshot() {
            let frame = format::frame(&ops).expect("what was once appended fits a frame");
            bytes.extend_from_slice(&frame);
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        let written = file.write_all_at(&bytes, 0).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| std::fs::rename(&new, &self.path)) {
            // A leftover is harmless: the next open or compaction replaces it.
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
        // This is the log now, whether or not its name is on the disk yet.
        (self.file, self.end, self.dirty) = (file, bytes.len() as u64, false);
        self.reserved = self.end;
        self.set_limit(self.end);
        self.doubtful = true;
        if let Some(parent) = self.path.parent() {
            File::open(parent)?.sync_all()?;
        }
        self.doubtful = false;
        Ok(())
    }

    /// The file, whose clock is the clock of the delta.
    pub fn file(&self) -> &File {
        &self.file
    }
}
