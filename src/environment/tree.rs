//! A tool's tree in the farm: its packages laid over one another, and then everything that
//! this home must change in them (see [`Fixups`]).
//!
//! Files are hard links into the farm wherever a whole directory can be taken as published;
//! what is patched is replaced, never edited.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use super::elf::{self, ElfError};
use super::lock::{Fixups, fits, stays_inside};
use super::words::Words;
use crate::store::{Kind, Store, StoreError, TreeId};

/// Why a tree could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the tree.
    #[error("cannot prepare `{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A program that cannot be given another loader.
    #[error("cannot patch `{path}`: {source}")]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// A list of links names a path outside of the tree.
    #[error("`{path}` lists `{link}`, which leads out of the tree")]
    Leads {
        /// The list.
        path: PathBuf,
        /// The link.
        link: String,
    },
    /// A text to be replaced is not there: the package is not what the catalogue knows.
    #[error("`{path}` has no `{text}` to replace")]
    NothingToReplace {
        /// The file, or the pattern that no file fits.
        path: PathBuf,
        /// The text.
        text: String,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> TreeError + use<> {
    let path = path.to_owned();
    move |source| TreeError::File { path, source }
}

/// Fills `dest`, an empty directory, from the packages' trees. `words` know `{root}`, the
/// path that the tree will have when it is done.
pub fn build(
    store: &Store,
    packages: &[TreeId],
    fixups: &Fixups,
    words: &Words,
    dest: &Path,
) -> Result<(), TreeError> {
    let layer = Layer { store, fixups, dest };
    for package in packages {
        layer.place(package, Path::new(""), Path::new(""))?;
    }
    for (from, to) in &fixups.merge {
        let path = dest.join(from);
        if dest.join(to).is_dir() && path.symlink_metadata().is_err() {
            link(to, &path)?;
        }
    }
    for (from, to) in fixups.links.clone().into_iter().chain(listed(fixups, dest)?) {
        let (from, to) = (Path::new(&from), Path::new(&to));
        let target = relative(from.parent().unwrap_or(Path::new("")), to);
        link(target, &dest.join(from))?;
    }
    for file in &fixups.executable {
        let path = dest.join(file);
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        write(&path, &bytes, true)?;
    }
    patch_programs(fixups, words, dest)?;
    link_shared(fixups, dest)?;
    replace_texts(fixups, words, dest)?;
    for file in &fixups.write {
        let text = match file.text.starts_with("#!") {
            true => shell_words(words).expand(&file.text),
            false => words.expand(&file.text),
        };
        write(&dest.join(&file.file), text.as_bytes(), file.executable)?;
    }
    Ok(())
}

/// The links of the lists that packages bring.
fn listed(fixups: &Fixups, dest: &Path) -> Result<Vec<(String, String)>, TreeError> {
    #[derive(serde::Deserialize)]
    struct Listed {
        source: String,
        target: String,
    }
    let mut links = Vec::new();
    for list in &fixups.lists {
        let path = dest.join(list);
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        let listed: Vec<Listed> =
            serde_json::from_slice(&bytes).map_err(|e| failed(&path)(e.into()))?;
        for Listed { source, target } in listed {
            if !stays_inside(&source) || !stays_inside(&target) {
                return Err(TreeError::Leads { path, link: target });
            }
            links.push((target, source));
        }
    }
    Ok(links)
}

/// Inside of single quotes, which the catalogue's scripts put around paths.
fn shell_words(words: &Words) -> Words {
    let root = words.expand("{root}").replace('\'', r"'\''");
    words.with("root", &root)
}

struct Layer<'a> {
    store: &'a Store,
    fixups: &'a Fixups,
    dest: &'a Path,
}

impl Layer<'_> {
    /// Puts the directory `from` of a package at `to`.
    fn place(&self, id: &TreeId, from: &Path, to: &Path) -> Result<(), TreeError> {
        let directory = self.dest.join(to);
        if self.whole(id, from, to)? {
            self.store.link_tree(id, &directory)?;
            return Ok(());
        }
        std::fs::create_dir_all(&directory).map_err(failed(&directory))?;
        for entry in &self.store.tree(id)?.entries {
            let name = OsStr::from_bytes(&entry.name);
            let from = from.join(name);
            let to = self.merged(&from);
            if self.excluded(&to) {
                continue;
            }
            let path = self.dest.join(&to);
            match &entry.kind {
                Kind::Directory(id) => self.place(id, &from, &to)?,
                Kind::File { exec, id, .. } => write(&path, &self.store.read_file(id)?, *exec)?,
                Kind::Symlink(target) => {
                    let base = from.parent().unwrap_or(Path::new(""));
                    let leads_to = normal(&base.join(OsStr::from_bytes(target)));
                    let base = to.parent().unwrap_or(Path::new(""));
                    link(relative(base, &self.merged(&leads_to)), &path)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a directory can be taken as it is.
    fn whole(&self, id: &TreeId, from: &Path, to: &Path) -> Result<bool, TreeError> {
        if from == Path::new("") && !self.fixups.merge.is_empty() {
            return Ok(false);
        }
        for entry in &self.store.tree(id)?.entries {
            let name = OsStr::from_bytes(&entry.name);
            let (from, to) = (from.join(name), to.join(name));
            let fine = !self.excluded(&to)
                && match &entry.kind {
                    Kind::Directory(id) => self.whole(id, &from, &to)?,
                    Kind::File { .. } => true,
                    // A link that leaves what was moved would miss its target.
                    Kind::Symlink(target) => {
                        let up = target.starts_with(b"..");
                        from == to || !up
                    }
                };
            if !fine {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn merged(&self, path: &Path) -> PathBuf {
        let mut components = path.components();
        let first = components.next().and_then(|c| c.as_os_str().to_str());
        match first.and_then(|first| self.fixups.merge.get(first)) {
            Some(into) => Path::new(into).join(components.as_path()),
            None => path.to_owned(),
        }
    }

    fn excluded(&self, path: &Path) -> bool {
        self.fixups.exclude.iter().any(|pattern| match pattern.contains('*') {
            true => fits(pattern.as_bytes(), path.as_os_str().as_bytes()),
            false => path == Path::new(pattern),
        })
    }
}

/// Every program gets the loader and the libraries of its own tree.
fn patch_programs(fixups: &Fixups, words: &Words, dest: &Path) -> Result<(), TreeError> {
    let Some(elf) = &fixups.elf else { return Ok(()) };
    let root = words.expand("{root}");
    let interpreter = format!("{root}/{}", elf.interpreter);
    let search: Vec<String> = elf.libraries.iter().map(|dir| format!("{root}/{dir}")).collect();
    for path in files(dest)? {
        // What debuggers read beside a program: it says what the program does, without the bytes.
        if path.starts_with(dest.join("usr/lib/debug")) {
            continue;
        }
        let meta = path.metadata().map_err(failed(&path))?;
        let executable = meta.permissions().mode() & 0o111 != 0;
        let library =
            path.file_name().is_some_and(|n| n.as_bytes().windows(3).any(|w| w == b".so"));
        if !executable && !library {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        let shared = elf.shared.as_ref().filter(|shared| !shared.leaves_out(&path));
        let patched = match (shared, elf::describe(&bytes)) {
            (Some(shared), Ok(Some(found))) if found.interpreter.is_none() => {
                elf::patch_library(&bytes, &root, &format!("{root}/{}", shared.directory))
            }
            _ => elf::patch(&bytes, &interpreter, &search),
        };
        match patched {
            Ok(Some(patched)) => write(&path, &patched, executable)?,
            // A loader would not take it either: firmware, another word size.
            Ok(None) | Err(ElfError::Unsupported) => {}
            Err(source) => return Err(TreeError::Elf { path, source }),
        }
    }
    Ok(())
}

/// Makes the directory that [`Shared`](super::lock::Shared) describes.
fn link_shared(fixups: &Fixups, dest: &Path) -> Result<(), TreeError> {
    let Some(elf) = &fixups.elf else { return Ok(()) };
    let Some(shared) = &elf.shared else { return Ok(()) };
    for from in elf.libraries.iter().chain(&shared.more) {
        let Ok(entries) = std::fs::read_dir(dest.join(from)) else { continue };
        for entry in entries {
            let name = entry.map_err(failed(&dest.join(from)))?.file_name();
            let library = name.as_bytes().windows(3).any(|w| w == b".so");
            let place = Path::new(&shared.directory).join(&name);
            let without = shared.leaves_out(Path::new(&name));
            if library && !without && dest.join(&place).symlink_metadata().is_err() {
                let target = relative(Path::new(&shared.directory), &Path::new(from).join(&name));
                link(target, &dest.join(place))?;
            }
        }
    }
    Ok(())
}

fn replace_texts(fixups: &Fixups, words: &Words, dest: &Path) -> Result<(), TreeError> {
    for replace in &fixups.replace {
        let nothing =
            |path: PathBuf| TreeError::NothingToReplace { path, text: replace.from.clone() };
        let paths: Vec<PathBuf> = match replace.file.contains('*') {
            false => vec![dest.join(&replace.file)],
            true => {
                let dir = Path::new(&replace.file).parent().unwrap_or(Path::new(""));
                let fitting = |path: &PathBuf| {
                    let inside = path.strip_prefix(dest).map(|p| p.as_os_str().as_bytes());
                    inside.is_ok_and(|inside| fits(replace.file.as_bytes(), inside))
                };
                files(&dest.join(dir))?.into_iter().filter(fitting).collect()
            }
        };
        let (from, to) = (replace.from.as_bytes(), words.expand(&replace.to));
        let mut replaced = false;
        for path in paths {
            // A second name of a file that was done already.
            if path.is_symlink() {
                continue;
            }
            let bytes = std::fs::read(&path).map_err(failed(&path))?;
            let executable = path.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
            // What a program holds is counted by it.
            if elf::is_elf(&bytes) {
                continue;
            }
            if let Some(new) = substitute(&bytes, from, to.as_bytes()) {
                write(&path, &new, executable)?;
                replaced = true;
            }
        }
        if !replaced && !replace.optional {
            return Err(nothing(dest.join(&replace.file)));
        }
    }
    Ok(())
}

fn substitute(bytes: &[u8], from: &[u8], to: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut found = false;
    while let Some(at) = rest.windows(from.len().max(1)).position(|w| w == from) {
        out.extend(&rest[..at]);
        out.extend(to);
        rest = &rest[at + from.len()..];
        found = true;
    }
    out.extend(rest);
    found.then_some(out)
}

/// All regular files below `dir`, in order.
fn files(dir: &Path) -> Result<Vec<PathBuf>, TreeError> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).map_err(failed(&dir))? {
            let entry = entry.map_err(failed(&dir))?;
            let kind = entry.file_type().map_err(failed(&dir))?;
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Puts a file in the place of whatever is there, without touching what that is linked to.
fn write(path: &Path, bytes: &[u8], executable: bool) -> Result<(), TreeError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    remove(path)?;
    std::fs::write(path, bytes).map_err(failed(path))?;
    let mode = if executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(failed(path))
}

fn link(target: impl AsRef<Path>, path: &Path) -> Result<(), TreeError> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    remove(path)?;
    std::os::unix::fs::symlink(target, path).map_err(failed(path))
}

fn remove(path: &Path) -> Result<(), TreeError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(path)(e)),
        _ => Ok(()),
    }
}

/// Without `.` and `..`; what climbs out of the tree stays at its root.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// The way from the directory `from` to `to`, both relative to one root.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (from, to) = (normal(from), normal(to));
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n(OsStr::new(".."), from.components().count() - common);
    let down = to.components().skip(common).map(Component::as_os_str);
    let way: PathBuf = up.chain(down).collect();
    if way.as_os_str().is_empty() { PathBuf::from(".") } else { way }
}

#[cfg(test)]
mod tests;
