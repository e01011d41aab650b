//! The names below a directory and what the kernel says of each, read by a few threads and
//! compared with what was known.
//!
//! Half a million files must fit into little memory, so a directory is two allocations: its
//! names, one after the other, and its entries.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, OFlags, RawDir};
use rustix::io::Errno;

use super::super::error::StoreError;
use super::super::format::{FileId, TreeId};
use super::super::known::{self, Item, Known, KnownDirectory, Row, Stamp};
use super::super::parallel;
use super::super::scratch::Scratch;
use super::below;

/// How often a directory that changes while it is read is read again.
pub const ATTEMPTS: u32 = 4;
/// For entries as the kernel gives them: a few hundred at once.
const DIRENTS: usize = 16 << 10;
/// What is on another file system than the root may be dated by another clock.
const OTHER_MARGIN: i64 = 3_000_000_000;

/// A capture waits no longer than this for a clock to move on, in nanoseconds.
const LONGEST_WAIT: i64 = 100_000_000;

const UNPOISONED: &str = "nothing panics with it held";

/// The number of a directory, and which of its entries.
pub type Place = (u32, u32);

/// What is known of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing yet, but perhaps what stood there before.
    Unread(Option<FileId>),
    /// It is as it was when it was recorded.
    Known(FileId),
    /// It was read. Whether its stamp is settled.
    Read(FileId, bool),
}

impl Content {
    /// The content, once it is known.
    pub fn id(&self) -> Option<FileId> {
        match self {
            Content::Unread(_) => None,
            Content::Known(id) | Content::Read(id, _) => Some(*id),
        }
    }
}

/// What stands at a name.
#[derive(Debug, Clone, Copy)]
pub enum Node {
    /// A regular file.
    File {
        /// What the kernel says of it.
        stamp: Stamp,
        /// Its owner may execute it.
        exec: bool,
        /// The inode, which is on the directory's file system, has other names too.
        linked: bool,
        /// Its content, as far as it is known.
        content: Content,
    },
    /// A directory: its number.
    Directory(u32),
    /// A symbolic link. Its target stands behind its name.
    Symlink {
        /// What the kernel says of it.
        stamp: Stamp,
        /// Whether the stamp is settled.
        settled: bool,
    },
}

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    at: u32,
    target: u16,
    length: u8,
    /// What stands there.
    pub node: Node,
}

/// One directory. Its number is its place in depth-first order.
pub struct Directory {
    /// The number of the one that holds it, and which of its entries it is.
    pub parent: Place,
    /// The numbers of all below it end before this one.
    pub end: u32,
    /// The file system it is on.
    pub device: u64,
    /// The tree that it was, if nothing in it but perhaps its directories has changed.
    pub former: Option<TreeId>,
    names: Box<[u8]>,
    entries: Mutex<Box<[Entry]>>,
}

impl Directory {
    /// Its entries, in the order of the names' bytes.
    pub fn entries(&self) -> MutexGuard<'_, Box<[Entry]>> {
        self.entries.lock().expect(UNPOISONED)
    }

    /// The name of an entry.
    pub fn name(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.at as usize..][..entry.length.into()]
    }

    /// Where an entry that is a symbolic link leads.
    pub fn target(&self, entry: &Entry) -> &[u8] {
        &self.names[entry.at as usize + usize::from(entry.length)..][..entry.target.into()]
    }
}

/// Why a walk did not end.
#[derive(Debug)]
pub enum Trouble {
    /// It cannot.
    Failed(StoreError),
    /// What stood there has gone or become something else since it was looked at.
    Disturbed(PathBuf),
}

/// The clock that files are dated by.
#[derive(Clone, Copy)]
pub struct Clock<'r> {
    /// When the capture began.
    pub now: i64,
    /// What changes that carry one time may be apart, on the root's file system.
    pub margin: i64,
    /// The root's file system.
    pub device: u64,
    /// On the store's file system.
    pub scratch: &'r Scratch,
}

impl Clock<'_> {
    fn margin(&self, device: u64) -> i64 {
        if device == self.device { self.margin } else { OTHER_MARGIN }
    }

    /// Whether a stamp of `device` that is taken at `now` or later changes with the file.
    pub fn is_settled(&self, stamp: &Stamp, device: u64, now: i64) -> bool {
        stamp.is_settled(now, self.margin(device))
    }

    /// Waits until the stamp of something that was changed just now changes with it, where
    /// that is soon. Takes the stamp again by `look`. Says whether it is settled.
    pub fn settle(
        &self,
        mut stamp: Stamp,
        device: u64,
        now: &mut i64,
        look: impl Fn() -> io::Result<Stamp>,
    ) -> io::Result<(Stamp, bool)> {
        let margin = self.margin(device);
        for _ in 0..ATTEMPTS {
            if self.is_settled(&stamp, device, *now) || margin > LONGEST_WAIT {
                break;
            }
            *now = known::now(self.scratch)?;
            let age = now.saturating_sub(stamp.ctime);
            // Something from the future was changed before the clock was set back.
            if age > margin || age < -margin {
                break;
            }
            thread::sleep(Duration::from_nanos((margin - age + 1_000_000) as u64));
            stamp = look()?;
        }
        Ok((stamp, self.is_settled(&stamp, device, *now)))
    }
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

/// Gives the directories the numbers of a walk through them from the top, children in the
/// order of their names.
fn in_depth_first_order(mut found: Vec<Option<Directory>>) -> Vec<Directory> {
    let mut numbers = vec![0u32; found.len()];
    let mut directories: Vec<Directory> = Vec::with_capacity(found.len());
    let mut pending = vec![0u32];
    let mut open: Vec<u32> = Vec::new();
    while let Some(at) = pending.pop() {
        let Some(mut directory) = found[at as usize].take() else { continue };
        let number = directories.len() as u32;
        numbers[at as usize] = number;
        directory.parent.0 = numbers[directory.parent.0 as usize];
        while open.last().is_some_and(|last| *last != directory.parent.0) {
            let closed = open.pop().expect("there was a last one");
            directories[closed as usize].end = number;
        }
        open.push(number);
        let entries = directory.entries.get_mut().expect(UNPOISONED);
        pending.extend(entries.iter().rev().filter_map(|entry| match entry.node {
            Node::Directory(child) => Some(child),
            _ => None,
        }));
        directories.push(directory);
    }
    let end = directories.len() as u32;
    open.into_iter().for_each(|number| directories[number as usize].end = end);
    for directory in &mut directories {
        for entry in directory.entries.get_mut().expect(UNPOISONED).iter_mut() {
            if let Node::Directory(child) = &mut entry.node {
                *child = numbers[*child as usize];
            }
        }
    }
    directories
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
            entries: Mutex::new(entries.into_boxed_slice()),
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
                    Some(Item::File { stamp, settled, exec: was, id }) => {
                        match believed(stamp, settled) && exec == was {
                            true => Content::Known(id),
                            false => Content::Unread(Some(id)),
                        }
                    }
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
                match rustix::fs::readlinkat(open.fd, name, Vec::new()) {
                    Err(Errno::NOENT | Errno::INVAL) => Ok(Look::Gone),
                    target => {
                        let target = target.map_err(failed)?.into_bytes();
                        Ok(Look::Symlink(Node::Symlink { stamp, settled }, target, false))
                    }
                }
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
