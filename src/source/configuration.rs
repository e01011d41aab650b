//! Git's configuration, read as it stands in files that somebody else may have written: nothing that it says is
//! run, and no pipe is waited for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use gix::bstr::BStr;
use gix::config::path::interpolate;
use gix::config::{Source, file};

use super::git::{Git, Run};
use crate::context::Context;
use crate::ordinary;

/// A file of it is not larger, in bytes.
pub const LARGEST: u64 = 1 << 20;
/// By which another file is read as a part of one (git-config(1), "Includes").
pub(super) const INCLUDES: [&str; 2] = ["include", "includeIf"];
/// Where hooks are.
const HOOKS: &str = "core.hooksPath";
const NOTHING: &str = "/dev/null";
/// How many files are followed, and variables looked at.
const MOST: usize = 100;

/// What a file says; nothing, where git would not understand it, either.
pub(super) fn parse(text: &[u8]) -> Option<gix::config::File> {
    let about = file::Metadata::from(Source::Local);
    gix::config::File::from_bytes_no_includes(text, about, Default::default()).ok()
}

/// What files of it lead git to. Conditions (`includeIf`) are taken as met: a branch is changed in no time.
#[derive(Debug, Clone, Default)]
pub struct Leads {
    /// The directories of hooks; where they are relative, it is to where git runs hooks.
    pub hooks: BTreeSet<PathBuf>,
    /// The files that are read, which need not be there. Where they are relative, it is to the directory that is
    /// named first, which is there and meant by its path without links.
    pub files: BTreeSet<(PathBuf, PathBuf)>,
    /// The files that are there and were not read.
    pub unread: BTreeSet<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl Leads {
    /// Of the system's, the user's, and what the user has in variables.
    pub fn of_user(ctx: &Context) -> Leads {
        let mut leads = Leads::default();
        let mut var = |name: &str| ctx.var(name).map(OsStr::to_owned);
        let sources = [Source::System, Source::Git, Source::User];
        let files = sources.map(|source| source.storage_location(&mut var));
        for file in installed(ctx).into_iter().chain(files.into_iter().flatten()) {
            leads.files.insert((PathBuf::from("/"), file.clone()));
            leads.follow(ctx, file);
        }
        let count = ctx.var("GIT_CONFIG_COUNT").and_then(|n| n.to_str()?.parse().ok());
        for n in 0..count.unwrap_or(0).min(MOST) {
            let (Some(key), Some(value)) = (
                ctx.var(&format!("GIT_CONFIG_KEY_{n}")),
                ctx.var(&format!("GIT_CONFIG_VALUE_{n}")),
            ) else {
                continue;
            };
            let value = gix::path::os_str_into_bstr(value).ok();
            let Some(path) = value.and_then(|value| meant(ctx, value.into())) else { continue };
            if key.eq_ignore_ascii_case(HOOKS) {
                leads.hooks.insert(path);
            } else if key.eq_ignore_ascii_case("include.path") && path.is_absolute() {
                leads.files.insert((PathBuf::from("/"), path.clone()));
                leads.follow(ctx, path);
            }
        }
        leads
    }

    /// Adds what `file` leads to, if it is there, and what it includes.
    pub fn follow(&mut self, ctx: &Context, file: PathBuf) {
        let mut all = vec![file];
        while let Some(file) = all.pop() {
            let Ok(real) = file.canonicalize() else { continue };
            // The latter is how people say that there is none.
            if self.seen.contains(&real) || real == Path::new(NOTHING) {
                continue;
            }
            let text = match ordinary::read(&file, LARGEST) {
                Ok(text) if self.seen.len() < MOST => text,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                _ => {
                    self.unread.insert(file);
                    continue;
                }
            };
            self.seen.insert(real);
            let Some(said) = parse(&text) else {
                self.unread.insert(file);
                continue;
            };
            // Others of the same file do not hold.
            self.hooks.extend(said.path(HOOKS).and_then(|path| meant(ctx, path)));
            // As git has it: by the file's name, and not by what a link of that name leads to.
            let Some(from) = file.parent().and_then(|dir| dir.canonicalize().ok()) else {
                continue;
            };
            let sections =
                INCLUDES.into_iter().filter_map(|name| said.sections_by_name(name)).flatten();
            for path in sections.flat_map(|section| section.values("path")) {
                let Some(path) = meant(ctx, path.into()) else { continue };
                all.push(from.join(&path));
                self.files.insert((from.clone(), path));
            }
        }
    }
}

/// What git makes of a path of its configuration.
fn meant(ctx: &Context, path: gix::config::Path) -> Option<PathBuf> {
    let home = ctx.var("HOME").map(Path::new);
    path.interpolate(interpolate::Context { home_dir: home, ..Default::default() }).ok()
}

/// The system's, where this git has it elsewhere than most.
fn installed(ctx: &Context) -> Option<PathBuf> {
    let args = ["var", "GIT_CONFIG_SYSTEM"].map(OsStr::new);
    let nowhere = OsStr::new(NOTHING);
    // It would read the user's and that of where it runs.
    let env = [("GIT_CONFIG_GLOBAL", nowhere), ("GIT_DIR", nowhere)];
    let run = Run { env: &env, dir: Some(Path::new("/")), ..Run::new("git", &args) };
    let said = Git::find(ctx).and_then(|git| git.run(run)).ok()?;
    let path = gix::path::try_from_bstr(BStr::new(said.trim_ascii())).ok()?;
    path.is_absolute().then(|| path.into_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// What is led to from `config` in a directory, with these files and variables; the directory is `{}`.
    fn leads(files: &[(&str, &str)], vars: &[(&str, &str)]) -> (Leads, PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().expect("made");
        let at = dir.path().canonicalize().expect("there");
        let here = |text: &str| text.replace("{}", at.to_str().expect("UTF-8"));
        for (path, text) in files {
            let path = at.join(path);
            std::fs::create_dir_all(path.parent().expect("below")).expect("made");
            std::fs::write(path, here(text)).expect("written");
        }
        let none = [("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null")];
        let vars: Vec<_> =
            none.iter().chain(vars).map(|(key, value)| (*key, here(value))).collect();
        let ctx = context(&at, &vars);
        let mut leads = Leads::of_user(&ctx);
        leads.follow(&ctx, at.join("config"));
        (leads, at, dir)
    }

    fn context(at: &Path, vars: &[(&str, String)]) -> Context {
        let vars: BTreeMap<_, _> =
            vars.iter().map(|(key, value)| (key.into(), value.into())).collect();
        Context::of_test(&at.join("zagi"), vars)
    }

    fn paths(all: &[&str]) -> BTreeSet<PathBuf> {
        all.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn files_are_followed_whatever_their_conditions_are() {
        let files = [
            (
                "config",
                "[core]\n\thookspath = old\n[Include]\n\tpath = a/one\n\tpath = gone\n[core]\n\tHooksPath = ~/own\n",
            ),
            ("a/one", "[includeIf \"onbranch:x\"]\n\tpath = two\n[core \"x\"]\n\thooksPath = no\n"),
            (
                "a/two",
                "[include]\n\tpath = ../config\n\tpath = {}/three\n[core]\n\thooksPath = two\n",
            ),
            ("three", "[core]\n\thooksPath\n"),
        ];
        let (leads, at, _dir) = leads(&files, &[("HOME", "/users")]);
        assert_eq!(leads.hooks, paths(&["/users/own", "two"]));
        let named: Vec<(PathBuf, PathBuf)> = vec![
            (at.clone(), "a/one".into()),
            (at.clone(), "gone".into()),
            (at.join("a"), "../config".into()),
            (at.join("a"), "two".into()),
            (at.join("a"), at.join("three")),
        ];
        let null = ("/".into(), "/dev/null".into());
        assert_eq!(leads.files, named.into_iter().chain([null]).collect());
        assert_eq!(leads.unread, paths(&[]));
    }

    #[test]
    fn the_users_own_is_read_and_variables_hold_too() {
        let files = [
            (".gitconfig", "[core]\n\thooksPath = .hooks\n"),
            (".config/git/config", "[include]\n\tpath = more\n"),
            ("system", "[core]\n\thooksPath = \"of the system\"\n"),
            ("named", "[core]\n\thooksPath = named\n"),
        ];
        let vars = [
            ("HOME", "{}"),
            ("GIT_CONFIG_NOSYSTEM", ""),
            ("GIT_CONFIG_GLOBAL", ""),
            ("GIT_CONFIG_SYSTEM", "{}/system"),
            ("GIT_CONFIG_COUNT", "2"),
            ("GIT_CONFIG_KEY_0", "core.hookspath"),
            ("GIT_CONFIG_VALUE_0", "by-variable"),
            ("GIT_CONFIG_KEY_1", "include.path"),
            ("GIT_CONFIG_VALUE_1", "{}/named"),
        ];
        let (leads, at, _dir) = leads(&files, &vars);
        assert_eq!(leads.hooks, paths(&[".hooks", "by-variable", "named", "of the system"]));
        assert!(leads.files.contains(&(at.join(".config/git"), "more".into())), "{leads:?}");
        assert!(leads.files.contains(&("/".into(), at.join(".gitconfig"))), "{leads:?}");
    }

    #[test]
    fn what_cannot_be_read_is_said_and_not_waited_for() {
        let dir = tempfile::tempdir().expect("made");
        let at = dir.path().canonicalize().expect("there");
        let text = "[include]\n\tpath = pipe\n\tpath = odd\n\tpath = /dev/null\n";
        std::fs::write(at.join("config"), text).expect("written");
        std::fs::write(at.join("odd"), "[core").expect("written");
        nix::unistd::mkfifo(&at.join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        let mut leads = Leads::default();
        leads.follow(&context(&at, &[]), at.join("config"));
        assert_eq!(leads.unread, [at.join("pipe"), at.join("odd")].into());
    }

    #[test]
    fn not_more_is_followed_than_somebody_has() {
        let names: Vec<String> = (0..=MOST).map(|n| n.to_string()).collect();
        let config: String =
            names.iter().map(|name| format!("[include]\n\tpath = {name}\n")).collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        files.push(("config", &config));
        let (leads, at, _dir) = leads(&files, &[]);
        assert_eq!(leads.files.len(), MOST + 2, "all are named, and the user's");
        assert_eq!(leads.unread, [at.join("0"), at.join("1")].into());
    }
}
