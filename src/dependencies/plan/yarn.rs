//! yarn: the first (`# yarn lockfile v1`), and what came after it (2 and newer), which are two
//! programs with one name.
//!
//! The newer one installs for one of three linkers (`nodeLinker` in `.yarnrc.yml`):
//! - `pnp`, where nothing is said: packages stay archives, in `.yarn/cache`, and `.pnp.cjs`
//!   says where each is; those with scripts are unpacked to `.yarn/unplugged`.
//! - `node-modules` and `pnpm`: as everybody else does. Archives stay in the shared cache.
//!
//! It starts no script of a project that is not installed by its own account, which is
//! `.yarn/install-state.gz`.
//!
//! A release of yarn that is in the tree (`yarnPath`) is handed over to by whichever yarn
//! the environment has: it is the project's own code, and runs where that does.

use super::{CACHE, Draft, Step, join, strings};
use crate::config::Addresses;
use crate::environment::detect::Project;
use crate::environment::files::Files;

/// Addresses of the public registry that lock files name, whichever mirror is configured.
const PUBLIC: [&str; 2] = ["https://registry.yarnpkg.com/", "https://registry.npmjs.org/"];

/// What an installation for `pnp` leaves, besides archives.
const PNP: [&str; 5] =
    [".pnp.cjs", ".pnp.data.json", ".pnp.loader.mjs", ".yarn/unplugged", ".yarn/build-state.yml"];

pub(super) fn draft(
    project: &Project,
    source: &dyn Files,
    draft: &mut Draft,
    addresses: &Addresses,
) {
    draft.caches.push("yarn".into());
    let lock = project.lock.as_deref().and_then(|lock| source.read(lock)).unwrap_or_default();
    let lock = String::from_utf8_lossy(&lock).into_owned();
    let settings = source.read(&join(&project.root, ".yarnrc.yml"));
    let modern = match &project.lock {
        Some(_) => lock.lines().any(|line| line == "__metadata:"),
        None => settings.is_some() || pinned_modern(project, source),
    };
    if modern {
        let settings = settings.unwrap_or_default();
        since_2(project, source, draft, addresses, &String::from_utf8_lossy(&settings));
    } else {
        the_first(project, draft, addresses, &lock);
    }
}

/// Whether `packageManager` names yarn 2 or newer.
fn pinned_modern(project: &Project, source: &dyn Files) -> bool {
    let text = source.read(&join(&project.root, "package.json")).unwrap_or_default();
    let manifest: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let pinned = manifest["packageManager"].as_str().and_then(|p| p.strip_prefix("yarn@"));
    pinned.is_some_and(|version| !version.starts_with("1.") && !version.starts_with("0."))
}

fn the_first(project: &Project, draft: &mut Draft, addresses: &Addresses, lock: &str) {
    let mut argv = strings(["yarn", "install", "--non-interactive", "--no-progress"]);
    // As arguments: the same variables mean something else to the newer yarn.
    argv.push(format!("--registry={}/", addresses.npm));
    argv.push(format!("--cache-folder={CACHE}/yarn/v1"));
    // Two of them that fill one cache at once damage it.
    argv.push(format!("--mutex=file:{CACHE}/yarn/v1.mutex"));
    // As npm has it: what was tested with another node is said, and installed.
    argv.push("--ignore-engines".into());
    match &project.lock {
        Some(path) => {
            argv.push("--frozen-lockfile".into());
            let here = here(lock, addresses);
            if here != lock {
                draft.files.insert(path.clone(), here);
            }
        }
        None => argv.push("--no-lockfile".into()),
    }
    draft.steps.push(Step { argv, otherwise: Vec::new() });
}

/// A lock file of the first yarn, which goes to the very addresses that it finds there, with
/// the configured registry in place of the public one.
fn here(lock: &str, addresses: &Addresses) -> String {
    PUBLIC.iter().fold(lock.to_owned(), |lock, public| {
        lock.replace(&format!("resolved \"{public}"), &format!("resolved \"{}/", addresses.npm))
    })
}

fn since_2(
    project: &Project,
    source: &dyn Files,
    draft: &mut Draft,
    addresses: &Addresses,
    settings: &str,
) {
    let linker = setting(settings, "nodeLinker").unwrap_or("pnp");
    let at = |name: &str| join(&project.root, name);
    let committed = !source.list(&at(".yarn/cache")).is_empty();
    for (name, value) in [
        ("YARN_NPM_REGISTRY_SERVER", addresses.npm.clone()),
        ("YARN_GLOBAL_FOLDER", format!("{CACHE}/yarn/berry")),
        ("YARN_ENABLE_TELEMETRY", "0".into()),
        ("YARN_ENABLE_PROGRESS_BARS", "0".into()),
        ("YARN_ENABLE_HYPERLINKS", "0".into()),
        // What a script says is part of the log, not a file that is gone with the sandbox.
        ("YARN_ENABLE_INLINE_BUILDS", "1".into()),
    ] {
        draft.env(name, value);
    }
    // Archives are in the workspace where programs read them there.
    let global = linker != "pnp" && !committed;
    draft.env("YARN_ENABLE_GLOBAL_CACHE", global.to_string());
    let mut made = vec![".yarn/install-state.gz"];
    if linker == "pnp" {
        made.extend(PNP);
        // Whoever installs something by hand goes on with the same archives.
        draft.vars.insert("YARN_ENABLE_GLOBAL_CACHE".into(), "false".into());
    }
    if !global && !committed {
        made.push(".yarn/cache");
    }
    // Archives that somebody forgot to commit.
    draft.outputs |= committed;
    // What is in the source is not to be covered by what is the same.
    let is_new = |name: &&str| {
        let path = at(name);
        !source.exists(&path) && source.list(&path).is_empty()
    };
    draft.directories.extend(made.into_iter().filter(is_new).map(at));
    let frozen = match &project.lock {
        Some(_) => "--immutable",
        None => {
            draft.directories.push(at("yarn.lock"));
            "--no-immutable"
        }
    };
    draft.steps.push(Step::new(["yarn", "install", frozen]));
}

/// The value of a setting at the top of `.yarnrc.yml`.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix(':')?;
        Some(value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']))
    })
}
