//! What the program alone is to have: variables and files that are in no [`crate::Plan`], which
//! can be printed, and in no other process than the caller's and the program's.
//!
//! Sent after the order, over the control socket, from [`Pages`] to [`Pages`]: init reads it, hands
//! it over, and forgets it. On the way each entry is a byte for its kind, the length of its name and
//! of its value (32 bits, little-endian), the name, and the value. The files are in memory, on a
//! mount of the program's own.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::pages::Pages;

/// The directory of the files, inside.
pub const SECRETS: &str = "/run/secrets";

const VARIABLE: u8 = b'v';
const FILE: u8 = b'f';
const HEAD: usize = 9;

/// See the module.
pub struct Private {
    pages: Pages,
    files: bool,
}

/// One thing that is in it.
struct Entry<'a> {
    kind: u8,
    name: &'a str,
    value: &'a [u8],
}

impl Private {
    /// Nothing, yet.
    pub fn new() -> io::Result<Private> {
        Ok(Private { pages: Pages::new(1)?, files: false })
    }

    /// A variable, before any of that name in the plan. One with a NUL in it cannot be.
    pub fn var(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        match value.contains(&0) || name.contains(['=', '\0']) {
            true => Err(io::Error::other(format!("{name} has a NUL in it: no variable can"))),
            false => self.push(VARIABLE, name, value),
        }
    }

    /// A file of that name in [`SECRETS`], which the program may read.
    pub fn file(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.files = true;
        self.push(FILE, name, value)
    }

    fn push(&mut self, kind: u8, name: &str, value: &[u8]) -> io::Result<()> {
        let length = |n: usize| u32::try_from(n).map(u32::to_le_bytes).map_err(io::Error::other);
        self.pages.push(&[kind])?;
        self.pages.push(&length(name.len())?)?;
        self.pages.push(&length(value.len())?)?;
        self.pages.push(name.as_bytes())?;
        self.pages.push(value)
    }

    /// How many bytes [`Private::send`] sends.
    pub(crate) fn length(&self) -> usize {
        self.pages.bytes().len()
    }

    pub(crate) fn send(&self, mut control: &UnixStream) -> io::Result<()> {
        control.write_all(self.pages.bytes())
    }

    /// The other end of [`Private::send`].
    pub(crate) fn receive(control: &UnixStream, length: usize) -> io::Result<Private> {
        let mut pages = Pages::new(length)?;
        pages.read(&mut control.take(length as u64), length)?;
        let mut private = Private { pages, files: false };
        if private.length() != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = private.pages.bytes();
        let mut files = false;
        while !rest.is_empty() {
            let (entry, after) = parse(rest).ok_or(io::ErrorKind::InvalidData)?;
            files |= entry.kind == FILE;
            rest = after;
        }
        private.files = files;
        Ok(private)
    }

    fn entries(&self, kind: u8) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest = self.pages.bytes();
        let entries = std::iter::from_fn(move || {
            let (entry, after) = parse(rest)?;
            rest = after;
            Some(entry)
        });
        entries.filter(move |entry| entry.kind == kind).map(|entry| (entry.name, entry.value))
    }

    /// The variables.
    pub(crate) fn vars(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries(VARIABLE)
    }

    /// Whether there are files.
    pub(crate) fn has_files(&self) -> bool {
        self.files
    }

    /// The files, by their names.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries(FILE)
    }
}

fn parse(bytes: &[u8]) -> Option<(Entry<'_>, &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let length = |at: usize| -> Option<usize> {
        let bytes = head.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (name, rest) = rest.split_at_checked(length(1)?)?;
    let (value, rest) = rest.split_at_checked(length(5)?)?;
    Some((Entry { kind: head[0], name: std::str::from_utf8(name).ok()?, value }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut private = Private::new().unwrap();
        private.var("A", b"one").unwrap();
        private.file("b.json", b"{\0}").unwrap();
        private.var("C", b"").unwrap();
        assert!(private.var("D", b"x\0y").is_err());
        let (ours, theirs) = UnixStream::pair().unwrap();
        private.send(&ours).unwrap();
        (&ours).write_all(b"what comes after").unwrap();
        let came = Private::receive(&theirs, private.length()).unwrap();
        assert!(came.has_files());
        assert_eq!(came.vars().collect::<Vec<_>>(), [("A", &b"one"[..]), ("C", b"")]);
        assert_eq!(came.files().collect::<Vec<_>>(), [("b.json", &b"{\0}"[..])]);
        let mut after = [0; 4];
        (&theirs).read_exact(&mut after).unwrap();
        assert_eq!(&after, b"what");
    }

    #[test]
    fn what_is_cut_is_refused() {
        let mut private = Private::new().unwrap();
        private.var("NAME", b"value").unwrap();
        for length in 1..private.length() {
            let (ours, theirs) = UnixStream::pair().unwrap();
            private.send(&ours).unwrap();
            assert!(Private::receive(&theirs, length).is_err(), "{length}");
        }
    }
}
