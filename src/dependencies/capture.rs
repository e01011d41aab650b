//! What an installation left behind, made ready for the store.
//!
//! The commands are over and their sandbox is gone, so nothing changes any more; but what
//! lies there was written by a stranger. No link is followed: a directory that is moved is
//! reached through directories alone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::plan::Plan;
use super::record::Need;
use super::relocate::{Holds, Relocations, scan};
use super::{DependenciesError, WORKSPACE, cargo};
use crate::environment::detect::Ecosystem;
use crate::environment::files::LARGEST;
use crate::ordinary;
use crate::store::FileId;

/// Names below which nothing is an output: made again by whoever needs them.
const PASSING: [&str; 6] =
    [".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".zagi"];

/// The files of the source before anything was installed, relative to the workspace.
pub(super) struct Before(HashSet<PathBuf>);

impl Before {
    /// Nothing is looked at where outputs are not captured.
    pub fn look(plan: &Plan, workspace: &Path) -> Result<Before, DependenciesError> {
        let mut files = HashSet::new();
        if plan.outputs {
            walk(workspace, Path::new(""), &mut |path, kind| {
                if !kind.is_dir() {
                    files.insert(path.to_owned());
                }
                path != Path::new(".git")
            })?;
        }
        Ok(Before(files))
    }
}

/// Visits all below `base`, directories first. `visit` says whether to go into one.
fn walk(
    base: &Path,
    below: &Path,
    visit: &mut dyn FnMut(&Path, FileType) -> bool,
) -> Result<(), DependenciesError> {
    let dir = base.join(below);
    let failed = || DependenciesError::file(&dir);
    for entry in fs::read_dir(&dir).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let kind = entry.file_type().map_err(failed())?;
        let path = below.join(entry.file_name());
        if visit(&path, kind) && kind.is_dir() {
            walk(base, &path, visit)?;
        }
    }
    Ok(())
}

/// Moves what is to be captured from `workspace` to `stage`; says what that is.
pub(super) fn stage(
    plan: &Plan,
    before: &Before,
    workspace: &Path,
    stage: &Path,
) -> Result<Vec<PathBuf>, DependenciesError> {
    fs::create_dir_all(stage).map_err(DependenciesError::file(stage))?;
    let named = plan.directories.iter().map(PathBuf::from).collect();
    let mut taken = take(workspace, named, stage)?;
    if let Some(name) = &plan.nested {
        let mut found = Vec::new();
        walk(workspace, Path::new(""), &mut |path, kind| {
            let named = kind.is_dir() && path.ends_with(name);
            if named {
                found.push(path.to_owned());
            }
            !named && path != Path::new(".git")
        })?;
        taken.extend(take(workspace, found, stage)?);
    }
    if plan.outputs {
        let found = outputs(plan, before, workspace)?;
        taken.extend(take(workspace, found, stage)?);
    }
    taken.sort();
    Ok(taken)
}

/// Files that were not there before.
fn outputs(
    plan: &Plan,
    before: &Before,
    workspace: &Path,
) -> Result<Vec<PathBuf>, DependenciesError> {
    // A build directory of Python's is what wheels were made from; node's holds the
    // compiled module.
    let python = plan.project.ecosystem == Ecosystem::Python;
    let mut found = Vec::new();
    walk(workspace, Path::new(""), &mut |path, kind| {
        let name = path.file_name().unwrap_or_default();
        let passing = PASSING.iter().any(|p| name == *p) || (python && name == "build");
        let compiled = path.extension().is_some_and(|e| e == "pyc");
        if !passing && !kind.is_dir() && !compiled && !before.0.contains(path) {
            found.push(path.to_owned());
        }
        !passing
    })?;
    Ok(found)
}

/// Moves directories and files that are there and reached through directories alone.
fn take(
    workspace: &Path,
    paths: Vec<PathBuf>,
    stage: &Path,
) -> Result<Vec<PathBuf>, DependenciesError> {
    let mut taken = Vec::new();
    for path in paths {
        let above = path.ancestors().skip(1);
        let plain =
            |dir: &Path| fs::symlink_metadata(workspace.join(dir)).is_ok_and(|meta| meta.is_dir());
        let (from, to) = (workspace.join(&path), stage.join(&path));
        if !above.into_iter().all(plain) || fs::symlink_metadata(&from).is_err() {
            continue;
        }
        let parent = to.parent().unwrap_or(stage);
        fs::create_dir_all(parent).map_err(DependenciesError::file(parent))?;
        fs::rename(&from, &to).map_err(DependenciesError::file(&from))?;
        taken.push(path);
    }
    Ok(taken)
}

/// What is staged, looked at.
pub(super) struct Seen {
    pub packages: u64,
    pub relocations: Relocations,
    pub needs: Vec<Need>,
    pub warnings: Vec<String>,
}

/// Makes everything staged such that it can be stored, and finds out what it holds.
/// `home` is where the tools are, to which links may lead.
pub(super) fn look(plan: &Plan, stage: &Path, home: &Path) -> Result<Seen, DependenciesError> {
    let mut files = Vec::new();
    let mut links = BTreeMap::new();
    normalise(stage, Path::new(""), &mut files, &mut links)?;
    forget_clock(stage, &mut files)?;
    let gone = |target: &PathBuf| {
        let passing = target.starts_with("/zagi") || target.starts_with("/tmp");
        passing && !target.starts_with(home)
    };
    let away: Vec<&String> =
        links.iter().filter(|(_, target)| gone(target)).map(|(link, _)| link).collect();
    let relocations = relocations(stage, &files)?;
    let mut warnings = Vec::new();
    if let Some(first) = away.first() {
        warnings.push(format!(
            "{} installed links lead to places that only the installation had (`{first}`)",
            away.len()
        ));
    }
    if let Some(first) = relocations.live_binaries.first() {
        warnings.push(format!(
            "{} installed binaries hold the path of the installation, {WORKSPACE} (`{first}`): \
             what they look for there they do not find",
            relocations.live_binaries.len()
        ));
    }
    let needs = match plan.project.ecosystem {
        Ecosystem::Rust => cargo::least_rust(stage, &files).into_iter().collect(),
        _ => Vec::new(),
    };
    Ok(Seen { packages: packages(plan, stage, &files), relocations, needs, warnings })
}

/// Readable files, enterable directories, relative links within the workspace, and nothing
/// that is neither. `links` are those that lead out of it.
fn normalise(
    stage: &Path,
    below: &Path,
    files: &mut Vec<PathBuf>,
    links: &mut BTreeMap<String, PathBuf>,
) -> Result<(), DependenciesError> {
    let dir = stage.join(below);
    let failed = || DependenciesError::file(&dir);
    permit(&dir, 0o700).map_err(failed())?;
    for entry in fs::read_dir(&dir).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let kind = entry.file_type().map_err(failed())?;
        let (path, relative) = (entry.path(), below.join(entry.file_name()));
        let failed = DependenciesError::file(&path);
        if kind.is_dir() {
            normalise(stage, &relative, files, links)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(failed)?;
            if let Ok(inside) = target.strip_prefix(WORKSPACE) {
                relink(&path, &relative, inside).map_err(DependenciesError::file(&path))?;
            } else if target.is_absolute() {
                links.insert(relative.to_string_lossy().into_owned(), target);
            }
        } else if kind.is_file() {
            permit(&path, 0o400).map_err(failed)?;
            files.push(relative);
        } else {
            // A socket or pipe that somebody left: of no use to anybody else.
            fs::remove_file(&path).map_err(failed)?;
        }
    }
    Ok(())
}

/// Removes what uv notes of a directory that it installed from, the time of its last change:
/// it would be another one in every installation, and tells only uv that it need not look.
fn forget_clock(stage: &Path, files: &mut Vec<PathBuf>) -> Result<(), DependenciesError> {
    const NOTE: &str = "uv_cache.json";
    let is_note = |file: &PathBuf| {
        let dir = file.parent().and_then(Path::extension);
        file.file_name().is_some_and(|name| name == NOTE) && dir.is_some_and(|e| e == "dist-info")
    };
    let notes: Vec<PathBuf> = files.extract_if(.., |file| is_note(file)).collect();
    for note in notes {
        let path = stage.join(&note);
        fs::remove_file(&path).map_err(DependenciesError::file(&path))?;
        let record = note.with_file_name("RECORD");
        if !files.contains(&record) {
            continue;
        }
        let record = stage.join(record);
        let failed = || DependenciesError::file(&record);
        let text = fs::read(&record).map_err(failed())?;
        let listed = |line: &&[u8]| {
            let path = line.split(|byte| *byte == b',').next().unwrap_or_default();
            path.ends_with(b".dist-info/uv_cache.json")
        };
        let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| !listed(line));
        // A new file: the old one may be shared with uv's cache.
        let text: Vec<u8> = lines.flatten().copied().collect();
        fs::remove_file(&record).map_err(failed())?;
        fs::write(&record, text).map_err(failed())?;
    }
    Ok(())
}

fn permit(path: &Path, bits: u32) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.permissions().mode();
    if mode & bits == bits {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode | bits))
}

/// Makes the link at `path` (`relative` to the workspace) lead to `inside` the workspace
/// wherever that is.
fn relink(path: &Path, relative: &Path, inside: &Path) -> io::Result<()> {
    let depth = relative.components().count() - 1;
    let mut target: PathBuf = std::iter::repeat_n(Component::ParentDir, depth).collect();
    target.push(inside);
    if target.as_os_str().is_empty() {
        target.push(".");
    }
    fs::remove_file(path)?;
    symlink(target, path)
}

/// Reads every file once, on all processors.
fn relocations(stage: &Path, files: &[PathBuf]) -> Result<Relocations, DependenciesError> {
    let next = AtomicUsize::new(0);
    let found: Mutex<BTreeMap<FileId, Holds>> = Mutex::default();
    let live: Mutex<BTreeSet<String>> = Mutex::default();
    let work = || -> Result<(), DependenciesError> {
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = stage.join(file);
            let bytes = fs::read(&path).map_err(DependenciesError::file(&path))?;
            let Some(holds) = scan(&bytes, WORKSPACE) else { continue };
            found.lock().expect("nothing panics with it held").insert(FileId::of(&bytes), holds);
            if holds == (Holds::Binary { live: true }) {
                let path = file.to_string_lossy().into_owned();
                live.lock().expect("nothing panics with it held").insert(path);
            }
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|w| w.join().expect("it does not panic"))
    })?;
    Ok(Relocations {
        prefix: WORKSPACE.to_owned(),
        files: found.into_inner().expect("nothing panicked"),
        live_binaries: live.into_inner().expect("nothing panicked").into_iter().collect(),
    })
}

/// How many packages were installed, counted by what each manager leaves of one.
fn packages(plan: &Plan, stage: &Path, files: &[PathBuf]) -> u64 {
    let parent = |file: &Path, n: usize| {
        file.ancestors().nth(n).and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned())
    };
    let count = |is: &dyn Fn(&Path) -> bool| files.iter().filter(|file| is(file)).count() as u64;
    match plan.project.ecosystem {
        Ecosystem::Node if plan.manager == "npm" => {
            let hidden = Path::new(&plan.project.root).join("node_modules/.package-lock.json");
            let text = ordinary::read(&stage.join(hidden), LARGEST).unwrap_or_default();
            let lock: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            lock["packages"].as_object().map_or(0, |packages| packages.len() as u64)
        }
        // Directories of `node_modules`, where a scope is a level more; or archives.
        Ecosystem::Node if plan.manager != "pnpm" => count(&|file| {
            let scoped = || parent(file, 2).is_some_and(|scope| scope.starts_with('@'));
            (file.ends_with("package.json")
                && (parent(file, 2).as_deref() == Some("node_modules")
                    || (parent(file, 3).as_deref() == Some("node_modules") && scoped())))
                || (file.extension().is_some_and(|e| e == "zip")
                    && parent(file, 1).as_deref() == Some("cache"))
        }),
        // `.pnpm/NAME@VERSION/node_modules/NAME/package.json`, likewise.
        Ecosystem::Node => count(&|file| {
            file.ends_with("package.json")
                && (parent(file, 4).as_deref() == Some(".pnpm")
                    || (parent(file, 5).as_deref() == Some(".pnpm")
                        && parent(file, 2).is_some_and(|scope| scope.starts_with('@'))))
        }),
        Ecosystem::Python => count(&|file| {
            file.ends_with("METADATA") && parent(file, 1).is_some_and(|d| d.ends_with(".dist-info"))
        }),
        Ecosystem::Rust => count(&|file| file.extension().is_some_and(|e| e == "crate")),
        Ecosystem::Go => count(&|file| file.extension().is_some_and(|e| e == "zip")),
        Ecosystem::Zig => {
            fs::read_dir(stage.join(".zagi/zig/p")).map_or(0, |dir| dir.count() as u64)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
