//! The farm: files as files, for links, reflinks and reads. Everything in it can be made
//! again from the packs, so it is neither synced file by file nor precious.
//!
//! `files/<aa>/<id>[x]` is a whole content, mode 0444, or 0555 with the `x`. It was verified
//! when it was extracted. Its modification time is [`MTIME`] and, in the nanoseconds, a *stamp*
//! made of its id, mode and length. So one `stat` tells whether anybody has written to it,
//! put another file in its place, or changed its mode, and whether a power cut has left it
//! short; no registry of inodes is needed that could be lost or disagree. Before each use the
//! stamp is looked at; what does not carry its own is moved to `aside/` and extracted again.
//!
//! `trees/<key>` is a whole tree that somebody made of such files, read-only. `locks/<key>`
//! makes two who want the same tree wait for one another.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::beneath::{self, Root, ShortPath};
use super::contents;
use super::error::StoreError;
use super::extract::{Sink, Want, extract, extract_one};
use super::format::FileId;
use super::objects::Objects;
use super::progress::Progress;
use super::remove::remove_tree;

/// The modification time, in seconds since the epoch, of every file that comes out of the
/// store: 1980-01-02. The same everywhere; zip files, which know no time before 1980 in any
/// time zone, can hold it.
pub const MTIME: i64 = 315_619_200;

const UNPOISONED: &str = "nothing panics with it held";

/// A maker of a tree for the farm.
pub type Make<'m> = dyn FnMut(&Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'm;

/// The farm of one store.
pub struct Farm {
    root: PathBuf,
    // Whether the file system forgets the nanoseconds of times (ext3, small old ext4).
    coarse: OnceLock<bool>,
    // What was found changed and nobody was told of yet.
    edited: Mutex<Vec<Edited>>,
}

/// A file of the farm that somebody had changed.
#[derive(Debug)]
pub struct Edited {
    /// What it was.
    pub id: FileId,
    /// Whether it was executable.
    pub exec: bool,
    /// Its device.
    pub device: u64,
    /// Its inode, by which it may have other names.
    pub inode: u64,
    /// Where it is now.
    pub aside: PathBuf,
}

/// The mode of a file of the farm.
pub fn mode(exec: bool) -> u32 {
    if exec { 0o555 } else { 0o444 }
}

/// Nanoseconds that belong to a content of this id, mode and length, and hardly to another.
pub fn stamp(id: &FileId, exec: bool, size: u64) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(id.as_bytes()).update(&[exec.into()]).update(&size.to_le_bytes());
    let hash = hasher.finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    // Never 0, which is what a file system without nanoseconds gives.
    1 + u32::from_le_bytes([a, b, c, d]) % 999_999_999
}

fn mtime(nanoseconds: u32) -> SystemTime {
    UNIX_EPOCH + Duration::new(MTIME as u64, nanoseconds)
}

impl Farm {
    /// The farm in the store `store`, whose directories are there.
    pub fn new(store: &Path) -> Farm {
        Farm { root: store.join("farm"), coarse: OnceLock::new(), edited: Mutex::default() }
    }

    /// Makes the farm's directories.
    pub fn create(store: &Path) -> Result<(), StoreError> {
        for name in ["files", "trees", "locks", "aside"] {
            let path = store.join("farm").join(name);
            fs::create_dir_all(&path).map_err(StoreError::write(&path))?;
        }
        Ok(())
    }

    /// A file of the store that never changes, to try on it what its disk can.
    pub fn probe(&self) -> PathBuf {
        self.root.with_file_name("format")
    }

    /// Where the file is, if it is there.
    pub fn path(&self, id: &FileId, exec: bool) -> PathBuf {
        let name = id.to_string();
        let x = if exec { "x" } else { "" };
        self.root.join(format!("files/{}/{name}{x}", &name[..2]))
    }

    /// Opens a file, which is extracted first if need be.
    pub fn open(&self, objects: &Objects, id: &FileId, exec: bool) -> Result<File, StoreError> {
        let path = self.path(id, exec);
        // Somebody may be at the farm meanwhile, but not at every turn.
        for _ in 0..4 {
            match File::open(&path) {
                Ok(file) => {
                    let found = rustix::fs::fstat(&file).map_err(|e| read(&path, e))?;
                    if self.is_sound(objects, id, exec, &found)? {
                        return Ok(file);
                    }
                    self.set_aside(id, exec, &found)?;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                // Somebody took the read bits off.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                    if let Some(found) =
                        beneath::stat(rustix::fs::CWD, &path).map_err(StoreError::read(&path))?
                    {
                        self.set_aside(id, exec, &found)?;
                    }
                }
                Err(e) => return Err(StoreError::read(&path)(e)),
            }
            self.extract(objects, id, exec)?;
        }
        Err(StoreError::FarmFile { path })
    }

    /// The directory of the files, to be opened once for many of them.
    pub fn files(&self) -> Result<Root, StoreError> {
        let path = self.root.join("files");
        Root::open(&path).map_err(StoreError::read(&path))
    }

    /// Extracts what is not there, or no longer as it was, in one go.
    pub fn fill(
        &self,
        objects: &Objects,
        files: impl IntoIterator<Item = (FileId, bool)>,
        progress: &Progress,
    ) -> Result<(), StoreError> {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_unstable();
        files.dedup();
        let directory = self.files()?;
        let mut wants = Vec::new();
        for (id, exec) in files {
            if !self.check(objects, &directory, &id, exec)? {
                wants.push(Want { id, exec, target: () });
            }
        }
        extract(objects, wants, &FarmSink { objects, farm: self }, progress)
    }

    /// Gives a file one more name: `name` in `directory`, whose whole path is `target`.
    /// False, and no new name, if the file is not there, or was not as it was extracted.
    pub fn link(
        &self,
        objects: &Objects,
        files: &Root,
        (id, exec): (&FileId, bool),
        (directory, name): (BorrowedFd<'_>, &[u8]),
        target: impl Fn() -> PathBuf,
    ) -> Result<bool, StoreError> {
        let failed = |e: Errno| StoreError::restore(&target())(e.into());
        // Others may use up the names of what is extracted here, but not at every turn.
        for _ in 0..8 {
            if !self.check(objects, files, id, exec)? {
                return Ok(false);
            }
            let path = short_path(id, exec);
            match rustix::fs::linkat(files, path.as_c_str(), directory, name, AtFlags::empty()) {
                Ok(()) => return Ok(true),
                // The inode has as many names as it can have (65,000 on ext4): the next
                // ones go to a new one.
                Err(Errno::MLINK) => self.extract(objects, id, exec)?,
                Err(Errno::NOENT) => {
                    // A directory that was removed takes no more names.
                    let of_directory = rustix::fs::fstat(directory).map_err(failed)?;
                    if of_directory.st_nlink == 0 {
                        return Err(failed(Errno::NOENT));
                    }
                    // Evicted meanwhile; or somebody who extracted it, too, has put theirs in
                    // its place, and the one that was found had no name left (link(2)).
                }
                Err(e) => return Err(failed(e)),
            }
        }
        Err(StoreError::FarmFile { path: self.path(id, exec) })
    }

    fn extract(&self, objects: &Objects, id: &FileId, exec: bool) -> Result<(), StoreError> {
        let want = Want { id: *id, exec, target: () };
        extract_one(objects, &want, &FarmSink { objects, farm: self }, &mut ())
    }

    /// Whether the file is there as it was extracted. If it is there otherwise, it is not
    /// any more after this.
    fn check(
        &self,
        objects: &Objects,
        files: &Root,
        id: &FileId,
        exec: bool,
    ) -> Result<bool, StoreError> {
        let found = beneath::stat(files.as_fd(), short_path(id, exec).as_c_str())
            .map_err(|e| StoreError::read(&self.path(id, exec))(e))?;
        match found {
            Some(found) if self.is_sound(objects, id, exec, &found)? => Ok(true),
            Some(found) => self.set_aside(id, exec, &found).map(|()| false),
            None => Ok(false),
        }
    }

    /// Whether the file is as it was extracted, as far as one look at its inode tells.
    pub fn is_sound(
        &self,
        objects: &Objects,
        id: &FileId,
        exec: bool,
        found: &Stat,
    ) -> Result<bool, StoreError> {
        if !beneath::is(found, FileType::RegularFile)
            || found.st_mode & 0o7777 != mode(exec)
            || found.st_mtime != MTIME
        {
            return Ok(false);
        }
        let size = found.st_size as u64;
        if found.st_mtime_nsec == u64::from(stamp(id, exec, size)) {
            return Ok(true);
        }
        if found.st_mtime_nsec != 0 || !self.is_coarse(objects)? {
            return Ok(false);
        }
        Ok(contents::size(objects, id)? == Some(size))
    }

    /// The directory of the farm.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether a file's stamp is that of a content.
    pub fn is_stamp_of(&self, id: &FileId, found: &fs::Metadata) -> bool {
        let exec = found.mode() & 0o100 != 0;
        found.mtime_nsec() == i64::from(stamp(id, exec, found.len()))
    }

    fn is_coarse(&self, objects: &Objects) -> Result<bool, StoreError> {
        if let Some(coarse) = self.coarse.get() {
            return Ok(*coarse);
        }
        let path = objects.scratch().fresh();
        let probe = || {
            let file = File::create_new(&path)?;
            file.set_modified(mtime(1))?;
            Ok(file.metadata()?.mtime_nsec() == 0)
        };
        let coarse = probe().map_err(StoreError::write(&path));
        // The scratch directory goes with the process.
        let _ = fs::remove_file(&path);
        Ok(*self.coarse.get_or_init(|| matches!(coarse, Ok(true))))
    }

    /// Moves a file that is not what was extracted out of the way. It may hold somebody's
    /// work.
    fn set_aside(&self, id: &FileId, exec: bool, found: &Stat) -> Result<(), StoreError> {
        let path = self.path(id, exec);
        let name = path.file_name().expect("files of the farm have names").to_string_lossy();
        let aside = self.root.join(format!("aside/{name}.{}", found.st_ino));
        match fs::rename(&path, &aside) {
            // Another process was faster.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => moved.map_err(StoreError::write(&aside))?,
        }
        let (device, inode) = (found.st_dev, found.st_ino);
        let edited = Edited { id: *id, exec, device, inode, aside };
        self.edited.lock().expect(UNPOISONED).push(edited);
        Ok(())
    }

    /// What was found changed since this was last asked.
    pub fn take_edited(&self) -> Vec<Edited> {
        std::mem::take(&mut *self.edited.lock().expect(UNPOISONED))
    }

    /// Moves a file that was found damaged otherwise out of the way.
    pub fn set_aside_now(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let (digits, exec) = name.strip_suffix('x').map_or((name, false), |digits| (digits, true));
        let found = beneath::stat(rustix::fs::CWD, path).map_err(StoreError::read(path))?;
        match (digits.parse(), found) {
            (Ok(id), Some(found)) => self.set_aside(&id, exec, &found),
            // What is called otherwise nobody uses.
            _ => Ok(()),
        }
    }

    /// The files that were found changed and moved out of the way.
    pub fn aside(&self) -> Result<Vec<PathBuf>, StoreError> {
        let path = self.root.join("aside");
        let list = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect()
        };
        let mut files = list().map_err(StoreError::read(&path))?;
        files.sort_unstable();
        Ok(files)
    }

    /// The tree `key`, made by `make` unless it is there.
    pub fn tree(&self, key: &str, make: &mut Make<'_>) -> Result<PathBuf, StoreError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'.');
        if key.is_empty() || key.starts_with('.') || key.len() > 200 || !key.bytes().all(plain) {
            return Err(StoreError::FarmKey { key: key.to_owned() });
        }
        let trees = self.root.join("trees");
        let path = trees.join(key);
        if path.is_dir() {
            return Ok(path);
        }
        let lock_path = self.root.join("locks").join(key);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(StoreError::write(&lock_path))?;
        lock.lock().map_err(StoreError::write(&lock_path))?;
        if path.is_dir() {
            return Ok(path);
        }
        let building = trees.join(format!(".{key}.building"));
        let write = |e| StoreError::write(&building)(e);
        remove_tree(&building).map_err(write)?;
        fs::create_dir(&building).map_err(write)?;
        let made = make(&building)
            .map_err(|source| StoreError::Make { key: key.to_owned(), source })
            .and_then(|()| seal(&building).map_err(write))
            .and_then(|()| {
                // One call for however many files there are.
                let directory = File::open(&building).map_err(write)?;
                nix::unistd::syncfs(&directory).map_err(|e| write(e.into()))?;
                fs::rename(&building, &path).map_err(StoreError::write(&path))?;
                sync_directory(&trees)
            });
        if made.is_err() {
            // The first error is the one to tell; the next builder begins with this too.
            let _ = remove_tree(&building);
        }
        made.map(|()| path)
    }
}

fn sync_directory(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(StoreError::write(directory))
}

/// Takes the write bits off everything in a tree.
fn seal(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            seal(&entry?.path())?;
        }
    }
    // Links into the farm have none: their mode is part of their stamp.
    if !found.is_symlink() && found.mode() & 0o222 != 0 {
        fs::set_permissions(path, Permissions::from_mode(found.mode() & 0o7555))?;
    }
    Ok(())
}

/// `<aa>/<id>[x]`
fn short_path(id: &FileId, exec: bool) -> ShortPath<72> {
    let hex = blake3::Hash::from_bytes(*id.as_bytes()).to_hex();
    let hex = hex.as_bytes();
    ShortPath::new(&[&hex[..2], b"/", hex, if exec { b"x" } else { b"" }])
}

fn read(path: &Path, error: Errno) -> StoreError {
    StoreError::read(path)(error.into())
}

/// Where files of the farm are extracted to.
struct FarmSink<'o> {
    objects: &'o Objects,
    farm: &'o Farm,
}

impl Sink for FarmSink<'_> {
    type Target = ();
    type Local = ();
    type Open = PathBuf;

    fn begin(&self, (): &mut (), _: &Want<()>) -> Result<(File, PathBuf), StoreError> {
        let path = self.objects.scratch().fresh();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
        Ok((file.map_err(StoreError::write(&path))?, path))
    }

    fn end(
        &self,
        (): &mut (),
        want: &Want<()>,
        path: &PathBuf,
        file: File,
    ) -> Result<(), StoreError> {
        let target = self.farm.path(&want.id, want.exec);
        let finish = || {
            let size = file.metadata()?.len();
            file.set_permissions(Permissions::from_mode(mode(want.exec)))?;
            file.set_modified(mtime(stamp(&want.id, want.exec, size)))?;
            in_its_directory(&target, || fs::rename(path, &target))
        };
        finish().map_err(StoreError::write(&target))
    }

    fn undo(&self, (): &mut (), _: &Want<()>, path: &PathBuf) {
        // The first error is the one to tell.
        let _ = fs::remove_file(path);
    }

    fn failed(&self, want: &Want<()>, error: io::Error) -> StoreError {
        StoreError::write(&self.farm.path(&want.id, want.exec))(error)
    }
}

/// Runs `put`, again with the directory of `target` made if that was missing.
fn in_its_directory(target: &Path, put: impl Fn() -> io::Result<()>) -> io::Result<()> {
    match put() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = target.parent().expect("the farm's files are in one");
            match DirBuilder::new().mode(0o755).create(parent) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
                _ => put(),
            }
        }
        done => done,
    }
}
