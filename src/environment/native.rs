//! On a machine that has Nix, tools that come from a Nix cache are brought by Nix itself:
//! into its own store, where every program on the machine finds them, so that none needs a
//! namespace, and what the user's Nix has already is not fetched again.
//!
//! Which paths those are is in the lock, as without Nix, and what Nix has there must hash to
//! what the lock says. So one lock means the same bytes on both kinds of machine. Nothing is
//! evaluated or built: `nix-store --realise` of a path that has no derivation can only
//! substitute. Each path is a root of Nix's collector as long as its environment is there.
//!
//! Where Nix cannot (it trusts other caches only, say), that is said, and zagi does what it
//! does without.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lock::Tool;
use crate::context::Context;
use crate::event::Event;
use crate::registry::digest::Digest;
use crate::registry::nix::STORE;
use crate::registry::nix::narinfo;

/// The program that is asked, if the user's PATH has it and the store is a real one.
const PROGRAM: &str = "nix-store";
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
        let list = |words: Vec<&str>| OsString::from(words.join(" "));
        let addresses = list(caches.iter().map(|(address, _)| address.as_str()).collect());
        let keys = list(caches.iter().flat_map(|(_, keys)| keys).map(String::as_str).collect());
        let mut arguments: Vec<OsString> =
            ["--realise", "--option", "extra-substituters"].map(Into::into).into();
        arguments.extend([addresses, "--option".into(), "extra-trusted-public-keys".into(), keys]);
        if self.ctx.offline {
            arguments.extend(["--option", "substitute", "false"].map(Into::into));
        }
        arguments.extend(paths(tool).map(|(path, _)| path.into()));
        self.ask(&arguments)?;
        let mut question: Vec<OsString> = vec!["--query".into(), "--hash".into()];
        question.extend(paths(tool).map(|(path, _)| path.into()));
        let said = self.ask(&question)?;
        let mut hashes = said.lines();
        for (path, expected) in paths(tool) {
            let found = hashes.next().and_then(narinfo::sha256);
            if found != Some(expected) {
                return Err(format!("its {} is not the one of the lock", path.display()));
            }
        }
        Ok(())
    }

    /// Keeps what an environment needs, as long as its directory is there.
    pub(super) fn keep(&self, env: &Path, tools: &[&Tool]) {
        // Its own path keeps all that it refers to.
        for (path, _) in tools.iter().filter_map(|tool| paths(tool).next()) {
            let root = env.join(ROOTS).join(path.file_name().unwrap_or_default());
            let arguments = [
                "--realise".into(),
                path.into(),
                "--add-root".into(),
                root.into(),
                "--indirect".into(),
            ];
            if let Err(reason) = self.ask(&arguments) {
                let text = format!("Nix may collect what an environment needs: {reason}");
                self.ctx.events.emit(Event::Warning(text));
            }
        }
    }

    fn ask(&self, arguments: &[OsString]) -> Result<String, String> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(self.ctx.vars.iter())
            .stdin(Stdio::null())
            // Not the repository's: nothing of it has a say.
            .current_dir("/")
            .output()
            .map_err(|e| format!("{}: {e}", self.program.display()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said.trim().lines().last().unwrap_or("it failed").to_owned())
            }
        }
    }
}

/// The store paths of a tool, its own first.
fn paths(tool: &Tool) -> impl Iterator<Item = (PathBuf, Digest)> {
    tool.parts.iter().filter_map(|part| Some((Path::new(STORE).join(&part.name), part.nar?.hash)))
}
