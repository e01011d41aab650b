//! What a lock that comes with a repository may not say.
//!
//! The programs of an environment go in front of the user's PATH. A lock may come with a
//! stranger's repository, so a tool in it may bring only what the catalogue knows it to
//! bring: `ls` as a program of node is an attack. What such a program then does is what the
//! repository's own code may do as well; paths, variables and finishing commands are
//! checked where they are used ([`super::lock`], [`super::activate`], [`super::realise`]).

use super::catalog::Catalog;
use super::lock::Tool;
use super::system;

/// The first program of a locked tool that no source of that tool brings.
pub fn foreign_program<'a>(catalog: &Catalog, tool: &'a Tool) -> Option<&'a str> {
    if tool.name == system::NAME {
        return system::foreign_program(catalog, tool);
    }
    let sources = catalog.tool.get(&tool.name).map(|t| t.source.as_slice()).unwrap_or_default();
    let words = catalog.platform_words(&tool.platform);
    let bins: Vec<String> =
        sources.iter().flat_map(|s| s.bins.keys()).map(|name| words.expand(name)).collect();
    let known = |name: &str| bins.iter().any(|known| fits(known, name));
    tool.bins.keys().chain(tool.programs.keys()).map(String::as_str).find(|name| !known(name))
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
