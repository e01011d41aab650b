//! The agent's own program, where it is the user's: in a directory that no sandbox sees.
//!
//! Programs of the workspace's environment and of the system go before. What is shown, read-only,
//! is as little as it can be: the file, or what it stands among and cannot work without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zagi_sandbox::Plan;

use crate::context::Context;

/// Where zagi's own program is inside.
pub(super) const PROGRAM: &str = "/zagi/bin/zagi";

/// Directories of programs that every sandbox has.
const SYSTEM: [&str; 3] = ["/usr", "/bin", "/sbin"];

/// Shows the plan's program, if it is on the user's PATH and not on the plan's. Says which it is,
/// if it is none of the system's.
pub(super) fn show(ctx: &Context, plan: &mut Plan) -> Option<PathBuf> {
    let name = plan.argv.first().cloned()?;
    if name.contains('/') || has(plan, &name) {
        return None;
    }
    let path = ctx.var("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(path).map(|dir| dir.join(&name));
    let file = found.find(|file| is_program(file))?.canonicalize().ok()?;
    plan.argv[0] = file.to_str()?.to_owned();
    if SYSTEM.iter().any(|dir| file.starts_with(dir)) {
        return None;
    }
    let shown = around(&file);
    plan.binds.push(zagi_sandbox::Bind { source: shown.clone(), target: shown, writable: false });
    Some(file)
}

/// Whether the plan's own PATH has it: in a directory of the system's or one that is shown.
fn has(plan: &Plan, name: &str) -> bool {
    let path = plan.env.get("PATH").map_or("", String::as_str);
    let shown = |dir: &&str| {
        SYSTEM.iter().any(|system| Path::new(dir).starts_with(system))
            || plan.binds.iter().any(|bind| Path::new(dir).starts_with(&bind.target))
    };
    // What a bind shows elsewhere than it is, is this program alone.
    path.split(':').filter(shown).any(|dir| is_program(&Path::new(dir).join(name)))
        || Path::new(PROGRAM).file_name().is_some_and(|own| own == name)
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// What a program cannot work without: the packages that it is among (npm), the virtual
/// environment that it is of (Python), or itself.
fn around(file: &Path) -> PathBuf {
    let ancestors = || file.ancestors().skip(1);
    let packages = ancestors().filter(|dir| dir.file_name().is_some_and(|n| n == "node_modules"));
    let venv = || ancestors().find(|dir| dir.join("pyvenv.cfg").is_file());
    packages.last().or_else(venv).unwrap_or(file).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_little_as_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            path
        };
        let alone = make("bin/tool");
        assert_eq!(around(&alone), alone);
        let nested = make("lib/node_modules/@a/b/node_modules/c/cli.js");
        assert_eq!(around(&nested), dir.path().join("lib/node_modules"));
        make("venv/pyvenv.cfg");
        assert_eq!(around(&make("venv/bin/aider")), dir.path().join("venv"));
    }
}
