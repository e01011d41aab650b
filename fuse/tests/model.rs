//! Random operations on an overlay and on a real directory: both must answer and look alike,
//! also after the overlay was closed and opened again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use zagi_fuse::delta::{FileKind, Time};
use zagi_fuse::overlay::{Overlay, RenameMode, SetAttr, SetTime};

use crate::support::{Random, Seen, find, me, open, parent, see, seeds};

type Answer = Result<(), Errno>;

/// One step, the same for both.
#[derive(Debug)]
enum Step {
    Create(String, u16),
    Mkdir(String, u16),
    Symlink(String, String),
    Fifo(String),
    Link(String, String),
    Unlink(String),
    Rmdir(String),
    Rename(String, String, RenameMode),
    Write(String, u64, Vec<u8>),
    Truncate(String, u64),
    Chmod(String, u16),
    Utimens(String, i64),
    Xattr(String, Vec<u8>),
    RemoveXattr(String),
    Copy(String, String, u64, u64),
    Punch(String, u64, u64),
}

struct Model(PathBuf);

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().expect("the system said it"))
}

impl Model {
    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    /// Opens a regular file and nothing else.
    fn file(&self, path: &str) -> Result<fs::File, Errno> {
        let meta = fs::symlink_metadata(self.at(path)).map_err(errno)?;
        if meta.is_dir() {
            return Err(Errno::EISDIR);
        }
        if !meta.is_file() {
            return Err(Errno::EINVAL);
        }
        fs::File::options().read(true).write(true).open(self.at(path)).map_err(errno)
    }

    fn apply(&self, step: &Step) -> Answer {
        let answer = self.act(step);
        if let (
            Ok(()),
            Step::Create(path, _)
            | Step::Mkdir(path, _)
            | Step::Symlink(path, _)
            | Step::Fifo(path),
        ) = (answer, step)
        {
            // The number may have been that of something else before.
            let _ = self.set_xattr(path, None);
        }
        answer
    }

    fn act(&self, step: &Step) -> Answer {
        let mode = |path: &str, mode: u16| {
            let permissions = fs::Permissions::from_mode(u32::from(mode));
            fs::set_permissions(self.at(path), permissions).map_err(errno)
        };
        match step {
            Step::Create(path, bits) => {
                fs::File::create_new(self.at(path)).map_err(errno)?;
                mode(path, *bits)
            }
            Step::Mkdir(path, bits) => {
                fs::create_dir(self.at(path)).map_err(errno)?;
                mode(path, *bits)
            }
            Step::Symlink(path, target) => symlink(target, self.at(path)).map_err(errno),
            Step::Fifo(path) => {
                nix::unistd::mkfifo(&self.at(path), nix::sys::stat::Mode::empty())?;
                mode(path, 0o640)
            }
            Step::Link(from, to) => fs::hard_link(self.at(from), self.at(to)).map_err(errno),
            Step::Unlink(path) => nix::unistd::unlink(&self.at(path)),
            Step::Rmdir(path) => fs::remove_dir(self.at(path)).map_err(errno),
            Step::Rename(from, to, mode) => {
                let flags = match mode {
                    RenameMode::Replace => RenameFlags::empty(),
                    RenameMode::NoReplace => RenameFlags::RENAME_NOREPLACE,
                    RenameMode::Exchange => RenameFlags::RENAME_EXCHANGE,
                };
                renameat2(AT_FDCWD, &self.at(from), AT_FDCWD, &self.at(to), flags)
            }
            Step::Write(path, offset, data) => {
                self.file(path)?.write_all_at(data, *offset).map_err(errno)
            }
            Step::Truncate(path, size) => self.file(path)?.set_len(*size).map_err(errno),
            Step::Chmod(path, bits) => mode(path, *bits),
            Step::Utimens(path, secs) => {
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(*secs as u64);
                let times = fs::FileTimes::new().set_modified(time).set_accessed(time);
                self.file(path)?.set_times(times).map_err(errno)
            }
            Step::Xattr(path, value) => self.set_xattr(path, Some(value)),
            Step::RemoveXattr(path) => self.set_xattr(path, None),
            Step::Copy(from, to, offset, length) => {
                let mut data = vec![0; *length as usize];
                let count = self.file(from)?.read_at(&mut data, *offset).map_err(errno)?;
                self.file(to)?.write_all_at(&data[..count], *offset).map_err(errno)
            }
            Step::Punch(path, offset, length) => {
                let flags =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                fallocate(self.file(path)?, flags, *offset as i64, *length as i64)
            }
        }
    }

    /// The model keeps the attribute in a table of files beside it: tmpfs may know none.
    fn set_xattr(&self, path: &str, value: Option<&[u8]>) -> Answer {
        let meta = fs::symlink_metadata(self.at(path)).map_err(errno)?;
        let file = self.0.with_extension("xattrs").join(meta.ino().to_string());
        match value {
            // As every disk has it (xattr(7)).
            Some(_) if !meta.is_file() && !meta.is_dir() => Err(Errno::EPERM),
            Some(value) => fs::write(file, value).map_err(errno),
            None => fs::remove_file(file).map_err(|_| Errno::ENODATA),
        }
    }

    fn see(&self) -> BTreeMap<String, Seen> {
        let mut seen = BTreeMap::new();
        let mut inodes: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let mut todo = vec![self.0.clone()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(dir).expect("lists") {
                let path = entry.expect("an entry").path();
                let meta = fs::symlink_metadata(&path).expect("is there");
                let name = path.strip_prefix(&self.0).expect("below").display().to_string();
                let (kind, content) = if meta.is_dir() {
                    todo.push(path.clone());
                    (FileKind::Directory, Vec::new())
                } else if meta.is_symlink() {
                    let target = fs::read_link(&path).expect("a link");
                    (FileKind::Symlink, target.into_os_string().into_encoded_bytes())
                } else if meta.is_file() {
                    (FileKind::File, fs::read(&path).expect("reads"))
                } else {
                    (FileKind::Fifo, Vec::new())
                };
                let table = self.0.with_extension("xattrs").join(meta.ino().to_string());
                let links = if meta.is_dir() { 0 } else { meta.nlink() as u32 };
                let mode = (meta.mode() & 0o7777) as u16;
                inodes.entry(meta.ino()).or_default().push(name.clone());
                let (xattr, same) = (fs::read(table).ok(), name.clone());
                seen.insert(name, Seen { kind, mode, links, content, xattr, same });
            }
        }
        for paths in inodes.values() {
            let first = paths.iter().min().expect("there is one");
            for path in paths {
                seen.get_mut(path).expect("seen").same.clone_from(first);
            }
        }
        seen
    }
}

fn apply(overlay: &Overlay, step: &Step) -> Answer {
    let kill = Some(me()).filter(|me| me.uid != 0);
    let set =
        |path: &str, set: SetAttr| overlay.setattr(me(), find(overlay, path)?.ino, &set).map(drop);
    match step {
        Step::Create(path, mode) => {
            let (dir, name) = parent(overlay, path)?;
            overlay.create(me(), dir, name, *mode).map(drop)
        }
        Step::Mkdir(path, mode) => {
            let (dir, name) = parent(overlay, path)?;
            overlay.mkdir(me(), dir, name, *mode).map(drop)
        }
        Step::Symlink(path, target) => {
            let (dir, name) = parent(overlay, path)?;
            overlay.symlink(me(), dir, name, target.as_bytes()).map(drop)
        }
        Step::Fifo(path) => {
            let (dir, name) = parent(overlay, path)?;
            overlay.mknod(me(), dir, name, FileKind::Fifo, 0o640, 0).map(drop)
        }
        Step::Link(from, to) => {
            let (dir, name) = parent(overlay, to)?;
            overlay.link(find(overlay, from)?.ino, dir, name).map(drop)
        }
        Step::Unlink(path) => {
            let (dir, name) = parent(overlay, path)?;
            overlay.unlink(dir, name)
        }
        Step::Rmdir(path) => {
            let (dir, name) = parent(overlay, path)?;
            overlay.rmdir(dir, name)
        }
        Step::Rename(from, to, mode) => {
            let (from_dir, from) = parent(overlay, from)?;
            let (to_dir, to) = parent(overlay, to)?;
            overlay.rename(from_dir, from, to_dir, to, *mode)
        }
        Step::Write(path, offset, data) => {
            let ino = find(overlay, path)?.ino;
            overlay.write(ino, *offset, data, kill).map(|count| assert_eq!(count, data.len()))
        }
        Step::Truncate(path, size) => {
            set(path, SetAttr { size: Some(*size), ..SetAttr::default() })
        }
        Step::Chmod(path, mode) => set(path, SetAttr { mode: Some(*mode), ..SetAttr::default() }),
        Step::Utimens(path, secs) => {
            let attr = find(overlay, path)?;
            match attr.kind {
                FileKind::File => {}
                FileKind::Directory => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
            let time = Some(SetTime::At(Time { secs: *secs, nanos: 0 }));
            set(path, SetAttr { mtime: time, atime: time, ..SetAttr::default() })?;
            assert_eq!(find(overlay, path)?.mtime.secs, *secs);
            Ok(())
        }
        Step::Xattr(path, value) => {
            overlay.setxattr(find(overlay, path)?.ino, b"user.test", value, 0, false)
        }
        Step::RemoveXattr(path) => overlay.removexattr(find(overlay, path)?.ino, b"user.test"),
        Step::Copy(from, to, offset, length) => copy(overlay, from, to, *offset, *length),
        Step::Punch(path, offset, length) => {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            overlay.fallocate(find(overlay, path)?.ino, *offset, *length, mode, kill)
        }
    }
}

fn copy(overlay: &Overlay, from: &str, to: &str, offset: u64, length: u64) -> Answer {
    let file = |path| {
        let attr = find(overlay, path)?;
        match attr.kind {
            FileKind::File => Ok(attr.ino),
            FileKind::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    };
    let kill = Some(me()).filter(|me| me.uid != 0);
    // A descriptor for each is opened first, and that is where it fails.
    let (from, to) = (file(from)?, file(to)?);
    let mut done = 0;
    while done < length {
        match overlay.copy_range((from, offset + done), (to, offset + done), length - done, kill)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(())
}

/// Chooses a step; most of the time one that can work.
fn choose(random: &mut Random, seen: &BTreeMap<String, Seen>) -> Step {
    let dirs: Vec<&str> = seen
        .iter()
        .filter(|(_, seen)| seen.kind == FileKind::Directory)
        .map(|(path, _)| path.as_str())
        .chain([""])
        .collect();
    let all: Vec<&String> = seen.keys().collect();
    let new = |random: &mut Random| {
        let name = format!("n{}", random.below(12));
        match *random.pick(&dirs) {
            "" => name,
            dir => format!("{dir}/{name}"),
        }
    };
    let old = |random: &mut Random| match random.below(12) {
        0 => new(random),
        _ if all.is_empty() => new(random),
        _ => (*random.pick(&all)).clone(),
    };
    let not_a_link = |random: &mut Random| loop {
        let path = old(random);
        if seen.get(&path).is_none_or(|seen| seen.kind != FileKind::Symlink) {
            return path;
        }
    };
    let mode = |random: &mut Random| [0o644, 0o755, 0o600, 0o1777, 0o6755][random.below(5)];
    match random.below(20) {
        0..=2 => Step::Create(new(random), mode(random)),
        3 | 4 => Step::Mkdir(new(random), mode(random) & 0o1777 | 0o700),
        5 => Step::Symlink(new(random), format!("../{}", random.below(100))),
        6 => Step::Fifo(new(random)),
        7 | 8 => Step::Link(old(random), new(random)),
        9 => Step::Unlink(old(random)),
        10 => Step::Rmdir(old(random)),
        11 | 12 => Step::Rename(old(random), new(random), RenameMode::Replace),
        13 => {
            let modes = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
            Step::Rename(old(random), old(random), modes[random.below(3)])
        }
        14 | 15 => {
            let data = vec![random.next() as u8; 1 + random.below(9000)];
            Step::Write(old(random), random.below(20_000) as u64, data)
        }
        16 => Step::Truncate(old(random), random.below(15_000) as u64),
        17 => match random.below(2) {
            // An ordinary user must still be able to use the model's directories.
            0 => Step::Chmod(not_a_link(random), mode(random) & 0o1777 | 0o700),
            _ => Step::Utimens(old(random), random.below(1 << 30) as i64),
        },
        18 => match random.below(3) {
            0 => Step::RemoveXattr(old(random)),
            _ => Step::Xattr(old(random), vec![7; random.below(50)]),
        },
        _ => match random.below(2) {
            0 => {
                let (from, to) = (old(random), old(random));
                // Overlapping parts of one file are refused by the kernel before we see them.
                if seen.get(&from).map(|seen| &seen.same) == seen.get(&to).map(|seen| &seen.same) {
                    return Step::Unlink(from);
                }
                Step::Copy(from, to, random.below(500) as u64, 1 + random.below(5000) as u64)
            }
            _ => Step::Punch(old(random), random.below(9000) as u64, 1 + random.below(9000) as u64),
        },
    }
}

/// Two layers for the root and one below a prefix that only it has, and all of it in one
/// directory.
fn lay_out(dir: &Path) -> (PathBuf, PathBuf, PathBuf, PathBuf) {
    let (low, high, deep, model) =
        (dir.join("low"), dir.join("high"), dir.join("deep"), dir.join("model"));
    let put = |layer: &Path, at: &str, path: &str, content: &str| {
        for file in [layer.join(path), model.join(at).join(path)] {
            fs::create_dir_all(file.parent().expect("below")).expect("made");
            fs::write(&file, content).expect("written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
        }
    };
    put(&low, "", "a/one", "one of the lower layer");
    put(&low, "", "a/b/two", &"two".repeat(5000));
    put(&low, "", "both/hidden", "seen only below");
    put(&low, "", "both/low", "low");
    put(&low, "", "mixed/under", "hidden by a file");
    fs::remove_dir_all(model.join("mixed")).expect("removed");
    put(&high, "", "mixed", "a file over a directory");
    put(&high, "", "both/hidden", "of the upper layer");
    put(&high, "", "both/high", "high");
    put(&deep, "x/y", "three", "three");
    put(&deep, "x/y", "z/four", "");
    symlink("a/one", low.join("link")).expect("linked");
    symlink("a/one", model.join("link")).expect("linked");
    fs::create_dir(dir.join("model.xattrs")).expect("made");
    (low, high, deep, model)
}

fn run(seed: u64, steps: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let (low, high, deep, model) = lay_out(dir.path());
    let delta = dir.path().join("delta");
    let layers: [(&str, &Path); 3] = [("", &low), ("", &high), ("x/y", &deep)];
    let model = Model(model);
    let mut overlay = open(&layers, &delta);
    let mut random = Random(seed);
    for number in 0..steps {
        let seen = model.see();
        let step = choose(&mut random, &seen);
        let replay = format!("ZAGI_TEST_SEED={seed}, step {number}: {step:?}");
        assert_eq!(apply(&overlay, &step), model.apply(&step), "{replay}");
        if number % 5 == 0 || number + 1 == steps {
            let (ours, theirs) = (see(&overlay), model.see());
            compare(&ours, &theirs, &replay);
        }
        if random.below(40) == 0 {
            drop(overlay);
            overlay = open(&layers, &delta);
            compare(&see(&overlay), &model.see(), &format!("{replay}, opened again"));
        }
    }
    drop(overlay);
    let changes = zagi_fuse::delta::Delta::changes(&delta).expect("readable");
    assert!(!changes.is_empty());
}

fn compare(ours: &BTreeMap<String, Seen>, theirs: &BTreeMap<String, Seen>, when: &str) {
    let (a, b): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
    assert_eq!(a, b, "{when}");
    for (path, seen) in ours {
        let other = &theirs[path];
        // Modes of directories in the layers come from whoever made them for this test.
        assert!(seen == other, "{when}: {path} is\n{seen:?} and should be\n{other:?}");
    }
}

#[test]
fn an_overlay_behaves_as_a_directory_does() {
    for seed in seeds(8) {
        run(seed, 300);
    }
}
