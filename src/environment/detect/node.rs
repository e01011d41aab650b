//! Node: `package.json`, its package managers and their lock files, and the pin files.

mod managers;
mod outlived;
mod versions;

pub(super) use versions::node_name;

use serde_json::Value as Json;

use super::commands::Purpose;
use super::services;
use super::survey::{Place, Survey, Text, join, json_strings, resolve};
use super::system::{self, Packages};
use super::{Ecosystem, Evidence, Project, Strength};
use crate::environment::version::{Constraint, Version};

/// Lock files, each with the manager that wrote it; where there are several, the first wins.
const LOCKS: [(&str, &str); 6] = [
    ("pnpm-lock.yaml", "pnpm"),
    ("npm-shrinkwrap.json", "npm"),
    ("package-lock.json", "npm"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
    ("yarn.lock", "yarn"),
];

/// What a manager reads besides the manifest and the lock file.
const CONFIGURATION: [&str; 9] = [
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    "bunfig.toml",
    "pnpm-workspace.yaml",
    ".pnpmfile.cjs",
    ".pnpmfile.mjs",
    "binding.gyp",
    "lerna.json",
];

/// Packages that are compiled by node-gyp, or that help in that.
const NATIVE: [&str; 31] = [
    "argon2",
    "bcrypt",
    "better-sqlite3",
    "bufferutil",
    "canvas",
    "cpu-features",
    "deasync",
    "farmhash",
    "ffi-napi",
    "isolated-vm",
    "kerberos",
    "leveldown",
    "libxmljs",
    "microtime",
    "nan",
    "node-addon-api",
    "node-gyp",
    "node-hid",
    "node-pty",
    "node-sass",
    "nodegit",
    "pg-native",
    "re2",
    "ref-napi",
    "robotjs",
    "serialport",
    "sodium-native",
    "sqlite3",
    "usb",
    "utf-8-validate",
    "zeromq",
];

/// Reads the Node project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    versions::pins(survey, place);
    if !place.has("package.json") {
        return false;
    }
    let Some((text, json)) = survey.json(&place.path("package.json")) else { return false };
    let mut package = Package { place, text, json, lock: None };
    package.lock = LOCKS.iter().find(|(name, _)| place.has(name)).copied();

    let found = package.text.evidence(1, "a Node project", Strength::Default);
    survey.claims.need("node", found.clone());
    outlived::survey(survey, &package);
    versions::manifest(survey, &package);
    managers::pins(survey, &package);
    let members = members(survey, &package);
    let wanted = package.manager();
    let managers = managers::choose(survey, &package, &members, &wanted);
    let mut project = Project::new(Ecosystem::Node, &place.root, survey.date);
    if let Some(speaks) = managers.speaks.filter(|name| managers.installs != Some(name)) {
        let evidence = Evidence { text: "starts the scripts".into(), ..found.clone() };
        survey.claims.need(speaks, evidence);
        versions::compatible(survey, &package, speaks);
    }
    if let Some(manager) = managers.installs {
        let lock = package.lock.filter(|(_, by)| *by == manager);
        let evidence = match lock {
            Some((name, _)) => Evidence {
                file: place.path(name),
                text: format!("a lock file of {manager}"),
                ..found
            },
            None => Evidence { text: "installs Node projects".into(), ..found },
        };
        survey.claims.need(manager, evidence);
        project.lock = lock.map(|(name, _)| place.path(name));
        project.manager = Some(manager.to_owned());
        versions::lock(survey, &package, manager);
        versions::compatible(survey, &package, manager);
    }
    managers::usual(survey, &package, &wanted);
    if let Some(name) = package.json["name"].as_str().map(str::to_owned) {
        let evidence = package.evidence(&["name"], format!("is {name}"), Strength::Manifest);
        system::package(survey, Packages::Node, &name, &evidence);
    }
    for (name, _) in package.dependencies() {
        let evidence = package.evidence(&[&name], &name, Strength::Manifest);
        system::package(survey, Packages::Node, &name, &evidence);
        services::client(survey, &name, &evidence);
    }
    project.builds_native = native(survey, &package, &members);
    project.manifests = inputs(survey, &package, &members);
    scripts(survey, &package, managers.speaks.unwrap_or("npm"));
    survey.projects.push(project);
    true
}

/// A manifest and where it was found.
struct Package<'p> {
    place: &'p Place,
    text: Text,
    json: Json,
    lock: Option<(&'static str, &'static str)>,
}

impl Package<'_> {
    fn evidence(&self, keys: &[&str], text: impl Into<String>, strength: Strength) -> Evidence {
        self.text.evidence(self.text.line_of_key(keys), text, strength)
    }

    /// `packageManager`, as name and version.
    fn pinned_manager(&self) -> Option<(&str, &str)> {
        self.json.get("packageManager")?.as_str()?.split_once('@')
    }

    /// The manager that the project was made with, whether it can be had or not.
    fn manager(&self) -> String {
        let named = self.pinned_manager().map(|(name, _)| name);
        let developed = self.json.pointer("/devEngines/packageManager/name").and_then(Json::as_str);
        let volta = ["pnpm", "yarn"].into_iter().find(|m| self.json["volta"].get(m).is_some());
        let locked = self.lock.map(|(_, by)| by);
        let workspace = self.place.has("pnpm-workspace.yaml").then_some("pnpm");
        let engines =
            ["pnpm", "yarn", "bun"].into_iter().find(|m| self.json["engines"][m].is_string());
        let first = named.or(developed).or(volta).or(locked).or(workspace).or(engines);
        first.unwrap_or("npm").to_owned()
    }

    /// The names of everything it depends on.
    fn dependencies(&self) -> Vec<(String, String)> {
        dependencies(&self.json)
    }
}

fn dependencies(json: &Json) -> Vec<(String, String)> {
    ["dependencies", "devDependencies", "optionalDependencies"]
        .iter()
        .flat_map(|key| json_strings(&json[key]))
        .collect()
}

/// The directories of the workspace's members.
fn members(survey: &mut Survey<'_>, package: &Package<'_>) -> Vec<String> {
    let listed = &package.json["workspaces"];
    let mut patterns: Vec<String> = listed
        .as_array()
        .or_else(|| listed["packages"].as_array())
        .map(|all| all.iter().filter_map(|p| Some(p.as_str()?.to_owned())).collect())
        .unwrap_or_default();
    if package.place.has("pnpm-workspace.yaml")
        && let Some(text) = survey.text(&package.place.path("pnpm-workspace.yaml"))
    {
        patterns.extend(yaml_list(&text.text, "packages"));
    }
    let (without, with): (Vec<_>, Vec<_>) = patterns.iter().partition(|p| p.starts_with('!'));
    let of = |survey: &mut Survey<'_>, pattern: &str| {
        survey.members(&package.place.root, pattern, "package.json")
    };
    let mut found: Vec<String> = with.iter().flat_map(|p| of(survey, p)).collect();
    for pattern in without {
        let excluded = of(survey, &pattern[1..]);
        found.retain(|dir| !excluded.contains(dir));
    }
    found.sort();
    found.dedup();
    found
}

/// The strings of the list at the top-level key `key`, in block or flow form.
fn yaml_list(text: &str, key: &str) -> Vec<String> {
    let unquoted = |s: &str| s.trim().trim_matches(['"', '\'']).to_owned();
    let mut lines = text.lines();
    let prefix = format!("{key}:");
    let Some(first) = lines.by_ref().find_map(|line| line.strip_prefix(&prefix)) else {
        return Vec::new();
    };
    if let Some(flow) = first.trim().strip_prefix('[') {
        return flow.trim_end_matches(']').split(',').map(unquoted).collect();
    }
    lines
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map_while(|line| line.trim_start().strip_prefix("- "))
        .map(|item| unquoted(item.split(" #").next().unwrap_or(item)))
        .collect()
}

/// Whether installing compiles; then compiler, make and python (for node-gyp) are needed.
fn native(survey: &mut Survey<'_>, package: &Package<'_>, members: &[String]) -> bool {
    let is_native = |name: &String| NATIVE.contains(&name.as_str());
    let mut evidence =
        package.dependencies().into_iter().find(|(name, _)| is_native(name)).map(|(name, _)| {
            package.evidence(&[&name], format!("{name} is compiled"), Strength::Default)
        });
    if evidence.is_none() && package.place.has("binding.gyp") {
        let file = package.place.path("binding.gyp");
        let text = "binding.gyp".to_owned();
        evidence = Some(Evidence { file, line: 1, text, strength: Strength::Default });
    }
    for dir in members {
        if evidence.is_some() {
            break;
        }
        let path = join(dir, "package.json");
        if let Some((text, json)) = survey.json(&path)
            && let Some((name, _)) =
                dependencies(&json).into_iter().find(|(name, _)| is_native(name))
        {
            let line = text.line_of_key(&[&name]);
            evidence = Some(text.evidence(line, format!("{name} is compiled"), Strength::Default));
        }
    }
    let Some(evidence) = evidence else { return false };
    for tool in ["cc", "make"] {
        survey.claims.need_undated(tool, evidence.clone());
    }
    survey.claims.need("python", evidence);
    true
}

/// Every file that installing depends on.
fn inputs(survey: &mut Survey<'_>, package: &Package<'_>, members: &[String]) -> Vec<String> {
    let place = package.place;
    let mut inputs = vec![place.path("package.json")];
    inputs.extend(place.present(&CONFIGURATION));
    inputs.extend(place.present(&LOCKS.map(|(name, _)| name)));
    inputs.extend(members.iter().map(|dir| join(dir, "package.json")));
    for dir in members {
        inputs.extend(Some(join(dir, ".npmrc")).filter(|path| survey.exists(path)));
    }
    for (_, range) in package.dependencies() {
        let local = ["file:", "link:"].iter().find_map(|prefix| range.strip_prefix(prefix));
        if let Some(dir) = local.and_then(|path| resolve(&place.root, path)) {
            let manifest = join(&dir, "package.json");
            inputs.extend([manifest, dir].into_iter().find(|path| survey.exists(path)));
        }
    }
    for (above, below) in [("patches", "patches"), (".yarn", ".yarn/patches")] {
        if place.directories.contains(above) {
            let patches = survey.place(&place.path(below));
            inputs.extend(patches.files.iter().take(256).map(|name| patches.path(name)));
        }
    }
    inputs.sort();
    inputs.dedup();
    inputs
}

fn scripts(survey: &mut Survey<'_>, package: &Package<'_>, manager: &str) {
    let scripts = json_strings(&package.json["scripts"]);
    let mut add = |purpose, name: &str, command: String| {
        let evidence = package.evidence(&["scripts", name], "", Strength::Manifest);
        survey.commands.add(purpose, package.place, &command, evidence);
    };
    // What bun calls `test` and `build` are commands of its own.
    let test = if manager == "bun" { "bun run test".into() } else { format!("{manager} test") };
    // What `npm init` writes is a test that always fails.
    let real = |test: &&String| !test.is_empty() && !test.contains("no test specified");
    let tested = scripts.get("test").filter(real).is_some();
    if tested {
        add(Purpose::Test, "test", test);
    }
    if scripts.contains_key("build") {
        add(Purpose::Build, "build", format!("{manager} run build"));
    }
    match ["start", "dev", "serve"].into_iter().find(|name| scripts.contains_key(*name)) {
        Some("start") => add(Purpose::Start, "start", format!("{manager} start")),
        Some(name) => add(Purpose::Start, name, format!("{manager} run {name}")),
        None => {
            // A program rather than a library: nothing is said of what is published.
            let published = ["exports", "files", "types", "repository"];
            let program = published.iter().all(|key| package.json[key].is_null());
            let main = package.json["main"].as_str().or(package.json["module"].as_str());
            let main = main.map(|main| main.trim_start_matches("./"));
            let (runs, usual) = match manager {
                "bun" => ("bun", "index.ts"),
                _ => ("node", "index.js"),
            };
            let main = main.unwrap_or(usual);
            if program && package.place.has(main) {
                add(Purpose::Start, "main", format!("{runs} {main}"));
            }
        }
    }
    if manager == "bun"
        && !tested
        && let Some(evidence) = managers::bun_tests(survey, package.place)
    {
        survey.commands.add(Purpose::Test, package.place, "bun test", evidence);
    }
}

/// A pin that must be a full version (`packageManager`, volta), as a constraint.
fn pin(text: &str) -> Option<Constraint> {
    // Corepack appends the archive's hash after `+`.
    let version = text.split('+').next().unwrap_or(text);
    Some(Constraint::prefix(&Version::parse(version).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_pnpm_workspace() {
        let text = "# x\npackages:\n  # all\n  - 'packages/*' # these\n\n  - \"!**/test\"\ncatalog:\n  - no\n";
        assert_eq!(yaml_list(text, "packages"), ["packages/*", "!**/test"]);
        assert_eq!(yaml_list("packages: ['a', b]\n", "packages"), ["a", "b"]);
        assert_eq!(yaml_list("", "packages"), Vec::<String>::new());
    }
}
