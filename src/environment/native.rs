//! On a machine that has Nix, tools that come from a Nix cache are brought by Nix itself:
//! into its own store, where every program on the machine finds them, so that none needs a
//! namespace, and what the user's Nix has already is not fetched again.
//!
//! Which paths those are is in the lock, as without Nix, and what Nix has there must hash to
//! what the lock says. So one lock means the same bytes on both kinds of machine. Nothing is
//! evaluated or built here: `nix-store --realise` of a path that has no derivation can only
//! substitute. No derivation is generated for an environment either: it would hold the same
//! paths, and the links in `envs/<key>/bin` are what it would build. (Evaluating what somebody
//! else has written is [`super::flake`]'s.)
//!
//! Each path is a root of Nix's collector as long as its environment is there: an indirect one,
//! below `envs/<key>/nix`, so that it goes with the environment, whoever removes that.
//!
//! Where Nix cannot (it trusts other caches only, say), that is said, and zagi does what it
//! does without.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lock::{Nar, Tool};
use crate::context::Context;
use crate::event::Event;
use crate::registry::digest::Digest;
use crate::registry::nix::narinfo;
use crate::registry::nix::{STORE, StorePath};

/// The program that is asked, if the user's PATH has it and the store is a real one.
const PROGRAM: &str = "nix-store";
/// The program that evaluates, beside the other.
const EVALUATOR: &str = "nix";
/// Where an environment's roots are, in its directory.
const ROOTS: &str = "nix";

/// Nix, as this machine has it.
pub(super) struct Nix<'a> {
    ctx: &'a Context,
    program: PathBuf,
}

impl<'a> Nix<'a> {
    /// `None` where there is none, or none that uses [`STORE`].
    pub(super) fn of(ctx: &'a Context) -> Option<Nix<'a>> {
        let path = ctx.var("PATH")?;
        let mut dirs = std::env::split_paths(path).filter(|dir| dir.is_absolute());
        let program = dirs.find_map(|dir| Some(dir.join(PROGRAM)).filter(|file| file.is_file()))?;
        Path::new(STORE).is_dir().then_some(Nix { ctx, program })
    }

    /// Has Nix bring what comes from Nix, if anything does. Says whether all of it is there
    /// now, and is what the lock says: programs of an environment see one store.
    pub(super) fn brings(&self, tools: &[&Tool], caches: &[(String, Vec<String>)]) -> bool {
        let mut of_nix = tools.iter().filter(|tool| tool.is_of_nix()).peekable();
        let some = of_nix.peek().is_some();
        for tool in of_nix {
            if let Err(reason) = self.bring(tool, caches) {
                self.ctx.events.emit(Event::Warning(format!(
                    "this machine's Nix does not bring {} {} ({reason}): zagi fetches it itself, \
                     and its programs are shown a store of zagi's own",
                    tool.name, tool.version
                )));
                return false;
            }
        }
        some
    }

    fn bring(&self, tool: &Tool, caches: &[(String, Vec<String>)]) -> Result<(), String> {
        let mut arguments: Vec<OsString> = vec!["--realise".into()];
        arguments.extend(options(caches));
        if self.ctx.offline {
            arguments.extend(["--option", "substitute", "false"].map(Into::into));
        }
        arguments.extend(paths(tool).map(|(path, _)| path.into()));
        self.ask(&arguments)?;
        let all: Vec<PathBuf> = paths(tool).map(|(path, _)| path).collect();
        for ((path, expected), found) in paths(tool).zip(self.query("--hash", &all)?) {
            if narinfo::sha256(&found) != Some(expected) {
                return Err(format!("its {} is not the one of the lock", path.display()));
            }
        }
        Ok(())
    }

    /// These paths and all that they refer to, each with what its archive is.
    pub(super) fn closure(&self, roots: &[PathBuf]) -> Result<Vec<(StorePath, Nar)>, String> {
        if roots.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments: Vec<OsString> = ["--query", "--requisites"].map(Into::into).into();
        arguments.extend(roots.iter().map(Into::into));
        let mut all: Vec<PathBuf> = self.ask(&arguments)?.lines().map(PathBuf::from).collect();
        all.sort();
        let (hashes, sizes) = (self.query("--hash", &all)?, self.query("--size", &all)?);
        let one = |((path, hash), size): ((PathBuf, String), String)| {
            let unreadable = || format!("what it says of {} cannot be read", path.display());
            let base = path.file_name().and_then(|name| name.to_str()).and_then(StorePath::parse);
            let (hash, size) = (narinfo::sha256(&hash), size.parse().ok());
            match (base, hash, size) {
                (Some(base), Some(hash), Some(size)) => Ok((base, Nar { hash, size })),
                _ => Err(unreadable()),
            }
        };
        all.into_iter().zip(hashes).zip(sizes).map(one).collect()
    }

    /// One line about each of `paths`.
    fn query(&self, what: &str, paths: &[PathBuf]) -> Result<Vec<String>, String> {
        let mut arguments: Vec<OsString> = vec!["--query".into(), what.into()];
        arguments.extend(paths.iter().map(Into::into));
        let said: Vec<String> = self.ask(&arguments)?.lines().map(str::to_owned).collect();
        match said.len() == paths.len() {
            true => Ok(said),
            false => Err(format!("it says nothing of some path that was asked about ({what})")),
        }
    }

    /// Keeps what an environment needs, as long as its directory is there.
    pub(super) fn keep(&self, env: &Path, tools: &[&Tool]) {
        // Of a tool its own path keeps all that it refers to; a flake's are many.
        let kept = |tool: &&Tool| if tool.is_flake() { usize::MAX } else { 1 };
        let all = tools.iter().flat_map(|tool| paths(tool).take(kept(tool)));
        let root = env.join(ROOTS).join("root");
        let mut arguments: Vec<OsString> =
            vec!["--realise".into(), "--add-root".into(), root.into(), "--indirect".into()];
        arguments.extend(all.map(|(path, _)| path.into()));
        if let Err(reason) = self.ask(&arguments) {
            let text = format!("Nix may collect what an environment needs: {reason}");
            self.ctx.events.emit(Event::Warning(text));
        }
    }

    /// Whether it can evaluate.
    pub(super) fn evaluates(&self) -> bool {
        self.program.with_file_name(EVALUATOR).is_file()
    }

    /// What `nix` itself says.
    pub(super) fn evaluate(&self, arguments: &[OsString]) -> Result<String, String> {
        self.run(&self.program.with_file_name(EVALUATOR), arguments)
    }

    fn ask(&self, arguments: &[OsString]) -> Result<String, String> {
        self.run(&self.program, arguments)
    }

    fn run(&self, program: &Path, arguments: &[OsString]) -> Result<String, String> {
        let output = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(self.ctx.vars.iter())
            .stdin(Stdio::null())
            // Not the repository's: nothing of it has a say.
            .current_dir("/")
            .output()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(reason(&String::from_utf8_lossy(&output.stderr))),
        }
    }
}

/// Has Nix ask these caches besides those that it knows, as far as it trusts its user.
pub(super) fn options(caches: &[(String, Vec<String>)]) -> Vec<OsString> {
    let addresses: Vec<&str> = caches.iter().map(|(address, _)| address.as_str()).collect();
    let keys: Vec<&str> = caches.iter().flat_map(|(_, keys)| keys).map(String::as_str).collect();
    let (addresses, keys) = (addresses.join(" "), keys.join(" "));
    ["--option", "extra-substituters", &addresses, "--option", "extra-trusted-public-keys", &keys]
        .map(Into::into)
        .into()
}

/// What Nix ends with: its last error, and the place in a file that it names after it. Lines of
/// that file may follow, which say nothing by themselves. Where the last only says that something
/// else was not built, the one before says what and why; what its builder wrote last goes with it.
fn reason(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let errors = |until: usize| lines[..until].iter().rposition(|line| line.starts_with("error:"));
    let Some(last) = errors(lines.len()) else {
        return lines.last().map_or("it failed", |line| line).to_owned();
    };
    let text = |at: usize| match lines[at].strip_prefix("error:").map(str::trim) {
        // The text begins on the line below.
        Some("") => lines.get(at + 1).copied().unwrap_or("it failed"),
        error => error.unwrap_or_default(),
    };
    let cause = match text(last).ends_with("failed to build") {
        true => errors(last).unwrap_or(last),
        false => last,
    };
    let (error, after) = (text(cause), &lines[cause + 1..]);
    if let Some(place) = after.iter().find(|line| line.starts_with("at /")) {
        return format!("{error} {}", place.trim_end_matches(':'));
    }
    let wrote: Vec<&str> = after.iter().filter_map(|line| line.strip_prefix("> ")).collect();
    match wrote.last_chunk::<3>().map_or(wrote.as_slice(), |last| last) {
        [] => error.to_owned(),
        wrote => {
            format!("{} (it wrote: {})", error.trim_end_matches([';', ':']), wrote.join(" / "))
        }
    }
}

/// The store paths of a tool, its own first.
fn paths(tool: &Tool) -> impl Iterator<Item = (PathBuf, Digest)> {
    tool.parts.iter().filter_map(|part| Some((Path::new(STORE).join(&part.name), part.nar?.hash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_counts_and_where_it_is() {
        for (said, expected) in [
            ("error: path '/nix/store/x' is not valid\n", "path '/nix/store/x' is not valid"),
            (
                "warning: x\nerror: undefined variable 'y'\n\n       at /nix/store/s/flake.nix:3:5:\n\n            2| a\n",
                "undefined variable 'y' at /nix/store/s/flake.nix:3:5",
            ),
            (
                "error:\n       … while calling\n         at /nix/store/a:1:1:\n\n       error: boom\n",
                "boom",
            ),
            ("error:\n       builder failed\n", "builder failed"),
            (
                "error: builder for '/nix/store/a.drv' failed with exit code 1;\n       last 2 log \
                 lines:\n       > one\n       > two\n       For full logs, run 'nix log a'.\n\
                 error: 1 dependencies of derivation '/nix/store/b.drv' failed to build\n",
                "builder for '/nix/store/a.drv' failed with exit code 1 (it wrote: one / two)",
            ),
            ("error: 1 dependencies of x failed to build\n", "1 dependencies of x failed to build"),
            ("out of order\n", "out of order"),
            ("", "it failed"),
        ] {
            assert_eq!(reason(said), expected);
        }
    }
}
