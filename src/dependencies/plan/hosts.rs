//! Hosts that a lock file itself has packages at: an installation reaches them beside the
//! registries.
//!
//! Only where a package is fetched from, and no other address in the file: a package's page for
//! donations is nobody's to reach. A stranger wrote it, so no address of a machine counts, nor
//! does where a name leads to this one's network ([`crate::egress`]).

use std::collections::BTreeSet;

use serde_json::Value;

use super::join;
use crate::egress::Rule;
use crate::environment::detect::{Ecosystem, Project};
use crate::environment::files::Files;

/// Hosts that lead on to others.
const LEAD_ON: [(&str, [&str; 3]); 1] = [(
    "github.com",
    [
        "codeload.github.com",
        "objects.githubusercontent.com",
        "release-assets.githubusercontent.com",
    ],
)];
/// Cargo's name for the registry, at which nothing is.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Those of `project`'s.
pub fn hosts(project: &Project, source: &dyn Files) -> Vec<String> {
    let zig = (project.ecosystem == Ecosystem::Zig).then(|| join(&project.root, "build.zig.zon"));
    let Some(path) = project.lock.clone().or(zig) else { return Vec::new() };
    let text = source.read(&path).unwrap_or_default();
    let found = of(&path, &String::from_utf8_lossy(&text));
    found.into_iter().collect()
}

fn of(path: &str, text: &str) -> BTreeSet<String> {
    let mut addresses = Vec::new();
    match path.rsplit('/').next().unwrap_or(path) {
        "package-lock.json" | "npm-shrinkwrap.json" => json(text, &["resolved"], &mut addresses),
        "Pipfile.lock" => json(text, &["url", "file", "git"], &mut addresses),
        "yarn.lock" => lines(text, &["resolved ", "resolution: "], &mut addresses),
        "pnpm-lock.yaml" => lines(text, &["tarball: ", "repo: "], &mut addresses),
        // It has nothing but packages in it.
        "bun.lock" => lines(text, &[""], &mut addresses),
        "build.zig.zon" => lines(text, &[".url"], &mut addresses),
        // uv's, poetry's, pdm's and cargo's.
        _ => {
            if let Ok(value) = toml_edit::de::from_str::<Value>(text) {
                walk(&value, &["url", "git", "registry", "source"], &mut addresses);
            }
        }
    }
    let rules = addresses.iter().filter(|address| *address != CRATES_IO);
    let rules = rules.filter_map(|address| Rule::of_address(address));
    let hosts = rules.filter(Rule::is_name).map(|rule| rule.to_string());
    let mut hosts: BTreeSet<String> = hosts.collect();
    for (host, others) in LEAD_ON {
        if hosts.contains(host) {
            hosts.extend(others.map(str::to_owned));
        }
    }
    hosts
}

fn json(text: &str, keys: &[&str], addresses: &mut Vec<String>) {
    if let Ok(value) = serde_json::from_str(text) {
        walk(&value, keys, addresses);
    }
}

/// The texts under these keys, however deep.
fn walk(value: &Value, keys: &[&str], addresses: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => {
                        addresses.push(text.clone());
                    }
                    other => walk(other, keys, addresses),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| walk(value, keys, addresses)),
        _ => {}
    }
}

/// The first address after one of these words, of each line that is no comment.
fn lines(text: &str, words: &[&str], addresses: &mut Vec<String>) {
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        let Some((_, rest)) = words.iter().find_map(|word| line.split_once(word)) else { continue };
        let Some(at) = rest.find("://") else { continue };
        let end = rest[at..].find(|c: char| c.is_whitespace() || "\"',}".contains(c));
        let end = end.map_or(rest.len(), |end| at + end);
        addresses.push(format!("https{}", &rest[at..end]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_packages_are_and_nothing_else() {
        let all = |path: &str, text: &str| of(path, text).into_iter().collect::<Vec<_>>().join(" ");
        let github = "codeload.github.com github.com objects.githubusercontent.com \
                      release-assets.githubusercontent.com";
        for (path, text, expected) in [
            (
                "a/package-lock.json",
                r#"{"packages": {"node_modules/a": {"resolved": "https://npm.example/a/-/a.tgz",
                  "funding": {"url": "https://donations.example/a"}}, "node_modules/b":
                  {"resolved": "git+ssh://git@gitlab.example/b.git#0"}, "node_modules/c":
                  {"resolved": "http://169.254.169.254/latest", "link": true}}}"#,
                "gitlab.example npm.example",
            ),
            (
                "Pipfile.lock",
                r#"{"_meta": {"sources": [{"url": "https://p.example/simple"}]}}"#,
                "p.example",
            ),
            (
                "yarn.lock",
                "a@1:\n  resolved \"https://y.example:8443/a.tgz#0\"\n\"b@x\":\n  resolution: \"b@https://z.example/b.tgz\"\n",
                "y.example:8443 z.example",
            ),
            (
                "pnpm-lock.yaml",
                "  a@1:\n    resolution: {tarball: https://t.example/a.tgz}\n    deprecated: see https://d.example\n",
                "t.example",
            ),
            ("bun.lock", r#"  "a": ["a@https://b.example/a.tgz", {}, "sha512-x"],"#, "b.example"),
            (
                "Cargo.lock",
                "[[package]]\nname = \"a\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n",
                "",
            ),
            (
                "Cargo.lock",
                "[[package]]\nname = \"a\"\nsource = \"git+https://github.com/o/a?rev=1#1\"\n",
                github,
            ),
            (
                "uv.lock",
                "[[package]]\nname = \"a\"\nsource = { registry = \"https://u.example/simple\" }\n\
                 wheels = [{ url = \"https://files.example/a.whl\", hash = \"sha256:0\" }]\n",
                "files.example u.example",
            ),
            (
                "poetry.lock",
                "[[package]]\nname = \"a\"\ndescription = \"see https://d.example\"\n",
                "",
            ),
            (
                "build.zig.zon",
                ".{ // https://c.example\n//  .url = \"https://no.example\",\n .url = \"git+https://g.example/a#0\",\n}",
                "g.example",
            ),
            ("uv.lock", "no TOML", ""),
            ("bun.lock", "https://*.example.com/ \nhttps://127.0.0.1/", ""),
        ] {
            assert_eq!(all(path, text), expected, "{path}");
        }
    }
}
