//! What a lock that comes with a repository may not say.
//!
//! The programs of an environment go in front of the user's PATH. A lock may come with a
//! stranger's repository, so a tool in it may bring only what the catalogue knows it to
//! bring: `ls` as a program of node is an attack. What such a program then does is what the
//! repository's own code may do as well; paths, variables and finishing commands are
//! checked where they are used ([`super::lock`], [`super::activate`], [`super::realise`]).
//!
//! What a flake gives has programs of any name. So those that no tool of the catalogue brings do
//! not go in front ([`is_known`]).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::catalog::{self, Catalog};
use super::lock::Tool;
use super::system::{self, Table};
use crate::context::Platform;

/// The first program of a locked tool that no source of that tool brings.
pub fn foreign_program<'a>(catalog: &Catalog, tool: &'a Tool) -> Option<&'a str> {
    if tool.name == system::NAME {
        return system::foreign_program(catalog, tool);
    }
    if tool.is_flake() {
        let adopted = tool.adopted.iter().map(|adopted| &adopted.name);
        return tool
            .bins
            .keys()
            .chain(tool.programs.keys())
            .chain(adopted)
            .map(String::as_str)
            .next();
    }
    let known = catalog.tool.get(&tool.name);
    let bins = known.map(|known| bins(catalog, &tool.platform, known)).unwrap_or_default();
    let known = |name: &str| bins.iter().any(|known| fits(known, name));
    tool.bins.keys().chain(tool.programs.keys()).map(String::as_str).find(|name| !known(name))
}

/// What programs of a tool are called, by all of its sources.
fn bins(catalog: &Catalog, platform: &str, tool: &catalog::Tool) -> Vec<String> {
    let words = catalog.platform_words(platform);
    tool.source.iter().flat_map(|s| s.bins.keys()).map(|name| words.expand(name)).collect()
}

/// Whether a program of this name may stand in front of the user's own: some tool of the
/// catalogue, or a system package, brings one.
pub(super) fn is_known(catalog: &Catalog, platform: &Platform, name: &str) -> bool {
    let platform = platform.to_string();
    let brings = |tool| bins(catalog, &platform, tool).iter().any(|known| fits(known, name));
    catalog.tool.values().any(brings) || Table::built_in().by_program(name).is_some()
}

/// The tools of the catalogue of which `programs` has the one that bears the tool's name; where
/// none does (rust), any. Not those that are run as services: they are started in a way of their
/// own.
pub(super) fn brought(
    catalog: &Catalog,
    platform: &Platform,
    programs: &BTreeMap<String, PathBuf>,
) -> Vec<String> {
    let platform = platform.to_string();
    let has = |(name, tool): &(&String, &catalog::Tool)| {
        let bins = bins(catalog, &platform, tool);
        let own = bins.iter().any(|bin| bin == *name);
        match own {
            true => programs.contains_key(*name),
            false => bins.iter().any(|bin| programs.keys().any(|name| fits(bin, name))),
        }
    };
    let serves = |name: &str| catalog.service.values().any(|service| service.tool == name);
    let all = catalog.tool.iter().filter(|(name, _)| !serves(name));
    all.filter(has).map(|(name, _)| name.clone()).collect()
}

/// Whether a program is called as the catalogue has it: `python{line}` is `python3.13`.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('{') else { return pattern == name };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let middle = name.strip_prefix(before).and_then(|name| name.strip_suffix(after));
    middle.is_some_and(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::environment::lock::Lock;

    fn lock(tool: &str, program: &str) -> Lock {
        let text = format!(
            "version = 1\n[[tool]]\nname = \"{tool}\"\nversion = \"1.0.0\"\n\
             platform = \"linux-x86_64\"\nprovider = \"npm\"\n\
             [tool.bins.\"{program}\"]\npath = \"bin/x\"\n"
        );
        Lock::parse("env.lock", &text).expect("it has the form of a lock")
    }

    #[test]
    fn a_tool_brings_its_own_programs_and_no_other() {
        let catalog = Catalog::load(Path::new("/nonexistent")).expect("the built-in one is valid");
        for (tool, program, foreign) in [
            ("node", "node", false),
            ("python", "python3.13", false),
            ("python", "python3.13evil", true),
            ("cc", "x86_64-linux-gnu-g++", false),
            ("cc", "aarch64-linux-gnu-g++", true),
            ("system", "pkg-config", true),
            ("node", "ls", true),
            ("node", "python", true),
            ("no-such-tool", "node", true),
        ] {
            let lock = lock(tool, program);
            let found = foreign_program(&catalog, &lock.tools[0]);
            assert_eq!(found, foreign.then_some(program), "{tool}: {program}");
        }
    }

    #[test]
    fn a_flake_brings_tools_by_their_programs_and_names_none_of_its_own() {
        let catalog = Catalog::load(Path::new("/nonexistent")).expect("the built-in one is valid");
        let platform = Platform { os: "linux".into(), arch: "x86_64".into() };
        let programs = ["ls", "node", "python3.12", "rustc", "postgres", "gofmt", "cc"];
        let programs = programs.map(|name| (name.to_owned(), PathBuf::new())).into();
        assert_eq!(brought(&catalog, &platform, &programs), ["cc", "node", "rust"]);
        for (name, known) in [("node", true), ("python3.12", true), ("pg_config", true)]
            .into_iter()
            .chain([("ls", false), ("sudo", false), ("python3.12-config", false)])
        {
            assert_eq!(is_known(&catalog, &platform, name), known, "{name}");
        }
        assert_eq!(foreign_program(&catalog, &lock("flake", "node").tools[0]), Some("node"));
    }

    #[test]
    fn system_packages_bring_what_the_table_names() {
        let catalog = Catalog::load(Path::new("/nonexistent")).expect("the built-in one is valid");
        for (program, foreign) in [("pg_config", false), ("pkg-config", false), ("ls", true)] {
            let mut lock = lock("system", "x");
            let tool = &mut lock.tools[0];
            tool.bins.clear();
            tool.programs.insert(program.into(), "usr/bin/x".into());
            assert_eq!(foreign_program(&catalog, tool), foreign.then_some(program));
        }
    }
}
