//! A repository's `flake.nix`: its tools, as the machine's own Nix evaluates and builds them.
//!
//! # What is taken
//!
//! What `nix develop` would give: `devShells.<system>.default`, or `devShell`, or what
//! `packages.<system>.default` is built with. `nix print-dev-env` says which directories are on
//! `PATH` and which variables are set; the store paths among them, and all that those refer to,
//! become one tool of the lock, `flake`. So who has the lock evaluates nothing: with Nix these
//! paths are realised ([`super::native`]), without they are fetched from a cache and shown at
//! `/nix/store` ([`super::view`]).
//!
//! # How it goes with what else is found
//!
//! A flake is a specification that somebody has written and tests with, so it is used and not
//! guessed around: a tool of the catalogue whose program it brings is not decided besides, and
//! system packages that only look needed are left out (they would be of another C library). What
//! `env.toml` names is decided by `env.toml`, and stands in front. What the flake does not bring
//! is found as without it. Where there is no Nix, or the flake cannot be evaluated, that is
//! said, and the rest is used.
//!
//! # What it may not do
//!
//! A flake is a stranger's program for Nix's evaluator. It runs in pure mode (no file outside of
//! the store and no variable can be read), on a copy of the commit, with what its own
//! `nixConfig` asks for refused, no native code, and its lock as it stands: none is written, and
//! an input that is not locked is an error before anything is evaluated with it. Inputs that
//! are files of this machine are refused here, since Nix would read them. What it has built is
//! built in Nix's sandbox or not at all, whatever `nix.conf` says (a daemon decides that
//! itself for users that it does not trust). `shellHook` is never run.
//!
//! Of the variables only those are set that any stranger's lock may set ([`activate::may_set`]),
//! none of Nix's own builder, none that configures Nix, and all of them for processes of the
//! environment alone. Its programs come before the machine's own there; in the user's shell after
//! them, but for those that the catalogue knows ([`super::bins`]).
//!
//! What is left: Nix copies an input that `flake.nix` names and no lock does into its store before
//! it refuses it, readable to all users of this machine.
//!
//! Source: nix3-print-dev-env(1), nix.conf(5), NixOS/nix#5168 (inputs that are paths).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use serde::Deserialize;

use super::activate;
use super::catalog::{Catalog, CatalogError};
use super::detect::Flake;
use super::lock::{FLAKE, Fixups, Nar, Part, Tool};
use super::native::{self, Nix};
use super::stranger;
use crate::context::Context;
use crate::event::Event;
use crate::registry::nix::narinfo::Compression;
use crate::registry::nix::{STORE, StorePath};

/// Settings that hold whatever the user's own say.
const SETTINGS: [(&str, &str); 6] = [
    ("accept-flake-config", "false"),
    ("allow-unsafe-native-code-during-evaluation", "false"),
    ("pure-eval", "true"),
    ("sandbox", "true"),
    ("sandbox-fallback", "false"),
    ("use-registries", "false"),
];

/// Variables of the place where Nix builds, and of any process.
const OF_THE_BUILDER: [&str; 28] = [
    "HOME",
    "IFS",
    "NIX_BUILD_CORES",
    "NIX_BUILD_TOP",
    "NIX_ENFORCE_PURITY",
    "NIX_LOG_FD",
    "NIX_REMOTE",
    "NIX_SSL_CERT_FILE",
    "OLDPWD",
    "PATH",
    "PPID",
    "PS4",
    "PWD",
    "SHELL",
    "SHELLOPTS",
    "SHLVL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "SYSTEM_CERTIFICATE_PATH",
    "TEMP",
    "TEMPDIR",
    "TERM",
    "TMP",
    "TMPDIR",
    "TZ",
    "UID",
    "USER",
    "_",
];

/// Where a repository's files are.
pub enum Tree<'a> {
    /// As they are now; of a git repository those that git knows.
    Directory(&'a Path),
    /// Those of a commit: who lays them out in a directory, without `.git`, and the commit's
    /// date, in seconds since the epoch.
    Commit(&'a dyn Fn(&Path) -> io::Result<()>, i64),
}

/// Why a flake gives no tools.
#[derive(Debug, thiserror::Error)]
pub enum FlakeError {
    /// Nobody evaluates it.
    #[error("this machine has no Nix to evaluate it")]
    NoNix,
    /// It names a file of this machine.
    #[error("its input `{0}` is a file of the machine, outside of the repository")]
    Outside(String),
    /// Nix refuses it.
    #[error("Nix says: {0}")]
    Refused(String),
    /// Nix says what is not understood.
    #[error("what `nix print-dev-env` says cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Its files cannot be laid out.
    #[error("its files cannot be laid out in `{path}`: {source}")]
    Files {
        /// Where.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// What `nix print-dev-env --json` says.
#[derive(Deserialize)]
struct Shell {
    variables: BTreeMap<String, Variable>,
}

#[derive(Deserialize)]
struct Variable {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    value: serde_json::Value,
}

impl Shell {
    /// The variables of its processes.
    fn exported(&self) -> impl Iterator<Item = (&str, &str)> {
        let exported = self.variables.iter().filter(|(_, variable)| variable.kind == "exported");
        exported.filter_map(|(name, variable)| Some((name.as_str(), variable.value.as_str()?)))
    }

    /// The directories of programs that are in the store, each once.
    fn path(&self) -> Vec<PathBuf> {
        let path = self.variables.get("PATH").and_then(|path| path.value.as_str());
        let mut found: Vec<PathBuf> = Vec::new();
        for dir in path.unwrap_or_default().split(':').map(Path::new) {
            let plain = dir.strip_prefix(STORE).is_ok_and(|rest| {
                rest.to_str().is_some_and(|rest| !rest.split('/').any(|part| part == ".."))
            });
            if plain && dir.is_dir() && !found.iter().any(|known| known == dir) {
                found.push(dir.to_owned());
            }
        }
        found
    }
}

/// Whether this machine can evaluate a flake.
pub fn is_possible(ctx: &Context) -> bool {
    Nix::of(ctx).is_some_and(|nix| nix.evaluates())
}

/// The entry of the lock that is of this very flake.
pub fn locked<'a>(tools: &[&'a Tool], flake: &Flake) -> Option<&'a Tool> {
    tools.iter().copied().find(|tool| tool.is_flake() && tool.version == flake.digest)
}

/// Has Nix evaluate the flake and build its tools.
pub fn evaluate(ctx: &Context, flake: &Flake, tree: &Tree<'_>) -> Result<Tool, FlakeError> {
    let nix = Nix::of(ctx).filter(Nix::evaluates).ok_or(FlakeError::NoNix)?;
    if let Some(input) = &flake.outside {
        return Err(FlakeError::Outside(input.clone()));
    }
    ctx.events.emit(Event::Progress {
        what: "flake.nix, which Nix evaluates and builds".into(),
        done: 0,
        total: None,
    });
    let catalog = Catalog::load(&ctx.home.root().join("catalog.toml"))?;
    let words = catalog.words(&ctx.platform, &ctx.config.addresses);
    let copied = laid_out(ctx, tree)?;
    let mut arguments: Vec<OsString> =
        ["print-dev-env", "--json", "--no-update-lock-file"].map(Into::into).into();
    arguments.extend(["--extra-experimental-features", "nix-command flakes"].map(Into::into));
    for (name, value) in SETTINGS {
        arguments.extend(["--option", name, value].map(Into::into));
    }
    arguments.extend(native::options(&catalog.nix_caches(&words)));
    if ctx.offline {
        arguments.push("--offline".into());
    }
    arguments.push(address(tree, copied.as_ref().map(tempfile::TempDir::path)));
    let said = nix.evaluate(&arguments).map_err(FlakeError::Refused)?;
    tool(ctx, &nix, &catalog, flake, &serde_json::from_str(&said)?)
}

/// The copy of a commit's files, all of them of its date: a flake may ask when it was changed.
fn laid_out(ctx: &Context, tree: &Tree<'_>) -> Result<Option<tempfile::TempDir>, FlakeError> {
    let Tree::Commit(lay_out, date) = tree else { return Ok(None) };
    let tmp = ctx.home.tmp();
    let failed = |source| FlakeError::Files { path: tmp.clone(), source };
    let dir = tempfile::Builder::new().prefix("flake.").tempdir_in(&tmp).map_err(failed)?;
    lay_out(dir.path()).and_then(|()| date_all(dir.path(), *date)).map_err(failed)?;
    Ok(Some(dir))
}

fn date_all(path: &Path, date: i64) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            date_all(&entry?.path(), date)?;
        }
    }
    let time = TimeSpec::new(date, 0);
    Ok(utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)?)
}

/// The address of the flake, as Nix has it: a copy is read whole, a user's directory as git
/// sees it.
fn address(tree: &Tree<'_>, copy: Option<&Path>) -> OsString {
    let (scheme, dir) = match (tree, copy) {
        (_, Some(copy)) => ("path:", copy),
        (Tree::Directory(dir), None) if dir.join(".git").exists() => ("git+file://", *dir),
        (Tree::Directory(dir), None) => ("path:", *dir),
        (Tree::Commit(..), None) => ("path:", Path::new("/nonexistent")),
    };
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mut out = scheme.as_bytes().to_vec();
    for byte in dir.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                out.push(*byte);
            }
            byte => out.extend(format!("%{byte:02X}").bytes()),
        }
    }
    OsString::from_vec(out)
}

/// The entry of the lock for what Nix has said.
fn tool(
    ctx: &Context,
    nix: &Nix<'_>,
    catalog: &Catalog,
    flake: &Flake,
    shell: &Shell,
) -> Result<Tool, FlakeError> {
    let env = variables(ctx, shell);
    let path = shell.path();
    let mut roots: BTreeSet<PathBuf> = path.iter().filter_map(|dir| store_path(dir)).collect();
    // What a variable names and nobody has built is an output of the shell itself.
    roots.extend(env.values().flat_map(|value| named(value)).filter(|path| path.exists()));
    let roots: Vec<PathBuf> = roots.into_iter().collect();
    let closure = nix.closure(&roots).map_err(FlakeError::Refused)?;
    let part = |(path, nar): (StorePath, Nar)| Part {
        name: path.base().to_owned(),
        version: path.version().unwrap_or_default().to_owned(),
        url: String::new(),
        mirrors: Vec::new(),
        hash: nar.hash,
        unpack: Compression::None.kind().to_owned(),
        strip: 0,
        nar: Some(nar),
    };
    let relative = |dir: &PathBuf| Some(dir.strip_prefix("/").ok()?.to_str()?.to_owned());
    Ok(Tool {
        name: FLAKE.into(),
        version: flake.digest.clone(),
        platform: ctx.platform.to_string(),
        provider: "nix".into(),
        channel: None,
        bins: BTreeMap::new(),
        asked: Vec::new(),
        programs: BTreeMap::new(),
        path: path.iter().filter_map(relative).collect(),
        answers: stranger::brought(catalog, &ctx.platform, &programs(&path)),
        env,
        fixups: Fixups::default(),
        adopted: Vec::new(),
        parts: closure.into_iter().map(part).collect(),
    })
}

/// What of its variables is set. Environment variables have no small letters but for few, and
/// those that have are what a build is told.
fn variables(ctx: &Context, shell: &Shell) -> BTreeMap<String, String> {
    let of_a_process = |name: &str| {
        !name.bytes().any(|b| b.is_ascii_lowercase()) && !OF_THE_BUILDER.contains(&name)
    };
    let asked = shell.exported().filter(|(name, _)| of_a_process(name));
    let (fine, never): (Vec<_>, Vec<_>) = asked.partition(|(name, _)| activate::may_set(name));
    if !never.is_empty() {
        let names: Vec<&str> = never.into_iter().map(|(name, _)| name).collect();
        ctx.events.emit(Event::Warning(format!(
            "`flake.nix` sets {}, which no repository may: it is left out",
            names.join(", ")
        )));
    }
    fine.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The path of the store that `path` is in.
fn store_path(path: &Path) -> Option<PathBuf> {
    let base = path.strip_prefix(STORE).ok()?.components().next()?;
    StorePath::parse(base.as_os_str().to_str()?).map(|path| Path::new(STORE).join(path.base()))
}

/// The paths of the store that a text names.
fn named(text: &str) -> impl Iterator<Item = PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._?=".contains(c);
    let rest = text.split(&format!("{STORE}/")).skip(1).map(str::to_owned).collect::<Vec<_>>();
    rest.into_iter().filter_map(move |rest| {
        let end = rest.find(|c| !plain(c)).unwrap_or(rest.len());
        StorePath::parse(&rest[..end]).map(|path| Path::new(STORE).join(path.base()))
    })
}

/// The programs in these directories, the first of each name.
pub(super) fn programs(path: &[PathBuf]) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in path.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten())
    {
        let (name, file) = (entry.file_name(), entry.path());
        let hidden = name.as_bytes().first() == Some(&b'.');
        if let (Some(name), false, true) = (name.to_str(), hidden, is_program(&file)) {
            found.entry(name.to_owned()).or_insert(file);
        }
    }
    found
}

/// A link of a store leads to somewhere only where the store is seen.
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.symlink_metadata().is_ok_and(|found| {
        found.is_symlink() || (found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/xvill25law0ab8qh3nns3yni32q2mmcq-tool-1.0";

    #[test]
    fn paths_of_the_store_in_a_text() {
        let found =
            |text: &str| named(text).map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(found(&format!("-I{A}/include -L{A}/lib")), [A, A]);
        assert_eq!(found(&format!("x:{A}:/nix/store/short-x")), [A]);
        assert!(found("/nix/store/../etc").is_empty());
        assert_eq!(store_path(&Path::new(A).join("bin")), Some(A.into()));
        assert_eq!(store_path(Path::new("/usr/bin")), None);
    }

    #[test]
    fn an_address_says_the_same_directory_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("it's 100% ?x#y");
        std::fs::create_dir(&place).unwrap();
        let text = address(&Tree::Directory(&place), None).into_string().unwrap();
        assert!(text.starts_with("path:/"), "{text}");
        assert!(text.ends_with("/it%27s%20100%25%20%3Fx%23y"), "{text}");
        std::fs::create_dir(place.join(".git")).unwrap();
        let text = address(&Tree::Directory(&place), None).into_string().unwrap();
        assert!(text.starts_with("git+file:///"), "{text}");
    }

    #[test]
    fn the_first_program_of_a_name_counts() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let put = |dir: &Path, name: &str, mode: u32| {
            std::fs::create_dir_all(dir).unwrap();
            std::fs::write(dir.join(name), "").unwrap();
            std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
        };
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        put(&one, "a", 0o755);
        put(&one, "text", 0o644);
        put(&one, ".a-wrapped", 0o755);
        put(&two, "a", 0o755);
        put(&two, "b", 0o755);
        std::os::unix::fs::symlink("/nowhere", two.join("c")).unwrap();
        let found = programs(&[one.clone(), two.clone(), dir.path().join("none")]);
        let expected = [("a", one.join("a")), ("b", two.join("b")), ("c", two.join("c"))];
        assert_eq!(found, expected.map(|(name, path)| (name.to_owned(), path)).into());
    }
}
