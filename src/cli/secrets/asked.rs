//! What the project's `.zagi/env.toml` asks for. It is a stranger's word, or an agent's: it is shown,
//! and taken only where somebody says yes to it.

use std::collections::BTreeMap;

use super::session::Session;
use crate::environment::files::{Directory, Files};
use crate::environment::spec::{self, Spec};
use crate::secrets::policy::{Policy, Release};
use crate::secrets::vault::Vault;

/// The secrets that the project asks for, and how. What cannot be is said, and no reason to stop: it is
/// not the user's word.
pub(super) fn asked(session: &Session<'_>) -> BTreeMap<String, Policy> {
    let Some(bytes) = Directory::new(&session.root).read(spec::PATH) else {
        return BTreeMap::new();
    };
    let unheard = |why: &dyn std::fmt::Display| {
        session.say(&format!("warning: what the project asks for is not heeded: {why}"));
    };
    let spec = match Spec::parse(spec::PATH, &String::from_utf8_lossy(&bytes)) {
        Ok(spec) => spec,
        Err(e) => {
            unheard(&e);
            return BTreeMap::new();
        }
    };
    let mut wishes = BTreeMap::new();
    for (name, wish) in spec.secrets {
        match Policy::of(&wish) {
            Ok(policy) => {
                wishes.insert(name, policy);
            }
            Err(e) => unheard(&format!("{}: secrets.{name}: {e}", spec::PATH)),
        }
    }
    wishes
}

/// Says what it asks for and no app gets: a line each, with the command that sets it.
pub(in crate::cli) fn say_missing(session: &Session<'_>, vault: Option<&Vault>) {
    let set = |name: &String| {
        let policy = vault.and_then(|vault| vault.document.policies.get(name));
        policy.is_some_and(|policy| policy.release() != Release::None)
    };
    for (name, policy) in asked(session).into_iter().filter(|(name, _)| !set(name)) {
        let (file, options) = (spec::PATH, options(&policy));
        session.say(&format!(
            "{name} is asked for in {file} and not set: `zagi secrets set {name}{options}`"
        ));
    }
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
