//! What a lock that comes with a repository may not say.
//!
//! The programs of an environment go in front of the user's PATH. A lock may come with a
//! stranger's repository, so a tool in it may bring only what the catalogue knows it to
//! bring: `ls` as a program of node is an attack. What such a program then does is what the
//! repository's own code may do as well; paths, variables and finishing commands are
//! checked where they are used ([`super::lock`], [`super::activate`], [`super::realise`]).

use super::catalog::Catalog;
use super::lock::Tool;

/// The first program of a locked tool that no source of that tool brings.
pub fn foreign_program<'a>(catalog: &Catalog, tool: &'a Tool) -> Option<&'a str> {
    let sources = catalog.tool.get(&tool.name).map(|t| t.source.as_slice()).unwrap_or_default();
    let known = |name: &str| sources.iter().flat_map(|s| s.bins.keys()).any(|k| fits(k, name));
    tool.bins.keys().map(String::as_str).find(|name| !known(name))
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
            ("node", "ls", true),
            ("node", "python", true),
            ("no-such-tool", "node", true),
        ] {
            let lock = lock(tool, program);
            let found = foreign_program(&catalog, &lock.tools[0]);
            assert_eq!(found, foreign.then_some(program), "{tool}: {program}");
        }
    }
}
