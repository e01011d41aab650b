//! Go: `go.mod`, `go.work`, `.go-version`.

use super::commands::Purpose;
use super::services;
use super::survey::{Place, Survey, Text, join, resolve};
use super::system::{self, Packages};
use super::{Ecosystem, Project, Strength};
use crate::environment::version::{Constraint, Version};

/// Modules that are compiled by a C compiler.
const NATIVE: [&str; 4] = [
    "github.com/mattn/go-sqlite3",
    "github.com/libgit2/git2go",
    "github.com/confluentinc/confluent-kafka-go",
    "gopkg.in/h2non/bimg",
];

/// How many source files are looked into for `import "C"`.
const MOST_FILES: usize = 24;

/// Reads the Go project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    if let Some(text) =
        place.has(".go-version").then(|| survey.text(&place.path(".go-version"))).flatten()
    {
        let said = text.text.trim().to_owned();
        let read = version(&said).map(|version| Constraint::prefix(&version));
        survey.constrain("go", read.ok_or(()), text.evidence(1, said, Strength::Pin));
    }
    let Some(name) = ["go.work", "go.mod"].into_iter().find(|name| place.has(name)) else {
        // A program of one file needs no module.
        if let Some(text) =
            place.has("main.go").then(|| survey.text(&place.path("main.go"))).flatten()
        {
            survey.claims.need("go", text.evidence(1, "a Go program", Strength::Default));
            let evidence = text.evidence(1, "", Strength::Manifest);
            survey.commands.add(Purpose::Start, place, "go run main.go", evidence);
        }
        return false;
    };
    let Some(text) = survey.text(&place.path(name)) else { return false };
    survey.claims.need("go", text.evidence(1, "a Go project", Strength::Default));
    directives(survey, &text);
    let mut project = Project::new(Ecosystem::Go, &place.root, survey.date);
    project.manager = Some("go".to_owned());
    project.lock = place.present(&["go.sum", "go.work.sum"]).into_iter().next();
    project.manifests = place.present(&["go.mod", "go.sum", "go.work", "go.work.sum"]);
    let mut packages = "./...".to_owned();
    if name == "go.work" {
        let modules = modules(survey, place, &text);
        let named = modules.iter().map(|dir| format!("./{}/...", dir.trim_start_matches("./")));
        if !modules.is_empty() {
            packages = named.map(|p| p.replace("/./", "/")).collect::<Vec<_>>().join(" ");
        }
        for dir in &modules {
            let Some(dir) = resolve(&place.root, dir) else { continue };
            for name in ["go.mod", "go.sum"] {
                let path = join(&dir, name);
                project.manifests.extend(Some(path).filter(|path| survey.exists(path)));
            }
        }
    } else if place.directories.contains("vendor") {
        let path = place.path("vendor/modules.txt");
        project.manifests.extend(Some(path).filter(|path| survey.exists(path)));
    }
    project.manifests.sort();
    project.manifests.dedup();
    project.builds_native = native(survey, place, &text);
    system_packages(survey, &text);
    commands(survey, place, &text, &packages);
    survey.projects.push(project);
    true
}

/// `go 1.22` and `toolchain go1.22.3`: both are the least that will do (go.dev/ref/mod).
fn directives(survey: &mut Survey<'_>, text: &Text) {
    for (line, said) in text.lines() {
        let said = said.split("//").next().unwrap_or(said).trim();
        for directive in ["go ", "toolchain "] {
            let Some(value) = said.strip_prefix(directive).map(str::trim) else { continue };
            if value == "default" || value == "local" {
                continue;
            }
            let evidence = text.evidence(line, said, Strength::Manifest);
            let read = version(value).map(|version| Constraint::at_least(&version));
            survey.constrain("go", read.ok_or(()), evidence);
        }
    }
}

/// `go1.22.3`, `1.22`, `go1.21rc2`, `go1.22.3-custom`.
pub(super) fn version(said: &str) -> Option<Version> {
    let number = said.trim().trim_start_matches("go");
    Version::parse(number.split('-').next()?).ok()
}

/// The directories that `use` names.
fn modules(survey: &mut Survey<'_>, place: &Place, text: &Text) -> Vec<String> {
    let mut found = Vec::new();
    let mut block = false;
    for (_, line) in text.lines() {
        let line = line.split("//").next().unwrap_or(line).trim();
        let dir = match line.strip_prefix("use") {
            _ if block && line == ")" => {
                block = false;
                continue;
            }
            _ if block => line,
            Some(rest) if rest.trim() == "(" => {
                block = true;
                continue;
            }
            Some(rest) if rest.starts_with([' ', '\t']) => rest.trim(),
            _ => continue,
        };
        let dir = dir.trim_matches('"');
        let inside = resolve(&place.root, dir);
        if !dir.is_empty() && inside.is_some_and(|dir| survey.exists(&join(&dir, "go.mod"))) {
            found.push(dir.to_owned());
        }
        if found.len() == super::survey::MOST_MEMBERS {
            break;
        }
    }
    found
}

fn native(survey: &mut Survey<'_>, place: &Place, text: &Text) -> bool {
    let mut evidence = NATIVE.iter().find(|module| text.text.contains(**module)).map(|module| {
        text.evidence(text.line_of(module), format!("{module} is compiled"), Strength::Default)
    });
    for name in place.files.iter().filter(|name| name.ends_with(".go")).take(MOST_FILES) {
        let Some(source) = survey.head(&place.path(name)) else { continue };
        cgo(survey, &source);
        if evidence.is_none()
            && let Some((line, said)) =
                source.lines().find(|(_, line)| matches!(line.trim(), "import \"C\"" | "\"C\""))
        {
            evidence = Some(source.evidence(line, said.trim(), Strength::Default));
        }
    }
    let Some(evidence) = evidence else { return false };
    survey.claims.need_undated("cc", evidence.clone());
    survey.claims.need_undated("make", evidence);
    true
}

/// The modules that are required and built against libraries of the system, whatever their
/// major version.
fn system_packages(survey: &mut Survey<'_>, text: &Text) {
    for (line, said) in text.lines() {
        let said = said.trim();
        let path = said.strip_prefix("require ").unwrap_or(said).split_whitespace().next();
        let Some(path) = path.filter(|path| path.contains('.') && !said.ends_with("// indirect"))
        else {
            continue;
        };
        let evidence = text.evidence(line, path, Strength::Manifest);
        let plain = path.rsplit_once("/v").filter(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()));
        let plain = plain.map_or(path, |(plain, _)| plain);
        services::client(survey, plain, &evidence);
        let mut parts: Vec<&str> = plain.split('/').collect();
        // A module may be a part of the one that is known: `github.com/go-gl/gl/v4.1-core`.
        while parts.len() > 1 && !system::package(survey, Packages::Go, &parts.join("/"), &evidence)
        {
            parts.pop();
        }
    }
}

/// `#cgo pkg-config: gtk+-3.0`, `#cgo LDFLAGS: -lpcap`.
fn cgo(survey: &mut Survey<'_>, source: &Text) {
    for (line, said) in source.lines() {
        let said = said.trim().trim_start_matches("//").trim();
        let Some((kind, rest)) = said.strip_prefix("#cgo").and_then(|rest| rest.split_once(':'))
        else {
            continue;
        };
        let evidence = source.evidence(line, said, Strength::Manifest);
        for word in rest.split_whitespace() {
            if kind.contains("pkg-config") {
                system::module(survey, word, evidence.clone());
            } else if let Some(library) = word.strip_prefix("-l") {
                system::library(survey, library, evidence.clone());
            }
        }
    }
}

fn commands(survey: &mut Survey<'_>, place: &Place, text: &Text, packages: &str) {
    let evidence = text.evidence(1, "", Strength::Manifest);
    survey.commands.add(Purpose::Test, place, &format!("go test {packages}"), evidence.clone());
    survey.commands.add(Purpose::Build, place, &format!("go build {packages}"), evidence.clone());
    let is_main = |survey: &Survey<'_>, path: &str| {
        let head = survey.head(path);
        head.is_some_and(|source| source.lines().any(|(_, line)| line.trim() == "package main"))
    };
    if place.has("main.go") && is_main(survey, &place.path("main.go")) {
        survey.commands.add(Purpose::Start, place, "go run .", evidence);
    } else if place.directories.contains("cmd") {
        let programs = survey.place(&place.path("cmd")).directories;
        if let [only] = programs.iter().collect::<Vec<_>>().as_slice() {
            survey.commands.add(Purpose::Start, place, &format!("go run ./cmd/{only}"), evidence);
        }
    }
}
