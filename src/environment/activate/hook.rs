//! The shell hook: what the function that [`super::shell`] installs evaluates at each prompt.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::own::own_at;
use super::shell::{Shell, difference};
use super::state::{Changed, NAME, State};
use super::trust::Trust;
use super::{LINK, Record, join};
use crate::environment::spec;

const UNTRUSTED: &str = " sets other variables than those that were trusted: see `zagi trust`";
const NOT_READY: &str =
    " asks for tools that are not ready: `zagi lock` makes them so, and so does `zagi exec`";
/// Remembers for which directory it was said that its tools are not ready.
const COLD: &str = "__ZAGI_COLD";

/// What the hook evaluates in a shell that stands in `cwd` with the variables `vars`; empty
/// where nothing changes. `envs` is where this home has its realised environments.
///
/// Costs one or two looks at each directory above, and two small files where there is a workspace.
pub fn hook_env(
    shell: Shell,
    envs: &Path,
    cwd: &Path,
    vars: &BTreeMap<OsString, OsString>,
) -> Vec<u8> {
    let old = vars.get(OsStr::new(NAME)).and_then(|text| State::decode(text));
    let found = environment_of(cwd, envs);
    let home = envs.parent().unwrap_or(envs);
    let trust = found.as_ref().and_then(|(workspace, _)| Trust::of(home, workspace));
    let mark = match &trust {
        None => String::new(),
        Some(Ok(trust)) => format!(".{}", trust.mark()),
        Some(Err(_)) => ".changed".into(),
    };
    let same = match (&old, &found) {
        (None, None) => true,
        (Some(old), Some((workspace, key))) => {
            old.workspace == *workspace && old.key == format!("{key}{mark}")
        }
        _ => false,
    };
    let told = vars.get(OsStr::new(COLD)).map(Path::new);
    let cold = if same && found.is_some() { None } else { cold(cwd, envs, found.as_ref()) };
    if same && cold.as_deref() == told {
        return Vec::new();
    }
    let mut now = vars.clone();
    let mut out = Vec::new();
    if !same {
        if let Some(old) = &old {
            take_off(old, &mut now);
        }
        now.remove(OsStr::new(NAME));
        let new = found.and_then(|(workspace, key)| Some((workspace, Record::read(envs, &key)?)));
        if let Some((workspace, mut record)) = new {
            match trust {
                Some(Ok(trust)) => record.activation.vars.extend(trust.vars),
                Some(Err(_)) => out.extend(shell.say(&workspace, UNTRUSTED)),
                None => {}
            }
            let mut state = put_on(workspace, envs, &record, &mut now);
            state.key.push_str(&mark);
            now.insert(NAME.into(), state.encode().into());
        }
    }
    match &cold {
        Some(dir) if told != Some(dir) => {
            out.extend(shell.say(dir, NOT_READY));
            now.insert(COLD.into(), dir.into());
        }
        Some(_) => {}
        None => drop(now.remove(OsStr::new(COLD))),
    }
    out.extend(difference(shell, vars, &now));
    out
}

/// The directory at or above `cwd` that asks for tools which are not there: a prompt waits for
/// nothing, so it is only said.
fn cold(cwd: &Path, envs: &Path, found: Option<&(PathBuf, String)>) -> Option<PathBuf> {
    match found {
        Some((_, key)) if envs.join(key).join(super::FILE).is_file() => None,
        Some((workspace, _)) => Some(workspace.clone()),
        None => cwd.ancestors().find(|dir| dir.join(spec::PATH).is_file()).map(Path::to_owned),
    }
}

/// The nearest directory at or above `cwd` that has an environment of this home, and which.
pub fn environment_of(cwd: &Path, envs: &Path) -> Option<(PathBuf, String)> {
    cwd.ancestors().find_map(|dir| {
        let target = std::fs::read_link(dir.join(LINK)).ok()?;
        let ours = target.parent() == Some(envs);
        ours.then_some((dir.to_owned(), target.file_name()?.to_str()?.to_owned()))
    })
}

fn take_off(state: &State, vars: &mut BTreeMap<OsString, OsString>) {
    for var in &state.vars {
        // What the user has set since is the user's.
        if vars.get(&var.name) != Some(&var.new) {
            continue;
        }
        match &var.old {
            Some(old) => vars.insert(var.name.clone(), old.clone()),
            None => vars.remove(&var.name),
        };
    }
    let Some(path) = vars.get(OsStr::new("PATH")) else { return };
    let mut entries: Vec<OsString> = split(path);
    for ours in &state.path {
        if let Some(at) = entries.iter().position(|entry| entry == ours) {
            entries.remove(at);
        }
    }
    vars.insert("PATH".into(), join(entries));
}

/// In front of `PATH` goes the environment in this home, which nothing in the workspace can
/// write to. The workspace's own directories of programs go behind: they add commands, and
/// a file in them takes the place of none of the user's.
fn put_on(
    workspace: PathBuf,
    envs: &Path,
    record: &Record,
    vars: &mut BTreeMap<OsString, OsString>,
) -> State {
    let front = envs.join(&record.key).join("bin").into_os_string();
    let link = workspace.join(LINK).join("bin");
    let own = record.activation.path_in(&workspace).into_iter().filter(|entry| *entry != link);
    // A directory with a colon in its name cannot be on PATH.
    let path: Vec<OsString> = std::iter::once(front)
        .chain(own)
        .filter(|entry| !entry.as_bytes().contains(&b':'))
        .collect();
    let mut changed = Vec::new();
    let mut vars_on: BTreeMap<OsString, OsString> = match envs.parent() {
        Some(root) => {
            own_at(root, &workspace).into_iter().map(|(k, v)| (k.into(), v.into())).collect()
        }
        None => BTreeMap::new(),
    };
    vars_on.extend(record.activation.vars_in(&workspace));
    for (name, new) in vars_on {
        let old = vars.insert(name.clone(), new.clone());
        changed.push(Changed { name, new, old });
    }
    let before = vars.get(OsStr::new("PATH")).map(|p| split(p)).unwrap_or_default();
    let (front, back) = path.split_at(path.len().min(1));
    let all = front.iter().cloned().chain(before).chain(back.iter().cloned());
    vars.insert("PATH".into(), join(all));
    State { workspace, key: record.key.clone(), path, vars: changed }
}

fn split(path: &OsStr) -> Vec<OsString> {
    path.as_bytes().split(|b| *b == b':').map(|e| OsStr::from_bytes(e).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Activation, FILE, VERSION};
    use super::*;

    fn home(dir: &Path) -> PathBuf {
        let envs = dir.join("envs");
        for (key, vars) in
            [("one", vec![("A", "{workspace}/a"), ("B", "b")]), ("two", vec![("B", "2")])]
        {
            let record = Record {
                version: VERSION,
                key: key.into(),
                root: dir.into(),
                activation: Activation {
                    path: vec!["{workspace}/.venv/bin".into(), "{workspace}/.zagi/env/bin".into()],
                    last: Vec::new(),
                    vars: vars.into_iter().map(|(k, v)| (k.into(), v.into())).collect(),
                    project: BTreeMap::new(),
                },
                view: None,
                trees: Vec::new(),
            };
            std::fs::create_dir_all(envs.join(key)).unwrap();
            std::fs::write(envs.join(key).join(FILE), serde_json::to_vec(&record).unwrap())
                .unwrap();
        }
        envs
    }

    fn workspace(dir: &Path, envs: &Path, key: &str) {
        std::fs::create_dir_all(dir.join(".zagi")).unwrap();
        std::fs::create_dir_all(dir.join("src/deep")).unwrap();
        std::os::unix::fs::symlink(envs.join(key), dir.join(LINK)).unwrap();
    }

    /// What bash makes of it, starting from `vars`.
    fn evaluate(
        vars: &BTreeMap<OsString, OsString>,
        script: &[u8],
    ) -> BTreeMap<OsString, OsString> {
        let mut script = script.to_vec();
        script.extend(b"\n/usr/bin/env -0");
        let out = std::process::Command::new("/bin/bash")
            .args([OsStr::new("-c"), OsStr::from_bytes(&script)])
            .env_clear()
            .envs(vars)
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        out.stdout
            .split(|b| *b == 0)
            .filter_map(|pair| {
                let at = pair.iter().position(|b| *b == b'=')?;
                let (name, value) = (&pair[..at], &pair[at + 1..]);
                Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
            })
            // Bash's own.
            .filter(|(name, _)| !["_", "SHLVL", "PWD", "OLDPWD"].iter().any(|n| name == n))
            .collect()
    }

    #[test]
    fn on_and_off_leave_no_trace_whatever_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let envs = home(dir.path());
        let start: BTreeMap<OsString, OsString> =
            [("PATH", "/usr/bin::/bin"), ("B", "old 'b'\n$x")]
                .map(|(k, v)| (k.into(), v.into()))
                .into();
        for name in ["plain", "with space", "quo'te\"s", "new\nline", "$(touch x)`y`\\", "ünï"] {
            let there = dir.path().join(name);
            workspace(&there, &envs, "one");
            let on = hook_env(Shell::Bash, &envs, &there.join("src/deep"), &start);
            let inside = evaluate(&start, &on);
            let at = there.to_str().unwrap();
            assert_eq!(inside[OsStr::new("A")], format!("{at}/a").as_str());
            assert_eq!(inside[OsStr::new("B")], "b");
            let path = format!("{}/one/bin:/usr/bin::/bin:{at}/.venv/bin", envs.display());
            assert_eq!(inside[OsStr::new("PATH")], path.as_str());
            assert_eq!(inside[OsStr::new("ZAGI_WORKSPACE")], at);
            // Again in the same workspace: nothing to do.
            assert!(hook_env(Shell::Bash, &envs, &there, &inside).is_empty());
            let off = hook_env(Shell::Bash, &envs, dir.path(), &inside);
            assert_eq!(evaluate(&inside, &off), start, "{name}");
        }
    }

    #[test]
    fn what_a_workspace_has_of_its_own_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let envs = home(dir.path());
        let there = dir.path().join("w");
        workspace(&there, &envs, "one");
        let own = dir.path().join("workspaces/0123");
        let link = crate::home::workspace_link(dir.path(), &there);
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("../0123", &link).unwrap();
        let vars = BTreeMap::from([("U".to_owned(), "unix:///s".to_owned())]);
        super::super::write_own(&own, &vars).unwrap();
        let start: BTreeMap<OsString, OsString> = [("PATH".into(), "/bin".into())].into();
        let inside = evaluate(&start, &hook_env(Shell::Bash, &envs, &there, &start));
        assert_eq!(inside[OsStr::new("U")], "unix:///s");
        let off = hook_env(Shell::Bash, &envs, dir.path(), &inside);
        assert_eq!(evaluate(&inside, &off), start);
        super::super::write_own(&own, &BTreeMap::new()).unwrap();
        let inside = evaluate(&start, &hook_env(Shell::Bash, &envs, &there, &start));
        assert_eq!(inside.get(OsStr::new("U")), None);
    }

    #[test]
    fn from_one_workspace_into_another_and_what_the_user_set_stays() {
        let dir = tempfile::tempdir().unwrap();
        let envs = home(dir.path());
        let (one, two) = (dir.path().join("1"), dir.path().join("2"));
        workspace(&one, &envs, "one");
        workspace(&two, &envs, "two");
        let start: BTreeMap<OsString, OsString> = [("PATH".into(), "/bin".into())].into();
        let mut vars = evaluate(&start, &hook_env(Shell::Bash, &envs, &one, &start));
        vars.insert("A".into(), "mine".into());
        let mut path: OsString = "/added:".into();
        path.push(&vars[OsStr::new("PATH")]);
        vars.insert("PATH".into(), path);
        let vars = evaluate(&vars, &hook_env(Shell::Bash, &envs, &two, &vars));
        assert_eq!(vars[OsStr::new("A")], "mine");
        assert_eq!(vars[OsStr::new("B")], "2");
        let vars = evaluate(&vars, &hook_env(Shell::Bash, &envs, Path::new("/"), &vars));
        assert_eq!(vars[OsStr::new("PATH")], "/added:/bin");
        assert_eq!(vars.len(), 2, "{vars:?}");
    }

    #[test]
    fn a_directory_that_only_looks_like_a_workspace_gives_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let envs = home(dir.path());
        let start = BTreeMap::from([("PATH".into(), "/bin".into())]);
        let stranger = dir.path().join("stranger");
        std::fs::create_dir_all(stranger.join(LINK).join("bin")).unwrap();
        std::fs::copy(envs.join("one").join(FILE), stranger.join(LINK).join(FILE)).unwrap();
        assert!(hook_env(Shell::Bash, &envs, &stranger, &start).is_empty());
        let linked = dir.path().join("linked");
        std::fs::create_dir_all(linked.join(".zagi")).unwrap();
        std::os::unix::fs::symlink(stranger.join(LINK), linked.join(LINK)).unwrap();
        assert!(hook_env(Shell::Bash, &envs, &linked, &start).is_empty());
        // Nor can it give a name of ours to something of its own.
        let named = dir.path().join("named");
        std::fs::create_dir_all(named.join(".zagi")).unwrap();
        std::os::unix::fs::symlink("../evil/one", named.join(LINK)).unwrap();
        assert!(hook_env(Shell::Bash, &envs, &named, &start).is_empty());
    }

    #[test]
    fn a_strangers_variables_come_when_they_are_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let envs = home(dir.path());
        let there = dir.path().join("web");
        workspace(&there, &envs, "one");
        let toml = there.join(spec::PATH);
        std::fs::write(&toml, "[env]\nLEVEL = \"7\"\n").unwrap();
        let start: BTreeMap<OsString, OsString> = [("PATH".into(), "/bin".into())].into();
        let go = |vars: &BTreeMap<OsString, OsString>| hook_env(Shell::Bash, &envs, &there, vars);
        let level = |vars: &BTreeMap<OsString, OsString>| vars.get(OsStr::new("LEVEL")).cloned();
        let vars = evaluate(&start, &go(&start));
        assert_eq!(level(&vars), None);
        let given = BTreeMap::from([("LEVEL".to_owned(), "7".to_owned())]);
        Trust::give(dir.path(), &there, &given).unwrap();
        let vars = evaluate(&vars, &go(&vars));
        assert_eq!(level(&vars), Some("7".into()));
        assert!(go(&vars).is_empty());
        std::fs::write(&toml, "[env]\nLEVEL = \"8\"\n").unwrap();
        let said = go(&vars);
        assert!(String::from_utf8_lossy(&said).contains("zagi trust"));
        let vars = evaluate(&vars, &said);
        assert_eq!(level(&vars), None);
        assert!(go(&vars).is_empty(), "it is said once");
    }

    #[test]
    fn what_is_not_ready_is_said_once_and_waited_for_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let envs = home(dir.path());
        let there = dir.path().join("web");
        std::fs::create_dir_all(there.join(".zagi")).unwrap();
        std::fs::write(there.join(spec::PATH), "").unwrap();
        let start: BTreeMap<OsString, OsString> = [("PATH".into(), "/bin".into())].into();
        let said = hook_env(Shell::Bash, &envs, &there.join("src"), &start);
        assert!(String::from_utf8_lossy(&said).contains("zagi lock"));
        let vars = evaluate(&start, &said);
        assert!(hook_env(Shell::Bash, &envs, &there, &vars).is_empty());
        let off = hook_env(Shell::Bash, &envs, dir.path(), &vars);
        assert_eq!(evaluate(&vars, &off), start);
        // An environment that was collected.
        workspace(&there, &envs, "gone");
        let said = hook_env(Shell::Fish, &envs, &there, &start);
        assert!(String::from_utf8_lossy(&said).starts_with(r"printf '%s\n' 'zagi: "));
    }
}
