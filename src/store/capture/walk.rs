//! The names below a directory and what the kernel says of each, read by a few threads and
//! compared with what was known.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::below;
use super::clock::{ATTEMPTS, Clock};
use super::listing::{Content, Directory, Entry, Node, Place, UNPOISONED, in_depth_first_order};
use crate::store::error::StoreError;
use crate::store::known::{Item, Known, KnownDirectory, Row, Stamp};
use crate::store::parallel;

/// For entries as the kernel gives them: a few hundred at once.
const DIRENTS: usize = 16 << 10;

/// Why a walk did not end.
#[derive(Debug)]
pub enum Trouble {
    /// It cannot.
    Failed(StoreError),
    /// What stood there has gone or become something else since it was looked at.
    Disturbed(PathBuf),
}

/// Everything below a directory.
pub struct Walk<'r> {
    root: BorrowedFd<'r>,
    path: &'r Path,
    /// When the capture began.
    pub clock: Clock<'r>,
    /// The directories, each before those in it.
    pub directories: Vec<Directory>,
}

/// A directory that is still to be read.
struct Pending {
    number: u32,
    parent: Place,
    path: Vec<u8>,
    known: Option<u32>,
}

impl<'r> Walk<'r> {
    /// Looks at everything below `root`, which is the directory `path`.
    pub fn new(
        root: BorrowedFd<'r>,
        path: &'r Path,
        clock: Clock<'r>,
        known: Option<&Known>,
    ) -> Result<Walk<'r>, Trouble> {
        let numbers = AtomicU32::new(1);
        let walker = Walker { root, path, clock, known, numbers, found: Mutex::default() };
        let first = Pending { number: 0, parent: (0, 0), path: Vec::new(), known: Some(0) };
        parallel::spread(vec![first], || false, |pending, more| walker.directory(pending, more))?;
        let mut found = Vec::new();
        found.resize_with(walker.numbers.into_inner() as usize, || None);
        for (number, directory) in walker.found.into_inner().expect(UNPOISONED) {
            found[number as usize] = Some(directory);
        }
        Ok(Walk { root, path, clock, directories: in_depth_first_order(found) })
    }

    /// The path of a directory, relative to the root.
    pub fn below(&self, mut number: u32) -> Vec<u8> {
        let mut places = Vec::new();
        while number != 0 {
            let place = self.directories[number as usize].parent;
            places.push(place);
            number = place.0;
        }
        let mut path = Vec::new();
        for place in places.into_iter().rev() {
            self.push_name(&mut path, place);
        }
        path
    }

    /// The path of an entry, relative to the root.
    pub fn below_entry(&self, place: Place) -> Vec<u8> {
        let mut path = self.below(place.0);
        self.push_name(&mut path, place);
        path
    }

    fn push_name(&self, path: &mut Vec<u8>, (number, place): Place) {
        let directory = &self.directories[number as usize];
        push(path, directory.name(&directory.entries()[place as usize]));
    }

    /// A path relative to the root, for people.
    pub fn path(&self, below: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(below))
    }

    /// Opens a directory, to open what is in it.
    pub fn open(&self, number: u32) -> io::Result<OwnedFd> {
        below::open(self.root, &self.below(number), OFlags::PATH | OFlags::DIRECTORY)
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend(name);
}

/// What the threads of a walk share.
struct Walker<'w> {
    root: BorrowedFd<'w>,
    path: &'w Path,
    clock: Clock<'w>,
    known: Option<&'w Known>,
    /// The next number that no directory has.
    numbers: AtomicU32,
    found: Mutex<Vec<(u32, Directory)>>,
}

/// A name as the directory gave it.
struct Name {
    at: u32,
    length: u8,
    kind: FileType,
}

/// A directory that is being read.
struct Open<'w> {
    fd: &'w OwnedFd,
    device: u64,
    path: &'w [u8],
}

impl Walker<'_> {
    fn directory(&self, pending: Pending, more: &mut Vec<Pending>) -> Result<(), Trouble> {
        let failed = |e: io::Error| self.failed(&pending.path, e);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(Duration::from_millis(5 << attempt));
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let fd = below::open(self.root, &pending.path, flags).map_err(failed)?;
            let stat = rustix::fs::fstat(&fd).map_err(|e| failed(e.into()))?;
            let look = || Ok(Stamp::of(&rustix::fs::fstat(&fd)?));
            let (device, mut now) = (stat.st_dev, self.clock.now);
            let (before, _) =
                self.clock.settle(Stamp::of(&stat), device, &mut now, look).map_err(failed)?;
            let open = Open { fd: &fd, device, path: &pending.path };
            let known = self.known.zip(pending.known).and_then(|(k, number)| k.directory(number));
            if let Some((directory, children)) = self.read(&open, &pending, known)?
                && look().map_err(failed)? == before
            {
                more.extend(children.into_iter().rev());
                self.found.lock().expect(UNPOISONED).push((pending.number, directory));
                return Ok(());
            }
        }
        Err(Trouble::Disturbed(self.full(&pending.path)))
    }

    fn full(&self, below: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(below))
    }

    fn failed(&self, below: &[u8], error: io::Error) -> Trouble {
        match is_gone(&error) && !below.is_empty() {
            true => Trouble::Disturbed(self.full(below)),
            false => Trouble::Failed(StoreError::capture(&self.full(below))(error)),
        }
    }

    /// Reads a directory. None if a name in it is no longer what it was said to be.
    fn read(
        &self,
        open: &Open<'_>,
        pending: &Pending,
        known: Option<KnownDirectory<'_>>,
    ) -> Result<Option<(Directory, Vec<Pending>)>, Trouble> {
        let (mut names, list) = self.names(open)?;
        let known = known.filter(|known| known.device == open.device);
        let tree = known.as_ref().map(|known| known.tree);
        let mut rows = known.into_iter().flatten().peekable();
        let mut same = true;
        let mut children: Vec<Pending> = Vec::new();
        let mut entries = Vec::with_capacity(list.len());
        for name in list {
            let bytes = &names[name.at as usize..][..name.length.into()];
            while rows.next_if(|row| row.name < bytes).is_some() {
                same = false;
            }
            let row = rows.next_if(|row| row.name == bytes);
            let mut entry =
                Entry { at: name.at, target: 0, length: name.length, node: Node::Directory(0) };
            match self.look(open, bytes, name.kind, row)? {
                Look::Gone => return Ok(None),
                Look::File(node, is_known) => {
                    entry.node = node;
                    same &= is_known;
                }
                Look::Symlink(node, target, is_known) => {
                    entry.node = node;
                    same &= is_known;
                    // Its target follows its name, which moves to the end.
                    let bytes = name.at as usize..name.at as usize + name.length as usize;
                    entry.at = names.len() as u32;
                    entry.target = target.len() as u16;
                    names.extend_from_within(bytes);
                    names.extend(&target);
                }
                Look::Directory => {
                    let known = row.and_then(|row| match row.item {
                        Item::Directory(number) => Some(number),
                        _ => None,
                    });
                    same &= known.is_some();
                    let mut path = pending.path.clone();
                    push(&mut path, bytes);
                    let parent = (pending.number, entries.len() as u32);
                    children.push(Pending { number: 0, parent, path, known });
                }
            }
            entries.push(entry);
        }
        same &= rows.next().is_none();
        let first = self.numbers.fetch_add(children.len() as u32, Ordering::Relaxed);
        for (child, number) in children.iter_mut().zip(first..) {
            child.number = number;
            entries[child.parent.1 as usize].node = Node::Directory(number);
        }
        let directory = Directory {
            parent: pending.parent,
            end: 0,
            device: open.device,
            former: tree.filter(|_| same),
            names: names.into_boxed_slice(),
            list: Mutex::new(entries.into_boxed_slice()),
        };
        Ok(Some((directory, children)))
    }

    /// The names in a directory, in order.
    fn names(&self, open: &Open<'_>) -> Result<(Vec<u8>, Vec<Name>), Trouble> {
        let mut dirents = [MaybeUninit::uninit(); DIRENTS];
        let (mut names, mut list) = (Vec::new(), Vec::new());
        let mut entries = RawDir::new(open.fd, &mut dirents);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|e| self.failed(open.path, e.into()))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let Ok(length) = u8::try_from(name.len()) else {
                let error = io::Error::from(io::ErrorKind::InvalidFilename);
                return Err(self.failed(open.path, error));
            };
            list.push(Name { at: names.len() as u32, length, kind: entry.file_type() });
            names.extend(name);
        }
        let bytes = |name: &Name| &names[name.at as usize..][..name.length.into()];
        list.sort_unstable_by(|a, b| bytes(a).cmp(bytes(b)));
        Ok((names, list))
    }

    /// Looks at one name, which had this row.
    fn look(
        &self,
        open: &Open<'_>,
        name: &[u8],
        kind: FileType,
        row: Option<Row<'_>>,
    ) -> Result<Look, Trouble> {
        if kind == FileType::Directory {
            return Ok(Look::Directory);
        }
        let path = || {
            let mut path = open.path.to_vec();
            push(&mut path, name);
            self.full(&path)
        };
        let failed = |e: Errno| Trouble::Failed(StoreError::capture(&path())(e.into()));
        let stat = match rustix::fs::statat(open.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Look::Gone),
            stat => stat.map_err(failed)?,
        };
        let stamp = Stamp::of(&stat);
        // What is mounted over a name is never believed.
        let here = stat.st_dev == open.device;
        let believed = |known: Stamp, settled| {
            here && settled && known == stamp && stamp.ctime <= self.clock.now
        };
        let item = row.map(|row| row.item);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let exec = stat.st_mode & 0o100 != 0;
                let content = match item {
                    Some(Item::File { stamp, settled, exec: was, id })
                        if believed(stamp, settled) && exec == was =>
                    {
                        Content::Known(id)
                    }
                    Some(Item::File { id, .. }) => Content::Unread(Some(id)),
                    _ => Content::Unread(None),
                };
                let linked = here && stat.st_nlink > 1;
                let node = Node::File { stamp, exec, linked, content };
                Ok(Look::File(node, matches!(content, Content::Known(_))))
            }
            FileType::Directory => Ok(Look::Directory),
            FileType::Symlink => {
                if let Some(Item::Symlink { stamp, settled, target }) = item
                    && believed(stamp, settled)
                {
                    let node = Node::Symlink { stamp, settled };
                    return Ok(Look::Symlink(node, target.to_vec(), true));
                }
                let clock = &self.clock;
                let settled = here && clock.is_settled(&stamp, open.device, clock.now);
                let target = match rustix::fs::readlinkat(open.fd, name, Vec::new()) {
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(Look::Gone),
                    target => target.map_err(failed)?.into_bytes(),
                };
                Ok(Look::Symlink(Node::Symlink { stamp, settled }, target, false))
            }
            other => {
                let kind = match other {
                    FileType::Socket => "socket",
                    FileType::Fifo => "named pipe",
                    _ => "device",
                };
                Err(Trouble::Failed(StoreError::Special { path: path(), kind }))
            }
        }
    }
}

/// What a name turned out to be.
enum Look {
    /// A file, and whether it is as it was.
    File(Node, bool),
    /// A symbolic link, its target, and whether it is as it was.
    Symlink(Node, Vec<u8>, bool),
    Directory,
    /// It is not there any more.
    Gone,
}

/// Whether the error says that what was there is gone, or is now something else.
pub fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::STALE];
    gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
