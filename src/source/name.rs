//! What may be called what in a repository: the one place that says it.
//!
//! A name is refused if git refuses to check it out, on whatever disk, or if Linux cannot hold
//! it. Names that only Windows cannot hold (`aux.c`, `a:b`) stand in many repositories.

use gix::validate::path::component::{self, Error};

use crate::store;

/// Git's own rules. Those for the disks of others are there because a workspace is copied,
/// shared and pushed: what would be a `.git` there is no file of anybody's.
const RULES: component::Options =
    component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };

/// What is wrong with `name`, so that it reads on after the path: `` `a/.GIT` is … ``. Links are
/// not to be where git reads settings from.
pub fn fault(name: &[u8], is_link: bool) -> Option<&'static str> {
    let mode = is_link.then_some(component::Mode::Symlink);
    match gix::validate::path::component(name.into(), mode, RULES) {
        Err(Error::Empty) => Some("has no name"),
        Err(Error::Relative) => Some("is no name, but the way to a directory"),
        Err(Error::PathSeparator) => Some("has a `/` inside of a name"),
        Err(Error::DotGitDir) => Some("is git's own directory, or is taken for it on some disks"),
        Err(Error::SymlinkedGitModules) => Some("is a link, where git reads settings from"),
        Err(_) => Some("has a name that git refuses"),
        Ok(_) if name.len() > store::MAX_NAME => Some("has a name of more than 255 bytes"),
        Ok(_) if !store::is_name(name) => Some("has a name that Linux cannot hold"),
        Ok(_) => None,
    }
}

/// Whether `name` can stand in a directory of a repository.
pub fn is_name(name: &[u8]) -> bool {
    fault(name, false).is_none()
}

/// A path as one line of text that says what it is: whatever a terminal would obey or not
/// show is escaped, and what is long is cut.
pub(super) fn shown(path: &[u8]) -> String {
    const WHOLE: usize = 250;
    const ENDS: usize = 100;
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '"' => text.push(c),
                c => text.extend(c.escape_debug()),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    let count = text.chars().count();
    if count <= WHOLE {
        return text;
    }
    let (start, end) = (text.chars().take(ENDS), text.chars().skip(count - ENDS));
    start.chain(['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_git_or_linux_refuse() {
        let long = [b'x'; 256];
        let own = [
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git...",
            ".git::$INDEX_ALLOCATION",
            "git~1",
            "GIT~1",
            "Git~1 .",
            ".g\u{200c}it",
            "\u{feff}.GI\u{202e}T",
        ];
        for name in own {
            assert!(fault(name.as_bytes(), false).unwrap().contains("git's own"), "{name:?}");
        }
        let others: [&[u8]; 8] = [b"", b".", b"..", b"/", b"a/b", b"../x", b"a\0b", &long];
        for name in others {
            assert!(!is_name(name), "{}", name.escape_ascii());
        }
        for name in [".gitmodules", ".GITMODULES", "gitmod~1", "GI7EBA~1", ".gitmodules ."] {
            assert!(fault(name.as_bytes(), true).unwrap().contains("settings"), "{name:?}");
            assert!(is_name(name.as_bytes()), "{name:?}");
        }
    }

    #[test]
    fn names_that_only_look_odd() {
        let odd: [&[u8]; 16] = [
            b"...",
            b".gitignore",
            b".github",
            b"git",
            b"git~2",
            b".gi",
            b"aux.c",
            b"CON",
            b"a\\b",
            b"a:b",
            b"-rf",
            b" ",
            b"\n",
            b"\xff\xfe",
            b"x.git",
            &[b'x'; 255],
        ];
        for name in odd {
            assert_eq!(fault(name, true), None, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn what_is_shown_is_one_line_and_harmless() {
        assert_eq!(shown("dir/é 'x'".as_bytes()), "dir/é 'x'");
        assert_eq!(shown(b"\x1b[2J\n\xff"), r"\u{1b}[2J\n\xff");
        assert_eq!(shown("a\u{200c}b\u{202e}".as_bytes()), r"a\u{200c}b\u{202e}");
        let long = shown(&[b'x'; 4096]);
        assert_eq!(long, format!("{}…{}", "x".repeat(100), "x".repeat(100)));
    }
}
