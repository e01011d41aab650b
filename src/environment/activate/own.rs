//! Variables that one workspace alone has, since they say where its own services are:
//! `workspaces/<id>/vars.json`, version 1; missing where there are none.
//!
//! ```json
//! {"version": 1, "vars": {"REDIS_URL": "unix:///home/u/.zagi/workspaces/…/redis.sock"}}
//! ```
//!
//! They come from the catalogue and this home, never from the repository.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::home;

const FILE: &str = "vars.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    version: u32,
    vars: BTreeMap<String, String>,
}

/// Those of the workspace whose directory under the home is `workspace`. None where they are
/// of another version, or damaged: what needs them says that it cannot connect.
pub fn read_own(workspace: &Path) -> BTreeMap<String, String> {
    let own = std::fs::read(workspace.join(FILE)).ok();
    let own = own.and_then(|bytes| serde_json::from_slice::<Own>(&bytes).ok());
    own.filter(|own| own.version == VERSION).map(|own| own.vars).unwrap_or_default()
}

/// Those of the workspace that is presented at `dir`, by the home's root.
pub(super) fn own_at(root: &Path, dir: &Path) -> BTreeMap<String, String> {
    let link = home::workspace_link(root, dir);
    match link.parent() {
        Some(by_path) if link.is_symlink() => match std::fs::read_link(&link) {
            Ok(target) => read_own(&by_path.join(target)),
            Err(_) => BTreeMap::new(),
        },
        _ => BTreeMap::new(),
    }
}

/// Writes them.
pub fn write_own(workspace: &Path, vars: &BTreeMap<String, String>) -> io::Result<()> {
    let path = workspace.join(FILE);
    if vars.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    }
    let own = Own { version: VERSION, vars: vars.clone() };
    let mut file = tempfile::NamedTempFile::new_in(workspace)?;
    serde_json::to_writer(&mut file, &own)?;
    file.persist(&path).map(drop).map_err(|e| e.error)
}
