//! The examples of railpack and nixpacks, against the plans that their own tests expect.
//! Given a clone of either; nothing of it is kept here.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;
use zagi::environment::detect::Detected;
use zagi::environment::files::Directory;
use zagi::environment::version::{Constraint, Version};

/// What a plan says.
#[derive(Default)]
struct Plan {
    /// Names, and versions where the plan has some.
    tools: Vec<(String, String)>,
    start: String,
    system: Vec<String>,
}

/// Prints one line an example that differs, and the counts.
pub fn measure(root: &Path) {
    let mut names: Vec<String> = std::fs::read_dir(root.join("examples"))
        .expect("a clone of railpack or nixpacks")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let (mut counted, mut tools, mut starts, mut whole) = (0, 0, 0, 0);
    println!("| example | tools: theirs / ours | start: theirs / ours | system: theirs / ours |");
    println!("|---|---|---|---|");
    for name in names {
        let Some(plan) = plan(root, &name) else { continue };
        let found = super::found(&Directory::new(&root.join("examples").join(&name)));
        let (tool, start) = (same_tools(&plan, &found), same_start(&plan, &found));
        let system = same_system(&plan, &found);
        counted += 1;
        tools += usize::from(tool.is_ok());
        starts += usize::from(start.is_ok());
        whole += usize::from(tool.is_ok() && start.is_ok() && system.is_ok());
        if tool.is_err() || start.is_err() || system.is_err() {
            let cell = |result: Result<(), String>| result.err().unwrap_or_default();
            println!("| {name} | {} | {} | {} |", cell(tool), cell(start), cell(system));
        }
    }
    println!("\n{counted} examples; the same in all: {whole}; tools: {tools}; start: {starts}.");
}

fn plan(root: &Path, name: &str) -> Option<Plan> {
    let railpack = root
        .join(format!("core/__snapshots__/TestGenerateBuildPlanForExamples_{name}_1.snap.json"));
    if let Ok(text) = std::fs::read_to_string(railpack) {
        return Some(of_railpack(&serde_json::from_str(&text).ok()?));
    }
    let nixpacks = name.replace('-', "_");
    let path = root.join(format!("tests/snapshots/generate_plan_tests__{nixpacks}.snap"));
    let text = std::fs::read_to_string(path).ok()?;
    Some(of_nixpacks(&serde_json::from_str(text.splitn(3, "---").nth(2)?).ok()?))
}

fn of_railpack(json: &Json) -> Plan {
    let mut plan = Plan { start: text(&json["deploy"]["startCommand"]), ..Plan::default() };
    for step in json["steps"].as_array().into_iter().flatten() {
        for command in step["commands"].as_array().into_iter().flatten() {
            let named = command["customName"].as_str().unwrap_or_default();
            if let Some(names) = named.strip_prefix("install mise packages: ") {
                let names = names.split(", ").map(|name| (tool(name), String::new()));
                plan.tools.extend(names);
            } else if let Some(names) = named.strip_prefix("install apt packages: ") {
                plan.system.extend(names.split(' ').map(str::to_owned));
            }
        }
    }
    plan
}

fn of_nixpacks(json: &Json) -> Plan {
    let mut plan = Plan { start: text(&json["start"]["cmd"]), ..Plan::default() };
    let setup = &json["phases"]["setup"];
    for package in setup["nixPkgs"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        let package = package.trim_start_matches("(").split('.').next().unwrap_or(package);
        let at = package.find(|c: char| c.is_ascii_digit()).unwrap_or(package.len());
        let (name, version) = package.split_at(at);
        let version = match name {
            "python" if version.len() > 1 => format!("{}.{}", &version[..1], &version[1..]),
            _ => version.trim_end_matches("_x").replace('_', "."),
        };
        plan.tools.push((tool(name.trim_end_matches(['_', '-'])), version));
    }
    let system = setup["aptPkgs"].as_array().into_iter().flatten().filter_map(Json::as_str);
    plan.system = system.map(str::to_owned).collect();
    plan
}

fn text(json: &Json) -> String {
    json.as_str().unwrap_or_default().to_owned()
}

/// The catalogue's name of a tool of theirs; empty for what is none.
fn tool(name: &str) -> String {
    match name {
        "nodejs" => "node",
        "jdk" | "openjdk" => "java",
        "gcc" | "clang" => "cc",
        "rust-bin" | "rustc" | "cargo" => "rust",
        "dotnet-sdk" => "dotnet",
        "pipenv" | "pipx" | "corepack" | "openssl" | "binutils" | "libmysqlclient" | "nginx"
        | "caddy" => "",
        name => name,
    }
    .to_owned()
}

fn same_tools(plan: &Plan, found: &Detected) -> Result<(), String> {
    let ours = |name: &str| found.tools.iter().find(|t| t.tool == name);
    // What we need and cannot bring yet was found all the same.
    let noted = |name: &str| found.notes.iter().any(|note| note.text.starts_with(name));
    let missing: BTreeSet<String> = plan
        .tools
        .iter()
        .filter(|(name, _)| !name.is_empty())
        .filter(|(name, version)| match ours(name) {
            Some(ours) => {
                let asked = Version::parse(version);
                let apart = |v| Constraint::prefix(&v).intersect(&ours.constraint).is_none();
                asked.is_ok_and(apart) && ours.pinned
            }
            None => !noted(name),
        })
        .map(|(name, version)| format!("{name} {version}").trim().to_owned())
        .collect();
    let theirs = missing.into_iter().collect::<Vec<_>>().join(", ");
    let all: Vec<String> =
        found.tools.iter().map(|t| format!("{} {}", t.tool, t.constraint)).collect();
    if theirs.is_empty() { Ok(()) } else { Err(format!("{theirs} / {}", all.join(", "))) }
}

fn same_start(plan: &Plan, found: &Detected) -> Result<(), String> {
    let plain = |command: &str| {
        let command = command.replace("npm run start", "npm start").replace("run start", "start");
        command
            .replace("yarn start", "npm start")
            .replace("pnpm start", "npm start")
            .replace("python3 ", "python ")
    };
    let ours = found.run.start.clone().unwrap_or_default();
    match plan.start.is_empty() || plain(&plan.start) == plain(&ours) {
        true => Ok(()),
        false => Err(format!("`{}` / `{ours}`", plan.start)),
    }
}

fn same_system(plan: &Plan, found: &Detected) -> Result<(), String> {
    // What their images lack and every machine has.
    const PLAIN: [&str; 11] = [
        "ca-certificates",
        "curl",
        "git",
        "wget",
        "unzip",
        "zip",
        "procps",
        "build-essential",
        "tini",
        "libatomic1",
        "lsb-release",
    ];
    let table = zagi::environment::system::Table::built_in();
    let named = |name: &str| table.canonical(name).unwrap_or(name).to_owned();
    let ours: BTreeSet<String> = found.spec.system.iter().map(|name| named(name)).collect();
    let missing: Vec<&str> = plan
        .system
        .iter()
        .map(String::as_str)
        .filter(|name| !PLAIN.contains(name) && !ours.contains(&named(name)))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!("{} / {}", missing.join(" "), found.spec.system.join(" "))),
    }
}
