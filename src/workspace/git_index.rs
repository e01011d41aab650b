//! Git's index of a tree that nobody has touched, written without a look at a file.
//!
//! Facts about the format: git's own `gitformat-index`, version 2. Beside the entries there are
//!
//! - `TREE`: which directories are which trees, so that nothing need be hashed to be compared
//!   with a commit;
//! - `UNTR`: that no directory holds anything untracked, with the files that say what is
//!   ignored, so that no directory is opened;
//! - `FSMN`: that every file is as it was when our answer to the question «what changed» was
//!   [`Contents::token`], so that no file is looked at;
//! - `IEOT` and `EOIE`: where git's threads may begin to read.
//!
//! What other layers put into the work tree is [`Contents::foreign`]: git is told to look at
//! it. It hides behind `info/exclude`, but a tree's own `.gitignore` may say otherwise; the
//! directories that hold it are then looked at, too.

use std::io;

use gix::ObjectId;
use sha1::{Digest, Sha1};
use zagi_fuse::delta::format::{ROOT, lower_ino};

use super::listings::{Item, Kind, Listings};
use crate::source::name::is_name;

/// `DIR_SHOW_OTHER_DIRECTORIES` and `DIR_HIDE_EMPTY_DIRECTORIES`: what `git status` asks for
/// where nobody has configured something else.
const DIR_FLAGS: u32 = 6;
/// A directory's length as the overlay shows it.
const DIR_SIZE: u32 = 4096;
/// Entries that one thread of git reads at least; the most blocks that are announced.
const PER_THREAD: usize = 10_000;
const MAX_BLOCKS: usize = 32;
/// As deep as layers can be entered.
const MAX_DEPTH: usize = 2048;
/// Files that say what is ignored or converted and are longer are taken for the worst.
const MAX_RULES: usize = 1 << 20;

/// What an index speaks of.
pub struct Contents<'a> {
    /// The tree's directories.
    pub listings: &'a Listings,
    /// Its id.
    pub tree: ObjectId,
    /// Every time that its files have, in seconds since the epoch.
    pub date: i64,
    /// Their owner and group.
    pub owner: (u32, u32),
    /// Where the work tree is, as git names it.
    pub work_tree: &'a [u8],
    /// What git is to ask us with.
    pub token: &'a str,
    /// The content of `info/exclude`, and of the user's own file, if there are such.
    pub exclude: [Option<Vec<u8>>; 2],
    /// Paths that other layers have something at.
    pub foreign: &'a [Vec<u8>],
    /// Reads a file of the tree.
    pub read: &'a dyn Fn(&ObjectId) -> io::Result<Vec<u8>>,
}

/// A directory with something in it.
struct Directory {
    name: Box<[u8]>,
    id: ObjectId,
    ino: u64,
    /// Entries of the index in it and below.
    entries: usize,
    /// What git takes for the id of its `.gitignore`.
    ignore: Option<[u8; 20]>,
    /// Whether nothing untracked can be in it.
    trusted: bool,
    below: Vec<Directory>,
}

/// What the directories above say, the directory itself included.
#[derive(Clone, Copy, Default)]
struct Rules {
    /// Git may convert a `.gitignore` when it is added.
    converts: bool,
    /// Something ignored may be not ignored after all.
    negates: bool,
}

struct Writer<'a> {
    contents: &'a Contents<'a>,
    out: Vec<u8>,
    count: usize,
    /// Offset and number of every [`PER_THREAD`]th entry.
    blocks: Vec<(usize, usize)>,
    /// Entries that git is to look at.
    unsure: Vec<bool>,
}

/// The whole file.
pub fn write(contents: &Contents<'_>) -> io::Result<Vec<u8>> {
    let mut writer = Writer {
        contents,
        out: b"DIRC\0\0\0\x02\0\0\0\0".to_vec(),
        count: 0,
        blocks: Vec::new(),
        unsure: Vec::new(),
    };
    let name = Box::default();
    let place = Place { id: contents.tree, ino: ROOT, depth: 0, rules: Rules::default() };
    let root = writer.directory(name, &mut Vec::new(), place)?;
    let Writer { mut out, count, blocks, unsure, .. } = writer;
    out[8..12].copy_from_slice(&number(count)?);
    let entries_end = out.len();
    let mut ends = Sha1::new();
    let mut extension = |signature: &[u8; 4], content: Vec<u8>| -> io::Result<()> {
        let head = [*signature, number(content.len())?].concat();
        ends.update(&head);
        out.extend_from_slice(&head);
        out.extend_from_slice(&content);
        Ok(())
    };
    extension(b"IEOT", offsets(&blocks, count)?)?;
    let mut trees = Vec::new();
    cache_tree(&root, &mut trees);
    extension(b"TREE", trees)?;
    extension(b"UNTR", untracked(contents, &root)?)?;
    extension(b"FSMN", monitor(contents.token, &unsure)?)?;
    let end = [&number(entries_end)?[..], &ends.finalize()].concat();
    out.extend_from_slice(b"EOIE");
    out.extend_from_slice(&number(end.len())?);
    out.extend_from_slice(&end);
    let sum = Sha1::digest(&out);
    out.extend_from_slice(&sum);
    Ok(out)
}

/// Where the walk is.
#[derive(Clone, Copy)]
struct Place {
    id: ObjectId,
    ino: u64,
    depth: usize,
    rules: Rules,
}

impl Writer<'_> {
    /// Writes the entries of one directory and of all below it, in git's order.
    fn directory(
        &mut self,
        name: Box<[u8]>,
        path: &mut Vec<u8>,
        place: Place,
    ) -> io::Result<Directory> {
        if place.depth > MAX_DEPTH {
            return Err(io::Error::other("the tree is too deep"));
        }
        let Place { id, ino, depth, .. } = place;
        let mut items = self.contents.listings.list(&id)?;
        // Whole paths are sorted: a directory's name has a slash behind it.
        let key = |item: &Item| {
            let slash = (item.kind == Kind::Directory).then_some(b'/');
            item.name.iter().copied().chain(slash).collect::<Vec<u8>>()
        };
        items.sort_by_cached_key(key);
        let (rules, ignore) = self.rules(&items, place.rules)?;
        let ours = !self.foreign(path);
        let holds_foreign = self.contents.foreign.iter().any(|at| is_in(at, path));
        let trusted = ours && !(holds_foreign && rules.negates);
        let mut below = Vec::new();
        let first = self.count;
        for item in items {
            if !is_name(&item.name) {
                return Err(io::Error::other("a tree holds a name that cannot be"));
            }
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&item.name);
            let child = lower_ino(ino, &item.name);
            if item.kind == Kind::Directory {
                let place = Place { id: item.id, ino: child, depth: depth + 1, rules };
                let found = self.directory(item.name, path, place)?;
                below.extend(Some(found).filter(|found| found.entries > 0));
            } else {
                self.entry(&item, path, child);
            }
            path.truncate(length);
        }
        Ok(Directory { name, id, ino, entries: self.count - first, ignore, trusted, below })
    }

    /// Whether something of another layer stands at `path` or above it.
    fn foreign(&self, path: &[u8]) -> bool {
        self.contents.foreign.iter().any(|at| path == at || is_in(path, at))
    }

    /// What the directory's own files say, and what git takes for the id of its `.gitignore`.
    fn rules(&self, items: &[Item], above: Rules) -> io::Result<(Rules, Option<[u8; 20]>)> {
        let file = |name: &[u8]| {
            let is_file = |item: &&Item| matches!(item.kind, Kind::File | Kind::Executable);
            items.iter().filter(is_file).find(|item| *item.name == *name)
        };
        let mut rules = above;
        if let Some(item) = file(b".gitattributes") {
            rules.converts |=
                item.size as usize > MAX_RULES || converts(&(self.contents.read)(&item.id)?);
        }
        let Some(item) = file(b".gitignore") else { return Ok((rules, None)) };
        if item.size as usize > MAX_RULES {
            return Ok((Rules { negates: true, ..rules }, Some([0xff; 20])));
        }
        let content = (self.contents.read)(&item.id)?;
        rules.negates |= self.negates(&content);
        let id = if rules.converts { as_read(&content) } else { sha1_of(&item.id) };
        Ok((rules, Some(id)))
    }

    /// Whether patterns may say that something foreign is not ignored. They cannot speak of what
    /// is in a directory that is.
    fn negates(&self, patterns: &[u8]) -> bool {
        let names = || self.contents.foreign.iter().flat_map(|at| at.split(|byte| *byte == b'/'));
        patterns.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"!")).any(
            |line| {
                let pattern = line.trim_ascii_end();
                let pattern = pattern.strip_suffix(b"/").unwrap_or(pattern);
                let last = pattern.rsplit(|byte| *byte == b'/').next().unwrap_or(pattern);
                names().any(|name| may_match(last, name))
            },
        )
    }

    fn entry(&mut self, item: &Item, path: &[u8], ino: u64) {
        if self.count.is_multiple_of(PER_THREAD) {
            self.blocks.push((self.out.len(), self.count));
        }
        let start = self.out.len();
        let (uid, gid) = self.contents.owner;
        let mode: u32 = match item.kind {
            Kind::Executable => 0o100_755,
            Kind::Link => 0o120_000,
            Kind::Submodule => 0o160_000,
            _ => 0o100_644,
        };
        // Git keeps the low 32 bits of every number, and does not compare the device.
        stat(&mut self.out, self.contents.date, ino, Some(mode), uid, gid, item.size as u32);
        self.out.extend_from_slice(item.id.as_slice());
        self.out.extend_from_slice(&(path.len().min(0xfff) as u16).to_be_bytes());
        self.out.extend_from_slice(path);
        // One to eight NULs, to a multiple of eight.
        let length = self.out.len() - start;
        self.out.resize(start + (length / 8 + 1) * 8, 0);
        self.unsure.push(self.foreign(path));
        self.count += 1;
    }
}

/// Stat data in git's order; without a mode those of a directory in `UNTR`.
fn stat(out: &mut Vec<u8>, date: i64, ino: u64, mode: Option<u32>, uid: u32, gid: u32, size: u32) {
    let (time, device) = (date as u32, 0);
    let fields = [Some(time), Some(0), Some(time), Some(0), Some(device), Some(ino as u32), mode];
    for field in fields.into_iter().chain([Some(uid), Some(gid), Some(size)]).flatten() {
        out.extend_from_slice(&field.to_be_bytes());
    }
}

/// Whether `path` is below `dir`.
fn is_in(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// Whether the pattern may match the name: `*` is anything, and so is what follows a `?`, a `[`
/// or a backslash.
fn may_match(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, _) => name.is_empty(),
        (Some((b'?' | b'[' | b'\\', _)), _) => true,
        (Some((b'*', rest)), _) => {
            let rest = &rest[rest.iter().take_while(|byte| **byte == b'*').count()..];
            // A hostile pattern is not worth the time.
            rest.contains(&b'*') || (0..=name.len()).any(|at| may_match(rest, &name[at..]))
        }
        (Some((one, pattern)), Some((other, name))) => one == other && may_match(pattern, name),
        (Some(_), None) => false,
    }
}

/// Whether some `.gitattributes` may make git convert a `.gitignore`. Where this is wrong, git
/// finds another id than it expected, and looks at the directories once.
fn converts(attributes: &[u8]) -> bool {
    const CONVERTING: [&[u8]; 5] = [b"text", b"eol", b"crlf", b"filter", b"ident"];
    attributes.split(|byte| *byte == b'\n').any(|line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let concerned = words.next().is_some_and(|pattern| {
            let name = pattern.rsplit(|byte| *byte == b'/').next().unwrap_or(pattern);
            name.starts_with(b"*") || name.starts_with(b".") || name.starts_with(b"\"")
        });
        concerned
            && words.any(|word| CONVERTING.iter().any(|attribute| word.starts_with(attribute)))
    })
}

/// The id that git gives a file of patterns that it has read: it adds a newline first.
fn as_read(content: &[u8]) -> [u8; 20] {
    let newline: &[u8] = if content.is_empty() { b"" } else { b"\n" };
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len() + newline.len()));
    hasher.update(content);
    hasher.update(newline);
    hasher.finalize().into()
}

fn sha1_of(id: &ObjectId) -> [u8; 20] {
    id.as_slice().try_into().unwrap_or_default()
}

fn number(n: usize) -> io::Result<[u8; 4]> {
    u32::try_from(n).map(u32::to_be_bytes).map_err(io::Error::other)
}

/// `IEOT`: where blocks of entries begin, and how many entries each has.
fn offsets(blocks: &[(usize, usize)], count: usize) -> io::Result<Vec<u8>> {
    let step = blocks.len().div_ceil(MAX_BLOCKS).max(1);
    let kept: Vec<(usize, usize)> = blocks.iter().copied().step_by(step).collect();
    let ends = kept.iter().skip(1).map(|(_, first)| *first).chain([count]);
    let mut out = 1_u32.to_be_bytes().to_vec();
    for ((offset, first), end) in kept.iter().zip(ends) {
        out.extend_from_slice(&number(*offset)?);
        out.extend_from_slice(&number(end - first)?);
    }
    Ok(out)
}

/// `TREE`: name, entries, subtrees, id; below it its subtrees, the short names first.
fn cache_tree(dir: &Directory, out: &mut Vec<u8>) {
    out.extend_from_slice(&dir.name);
    out.extend_from_slice(format!("\0{} {}\n", dir.entries, dir.below.len()).as_bytes());
    out.extend_from_slice(dir.id.as_slice());
    let mut below: Vec<&Directory> = dir.below.iter().collect();
    below.sort_by_key(|dir| (dir.name.len(), &dir.name));
    below.into_iter().for_each(|dir| cache_tree(dir, out));
}

/// `UNTR`, what is known of untracked files: there are none.
fn untracked(contents: &Contents<'_>, root: &Directory) -> io::Result<Vec<u8>> {
    let ident = [b"Location ", contents.work_tree, b", system Linux\0"].concat();
    let mut out = Vec::new();
    variable(ident.len(), &mut out);
    out.extend_from_slice(&ident);
    // Stat data of the two files of patterns, which git does not use.
    out.extend_from_slice(&[0; 72]);
    out.extend_from_slice(&DIR_FLAGS.to_be_bytes());
    for file in &contents.exclude {
        out.extend_from_slice(&file.as_deref().map_or([0; 20], as_read));
    }
    out.extend_from_slice(b".gitignore\0");
    let mut dirs = Untracked::of(contents);
    dirs.add(root);
    variable(dirs.count, &mut out);
    out.append(&mut dirs.blocks);
    out.append(&mut bitmap(&dirs.valid)?);
    out.append(&mut bitmap(&[])?); // check-only
    out.append(&mut bitmap(&dirs.hashed)?);
    out.append(&mut dirs.stats);
    out.append(&mut dirs.hashes);
    out.push(0);
    Ok(out)
}

struct Untracked<'a> {
    contents: &'a Contents<'a>,
    count: usize,
    blocks: Vec<u8>,
    valid: Vec<bool>,
    hashed: Vec<bool>,
    stats: Vec<u8>,
    hashes: Vec<u8>,
}

impl<'a> Untracked<'a> {
    fn of(contents: &'a Contents<'a>) -> Untracked<'a> {
        let (blocks, stats, hashes) = Default::default();
        let (valid, hashed) = Default::default();
        Untracked { contents, count: 0, blocks, valid, hashed, stats, hashes }
    }

    fn add(&mut self, dir: &Directory) {
        self.count += 1;
        variable(0, &mut self.blocks);
        variable(dir.below.len(), &mut self.blocks);
        self.blocks.extend_from_slice(&dir.name);
        self.blocks.push(0);
        self.valid.push(dir.trusted);
        self.hashed.push(dir.ignore.is_some());
        self.hashes.extend(dir.ignore.iter().flatten());
        if dir.trusted {
            let (uid, gid) = self.contents.owner;
            // The times of the root are another layer's: git compares them only if it does
            // not ask us, and then looks.
            let date = if dir.ino == ROOT { 0 } else { self.contents.date };
            stat(&mut self.stats, date, dir.ino, None, uid, gid, DIR_SIZE);
        }
        let mut below: Vec<&Directory> = dir.below.iter().collect();
        below.sort_by_key(|dir| &dir.name);
        below.into_iter().for_each(|dir| self.add(dir));
    }
}

/// `FSMN`, version 2: the token, and which entries are not vouched for.
fn monitor(token: &str, unsure: &[bool]) -> io::Result<Vec<u8>> {
    let mut out = 2_u32.to_be_bytes().to_vec();
    out.extend_from_slice(token.as_bytes());
    out.push(0);
    let bits = bitmap(if unsure.contains(&true) { unsure } else { &[] })?;
    out.extend_from_slice(&number(bits.len())?);
    out.extend_from_slice(&bits);
    Ok(out)
}

/// An EWAH bitmap, in which everything is literal: number of bits, number of words, one word
/// that says how many literal ones follow, those, and where that word is.
fn bitmap(bits: &[bool]) -> io::Result<Vec<u8>> {
    let words = bits.chunks(64).map(|bits| {
        bits.iter().enumerate().fold(0_u64, |word, (n, bit)| word | u64::from(*bit) << n)
    });
    let literals = words.len();
    let mut out = [number(bits.len())?, number(1 + literals)?].concat();
    // One bit for the kind of a run, 32 for its length, 31 for the number of literal words.
    out.extend_from_slice(&((literals as u64) << 33).to_be_bytes());
    words.for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
    out.extend_from_slice(&[0; 4]);
    Ok(out)
}

/// Git's variable width encoding: seven bits a byte, the highest first, and no number twice.
fn variable(mut n: usize, out: &mut Vec<u8>) {
    let mut bytes = vec![n as u8 & 127];
    n >>= 7;
    while n > 0 {
        n -= 1;
        bytes.push(128 | n as u8 & 127);
        n >>= 7;
    }
    out.extend(bytes.into_iter().rev());
}

#[cfg(test)]
mod tests;
