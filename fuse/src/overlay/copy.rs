//! Content from one real file to another, as cheaply as the disk can: shared blocks (reflink),
//! else copied by the kernel, else through memory. Holes stay holes.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};

use crate::call;
use crate::delta::errno;
use crate::sys::clone_file;

/// How much a copy through memory moves at a time.
pub(super) const CHUNK: usize = 256 << 10;

/// How much the kernel moves at a time, in bytes, before somebody looks whether it still should.
const STEP: u64 = 64 << 20;

/// Copies the first `size` bytes of `from`, which has as many, to the empty file `to`.
pub(super) fn whole(from: &File, to: &File, size: u64) -> Result<(), Errno> {
    if clone_file(from.as_fd(), to.as_fd()).is_err() {
        let mut at = 0;
        while let Some(data) = next(from, at, Whence::SeekData)?.filter(|data| *data < size) {
            let hole = next(from, data, Whence::SeekHole)?.unwrap_or(size);
            at = hole.min(size);
            segment(from, to, data, at)?;
        }
    }
    to.set_len(size).map_err(errno)
}

/// Copies at most `length` bytes. `None` if the kernel cannot between these two.
pub(super) fn range(
    (from, from_offset): (&File, u64),
    (to, to_offset): (&File, u64),
    length: u64,
) -> Result<Option<u64>, Errno> {
    let (mut at, mut to_at) = (signed(from_offset)?, signed(to_offset)?);
    loop {
        match copy_file_range(from, Some(&mut at), to, Some(&mut to_at), length as usize) {
            Err(Errno::EINTR) => {}
            // Two file systems, or one that cannot.
            Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                return Ok(None);
            }
            other => return other.map(|count| Some(count as u64)),
        }
    }
}

/// Copies the bytes from `start` to `end`, which both files have at the same place.
fn segment(from: &File, to: &File, start: u64, end: u64) -> Result<(), Errno> {
    let mut at = start;
    while at < end {
        call::check()?;
        match range((from, at), (to, at), (end - at).min(STEP))? {
            // The layer promised more.
            Some(0) => return Err(Errno::EIO),
            Some(count) => at += count,
            None => return through_memory(from, to, at, end),
        }
    }
    Ok(())
}

fn through_memory(from: &File, to: &File, start: u64, end: u64) -> Result<(), Errno> {
    let mut buf = vec![0; CHUNK.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let want = buf.len().min((end - at) as usize);
        let count = match from.read_at(&mut buf[..want], at) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.map_err(errno)?,
        };
        if count == 0 {
            return Err(Errno::EIO);
        }
        to.write_all_at(&buf[..count], at).map_err(errno)?;
        at += count as u64;
    }
    Ok(())
}

/// The next data or hole of `file` from `offset` on. It moves a position that nobody else uses.
pub(super) fn next(file: &File, offset: u64, whence: Whence) -> Result<Option<u64>, Errno> {
    match lseek(file, signed(offset)?, whence) {
        Ok(found) => Ok(Some(found as u64)),
        Err(Errno::ENXIO) => Ok(None),
        // A file system without holes: all is data.
        Err(Errno::EINVAL) if matches!(whence, Whence::SeekData) => Ok(Some(offset)),
        Err(Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn signed(value: u64) -> Result<i64, Errno> {
    i64::try_from(value).map_err(|_| Errno::EFBIG)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn file(content: &[(u64, &[u8])], size: u64) -> File {
        let file = tempfile::tempfile().expect("a file");
        for (at, bytes) in content {
            file.write_all_at(bytes, *at).expect("written");
        }
        file.set_len(size).expect("set");
        file
    }

    #[test]
    fn holes_stay_and_bytes_arrive() {
        let size = (8 << 20) + 5;
        let from = file(&[(1 << 20, &[7; 10_000]), (8 << 20, b"tail")], size);
        for length in [size, (1 << 20) + 5000, 4096, 1] {
            let to = file(&[], 0);
            whole(&from, &to, length).expect("copied");
            let mut copied = vec![1; length as usize];
            let mut original = copied.clone();
            to.read_exact_at(&mut copied, 0).expect("reads");
            from.read_exact_at(&mut original, 0).expect("reads");
            assert_eq!(to.metadata().expect("there").len(), length);
            assert!(copied == original, "{length}");
            assert!(to.metadata().expect("there").blocks() * 512 < 1 << 20);
            let through = file(&[], 0);
            through_memory(&from, &through, 0, length).expect("copied");
            through.read_exact_at(&mut copied, 0).expect("reads");
            assert!(copied == original, "{length}");
        }
    }

    #[test]
    fn a_file_that_ends_early_is_an_error() {
        let (from, to) = (file(&[(0, b"short")], 5), file(&[], 0));
        assert_eq!(segment(&from, &to, 0, 6), Err(Errno::EIO));
        assert_eq!(through_memory(&from, &to, 0, 6), Err(Errno::EIO));
        assert_eq!(range((&from, 1), (&to, 0), 100), Ok(Some(4)));
        assert_eq!(range((&from, u64::MAX), (&to, 0), 1), Err(Errno::EFBIG));
    }
}
