//! What an environment takes on trust: where its bytes come from and who vouches for them, what of
//! it is this machine's own, and which packages have scripts that an installation runs.

use std::path::Path;

use serde::Serialize;

use super::amend::{self, Environment};
use super::description::Description;
use super::error::WorkspaceError;
use crate::context::Context;
use crate::environment::files::LARGEST;
use crate::environment::lock::Tool;
use crate::ordinary;

/// How many packages are looked into.
const MOST_PACKAGES: usize = 20_000;
/// Scripts that npm and its like run when a package is installed.
const SCRIPTS: [&str; 3] = ["preinstall", "install", "postinstall"];

/// Who says that the bytes are the right ones, beyond the hash in the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Voucher {
    /// The index that has the hash is signed by its makers' keys.
    Signed,
    /// A registry gave the hash, through TLS; nobody signed it.
    Registry,
    /// The Nix of whoever made the lock has built or fetched it, as a `flake.nix` says.
    Flake,
    /// It was found on this machine.
    Machine,
}

/// One tool.
#[derive(Debug, Serialize)]
pub struct Source {
    /// The tool.
    pub tool: String,
    /// Its version.
    pub version: String,
    /// Where it comes from.
    pub provider: String,
    /// Who vouches for it.
    pub voucher: Voucher,
    /// How many files were fetched for it.
    pub parts: usize,
    /// Programs of this machine that it is.
    pub adopted: Vec<std::path::PathBuf>,
}

/// One package with scripts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Scripted {
    /// The package and its version.
    pub package: String,
    /// Which of its scripts an installation runs.
    pub scripts: Vec<String>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Audit {
    /// The project's directory.
    pub root: std::path::PathBuf,
    /// The tools.
    pub sources: Vec<Source>,
    /// The lock holds on other machines too.
    pub portable: bool,
    /// Packages of node's with scripts that an installation runs, in the sandbox. Some managers
    /// leave out those that the project has not approved.
    pub scripts: Vec<Scripted>,
}

/// Looks at the project that `dir` is in; asks nobody.
pub fn audit(ctx: &Context, dir: &Path) -> Result<Audit, WorkspaceError> {
    let Environment { root, lock, .. } = amend::environment(ctx, dir)?;
    let sources: Vec<Source> = lock.platform(&ctx.platform).into_iter().map(source).collect();
    let workspace = Description::around(&ctx.home, &root)?;
    // Of what the user installed here without zagi nothing is known.
    let records = workspace.iter().flat_map(|found| &found.dependencies);
    let mut scripts = Vec::new();
    for directory in records.flat_map(|record| &record.directories) {
        if directory.ends_with("node_modules") {
            let mut left = MOST_PACKAGES;
            packages(&root.join(directory), &mut left, &mut scripts);
        }
    }
    scripts.sort();
    scripts.dedup();
    let portable = sources.iter().all(|source| source.voucher != Voucher::Machine);
    Ok(Audit { root, sources, portable, scripts })
}

fn source(tool: &Tool) -> Source {
    let voucher = match tool.provider.as_str() {
        _ if !tool.adopted.is_empty() => Voucher::Machine,
        _ if tool.is_flake() => Voucher::Flake,
        "debian" | "nix" => Voucher::Signed,
        _ => Voucher::Registry,
    };
    Source {
        tool: tool.name.clone(),
        version: tool.version.clone(),
        provider: tool.provider.clone(),
        voucher,
        parts: tool.parts.len(),
        adopted: tool.adopted.iter().map(|a| a.path.clone()).collect(),
    }
}

/// The packages in a `node_modules`, in those of theirs, and in pnpm's store of them.
fn packages(dir: &Path, left: &mut usize, found: &mut Vec<Scripted>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        // A link leads to what is looked at where it is.
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || *left == 0 {
            continue;
        }
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with('@') || name == ".pnpm" || dir.ends_with(".pnpm") {
            packages(&path, left, found);
        } else if !name.starts_with('.') {
            *left -= 1;
            if name == "node_modules" {
                packages(&path, left, found);
                continue;
            }
            found.extend(scripted(&path));
            packages(&path.join("node_modules"), left, found);
        }
    }
}

fn scripted(package: &Path) -> Option<Scripted> {
    let bytes = ordinary::read(&package.join("package.json"), LARGEST).ok()?;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).ok()?;
    let has = |name: &&str| manifest["scripts"][*name].is_string();
    let mut scripts: Vec<String> =
        SCRIPTS.iter().filter(|name| has(name)).map(|name| (*name).to_owned()).collect();
    // npm builds these by itself.
    if scripts.is_empty() && package.join("binding.gyp").is_file() {
        scripts.push("node-gyp".into());
    }
    let [name, version] = ["name", "version"].map(|key| manifest[key].as_str().unwrap_or("?"));
    (!scripts.is_empty()).then(|| Scripted { package: format!("{name} {version}"), scripts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_found_wherever_a_package_lies() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("node_modules");
        let put = |at: &str, scripts: &str| {
            let path = modules.join(at);
            std::fs::create_dir_all(&path).unwrap();
            let name = at.rsplit('/').next().unwrap();
            let text = format!(r#"{{"name": "{name}", "version": "1.0.0", "scripts": {scripts}}}"#);
            std::fs::write(path.join("package.json"), text).unwrap();
        };
        put("plain", r#"{"test": "x"}"#);
        put("a", r#"{"postinstall": "node x"}"#);
        put("@s/b", r#"{"preinstall": "x", "install": "y"}"#);
        put("plain/node_modules/c", r#"{"install": "y"}"#);
        put(".pnpm/d@1.0.0/node_modules/d", r#"{"install": "y"}"#);
        put("gyp", "{}");
        std::fs::write(modules.join("gyp/binding.gyp"), "{}").unwrap();
        let mut found = Vec::new();
        packages(&modules, &mut 100, &mut found);
        found.sort();
        let shown: Vec<String> =
            found.iter().map(|f| format!("{}: {}", f.package, f.scripts.join(" "))).collect();
        assert_eq!(
            shown,
            [
                "a 1.0.0: postinstall",
                "b 1.0.0: preinstall install",
                "c 1.0.0: install",
                "d 1.0.0: install",
                "gyp 1.0.0: node-gyp",
            ]
        );
    }
}
