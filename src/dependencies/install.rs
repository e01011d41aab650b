//! Looked up by key, or installed: by one installer a key, with nothing half-made.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::capture::{self, Before};
use super::confine::{self, Tools, Work};
use super::network::{self, Refused};
use super::plan::{Otherwise, Plan, Step};
use super::record::{self, Need, Record, RecordError};
use super::relocate::Relocations;
use super::run::{self, Outcome};
use super::{DependenciesError, WORKSPACE, cargo};
use crate::context::Context;
use crate::environment::detect::Ecosystem;
use crate::event::Event;
use crate::ordinary;
use crate::store::{Entry, Kind, Store, TreeId, remove_tree};

/// Dependencies that are in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The plan's key.
    pub key: String,
    /// Who installed them.
    pub manager: String,
    /// What is attached, rooted at the workspace.
    pub tree: TreeId,
    /// Which of its files speak of the place of installation.
    pub relocations: Relocations,
    /// Nothing was installed: they had been before.
    pub cached: bool,
    /// Packages.
    pub packages: u64,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was captured: the manager's directories, and files of the source's directories.
    /// Not the project's, so git is to ignore them.
    pub paths: Vec<String>,
    /// What the dependencies need of the environment's tools. Whoever sees that it is not
    /// met resolves the environment again and installs with that.
    pub needs: Vec<Need>,
    /// What was said aloud when they were installed.
    pub warnings: Vec<String>,
}

impl Provided {
    fn new(key: &str, tree: TreeId, record: Record, cached: bool) -> Provided {
        let key = key.to_owned();
        let Record { manager, packages, files, bytes, relocations, paths, needs, warnings } =
            record;
        Provided {
            key,
            manager,
            tree,
            relocations,
            cached,
            packages,
            files,
            bytes,
            paths,
            needs,
            warnings,
        }
    }
}

/// What is in the store for `key`, if anything. Starts no process and takes no lock.
pub fn lookup(store: &Store, key: &str) -> Result<Option<Provided>, DependenciesError> {
    let Some(both) = store.get_ref(&record::name(key))? else { return Ok(None) };
    let (tree, record) = record::read(store, key, &both)?;
    Ok(Some(Provided::new(key, tree, record, true)))
}

/// What `plan` installs: from the store, or installed now with `tools`. `checkout` writes
/// the source, with its `.git`, to the empty directory that it is given.
pub fn provide(
    ctx: &Context,
    store: &Store,
    tools: &Tools,
    plan: &Plan,
    checkout: &dyn Fn(&Path) -> io::Result<()>,
) -> Result<Provided, DependenciesError> {
    if let Some(found) = usable(store, &plan.key)? {
        return Ok(found);
    }
    if let (Some(why), Some(lock)) = (&plan.disagrees, &plan.project.lock) {
        let (lock, update) = (lock.clone(), run::update(&plan.manager).to_owned());
        return Err(DependenciesError::LockDisagrees { lock, update, tail: why.clone() });
    }
    let _installing = lock(ctx, plan)?;
    // Whoever had the lock before may have done it.
    if let Some(found) = usable(store, &plan.key)? {
        return Ok(found);
    }
    let scratch = Scratch::new(ctx, plan)?;
    install(ctx, store, tools, plan, checkout, &scratch.0)
}

/// As [`lookup`], but a record that makes no sense is made again instead of being an error.
fn usable(store: &Store, key: &str) -> Result<Option<Provided>, DependenciesError> {
    match lookup(store, key) {
        Err(DependenciesError::Record(RecordError::Invalid { .. })) => Ok(None),
        other => other,
    }
}

/// Waits until nobody else installs the same. The kernel gives the lock back when its
/// holder dies.
fn lock(ctx: &Context, plan: &Plan) -> Result<Flock<File>, DependenciesError> {
    let dir = ctx.home.cache("dependencies");
    fs::create_dir_all(&dir).map_err(DependenciesError::file(&dir))?;
    let path = dir.join(format!("{}.lock", plan.key));
    let open = || File::create(&path).map_err(DependenciesError::file(&path));
    match Flock::lock(open()?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((_, Errno::EWOULDBLOCK)) => {}
        Err((_, e)) => return Err(DependenciesError::file(&path)(e.into())),
    }
    let what = format!("another zagi that installs the same with {}", plan.manager);
    ctx.events.emit(Event::Progress { what: format!("waiting for {what}"), done: 0, total: None });
    let mut file = open()?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(lock),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, e)) => return Err(DependenciesError::file(&path)(e.into())),
        }
    }
}

/// The place of one installation, removed when it is over. That of a process that was
/// killed goes with its home's scratch directory.
struct Scratch(PathBuf);

impl Scratch {
    fn new(ctx: &Context, plan: &Plan) -> Result<Scratch, DependenciesError> {
        let dir = ctx.home.tmp().join(format!("dependencies-{}", &plan.key[..16]));
        remove_tree(&dir).map_err(DependenciesError::file(&dir))?;
        fs::create_dir_all(&dir).map_err(DependenciesError::file(&dir))?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is when the next process sweeps.
        let _ = remove_tree(&self.0);
    }
}

fn install(
    ctx: &Context,
    store: &Store,
    tools: &Tools,
    plan: &Plan,
    checkout: &dyn Fn(&Path) -> io::Result<()>,
    scratch: &Path,
) -> Result<Provided, DependenciesError> {
    let work = prepare(plan, checkout, scratch)?;
    let before = Before::look(plan, &work.workspace)?;
    let cargo_home = work.workspace.join(super::plan::CARGO_HOME);
    let rust = plan.project.ecosystem == Ecosystem::Rust;
    let cache = ctx.home.cache("cargo");
    if rust {
        cargo::seed(&cache, &cargo_lock(plan, &work.workspace), &cargo_home)
            .map_err(DependenciesError::file(&cache))?;
    }
    let log = ctx.home.cache("dependencies").join(format!("{}.log", plan.key));
    // An earlier attempt's; that there is none is no error.
    let _ = fs::remove_file(&log);
    let mut warnings = Vec::new();
    let mut refused = Refused::new();
    for step in &plan.steps {
        let told = perform(ctx, tools, plan, &work, step, &log)?;
        warnings.extend(told.warnings);
        refused.extend(told.refused);
    }
    warnings.extend(missed(ctx, plan, &refused));
    if rust {
        cargo::harvest(&cache, &cargo_lock(plan, &work.workspace), &cargo_home)
            .map_err(DependenciesError::file(&cache))?;
    }
    let stage = scratch.join("stage");
    let tree = stage.join(record::TREE);
    let taken = capture::stage(plan, &before, &work.workspace, &tree)?;
    let seen = capture::look(plan, &tree, ctx.home.root())?;
    for warning in &seen.warnings {
        ctx.events.emit(Event::Warning(warning.clone()));
    }
    warnings.extend(seen.warnings);
    let record = Record {
        manager: plan.manager.clone(),
        packages: seen.packages,
        relocations: seen.relocations,
        needs: seen.needs,
        paths: taken.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
        warnings,
        ..Record::default()
    };
    let provided = keep(store, plan, &stage, record)?;
    // It was of interest had this failed.
    let _ = fs::remove_file(&log);
    Ok(provided)
}

/// The source, and what the manager is told in files.
fn prepare(
    plan: &Plan,
    checkout: &dyn Fn(&Path) -> io::Result<()>,
    scratch: &Path,
) -> Result<Work, DependenciesError> {
    let (workspace, tmp) = (scratch.join("workspace"), scratch.join("tmp"));
    for dir in [&workspace, &tmp] {
        fs::create_dir(dir).map_err(DependenciesError::file(dir))?;
    }
    checkout(&workspace).map_err(|source| DependenciesError::Checkout { source })?;
    for (path, content) in &plan.files {
        let path = workspace.join(path);
        let parent = path.parent().unwrap_or(&workspace);
        // The source may have a link there that leads out of it.
        let inside = fs::create_dir_all(parent)
            .and_then(|()| parent.canonicalize())
            .map_err(DependenciesError::file(parent))?;
        let root = workspace.canonicalize().map_err(DependenciesError::file(&workspace))?;
        if !inside.starts_with(&root) || path.is_symlink() {
            let refused = io::Error::other("a link of the source is in the way");
            return Err(DependenciesError::file(&path)(refused));
        }
        fs::write(&path, content).map_err(DependenciesError::file(&path))?;
    }
    let borrowed = confine::borrowed(&workspace);
    let hosts = plan.hosts.clone();
    Ok(Work { workspace, seen: WORKSPACE.into(), tmp, borrowed, hosts })
}

/// The lock file in the workspace, empty where there is none.
fn cargo_lock(plan: &Plan, workspace: &Path) -> String {
    let made = Path::new(&plan.project.root).join("Cargo.lock");
    let path = plan.project.lock.as_ref().map_or(made, PathBuf::from);
    let mut text = String::new();
    // A lock file that is a link names nothing that would be looked for.
    let read = ordinary::open_below(workspace, &path).and_then(|mut f| f.read_to_string(&mut text));
    read.map_or_else(|_| String::new(), |_| text)
}

/// What is told of a step that ended well.
pub(super) struct Told {
    /// What was said aloud.
    warnings: Vec<String>,
    /// What it wanted of the network and was not given.
    pub refused: Refused,
}

/// Says aloud what was not reached although all went well: it may be missed later.
pub(super) fn missed(ctx: &Context, plan: &Plan, refused: &Refused) -> Option<String> {
    let warning = format!("{}: {}", plan.manager, network::allowing(refused)?);
    ctx.events.emit(Event::Warning(warning.clone()));
    Some(warning)
}

/// One step, another way if need be.
pub(super) fn perform(
    ctx: &Context,
    tools: &Tools,
    plan: &Plan,
    work: &Work,
    step: &Step,
    log: &Path,
) -> Result<Told, DependenciesError> {
    let run = |argv: &[String]| {
        let confined = confine::confine(ctx, tools, plan, work, argv)?;
        run::run(ctx, plan, &confined, log)
    };
    let mut told = Told { warnings: Vec::new(), refused: Refused::new() };
    let mut left: Vec<&Otherwise> = step.otherwise.iter().collect();
    let mut argv = &step.argv;
    while !argv.is_empty() {
        let (error, said) = match run(argv)? {
            Outcome::Done { refused } => {
                told.refused.extend(refused);
                break;
            }
            Outcome::Failed { error, said, refused } => {
                told.refused.extend(refused);
                (error, said)
            }
        };
        let fits = |o: &&Otherwise| o.when.iter().any(|words| said.contains(words));
        let Some(at) = left.iter().position(fits) else { return Err(error) };
        let otherwise = left.remove(at);
        told.warnings.push(otherwise.warning.clone());
        argv = &otherwise.argv;
    }
    for warning in &told.warnings {
        ctx.events.emit(Event::Warning(warning.clone()));
    }
    Ok(told)
}

/// Puts the tree and its record into the store, and the ref last.
fn keep(
    store: &Store,
    plan: &Plan,
    stage: &Path,
    record: Record,
) -> Result<Provided, DependenciesError> {
    let captured = store.capture_owned(&stage.join(record::TREE))?;
    let record = Record { files: captured.files, bytes: captured.bytes, ..record };
    let beside = stage.join(record::RECORD);
    let path = beside.join(record::RECORD);
    fs::create_dir(&beside)
        .and_then(|()| fs::write(&path, record.encode()))
        .map_err(DependenciesError::file(&path))?;
    // The tree's files have been moved away: it is composed with its record.
    let recorded = store.capture(&beside)?;
    let mut entries = store.tree(&recorded.tree)?.entries.clone();
    let name = record::TREE.as_bytes().into();
    entries.push(Entry { name, kind: Kind::Directory(captured.tree) });
    let both = store.put_tree(entries)?;
    store.set_ref(&record::name(&plan.key), &both)?;
    Ok(Provided::new(&plan.key, captured.tree, record, false))
}
