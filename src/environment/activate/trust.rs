//! Which directories may set variables in the user's own shell.
//!
//! What a repository's `env.toml` sets (`[env]`) is for its own processes. The hook puts it into
//! the user's shell only after `zagi trust`, and only what was looked at then:
//! `$ZAGI_HOME/trust/<hash of the path>.json`, version 1,
//!
//! ```json
//! {"version": 1, "path": "/home/u/web", "of": "<hash of .zagi/env.toml>",
//!  "vars": {"LOG_LEVEL": "debug"}}
//! ```
//!
//! has the values themselves, so the hook reads no configuration of a stranger's. When the
//! directory's `env.toml` is another, none of them is set until it is trusted again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::may_set;
use crate::environment::files::LARGEST;
use crate::environment::spec;
use crate::ordinary;

/// The version of the format above.
const VERSION: u32 = 1;

/// What the user trusts a directory with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    version: u32,
    /// The directory.
    pub path: PathBuf,
    of: String,
    /// The variables; texts may hold `{workspace}`.
    pub vars: BTreeMap<String, String>,
}

impl Trust {
    /// Trusts `path` with those of `vars` that a repository may set at all, and remembers it in
    /// `home`, `$ZAGI_HOME`. Answers what is trusted, and the names that never are: what changes
    /// how loaders, interpreters and shells work.
    pub fn give(
        home: &Path,
        path: &Path,
        vars: &BTreeMap<String, String>,
    ) -> io::Result<(Trust, Vec<String>)> {
        let (fine, never): (Vec<_>, Vec<_>) = vars.iter().partition(|(name, _)| may_set(name));
        let trust = Trust {
            version: VERSION,
            path: path.to_owned(),
            of: hash(path),
            vars: fine.into_iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        };
        let file = file(home, path);
        let dir = file.parent().unwrap_or(home);
        std::fs::create_dir_all(dir)?;
        let text = serde_json::to_vec_pretty(&trust).expect("every field has a form in JSON");
        let mut tmp = tempfile::NamedTempFile::new_in(dir)?;
        io::Write::write_all(&mut tmp, &text)?;
        tmp.persist(&file).map_err(|e| e.error)?;
        Ok((trust, never.into_iter().map(|(name, _)| name.clone()).collect()))
    }

    /// Takes it back; whether there was any.
    pub fn take(home: &Path, path: &Path) -> io::Result<bool> {
        match std::fs::remove_file(file(home, path)) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What `path` is trusted with; with what it was until it changed where `Err`.
    pub fn of(home: &Path, path: &Path) -> Option<Result<Trust, Trust>> {
        let trust: Trust = serde_json::from_slice(&std::fs::read(file(home, path)).ok()?).ok()?;
        let same = trust.version == VERSION && trust.path == path && trust.of == hash(path);
        Some(if same { Ok(trust) } else { Err(trust) })
    }

    /// Names this trust among others of the same directory.
    pub fn mark(&self) -> &str {
        self.of.get(..16).unwrap_or(&self.of)
    }
}

fn file(home: &Path, path: &Path) -> PathBuf {
    let hash = blake3::hash(path.as_os_str().as_encoded_bytes()).to_hex();
    home.join("trust").join(format!("{}.json", &hash[..32]))
}

/// Of the text that says which variables there are; of nothing where there is none.
fn hash(path: &Path) -> String {
    let bytes = ordinary::read(&path.join(spec::PATH), LARGEST).unwrap_or_default();
    blake3::hash(&bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_trusted_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let (home, path) = (dir.path().join("home"), dir.path().join("web"));
        std::fs::create_dir_all(path.join(".zagi")).unwrap();
        std::fs::write(path.join(spec::PATH), "[env]\nA = \"1\"\n").unwrap();
        assert_eq!(Trust::of(&home, &path), None);
        let vars = [("A", "1"), ("LD_PRELOAD", "x"), ("NODE_OPTIONS", "y")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let (given, never) = Trust::give(&home, &path, &vars.into()).unwrap();
        assert_eq!(never, ["LD_PRELOAD", "NODE_OPTIONS"]);
        assert_eq!(given.vars.len(), 1);
        assert_eq!(Trust::of(&home, &path), Some(Ok(given.clone())));
        std::fs::write(path.join(spec::PATH), "[env]\nA = \"2\"\n").unwrap();
        assert_eq!(Trust::of(&home, &path), Some(Err(given)));
        assert!(Trust::take(&home, &path).unwrap() && !Trust::take(&home, &path).unwrap());
    }
}
