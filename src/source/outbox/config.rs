//! The configuration of a work tree, as the outbox has it: with the remotes that may be gone to, and
//! without what other files would add, which may be where an agent writes.

use std::collections::BTreeSet;
use std::path::Path;

use crate::source::configuration::{INCLUDES, parse};

/// A remote of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// `origin`.
    pub name: String,
    /// Where it is fetched from and pushed to, as the configuration has it.
    pub urls: Vec<String>,
}

/// Such a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// In its order.
    pub remotes: Vec<Remote>,
    pub(super) text: Vec<u8>,
}

/// The addresses of a remote.
const ADDRESSES: [&str; 2] = ["url", "pushurl"];

impl Config {
    /// From the `text` of the one of the work tree at `root`; nothing, where that cannot be read. A
    /// directory of this machine that may not be a remote (`apart`), or is not there, is none; others are
    /// meant by their paths without links.
    pub fn of(text: &[u8], root: &Path, apart: impl Fn(&Path) -> bool) -> Option<Config> {
        let mut file = parse(text)?;
        for name in INCLUDES {
            let all = file.sections_and_ids_by_name(name).into_iter().flatten();
            for id in all.map(|(_, id)| id).collect::<Vec<_>>() {
                file.remove_section_by_id(id);
            }
        }
        let (mut remotes, mut refused) = (Vec::<Remote>::new(), BTreeSet::new());
        let mut sections = Vec::new();
        for (section, id) in file.sections_and_ids_by_name("remote").into_iter().flatten() {
            let name = section.header().subsection_name().map(ToString::to_string);
            let name = name.unwrap_or_default();
            if !is_remote(&name) {
                refused.insert(name.clone());
            }
            let addresses = ADDRESSES.map(|key| {
                let written = section.values(key).into_iter().map(|url| url.to_string());
                written.collect::<Vec<_>>()
            });
            let urls = addresses.concat();
            match remotes.iter_mut().find(|remote| remote.name == name) {
                Some(remote) => remote.urls.extend(urls),
                None => remotes.push(Remote { name: name.clone(), urls }),
            }
            let meant = addresses.map(|urls| -> Option<Vec<String>> {
                urls.iter().map(|written| meant(written, root, &apart)).collect()
            });
            if meant.iter().any(Option::is_none) {
                refused.insert(name.clone());
            }
            sections.push((id, name, meant.map(Option::unwrap_or_default)));
        }
        for (id, name, meant) in sections {
            if refused.contains(&name) {
                file.remove_section_by_id(id);
                continue;
            }
            let mut section = file.section_mut_by_id(id)?;
            for (key, urls) in ADDRESSES.into_iter().zip(meant) {
                while section.remove(key).is_some() {}
                for url in urls {
                    section.push(key, url.as_str()).ok()?;
                }
            }
        }
        remotes.retain(|remote| !refused.contains(&remote.name) && !remote.urls.is_empty());
        Some(Config { remotes, text: file.to_bstring().into() })
    }
}

/// What an address means from wherever git runs; nothing, where it may not be gone to.
fn meant(written: &str, root: &Path, apart: impl Fn(&Path) -> bool) -> Option<String> {
    let path = match (written.strip_prefix("file://"), written.find(':'), written.find('/')) {
        (Some(path), _, _) => path.starts_with('/').then_some(path)?,
        // Of another machine, or another way there; as git tells them (git-clone(1), "GIT URLS").
        (None, Some(colon), slash) if slash.is_none_or(|slash| colon < slash) => {
            return Some(written.to_owned());
        }
        (None, _, _) => written,
    };
    let path = root.join(path).canonicalize().ok().filter(|path| apart(path))?;
    path.to_str().map(str::to_owned)
}

/// Whether it can be given to git as a remote's name and as nothing else.
fn is_remote(name: &str) -> bool {
    let shaped = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    !name.is_empty() && !name.starts_with(['-', '.', '/']) && name.chars().all(shaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_gone_to_is_kept_and_nothing_else_is_read() {
        let dir = tempfile::tempdir().expect("made");
        let root = dir.path().canonicalize().expect("there");
        std::fs::create_dir_all(root.join("w")).expect("made");
        std::fs::create_dir_all(root.join("apart.git")).expect("made");
        std::fs::create_dir_all(root.join("w/own.git")).expect("made");
        let work = root.join("w");
        let text = "[core]\n\tsshCommand = theirs\n[include]\n\tpath = /w/.gitconfig\n\
             [includeIf \"gitdir:/\"]\n\tpath = x\n[Include]\n\tpath = y\n\
             [remote \"origin\"]\n\turl = git@example.com:a/b.git\n\tpushurl = https://example.com/c\n\
             \tpushurl = ../apart.git\n[remote \"own\"]\n\turl = own.git\n[remote \"gone\"]\n\turl = nothing\n\
             [remote \"two\"]\n\turl = https://example.com/d\n[remote \"two\"]\n\tpushurl = file://own\n\
             [remote \"-x\"]\n\turl = https://example.com/e\n[remote \"empty\"]\n\tfetch = x\n";
        let config = Config::of(text.as_bytes(), &work, |path| !path.starts_with(&work));
        let config = config.expect("sound");
        let urls = ["git@example.com:a/b.git", "https://example.com/c", "../apart.git"];
        let origin = Remote { name: "origin".into(), urls: urls.map(str::to_owned).into() };
        assert_eq!(config.remotes, [origin]);
        let kept = String::from_utf8(config.text).expect("UTF-8");
        let apart = root.join("apart.git");
        assert!(kept.contains(&format!("pushurl = {}", apart.display())), "{kept}");
        assert!(kept.contains("sshCommand = theirs"), "{kept}");
        for gone in ["nclude", "own", "nothing", "two", "-x", "../"] {
            assert!(!kept.contains(gone), "{gone}: {kept}");
        }
        assert!(Config::of(b"[remote", &work, |_| true).is_none());
    }
}
