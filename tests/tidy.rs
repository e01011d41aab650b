//! The house rules, as far as a program can check them. `CONTRIBUTING.md` says why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file of more lines is a question to answer.
const LINES: usize = 500;
/// A function of more lines does not fit on a screen.
const FUNCTION: usize = 70;

/// Files over [`LINES`] whose question was answered, each with the answer.
const LONG: [(&str, &str); 0] = [];

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for dir in ["src", "fuse", "sandbox", "tests", "integration"] {
        walk(&root().join(dir), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 50, "the walk found {} files only", paths.len());
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(),
        text: std::fs::read_to_string(&path).unwrap(),
    };
    paths.into_iter().map(read).collect()
}

/// What ships: neither tests nor benchmarks.
fn ships(path: &str) -> bool {
    ["src/", "fuse/src/", "sandbox/src/"].iter().any(|dir| path.starts_with(dir))
        && !path.ends_with("tests.rs")
        && !path.contains("/tests/")
}

/// The part of a file before its test module.
fn body(source: &Source) -> &str {
    source.text.split("\n#[cfg(test)]").next().unwrap_or_default()
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

fn assert_none(rule: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

fn lines_with<'a>(
    sources: impl IntoIterator<Item = &'a Source>,
    is_bad: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for (i, line) in body(source).lines().enumerate() {
            if is_bad(code(line)) {
                found.push(format!("{}:{}: {}", source.path, i + 1, line.trim()));
            }
        }
    }
    found
}

#[test]
fn files_and_functions_fit_on_a_screen() {
    let mut found = Vec::new();
    for source in &sources() {
        let lines = source.text.lines().count();
        if lines > LINES && !LONG.iter().any(|(path, _)| *path == source.path) {
            found.push(format!("{} has {lines} lines", source.path));
        }
        found.extend(long_functions(source));
    }
    assert_none("too long", found);
}

/// Functions as rustfmt lays them out: from `fn` to the brace at the same indent.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start().split([' ', '(', '<']);
        let is_function = words.take(5).any(|w| w == "fn") && !line.trim_start().starts_with("//");
        if !is_function || line.trim_end().ends_with(';') || line.trim_end().ends_with('}') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|l| *l == close).unwrap_or(0) + 1;
        if length > FUNCTION {
            found.push(format!("{}:{}: {length} lines", source.path, start + 1));
        }
    }
    found
}

#[test]
fn unsafe_stands_in_sys_only() {
    let sources = sources();
    let others = sources.iter().filter(|s| {
        !s.path.starts_with("fuse/src/sys")
            && !s.path.starts_with("sandbox/src/sys")
            && s.path != "sandbox/tests/sys.rs"
            && s.path != "tests/tidy.rs"
    });
    let is_unsafe = |line: &str| {
        ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|u| line.contains(u))
    };
    assert_none("unsafe outside sys.rs", lines_with(others, is_unsafe));
    for sys in sources.iter().filter(|s| s.path.ends_with("/sys.rs")) {
        let lines: Vec<&str> = sys.text.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, l)| code(l).contains("unsafe {")) {
            let before = &lines[i.saturating_sub(8)..=i];
            let proved = before.iter().any(|l| l.contains("SAFETY:"));
            assert!(proved, "{}:{}: no SAFETY: {line}", sys.path, i + 1);
        }
    }
}

#[test]
fn what_ships_neither_panics_nor_promises() {
    let sources = sources();
    let shipped = || sources.iter().filter(|s| ships(&s.path));
    let panics = |line: &str| {
        [".unwrap()", "panic!(", "todo!(", "unimplemented!(", "dbg!(", ".expect(\"\")"]
            .iter()
            .any(|p| line.contains(p))
    };
    assert_none("panics", lines_with(shipped(), panics));
    let mut promises = Vec::new();
    for source in sources.iter().filter(|s| s.path != "tests/tidy.rs") {
        for (i, line) in source.text.lines().enumerate() {
            if ["TODO", "FIXME", "XXX", "#[ignore"].iter().any(|p| line.contains(p)) {
                promises.push(format!("{}:{}: {}", source.path, i + 1, line.trim()));
            }
        }
    }
    assert_none("promises", promises);
}

#[test]
fn only_cli_prints_and_reads_the_world() {
    let sources = sources();
    let library = || sources.iter().filter(|s| ships(&s.path) && !s.path.starts_with("src/cli/"));
    let prints = |line: &str| {
        ["println!(", "print!(", "eprintln!(", "eprint!("].iter().any(|p| line.contains(p))
    };
    assert_none("prints", lines_with(library(), prints));
    let reads = |line: &str| {
        [
            "env::var(",
            "env::var_os(",
            "env::vars",
            "env::current_dir(",
            "env::home_dir(",
            "env::args",
            "SystemTime::now(",
        ]
        .iter()
        .any(|p| line.contains(p))
    };
    // The overlay dates what is written through it, as every file system does.
    let root = library().filter(|s| s.path.starts_with("src/"));
    assert_none("reads global state", lines_with(root, reads));
}

/// The floor of each room; see `src/lib.rs`.
fn floor(room: &str) -> Option<u32> {
    Some(match room {
        "main" => 6,
        "cli" => 5,
        "workspace" => 4,
        "source" | "dependencies" | "services" | "system" => 3,
        "environment" | "secrets" => 2,
        "egress" | "redteam" | "registry" | "store" => 1,
        "context" | "home" | "config" | "event" | "nearest" | "ordinary" | "chance" | "program"
        | "proxy" | "redact" => 0,
        _ => return None,
    })
}

#[test]
fn imports_run_down() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("src/") && s.path != "src/lib.rs")
    {
        let room = source.path["src/".len()..].split(['/', '.']).next().unwrap();
        let from = floor(room).unwrap_or_else(|| panic!("src/{room} has no floor"));
        for (i, line) in source.text.lines().enumerate() {
            for to in rooms_named(code(line)) {
                let allowed =
                    to == room || floor(&to).is_some_and(|f| f < from || (from == 0 && f == 0));
                if !allowed {
                    found.push(format!("{}:{}: {room} imports {to}", source.path, i + 1));
                }
            }
        }
    }
    assert_none("imports run up", found);
}

/// The rooms that `crate::…` names in a line.
fn rooms_named(line: &str) -> Vec<String> {
    line.match_indices("crate::")
        .filter(|(i, _)| !line[..*i].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(i, _)| {
            let rest = &line[i + "crate::".len()..];
            rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
        })
        .filter(|name| floor(name).is_some())
        .collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let sources = sources();
    let files: BTreeSet<&str> =
        sources.iter().map(|s| s.path.as_str()).filter(|p| ships(p)).collect();
    let mut imports: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|s| ships(&s.path)) {
        let targets = imported(&source.path, body(source));
        let known = targets.iter().filter_map(|t| files.get(t.as_str()).copied());
        imports.entry(&source.path).or_default().extend(known.filter(|t| *t != source.path));
    }
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 200, "imports are not found");
    let in_a_circle = imports.keys().filter(|file| reachable(&imports, file).contains(*file));
    assert_none("import each other", in_a_circle.map(|file| (*file).to_owned()).collect());
}

/// Everything that `from` imports, and what that imports, and so on.
fn reachable<'a>(imports: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut todo: Vec<&str> = imports.get(from).into_iter().flatten().copied().collect();
    while let Some(file) = todo.pop() {
        if seen.insert(file) {
            todo.extend(imports.get(file).into_iter().flatten());
        }
    }
    seen
}

/// The files that a file's own `use` lines name. Re-exports (`pub use`) pass names on and
/// need nothing; paths are read up to the first name that is no module.
fn imported(path: &str, text: &str) -> Vec<String> {
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib");
    let parent = module.rsplit_once('/').map_or("", |(p, _)| p);
    let root = path.split_inclusive("src/").next().unwrap_or_default().trim_end_matches('/');
    let statements = text.split(";\n").filter_map(|s| {
        let s = s.rsplit("\n\n").next().unwrap_or(s).trim();
        s.strip_prefix("use ").map(|s| s.split_whitespace().collect::<String>())
    });
    let mut files = Vec::new();
    for statement in statements {
        let (base, rest) = if let Some(rest) = statement.strip_prefix("super::") {
            (parent.to_owned(), rest)
        } else if let Some(rest) = statement.strip_prefix("crate::") {
            (root.to_owned(), rest)
        } else if let Some(rest) = statement.strip_prefix("self::") {
            (module.to_owned(), rest)
        } else {
            (module.to_owned(), statement.as_str())
        };
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.trim_end_matches('}').split(',').collect(),
            None => vec![rest],
        };
        for name in names {
            let mut at = base.clone();
            for part in name.split("::") {
                let next = format!("{at}/{part}");
                if !self::root().join(format!("{next}.rs")).exists()
                    && !self::root().join(format!("{next}/mod.rs")).exists()
                {
                    break;
                }
                at = next;
            }
            files.push(format!("{at}.rs"));
            files.push(format!("{at}/mod.rs"));
        }
    }
    files
}

#[test]
fn every_test_file_is_run() {
    let main = std::fs::read_to_string(root().join("tests/main.rs")).unwrap();
    for entry in std::fs::read_dir(root().join("tests")).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let stem = name.trim_end_matches(".rs");
        let is_module = entry.path().is_dir() && entry.path().join("mod.rs").exists();
        if (name.ends_with(".rs") || is_module) && stem != "main" {
            assert!(main.contains(&format!("mod {stem};")), "tests/{name} is not in tests/main.rs");
        }
    }
}

#[test]
fn text_is_clean() {
    let mut found = Vec::new();
    for source in &sources() {
        for (i, line) in source.text.lines().enumerate() {
            if line.ends_with([' ', '\t']) || line.contains('\t') {
                found.push(format!("{}:{}: trailing space or tab", source.path, i + 1));
            }
        }
        if !source.text.starts_with("//!") {
            found.push(format!("{}: does not begin with what it is", source.path));
        }
    }
    assert_none("not clean", found);
}
