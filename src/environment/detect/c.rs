//! C and C++: what builds them (CMake, Meson, Autoconf, make), and which libraries of the
//! system they look for.
//!
//! Only what names a library outright is read: no macro is expanded, no condition judged.
//! Where the directory is also a project of another ecosystem, that one builds it, and only
//! the libraries are taken.

mod autoconf;
mod cmake;
mod meson;

use super::commands::Purpose;
use super::survey::{Place, Survey, Text, join, resolve};
use super::system;
use super::types::{Ecosystem, Evidence, Project, Strength};

/// How many files of one build are read.
const MOST_FILES: usize = 96;

/// What builds a directory, by its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Builder {
    Cmake,
    Meson,
    Autoconf,
    Make,
}

/// Manifests, the one that is preferred first.
const MANIFESTS: [(&str, Builder); 9] = [
    ("CMakeLists.txt", Builder::Cmake),
    ("meson.build", Builder::Meson),
    ("configure.ac", Builder::Autoconf),
    ("configure.in", Builder::Autoconf),
    ("configure", Builder::Autoconf),
    ("GNUmakefile", Builder::Make),
    ("makefile", Builder::Make),
    ("Makefile", Builder::Make),
    ("Makefile.am", Builder::Make),
];

/// Reads the C or C++ project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    let Some((name, builder)) = MANIFESTS.iter().find(|(name, _)| place.has(name)).copied() else {
        return false;
    };
    if builder == Builder::Make && !sources(survey, place) {
        return false;
    }
    let others = survey.projects.iter().filter(|project| project.root == place.root);
    let (other, native) =
        others.fold((false, false), |(_, native), p| (true, native || p.builds_native));
    if other && !native {
        return false;
    }
    let Some(text) = survey.text(&place.path(name)) else { return false };
    let tests = match builder {
        Builder::Cmake => cmake::survey(survey, place),
        Builder::Meson => meson::survey(survey, place),
        Builder::Autoconf => autoconf::survey(survey, place),
        Builder::Make => make(survey, &text),
    };
    if other {
        return false;
    }
    tools(survey, place, &text, builder);
    let mut project = Project::new(Ecosystem::C, &place.root, survey.date);
    project.manifests = vec![place.path(name)];
    project.builds_native = true;
    survey.projects.push(project);
    commands(survey, place, &text, builder, tests);
    true
}

/// Whether there are sources of C or C++ beside a makefile or in `src`.
fn sources(survey: &Survey<'_>, place: &Place) -> bool {
    let is_one =
        |name: &String| [".c", ".cc", ".cpp", ".cxx"].iter().any(|ending| name.ends_with(ending));
    let below = |dir: &str| survey.place(&place.path(dir)).files.iter().any(is_one);
    place.files.iter().any(is_one) || (place.directories.contains("src") && below("src"))
}

fn tools(survey: &mut Survey<'_>, place: &Place, text: &Text, builder: Builder) {
    let evidence = text.evidence(1, "a C or C++ project", Strength::Default);
    let mut tools = vec!["cc"];
    match builder {
        Builder::Cmake => tools.extend(["cmake", "make"]),
        Builder::Meson => tools.extend(["meson", "ninja"]),
        Builder::Autoconf | Builder::Make => tools.push("make"),
    }
    for tool in tools {
        survey.claims.need_undated(tool, evidence.clone());
    }
    // A release brings `configure` along; a repository makes it.
    if builder == Builder::Autoconf && !place.has("configure") {
        for name in ["autoconf", "automake", "libtool"] {
            system::add(
                survey,
                name,
                Evidence { text: "makes `configure`".into(), ..evidence.clone() },
            );
        }
    }
}

/// `pkg-config --libs x` and `-lx` in a makefile.
fn make(survey: &mut Survey<'_>, text: &Text) -> bool {
    for (line, said) in text.lines() {
        let evidence = || text.evidence(line, said.trim(), Strength::Manifest);
        if let Some((_, rest)) = said.split_once("pkg-config ").or(said.split_once("PKG_CONFIG) "))
        {
            let rest = rest.split([')', '`', ';', '|']).next().unwrap_or(rest);
            for module in rest.split_whitespace().filter(|word| !word.starts_with(['-', '$'])) {
                system::module(survey, module, evidence());
            }
        }
        for word in said.split_whitespace().filter_map(|word| word.strip_prefix("-l")) {
            system::library(survey, word, evidence());
        }
    }
    false
}

fn commands(survey: &mut Survey<'_>, place: &Place, text: &Text, builder: Builder, tests: bool) {
    let (build, test) = match builder {
        Builder::Cmake => (
            "cmake -B build && cmake --build build",
            "cmake -B build && cmake --build build && ctest --test-dir build --output-on-failure",
        ),
        Builder::Meson => (
            "meson setup build && meson compile -C build",
            "meson setup build && meson test -C build",
        ),
        Builder::Autoconf if place.has("configure") => {
            ("./configure && make", "./configure && make check")
        }
        Builder::Autoconf if place.has("autogen.sh") => {
            ("./autogen.sh && ./configure && make", "./autogen.sh && ./configure && make check")
        }
        Builder::Autoconf => {
            ("autoreconf -fi && ./configure && make", "autoreconf -fi && ./configure && make check")
        }
        // Its targets are read with those of every makefile.
        Builder::Make => return,
    };
    let evidence = text.evidence(1, "", Strength::Manifest);
    survey.commands.add(Purpose::Build, place, build, evidence.clone());
    if tests {
        survey.commands.add(Purpose::Test, place, test, evidence);
    }
}

/// The files of a build: the one at `first`, and those `name`d in the directories that `below`
/// finds in each.
fn files(
    survey: &mut Survey<'_>,
    place: &Place,
    name: &str,
    below: impl Fn(&Text) -> Vec<String>,
) -> Vec<Text> {
    let mut found = Vec::new();
    let mut left = vec![place.root.clone()];
    let mut seen = Vec::new();
    while let Some(dir) = left.pop() {
        if seen.contains(&dir) || found.len() == MOST_FILES {
            continue;
        }
        seen.push(dir.clone());
        let Some(text) = survey.text(&join(&dir, name)) else { continue };
        let named = below(&text);
        left.extend(named.iter().rev().filter_map(|path| resolve(&dir, path)));
        found.push(text);
    }
    found
}

/// The calls of the functions that `named` accepts: the line, the name and what stands
/// between the parentheses. `comment` begins comments, which are left out.
fn calls<'t>(
    text: &'t Text,
    comments: &[&str],
    named: impl Fn(&str) -> bool,
) -> Vec<(u32, &'t str, String)> {
    let bytes = text.text.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut found = Vec::new();
    let mut line = 1u32;
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        while at < bytes.len() && word(bytes[at]) {
            at += 1;
        }
        if at == start {
            line += u32::from(bytes[at] == b'\n');
            let comment = comments.iter().any(|c| bytes[at..].starts_with(c.as_bytes()));
            match comment {
                true => {
                    while at < bytes.len() && bytes[at] != b'\n' {
                        at += 1
                    }
                }
                false => at += 1,
            }
            continue;
        }
        let name = &text.text[start..at];
        if named(name) {
            let rest = text.text[at..].trim_start_matches([' ', '\t']);
            if let Some(rest) = rest.strip_prefix('(') {
                found.push((line, name, arguments(rest, comments)));
            }
        }
        // The word `dnl` begins a comment only as a word.
        if comments.contains(&name) {
            while at < bytes.len() && bytes[at] != b'\n' {
                at += 1;
            }
        }
    }
    found
}

/// What stands before the closing parenthesis, without comments; bounded.
fn arguments(rest: &str, comments: &[&str]) -> String {
    let mut depth = 1u32;
    let mut out = String::new();
    'lines: for line in rest.lines().take(64) {
        let end = comments.iter().filter(|c| c.len() == 1).filter_map(|c| line.find(c)).min();
        for c in line[..end.unwrap_or(line.len())].chars() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 || out.len() > 4096 {
                break 'lines;
            }
            out.push(c);
        }
        out.push(' ');
    }
    out
}
