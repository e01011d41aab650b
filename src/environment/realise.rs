//! From a lock to programs that can be run.
//!
//! 1. Every part is fetched, verified, unpacked and captured in the store as it was
//!    published; that is done once for whatever is made of it.
//! 2. Every tool becomes a tree of the farm, fixed up for this home ([`super::tree`]).
//! 3. `$ZAGI_HOME/envs/<key>/` gets `bin/` and `activate.json`, at once or not at all.
//!
//! What has been realised is found again by one small file.
//!
//! Scripts of packages never run. The catalogue's own finishing commands (compiling Python's
//! modules) do, in the `install` sandbox: a lock may come with a stranger's repository.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use zagi_sandbox::{Exit, Plan, Profile, SandboxError};

use super::activate::{self, Activation, Record};
use super::bins::{self, BinError};
use super::catalog::{Catalog, CatalogError, Words};
use super::lock::{Elf, Lock, Part, Tool};
use super::tree::{self, TreeError};
use super::{elf, version::Version};
use crate::context::Context;
use crate::event::Event;
use crate::registry::archive::{self, ArchiveError};
use crate::registry::digest::Digest;
use crate::registry::http::{Client, HttpError};
use crate::store::{Store, StoreError, TreeId};

/// How many parts are fetched and unpacked at once.
const PARALLEL: usize = 4;

/// Where tools of the workspace itself are.
const WORKSPACE_PATH: [&str; 3] =
    ["{workspace}/.venv/bin", "{workspace}/node_modules/.bin", "{workspace}/.zagi/env/bin"];

/// An environment that can be used.
#[derive(Debug, Clone)]
pub struct Realised {
    /// The lock's key.
    pub key: String,
    /// `$ZAGI_HOME/envs/<key>`: `bin/`, `activate.json`.
    pub dir: PathBuf,
    /// What it means to be in it.
    pub activation: Activation,
    /// The trees of the farm that it is made of.
    pub trees: Vec<PathBuf>,
    /// It was there already.
    pub cached: bool,
}

/// Why there is no such environment.
#[derive(Debug, thiserror::Error)]
pub enum RealiseError {
    /// A part cannot be fetched from anywhere.
    #[error("cannot fetch {part}: {source}")]
    Fetch {
        /// The package and its version.
        part: String,
        /// What the last source said.
        source: HttpError,
    },
    /// A part is not what it should be.
    #[error("cannot unpack {part}: {source}")]
    Unpack {
        /// The package and its version.
        part: String,
        /// What is wrong with it.
        source: ArchiveError,
    },
    /// A part of an unknown kind.
    #[error("{part} is of an unknown kind, `{kind}`")]
    Kind {
        /// The package and its version.
        part: String,
        /// What the lock says.
        kind: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A tool's tree.
    #[error("{tool}: {source}")]
    Tree {
        /// The tool.
        tool: String,
        /// What is wrong.
        source: TreeError,
    },
    /// The catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The programs.
    #[error(transparent)]
    Bins(#[from] BinError),
    /// A program of this machine is not the one that was adopted.
    #[error(
        "`{path}` has changed since it was adopted as {tool}: it has digest {found}, expected {expected}"
    )]
    Adopted {
        /// The tool.
        tool: String,
        /// The program.
        path: PathBuf,
        /// What the lock says.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// The lock wants a variable that it must not set.
    #[error("{tool} may not set the variable `{name}`")]
    Variable {
        /// The tool.
        tool: String,
        /// The variable.
        name: String,
    },
    /// The lock has nothing for this machine.
    #[error("the lock is for {found}, not for {platform}")]
    Platform {
        /// This machine.
        platform: String,
        /// What it is for.
        found: String,
    },
    /// The home stands where programs could not be found.
    #[error(
        "no program can be started from `{path}`: a colon separates directories in a search path"
    )]
    Home {
        /// The home.
        path: PathBuf,
    },
    /// A file of the environment.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

pub(super) fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> RealiseError + use<> {
    let path = path.to_owned();
    move |source| RealiseError::Write { path, source }
}

/// Makes the environment of `lock` for this machine, or finds it.
pub fn realise(
    ctx: &Context,
    client: &Client,
    store: &Store,
    lock: &Lock,
) -> Result<Realised, RealiseError> {
    let key = lock.key();
    if let Some(found) = look_up(ctx, &key) {
        return Ok(found);
    }
    let home = ctx.home.root();
    if home.as_os_str().as_encoded_bytes().contains(&b':') {
        return Err(RealiseError::Home { path: home.to_owned() });
    }
    let tools = lock.platform(&ctx.platform);
    if tools.is_empty() && !lock.tools.is_empty() {
        let mut found: Vec<&str> = lock.tools.iter().map(|t| t.platform.as_str()).collect();
        found.dedup();
        let (platform, found) = (ctx.platform.to_string(), found.join(", "));
        return Err(RealiseError::Platform { platform, found });
    }
    for tool in &tools {
        if let Some(name) = tool.env.keys().find(|name| !activate::may_set(name)) {
            let (tool, name) = (tool.name.clone(), name.clone());
            return Err(RealiseError::Variable { tool, name });
        }
        check_adopted(tool)?;
    }
    let catalog = Catalog::load(&home.join("catalog.toml"))?;
    let words = catalog.words(&ctx.platform, &ctx.config.addresses);
    let plans: Vec<TreePlan<'_>> =
        tools.iter().map(|tool| TreePlan::new(ctx, &words, tool)).collect();
    let missing: Vec<&TreePlan<'_>> = plans.iter().filter(|plan| !plan.root.is_dir()).collect();
    let parts: Vec<&Part> = missing.iter().flat_map(|plan| &plan.tool.parts).collect();
    let packages = fetch(ctx, client, store, &parts)?;
    for plan in missing {
        plan.build(ctx, store, &packages)?;
    }
    let envs = ctx.home.envs();
    let activation = activation(&plans, &envs.join(&key));
    let record = Record {
        version: activate::VERSION,
        key: key.clone(),
        root: home.to_owned(),
        activation,
        trees: plans.iter().filter(|p| p.has_tree()).map(|p| p.root.clone()).collect(),
    };
    publish(ctx, &record, &plans)?;
    Ok(Realised {
        key,
        dir: envs.join(&record.key),
        activation: record.activation,
        trees: record.trees,
        cached: false,
    })
}

/// An environment that was realised before, and of which nothing has been removed.
pub fn look_up(ctx: &Context, key: &str) -> Option<Realised> {
    let envs = ctx.home.envs();
    let record = Record::read(&envs, key)?;
    let whole = record.root == ctx.home.root() && record.trees.iter().all(|tree| tree.is_dir());
    whole.then(|| Realised {
        key: key.to_owned(),
        dir: envs.join(key),
        activation: record.activation,
        trees: record.trees,
        cached: true,
    })
}

fn check_adopted(tool: &Tool) -> Result<(), RealiseError> {
    for adopted in &tool.adopted {
        let bytes = std::fs::read(&adopted.path).map_err(failed(&adopted.path))?;
        let found = adopted.hash.of_same_kind(&bytes);
        if found != adopted.hash {
            return Err(RealiseError::Adopted {
                tool: tool.name.clone(),
                path: adopted.path.clone(),
                expected: adopted.hash,
                found,
            });
        }
    }
    Ok(())
}

/// One tool's place in the farm.
pub(super) struct TreePlan<'a> {
    pub(super) tool: &'a Tool,
    pub(super) root: PathBuf,
    key: String,
    words: Words,
}

impl<'a> TreePlan<'a> {
    fn new(ctx: &Context, words: &Words, tool: &'a Tool) -> TreePlan<'a> {
        let flags = tool.fixups.elf.as_ref().map(|elf| loader_flags(words, elf));
        let flags = flags.unwrap_or_default();
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._+".contains(c) { c } else { '_' };
        let name: String = tool.name.chars().chain(['_']).chain(tool.version.chars()).collect();
        // What is in a tree depends on where it is: paths in it are absolute.
        let place = ctx.home.root().as_os_str().as_encoded_bytes();
        let mut hasher = blake3::Hasher::new_derive_key("zagi 2026 farm tree of a tool v3");
        for piece in [tool.key().as_bytes(), flags.as_bytes(), place] {
            hasher.update(&(piece.len() as u64).to_le_bytes());
            hasher.update(piece);
        }
        let name: String = name.chars().map(plain).take(60).collect();
        let key = format!("{name}-{}", &hasher.finalize().to_hex()[..16]);
        let root = ctx.home.store().join("farm/trees").join(&key);
        let text = root.display().to_string();
        let words = words.with("root", &text).with("loader-flags", &flags);
        // The flags hold the root themselves.
        let flags = words.expand(&flags.replace("{root}", &text.replace('\'', r"'\''")));
        TreePlan { tool, root, key, words: words.with("loader-flags", &flags) }
    }

    pub(super) fn has_tree(&self) -> bool {
        !self.tool.parts.is_empty()
    }

    fn build(
        &self,
        ctx: &Context,
        store: &Store,
        packages: &BTreeMap<String, TreeId>,
    ) -> Result<(), RealiseError> {
        if !self.has_tree() {
            return Ok(());
        }
        let ids: Vec<TreeId> = self
            .tool
            .parts
            .iter()
            .filter_map(|part| packages.get(&reference(part)))
            .copied()
            .collect();
        ctx.events.emit(Event::Progress {
            what: format!("{} {}", self.tool.name, self.tool.version),
            done: 0,
            total: None,
        });
        let mut problem = None;
        let built = store.farm_tree(&self.key, &mut |dest| {
            tree::build(store, &ids, &self.tool.fixups, &self.words, dest).map_err(|e| {
                let text = e.to_string();
                problem = Some(e);
                text
            })?;
            self.finish(ctx, dest);
            Ok(())
        });
        match (built, problem) {
            (_, Some(source)) => Err(RealiseError::Tree { tool: self.tool.name.clone(), source }),
            (built, None) => Ok(built.map(drop)?),
        }
    }

    /// Runs the finishing commands where the tree will be. They only make it faster to use:
    /// where they cannot run, that is said and no more.
    fn finish(&self, ctx: &Context, dest: &Path) {
        for command in &self.tool.fixups.run {
            let argv: Vec<String> = command.iter().map(|word| self.words.expand(word)).collect();
            let plan = Plan::new(Profile::Install, argv)
                .bind(dest, &self.root, true)
                .env("LANG", "C.UTF-8")
                .env("PATH", "/usr/bin:/bin");
            let problem = match confined(ctx, &plan) {
                Ok(Exit::Code(0)) => continue,
                Ok(exit) => exit.to_string(),
                Err(e) => e.to_string(),
            };
            ctx.events.emit(Event::Warning(format!(
                "{} {} will start more slowly than it could: {problem}",
                self.tool.name, self.tool.version
            )));
        }
    }
}

fn confined(ctx: &Context, plan: &Plan) -> Result<Exit, SandboxError> {
    let mut child = zagi_sandbox::spawn(plan, &ctx.program)?;
    drop(child.stdout.take());
    drop(child.stderr.take());
    child.wait()
}

/// What a compiler must say so that what it makes can run here. Nothing, where the machine's
/// own C library is at least as new as the one that is compiled against: then programs run
/// on other machines too. Else they get the loader and libraries of the compiler's tree.
fn loader_flags(words: &Words, elf: &Elf) -> String {
    let needed = elf.libc.as_deref().and_then(|libc| Version::parse(libc).ok());
    let machine = words.expand("{machine-libraries}");
    let here = |name: &str| {
        machine.split(':').map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
    };
    let own = here("libc.so.6")
        .and_then(|path| std::fs::read(path).ok())
        .and_then(|bytes| elf::highest_symbol_version(&bytes, "GLIBC_"))
        .map(|numbers| Version::from_numbers(&numbers));
    let loader = Path::new(&words.expand("{machine-loader}")).exists();
    let enough = own.zip(needed).is_some_and(|(own, needed)| own >= needed);
    if loader && enough && here("libstdc++.so.6").is_some() {
        return String::new();
    }
    let mut flags = format!("-Xlinker '--dynamic-linker={{root}}/{}'", elf.interpreter);
    for dir in &elf.libraries {
        flags.push_str(&format!(" -Xlinker '-rpath={{root}}/{dir}'"));
    }
    flags + " -Xlinker --disable-new-dtags"
}

/// Under which name a part is kept.
fn reference(part: &Part) -> String {
    format!("packages/{}/{}/{}", part.hash, part.unpack, part.strip)
}

/// Brings all parts into the store, a few at a time.
fn fetch(
    ctx: &Context,
    client: &Client,
    store: &Store,
    parts: &[&Part],
) -> Result<BTreeMap<String, TreeId>, RealiseError> {
    let mut have = BTreeMap::new();
    let mut queue = BTreeMap::new();
    for part in parts {
        let name = reference(part);
        match store.get_ref(&name)? {
            Some(id) => {
                have.insert(name, id);
            }
            None => {
                queue.insert(name, *part);
            }
        }
    }
    let queue = Mutex::new(queue);
    let done = Mutex::new((have, None));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics while holding it").pop_first();
                    let Some((name, part)) = next else { return };
                    let result = fetch_one(ctx, client, store, &name, part);
                    let mut done = done.lock().expect("nobody panics while holding it");
                    match result {
                        Ok(id) => drop(done.0.insert(name, id)),
                        Err(e) => {
                            done.1.get_or_insert(e);
                            queue.lock().expect("nobody panics while holding it").clear();
                        }
                    }
                }
            });
        }
    });
    match done.into_inner().expect("nobody panics while holding it") {
        (_, Some(error)) => Err(error),
        (have, None) => Ok(have),
    }
}

fn fetch_one(
    ctx: &Context,
    client: &Client,
    store: &Store,
    name: &str,
    part: &Part,
) -> Result<TreeId, RealiseError> {
    let what = format!("{} {}", part.name, part.version);
    let kind = match part.unpack.as_str() {
        "tar" => archive::Kind::Tar,
        "tar.gz" => archive::Kind::TarGz,
        "tar.xz" => archive::Kind::TarXz,
        "tar.zst" => archive::Kind::TarZst,
        "zip" => archive::Kind::Zip,
        "deb" => archive::Kind::Deb,
        kind => return Err(RealiseError::Kind { part: what, kind: kind.to_owned() }),
    };
    let file = download(ctx, client, part, &what)?;
    let tmp = ctx.home.tmp();
    let dir = tempfile::Builder::new().prefix("package.").tempdir_in(&tmp).map_err(failed(&tmp))?;
    let dest = dir.path().join("files");
    archive::unpack(&file, kind, part.strip, &dest)
        .map_err(|source| RealiseError::Unpack { part: what, source })?;
    let captured = store.capture(&dest)?;
    store.set_ref(name, &captured.tree)?;
    Ok(captured.tree)
}

/// From the first address that has it. A mirror that gives something else is not asked to
/// be believed; neither is the next one before it was verified.
fn download(
    ctx: &Context,
    client: &Client,
    part: &Part,
    what: &str,
) -> Result<PathBuf, RealiseError> {
    let mut result = client.download(&part.url, &part.hash, what);
    for mirror in &part.mirrors {
        match &result {
            Err(e) if e.is_unreachable() || matches!(e, HttpError::NotFound { .. }) => {
                ctx.events.emit(Event::Warning(format!("{what}: {e}; {mirror} is asked")));
                result = client.download(mirror, &part.hash, what);
            }
            _ => break,
        }
    }
    result.map_err(|source| RealiseError::Fetch { part: what.to_owned(), source })
}

fn activation(plans: &[TreePlan<'_>], dir: &Path) -> Activation {
    let dir = dir.display().to_string();
    let mut vars = BTreeMap::new();
    for plan in plans {
        let words = plan.words.with("env", &dir);
        vars.extend(plan.tool.env.iter().map(|(k, v)| (k.clone(), words.expand(v))));
    }
    let path = WORKSPACE_PATH.map(str::to_owned).to_vec();
    Activation { path, vars, project: BTreeMap::new() }
}

/// Writes `envs/<key>` beside its place and puts it there.
fn publish(ctx: &Context, record: &Record, plans: &[TreePlan<'_>]) -> Result<(), RealiseError> {
    let tmp = ctx.home.tmp();
    let building =
        tempfile::Builder::new().prefix("env.").tempdir_in(&tmp).map_err(failed(&tmp))?;
    let dir = building.path().join(&record.key);
    let bin = dir.join("bin");
    std::fs::create_dir_all(&bin).map_err(failed(&bin))?;
    bins::write(&bin, plans, &record.activation)?;
    let file = dir.join(activate::FILE);
    let text = serde_json::to_vec_pretty(record).expect("every field has a form in JSON");
    std::fs::write(&file, text).map_err(failed(&file))?;
    let place = ctx.home.envs().join(&record.key);
    loop {
        match std::fs::rename(&dir, &place) {
            Ok(()) => return Ok(()),
            // Another process was faster.
            Err(_) if look_up(ctx, &record.key).is_some() => return Ok(()),
            // Made for another place, or of trees that are gone.
            Err(_) if place.exists() => {
                let aside = building.path().join("old");
                std::fs::rename(&place, &aside).map_err(failed(&place))?;
            }
            Err(e) => return Err(failed(&place)(e)),
        }
    }
}
