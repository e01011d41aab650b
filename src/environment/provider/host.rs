//! Programs of this machine, adopted: nothing is fetched, their hash is recorded, and the
//! lock holds for this machine only.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Found, Offer, ProviderError, World};
use crate::environment::catalog::Source;
use crate::environment::lock::Adopted;
use crate::environment::version::Version;
use crate::registry::digest::Digest;

pub(super) fn offers(world: &World<'_>, source: &Source) -> Result<Vec<Offer>, ProviderError> {
    let Some(program) = on_path(world, &source.package) else { return Ok(Vec::new()) };
    let Some(said) = ask(world, &program, &source.ask) else { return Ok(Vec::new()) };
    let words = said.split(|c: char| c.is_whitespace() || "(),".contains(c));
    let Some(version) =
        words.filter(|w| w.contains('.')).find_map(|word| Version::parse(word).ok())
    else {
        return Ok(Vec::new());
    };
    let real = match source.locate.is_empty() {
        true => None,
        false => ask(world, &program, &source.locate).map(|d| PathBuf::from(d.trim()).join("bin")),
    };
    let mut programs = Vec::new();
    for name in source.bins.keys() {
        let here = real.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file());
        let Some(path) = here.or_else(|| on_path(world, name)) else { continue };
        let bytes = std::fs::read(&path)
            .map_err(|source| ProviderError::Read { path: path.clone(), source })?;
        programs.push(Adopted { name: name.clone(), path, hash: Digest::sha256(&bytes) });
    }
    Ok(vec![Offer { version, published: None, found: Found::Adopted(programs) }])
}

/// The first such program on the user's `PATH`; those of other workspaces do not count.
fn on_path(world: &World<'_>, name: &str) -> Option<PathBuf> {
    let path = world.ctx.var("PATH")?;
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute() && !dir.ends_with(Path::new(".zagi/env/bin")))
        .map(|dir| dir.join(name))
        .find(|file| is_program(file))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn ask(world: &World<'_>, program: &Path, args: &[String]) -> Option<String> {
    let output = Command::new(program)
        .args(args.iter().map(OsStr::new))
        .env_clear()
        .envs(world.ctx.vars.iter())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        // Not the repository's directory: choosers of versions read files there.
        .current_dir("/")
        .output()
        .ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
