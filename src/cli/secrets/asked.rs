//! What the project's `.zagi/env.toml` asks for. It is a stranger's word, or an agent's: it is shown,
//! and taken only where somebody says yes to it.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::error::CommandError;
use crate::environment::files::{Directory, Files};
use crate::environment::spec::{self, Spec};
use crate::secrets::policy::{Policy, Release};
use crate::secrets::vault::Vault;
use crate::workspace::WorkspaceError;

/// The secrets that the project at `root` asks for, and how.
pub(in crate::cli) fn asked(root: &Path) -> Result<BTreeMap<String, Policy>, CommandError> {
    let Some(bytes) = Directory::new(root).read(spec::PATH) else { return Ok(BTreeMap::new()) };
    let spec = Spec::parse(spec::PATH, &String::from_utf8_lossy(&bytes));
    let wishes = spec.map_err(WorkspaceError::from)?.secrets;
    let policy = |(name, wish): (String, spec::Wish)| match Policy::of(&wish) {
        Ok(policy) => Ok((name, policy)),
        Err(e) => Err(CommandError::failed(format!("{}: secrets.{name}: {e}", spec::PATH))),
    };
    wishes.into_iter().map(policy).collect()
}

/// What it asks for and no app gets: a line each, with the command that sets it.
pub(in crate::cli) fn missing(
    root: &Path,
    vault: Option<&Vault>,
) -> Result<Vec<String>, CommandError> {
    let set = |name: &String| {
        let policy = vault.and_then(|vault| vault.document.policies.get(name));
        policy.is_some_and(|policy| policy.release() != Release::None)
    };
    let asked = asked(root)?.into_iter().filter(|(name, _)| !set(name));
    let line = |(name, policy): (String, Policy)| {
        let options = options(&policy);
        let file = spec::PATH;
        format!("{name} is asked for in {file} and not set: `zagi secrets set {name}{options}`")
    };
    Ok(asked.map(line).collect())
}

/// A policy as options of `zagi secrets set`, each after a space.
pub(super) fn options(policy: &Policy) -> String {
    let mut out = String::new();
    for (field, values) in policy.fields() {
        for value in values {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
            match (field, value.chars().all(plain)) {
                ("raw", _) => out.push_str(" --raw"),
                (_, true) => out.push_str(&format!(" --{field} {value}")),
                (_, false) => {
                    out.push_str(&format!(" --{field} '{}'", value.replace('\'', r"'\''")));
                }
            }
        }
    }
    out
}
