//! Memory for what must stay in memory: secrets.
//!
//! It is in no swap and in no core dump, is wiped when it is dropped, has neither `Debug` nor
//! `Display`, and cannot be cloned. It hides nothing from this process, nor from one that may
//! read this process's memory by ptrace(2), unless it is of [`Kept::Secret`]: then the kernel
//! itself has no map of it.

use std::io::{self, Read};

use crate::sys::Mapping;

/// The unit of growth; a page on the machines that there are is no larger but for a few.
const UNIT: usize = 4096;

/// How well a [`Pages`] is kept, from the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// By memfd_secret(2): not even in the kernel's own map.
    Secret,
    /// By mlock(2) and `MADV_DONTDUMP`.
    Locked,
    /// By `MADV_DONTDUMP` only: `RLIMIT_MEMLOCK` is used up, so the machine may write it to
    /// swap.
    Swappable,
}

/// Bytes that are kept so.
pub struct Pages {
    map: Mapping,
    len: usize,
    kept: Kept,
}

impl Pages {
    /// Room for `capacity` bytes; it grows when it must.
    pub fn new(capacity: usize) -> io::Result<Pages> {
        let size = capacity.max(1).next_multiple_of(UNIT);
        if let Ok(map) = Mapping::secret(size) {
            return Ok(Pages { map, len: 0, kept: Kept::Secret });
        }
        let (map, locked) = Mapping::private(size)?;
        let kept = if locked { Kept::Locked } else { Kept::Swappable };
        Ok(Pages { map, len: 0, kept })
    }

    /// A copy of `bytes`, which are the caller's to wipe.
    pub fn of(bytes: &[u8]) -> io::Result<Pages> {
        let mut pages = Pages::new(bytes.len())?;
        pages.push(bytes)?;
        Ok(pages)
    }

    /// How well it is kept.
    pub fn kept(&self) -> Kept {
        self.kept
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.map.bytes()[..self.len]
    }

    /// Appends.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reserve(bytes.len())?;
        self.map.bytes_mut()[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Shortens to `len` bytes and wipes the rest.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.map.bytes_mut()[len..self.len].fill(0);
            self.len = len;
        }
    }

    /// Appends all that `from` has, straight into these pages. An error of kind
    /// [`io::ErrorKind::FileTooLarge`] where that would make it longer than `most`.
    pub fn read(&mut self, from: &mut impl Read, most: usize) -> io::Result<()> {
        loop {
            self.reserve(1)?;
            match from.read(&mut self.map.bytes_mut()[self.len..]) {
                Ok(0) => return Ok(()),
                Ok(n) => self.len += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
            if self.len > most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    }

    fn reserve(&mut self, more: usize) -> io::Result<()> {
        let wanted = self.len.checked_add(more).ok_or(io::ErrorKind::OutOfMemory)?;
        if wanted > self.map.bytes().len() {
            let mut larger = Pages::new(wanted.max(self.len * 2))?;
            larger.push(self.bytes())?;
            *self = larger;
        }
        Ok(())
    }
}

impl io::Write for Pages {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    /// What the kernel says of the mapping that holds `at`: the letters of `VmFlags`.
    fn flags(at: usize) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let range =
                range.map(|(a, b)| (usize::from_str_radix(a, 16), usize::from_str_radix(b, 16)));
            if let Some((Ok(start), Ok(end))) = range {
                inside = (start..end).contains(&at);
            } else if inside && let Some(flags) = line.strip_prefix("VmFlags:") {
                return format!("{flags} ");
            }
        }
        panic!("{at:x} is not mapped");
    }

    fn through_the_kernel(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut mem = std::fs::File::open("/proc/self/mem")?;
        mem.seek(SeekFrom::Start(bytes.as_ptr() as u64))?;
        let mut read = vec![0; bytes.len()];
        mem.read_exact(&mut read)?;
        Ok(read)
    }

    #[test]
    fn it_is_in_no_dump_and_no_swap() {
        let ordinary = b"canary".to_vec();
        assert_eq!(through_the_kernel(&ordinary).unwrap(), ordinary);
        let pages = Pages::of(&ordinary).unwrap();
        let flags = flags(pages.bytes().as_ptr() as usize);
        assert!(flags.contains(" dd "), "dumped: {flags}");
        assert_ne!(pages.kept(), Kept::Swappable);
        assert!(flags.contains(" lo "), "not locked: {flags}");
        if pages.kept() == Kept::Secret {
            assert!(through_the_kernel(pages.bytes()).is_err());
        }
        let (mut map, _) = Mapping::private(UNIT).unwrap();
        map.bytes_mut()[..6].copy_from_slice(&ordinary);
        map.wipe();
        assert_eq!(map.bytes(), [0; UNIT]);
    }

    #[test]
    fn it_grows_and_shortens() {
        let mut pages = Pages::new(0).unwrap();
        let all: Vec<u8> = (0..20_000_u32).map(|i| i as u8).collect();
        for part in all.chunks(777) {
            pages.push(part).unwrap();
        }
        assert_eq!(pages.bytes(), all);
        pages.truncate(5000);
        assert_eq!(pages.bytes(), &all[..5000]);
        assert!(pages.map.bytes()[5000..].iter().all(|byte| *byte == 0));
        pages.read(&mut &all[5000..], 20_000).unwrap();
        assert_eq!(pages.bytes(), all);
        let e = pages.read(&mut &all[..], 20_001).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::FileTooLarge);
    }
}
