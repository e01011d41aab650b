//! npm, pnpm and bun; yarn is in a file of its own.

use serde_json::Value;

use super::{CACHE, Draft, Otherwise, Step, end_of_day, files_below, join, strings, yarn};
use crate::config::Addresses;
use crate::environment::detect::Project;
use crate::environment::files::Files;

/// Scripts of a project that its own installation runs.
const LIFECYCLE: [&str; 8] = [
    "preinstall",
    "install",
    "postinstall",
    "prepublish",
    "preprepare",
    "prepare",
    "postprepare",
    "dependencies",
];
/// Those of them that make what is published or is developed with, which run last: whoever depends
/// on the project does without.
const OWN: [&str; 4] = ["prepublish", "preprepare", "prepare", "postprepare"];
/// Such a script that only sets up git hooks makes nothing that would be captured.
const HOOKS_ONLY: [&str; 5] = ["husky", "simple-git-hooks", "lefthook", "is-ci", "ts-patch"];

pub(super) fn draft(
    project: &Project,
    manager: &str,
    source: &dyn Files,
    addresses: &Addresses,
) -> Option<Draft> {
    let manifest = source.read(&join(&project.root, "package.json"))?;
    // A manifest that is no JSON is refused by the manager, in its own words.
    let manifest: Value = serde_json::from_slice(&manifest).unwrap_or(Value::Null);
    let native = source.exists(&join(&project.root, "binding.gyp"));
    let scripted = native || has_lifecycle(&manifest);
    if !scripted && !has_dependencies(&manifest, project, source) {
        return None;
    }
    let mut draft = Draft {
        directories: vec![join(&project.root, "node_modules")],
        nested: Some("node_modules".into()),
        // What `prepare` builds, it builds from the source.
        outputs: scripted,
        whole_source: scripted,
        ..Draft::default()
    };
    let dirs = ["", project.root.as_str()];
    for dir in dirs {
        for name in [
            ".npmrc",
            ".yarnrc",
            ".yarnrc.yml",
            "bunfig.toml",
            ".pnpmfile.cjs",
            "pnpm-workspace.yaml",
            "binding.gyp",
            ".node-version",
            ".nvmrc",
        ] {
            draft.inputs.insert(join(dir, name));
        }
        for patches in ["patches", ".yarn/patches"] {
            draft.inputs.extend(files_below(source, &join(dir, patches), 2));
        }
    }
    draft.env("npm_config_registry", format!("{}/", addresses.npm));
    draft.env("CI", "1");
    match manager {
        "pnpm" => pnpm(project, &mut draft, addresses),
        "npm" => npm(project, &manifest, &mut draft),
        "yarn" => yarn::draft(project, source, &mut draft, addresses),
        "bun" => bun(project, &mut draft, addresses),
        _ => return None,
    }
    Some(draft)
}

fn has_dependencies(manifest: &Value, project: &Project, source: &dyn Files) -> bool {
    let filled = |name: &str| match &manifest[name] {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    let kinds = [
        "dependencies",
        "devDependencies",
        "optionalDependencies",
        "peerDependencies",
        "workspaces",
    ];
    manifest.is_null()
        || kinds.into_iter().any(filled)
        || manifest["workspaces"].is_object()
        || source.exists(&join(&project.root, "pnpm-workspace.yaml"))
}

fn has_lifecycle(manifest: &Value) -> bool {
    LIFECYCLE.iter().any(|name| match manifest["scripts"][name].as_str() {
        Some(script) => !HOOKS_ONLY.iter().any(|tool| script.trim_start().starts_with(tool)),
        None => false,
    })
}

fn npm(project: &Project, manifest: &Value, draft: &mut Draft) {
    draft.caches.push("npm".into());
    draft.env("npm_config_cache", format!("{CACHE}/npm"));
    for (name, value) in [
        ("audit", "false"),
        ("fund", "false"),
        ("update_notifier", "false"),
        // Progress is counted by the lines that this prints.
        ("loglevel", "http"),
        ("include", "dev"),
    ] {
        draft.env(&format!("npm_config_{name}"), value);
    }
    let scripts = own_scripts(manifest);
    if project.lock.is_some() {
        draft.steps.push(Step { argv: strings(["npm", "ci"]), otherwise: scripts });
        return;
    }
    // No lock file is to be found in the workspace that the project does not have.
    let install = ["npm", "install", "--no-package-lock"];
    let before = format!("--before={}", end_of_day(project.date));
    draft.steps.push(Step {
        argv: strings(install.into_iter().chain([before.as_str()])),
        otherwise: [Otherwise {
            when: strings(["ETARGET", "with a date before", "ENOVERSIONS"]),
            argv: strings(install),
            warning: format!(
                "not everything that `{}` asks for had been published by the commit's date: \
                 today's versions were taken",
                join(&project.root, "package.json"),
            ),
        }]
        .into_iter()
        .chain(scripts)
        .collect(),
    });
}

/// What is said where one of [`OWN`] fails: everything is installed by then, and a workspace in
/// which it can be mended is better than none.
fn own_scripts(manifest: &Value) -> Vec<Otherwise> {
    let text = |name: &str| manifest[name].as_str().unwrap_or_default();
    let id = format!("{}@{}", text("name"), text("version"));
    let own = OWN.iter().filter(|name| manifest["scripts"][**name].is_string());
    let failed = |name: &&str| Otherwise {
        // npm 7 and newer announces what it runs; the one before says what failed.
        when: vec![format!("> {id} {name}\n"), format!("Failed at the {id} {name} script")],
        argv: Vec::new(),
        warning: format!(
            "the project's own script `{name}` failed, and what it makes is missing: `zagi exec \
             -- npm run {name}` in the workspace says why"
        ),
    };
    // The last that was run is the one that failed.
    own.rev().map(failed).collect()
}

fn pnpm(project: &Project, draft: &mut Draft, addresses: &Addresses) {
    draft.caches.push("pnpm".into());
    let frozen =
        if project.lock.is_some() { "--frozen-lockfile" } else { "--config.lockfile=false" };
    // As arguments: which variables pnpm reads depends on its version.
    let mut argv = strings(["pnpm", "install", frozen, "--reporter=append-only"]);
    argv.push(format!("--store-dir={CACHE}/pnpm/store"));
    argv.push(format!("--config.cache-dir={CACHE}/pnpm/cache"));
    argv.push(format!("--config.registry={}/", addresses.npm));
    argv.extend(strings([
        // `node_modules` is to be whole by itself, and its files nobody else's.
        "--config.package-import-method=copy",
        "--config.enable-global-virtual-store=false",
        "--config.virtual-store-dir=node_modules/.pnpm",
        // What a package's scripts made is this installation's alone.
        "--config.side-effects-cache=false",
        "--config.confirm-modules-purge=false",
        "--config.manage-package-manager-versions=false",
        // Scripts that the project has not approved are left out, which is no error.
        "--config.strict-dep-builds=false",
    ]));
    draft.steps.push(Step { argv, otherwise: Vec::new() });
}

fn bun(project: &Project, draft: &mut Draft, addresses: &Addresses) {
    draft.caches.push("bun".into());
    draft.env("BUN_INSTALL_CACHE_DIR", format!("{CACHE}/bun"));
    draft.env("DO_NOT_TRACK", "1");
    let mut argv = strings(["bun", "install", "--no-progress"]);
    argv.push(format!("--registry={}/", addresses.npm));
    // `node_modules` is to be whole by itself, and its files nobody else's.
    argv.push("--backend=copyfile".into());
    argv.push(if project.lock.is_some() { "--frozen-lockfile" } else { "--no-save" }.into());
    draft.steps.push(Step { argv, otherwise: Vec::new() });
}
