//! Content: reading, writing and all that lies between; copy-up.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

use nix::errno::Errno;
use nix::fcntl::FallocateFlags;
use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use nix::unistd::Whence;

use super::copy::{self, CHUNK};
use super::inode::Inode;
use super::lower::LowerNode;
use super::{Caller, Overlay};
use crate::call;
use crate::delta::{FileKind, errno};

/// How much one `copy_file_range` moves at most, so that nobody waits long for an answer.
const MAX_COPY: u64 = 16 << 20;
/// The longest a file can be: `off_t` has no more. Not every caller has asked a kernel first.
const MAX_SIZE: u64 = i64::MAX as u64;

impl Overlay {
    /// Reads from the file `ino`, from `offset` on; fewer bytes than `buf` has only at the end.
    pub fn read(&self, ino: u64, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
        let inode = self.file(ino)?;
        let room = MAX_SIZE.saturating_sub(offset);
        let length = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let buf = &mut buf[..length];
        let own = inode.own.read().unwrap_or_else(PoisonError::into_inner);
        if *own {
            return read_full(&*self.delta.data.file_to_read(ino)?, offset, buf);
        }
        self.layers.read(lower_of(&inode)?, offset, buf)
    }

    /// Writes `data` to the file `ino` at `offset`. If that is done by somebody `unprivileged`,
    /// the bits that let a program run as somebody else are taken away.
    pub fn write(
        &self,
        ino: u64,
        offset: u64,
        data: &[u8],
        unprivileged: Option<Caller>,
    ) -> Result<usize, Errno> {
        let inode = self.file(ino)?;
        if offset > MAX_SIZE - data.len() as u64 {
            return Err(Errno::EFBIG);
        }
        let own = self.own(&inode, u64::MAX)?;
        let _noting = self.noting(&inode);
        let file = self.delta.data.file(ino)?;
        let written = self.with_room(|| write_some(&file, offset, data))?;
        drop(own);
        if let Some(caller) = unprivileged {
            self.kill_set_id(&inode, caller)?;
        }
        Ok(written)
    }

    /// Gives the file the length `size`.
    pub(super) fn truncate(&self, inode: &Inode, size: u64) -> Result<(), Errno> {
        match inode.kind {
            FileKind::File => {}
            FileKind::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        if size > MAX_SIZE {
            return Err(Errno::EFBIG);
        }
        let _own = self.own(inode, size)?;
        let _noting = self.noting(inode);
        self.delta.data.file(inode.ino)?.set_len(size).map_err(errno)
    }

    /// As fallocate(2); `unprivileged` as in [`Overlay::write`].
    pub fn fallocate(
        &self,
        ino: u64,
        offset: u64,
        length: u64,
        mode: i32,
        unprivileged: Option<Caller>,
    ) -> Result<(), Errno> {
        let flags = FallocateFlags::from_bits(mode).ok_or(Errno::EOPNOTSUPP)?;
        let inode = self.file(ino)?;
        let own = self.own(&inode, u64::MAX)?;
        let _noting = self.noting(&inode);
        let signed = |value| i64::try_from(value).map_err(|_| Errno::EFBIG);
        let file = self.delta.data.file(ino)?;
        let (offset, length) = (signed(offset)?, signed(length)?);
        self.with_room(|| nix::fcntl::fallocate(&*file, flags, offset, length))?;
        drop(own);
        unprivileged.map_or(Ok(()), |caller| self.kill_set_id(&inode, caller))
    }

    /// The next data (or hole) from `offset` on, as lseek(2) finds it.
    pub fn seek(&self, ino: u64, offset: u64, hole: bool) -> Result<u64, Errno> {
        let inode = self.file(ino)?;
        let own = inode.own.read().unwrap_or_else(PoisonError::into_inner);
        if *own {
            let whence = if hole { Whence::SeekHole } else { Whence::SeekData };
            let offset = i64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            let found = nix::unistd::lseek(&*self.delta.data.file_to_read(ino)?, offset, whence)?;
            return Ok(found as u64);
        }
        let lower = lower_of(&inode)?;
        if offset >= lower.size {
            return Err(Errno::ENXIO);
        }
        let found = match self.layers.file(lower)? {
            Some(file) if hole => copy::next(&file, offset, Whence::SeekHole)?,
            Some(file) => {
                let found = copy::next(&file, offset, Whence::SeekData)?;
                return found.ok_or(Errno::ENXIO);
            }
            None if hole => None,
            None => Some(offset),
        };
        Ok(found.unwrap_or(lower.size))
    }

    /// As copy_file_range(2), from `(inode, offset)` to another: returns how much was copied, 0
    /// at the end; `unprivileged` as in [`Overlay::write`].
    pub fn copy_range(
        &self,
        (from, from_offset): (u64, u64),
        (to, to_offset): (u64, u64),
        length: u64,
        unprivileged: Option<Caller>,
    ) -> Result<u64, Errno> {
        let source = self.file(from)?;
        let target = self.file(to)?;
        let target_own = self.own(&target, u64::MAX)?;
        let _noting = self.noting(&target);
        let length = length.min(MAX_COPY);
        let file = self.delta.data.file(to)?;
        // One lock is never read twice by one thread: it could wait for a writer in between.
        let own = from == to || *source.own.read().unwrap_or_else(PoisonError::into_inner);
        let copied = self.with_room(|| {
            if own {
                let input = self.delta.data.file(from)?;
                let copied = copy::range((&input, from_offset), (&file, to_offset), length)?;
                return copied.ok_or(Errno::EINVAL);
            }
            self.copy_from_layer(lower_of(&source)?, from_offset, &file, to_offset, length)
        })?;
        drop(target_own);
        if let Some(caller) = unprivileged.filter(|_| copied > 0) {
            self.kill_set_id(&target, caller)?;
        }
        Ok(copied)
    }

    fn copy_from_layer(
        &self,
        source: &LowerNode,
        from_offset: u64,
        file: &File,
        to_offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        let length = length.min(source.size.saturating_sub(from_offset));
        if length > 0
            && let Some(input) = self.layers.file(source)?
            && let Some(copied) = copy::range((&input, from_offset), (file, to_offset), length)?
        {
            return Ok(copied);
        }
        let mut buf = vec![0; CHUNK.min(length as usize)];
        let mut done = 0;
        while done < length {
            call::check()?;
            let want = CHUNK.min((length - done) as usize);
            let count = self.layers.read(source, from_offset + done, &mut buf[..want])?;
            file.write_all_at(&buf[..count], to_offset + done).map_err(errno)?;
            done += count as u64;
        }
        Ok(done)
    }

    /// Makes content and metadata of `ino`, a file or a directory, survive a loss of power, and
    /// with the first call all that the workspace stands on, which may be just as new: what lies
    /// beside the delta was made by many, none of whom waited for the disk.
    pub fn fsync(&self, ino: u64, content_only: bool) -> Result<(), Errno> {
        let inode = self.inode(ino)?;
        if *inode.own.read().unwrap_or_else(PoisonError::into_inner) {
            self.delta.data.sync(ino, content_only).map_err(errno)?;
        }
        if !self.settled.load(Ordering::Acquire) {
            self.sync_all()?;
            self.settled.store(true, Ordering::Release);
        }
        self.sync()
    }

    fn file(&self, ino: u64) -> Result<Arc<Inode>, Errno> {
        let inode = self.inode(ino)?;
        match inode.kind {
            FileKind::File => Ok(inode),
            FileKind::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Makes the content of `inode` the delta's own, keeping at most `keep` bytes of it.
    /// It stays so while the answer is held.
    fn own<'a>(&self, inode: &'a Inode, keep: u64) -> Result<RwLockReadGuard<'a, bool>, Errno> {
        loop {
            let own = inode.own.read().unwrap_or_else(PoisonError::into_inner);
            if *own {
                return Ok(own);
            }
            drop(own);
            let mut own = inode.own.write().unwrap_or_else(PoisonError::into_inner);
            if !*own {
                self.copy_up(inode, keep)?;
                *own = true;
            }
        }
    }

    /// Copies the content of a file of the layers into the delta. Until the last step, which
    /// is one record in the log, everybody sees the layers' file.
    fn copy_up(&self, inode: &Inode, keep: u64) -> Result<(), Errno> {
        let lower = lower_of(inode)?;
        let size = lower.size.min(keep);
        let ino = inode.ino;
        let data = &self.delta.data;
        if size == 0 {
            data.create(ino)?;
        } else {
            let file = data.stage(ino)?;
            let copied = self.with_room(|| self.copy_content(lower, size, &file));
            let timed = copied.and_then(|()| {
                let mtime =
                    self.delta.read().slot(ino).map_or(lower.time(), |slot| slot.node.mtime);
                let spec = TimeSpec::new(mtime.secs, i64::from(mtime.nanos));
                futimens(&file, &TimeSpec::UTIME_OMIT, &spec)
            });
            // The old content must not be lost with the power, though nobody asked for fsync.
            let synced = timed.and_then(|()| file.sync_data().map_err(errno));
            if let Err(errno) = synced.and_then(|()| data.commit(ino, file).map(drop)) {
                data.abandon(ino);
                return Err(errno);
            }
        }
        let recorded = self.change_node(inode, |node| node.own = true);
        if recorded.is_err() {
            data.remove(ino);
        }
        recorded
    }

    /// Does what needs room on the disk, a second time if there was none: deleted files may
    /// still hold it.
    fn with_room<T>(&self, act: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match act() {
            Err(Errno::ENOSPC | Errno::EDQUOT) => {
                self.delta.sync().map_err(errno)?;
                act()
            }
            other => other,
        }
    }

    fn copy_content(&self, lower: &LowerNode, size: u64, file: &File) -> Result<(), Errno> {
        if let Some(source) = self.layers.file(lower)? {
            return copy::whole(&source, file, size);
        }
        let mut buf = vec![0; CHUNK.min(size as usize)];
        let mut at = 0;
        while at < size {
            call::check()?;
            let want = CHUNK.min((size - at) as usize);
            let count = self.layers.read(lower, at, &mut buf[..want])?;
            if buf[..count].iter().any(|byte| *byte != 0) {
                file.write_all_at(&buf[..count], at).map_err(errno)?;
            }
            at += count as u64;
        }
        file.set_len(size).map_err(errno)
    }
}

/// What a file that is not the delta's own stems from. Its layer may have lost it.
fn lower_of(inode: &Inode) -> Result<&LowerNode, Errno> {
    inode.lower.as_deref().ok_or(Errno::EIO)
}

fn read_full(file: &File, offset: u64, buf: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(done)
}

/// Writes as much as there is room for.
fn write_some(file: &File, offset: u64, data: &[u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < data.len() {
        match file.write_at(&data[done..], offset + done as u64) {
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if done > 0 => break,
            Err(error) => return Err(errno(error)),
        }
    }
    Ok(done)
}
