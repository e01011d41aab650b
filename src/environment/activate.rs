//! What an environment does to the variables of a process: `exec`'s clean, complete ones
//! ([`Activation::environment`]), and what the shell hook puts on and takes off
//! ([`hook`], [`hook_env`]). A workspace with services has variables of its own ([`read_own`]).
//!
//! `$ZAGI_HOME/envs/<key>/activate.json`, version 1, written when the environment is
//! realised and small enough to be read at every prompt:
//!
//! ```json
//! {"version": 1, "key": "…", "root": "/home/u/.zagi",
//!  "path": ["{workspace}/.venv/bin", "{workspace}/.zagi/env/bin"],
//!  "vars": {"GOTOOLCHAIN": "local"},
//!  "trees": ["/home/u/.zagi/store/farm/trees/go-1.25.3-…"]}
//! ```
//!
//! Where tools come from Nix, `view` says besides what they must see at `/nix/store`
//! ([`super::launch`]).
//!
//! The hook evaluates nothing that a repository holds. A workspace's `.zagi/env` is a link
//! to `$ZAGI_HOME/envs/<key>`, and only says *which* environment it is; everything else is
//! read in this home. So a directory that somebody made to look like a workspace can choose
//! among what was realised here, and no more; and what is written into a workspace takes
//! the place of no command of the user's.

mod hook;
mod own;
mod shell;
mod state;
mod trust;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::launch::{ENTER, View};
pub(super) use super::words::quote;

pub use hook::{environment_of, hook_env};
pub use own::{read_own, write_own};
pub use shell::{Shell, hook};
pub use trust::Trust;

/// The version of the format above.
pub const VERSION: u32 = 1;
/// The file, in a realised environment.
pub const FILE: &str = "activate.json";
/// Where a workspace has its environment.
pub const LINK: &str = ".zagi/env";
/// The variable that names the workspace whose environment is on.
pub const WORKSPACE: &str = "ZAGI_WORKSPACE";

/// Directories of programs that every system has.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where systems keep the certificates that they trust. Programs of another system's
/// making look in another place.
pub const CERTIFICATES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How the network is reached.
pub const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// What of the user's variables a clean environment keeps: who and where one is, the
/// language, the terminal, how the network is reached. Not: anything that changes how an
/// interpreter or loader works, or where other tools are.
const KEPT: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TERM",
    "COLORTERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "SSH_AUTH_SOCK",
    "CI",
    "ZAGI_HOME",
];

/// Variables that would let an environment's lock, which may come with a stranger's
/// repository, take over the programs that it has nothing to do with.
const FORBIDDEN_PREFIXES: &[&str] = &["LD_", "DYLD_", "GIT_", "SSH_", "__ZAGI", "BASH_", "GCONV_"];
const FORBIDDEN: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "ENV",
    "IFS",
    "PS4",
    "PROMPT_COMMAND",
    "ZDOTDIR",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYLIB",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "HOSTALIASES",
    "LOCPATH",
    "TERMINFO",
    "GOFLAGS",
    "NIX_CONFIG",
    "NIX_CONF_DIR",
    "NIX_PATH",
    "NIX_REMOTE",
    "NIX_SSHOPTS",
    "NIX_USER_CONF_FILES",
    "ZAGI_HOME",
    "ZAGI_WORKSPACE",
];

/// What being in an environment means. Texts may hold `{workspace}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// Directories of programs, first to last; in the user's shell they come after the
    /// user's own.
    pub path: Vec<String>,
    /// Directories of programs that come after the machine's own; never in the user's shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last: Vec<String>,
    /// Variables that the tools need.
    pub vars: BTreeMap<String, String>,
    /// Variables that the project sets, or its flake. They are for its own processes, and never reach
    /// the user's shell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub project: BTreeMap<String, String>,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// See [`VERSION`].
    pub version: u32,
    /// The environment.
    pub key: String,
    /// The home that it was made for: paths in it are absolute.
    pub root: PathBuf,
    /// What it means to be in it.
    #[serde(flatten)]
    pub activation: Activation,
    /// What its programs must see at `/nix/store`, where some do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// The trees of the farm that it is made of, and store paths of the machine's own Nix; they must stay as long as it is used.
    pub trees: Vec<PathBuf>,
}

impl Record {
    /// Reads the file of one environment; `None` where there is none that can be used.
    pub fn read(envs: &Path, key: &str) -> Option<Record> {
        let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric());
        let bytes = plain.then(|| std::fs::read(envs.join(key).join(FILE)).ok())??;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.version == VERSION && record.key == key).then_some(record)
    }

    /// The program that starts others where they see what they must, if any must.
    pub fn enter(&self, envs: &Path) -> Option<PathBuf> {
        self.view.as_ref().map(|_| envs.join(&self.key).join(ENTER))
    }
}

/// The trees that the environment of a file is made of, whatever version wrote it.
pub fn trees(file: &[u8]) -> Option<Vec<PathBuf>> {
    #[derive(Deserialize)]
    struct Trees {
        trees: Vec<PathBuf>,
    }
    serde_json::from_slice::<Trees>(file).ok().map(|record| record.trees)
}

/// Whether a tool may set a variable of this name; see [`FORBIDDEN`].
pub fn may_set(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let shaped = name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit());
    let forbidden = FORBIDDEN.contains(&name)
        || FORBIDDEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    !name.is_empty() && shaped && !forbidden
}

impl Activation {
    /// Directories for `PATH`, below one workspace.
    pub fn path_in(&self, workspace: &Path) -> Vec<OsString> {
        self.path.iter().map(|entry| fill(entry, workspace)).collect()
    }

    /// Variables, in one workspace; `PATH` is not among them.
    pub fn vars_in(&self, workspace: &Path) -> BTreeMap<OsString, OsString> {
        let mut vars: BTreeMap<OsString, OsString> =
            self.vars.iter().map(|(k, v)| (k.into(), fill(v, workspace))).collect();
        vars.insert(WORKSPACE.into(), workspace.into());
        vars
    }

    /// The environment of a process that works in `workspace`: clean of what the user's
    /// own shell is set up with, and complete. `user` are the user's variables.
    pub fn environment(
        &self,
        workspace: &Path,
        user: &BTreeMap<OsString, OsString>,
    ) -> BTreeMap<OsString, OsString> {
        let kept = |name: &OsStr| {
            name.to_str().is_some_and(|name| {
                KEPT.contains(&name) || PROXIES.contains(&name) || name.starts_with("LC_")
            })
        };
        let mut vars: BTreeMap<OsString, OsString> = user
            .iter()
            .filter(|(name, value)| kept(name) && !value.is_empty())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        complete(&mut vars);
        vars.extend(self.project.iter().map(|(k, v)| (k.into(), fill(v, workspace))));
        vars.extend(self.vars_in(workspace));
        let last = self.last.iter().map(OsString::from);
        let path = self.path_in(workspace).into_iter().chain([SYSTEM_PATH.into()]).chain(last);
        vars.insert("PATH".into(), join(path));
        vars
    }
}

/// Gives what programs expect every environment to have.
fn complete(vars: &mut BTreeMap<OsString, OsString>) {
    let missing =
        |vars: &BTreeMap<OsString, OsString>, name: &str| !vars.contains_key(OsStr::new(name));
    let account = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok().flatten();
    let name = account.as_ref().map_or("nobody", |a| a.name.as_str());
    if missing(vars, "USER") {
        vars.insert("USER".into(), name.into());
    }
    if missing(vars, "LOGNAME") {
        let user = vars[OsStr::new("USER")].clone();
        vars.insert("LOGNAME".into(), user);
    }
    if missing(vars, "HOME") {
        let home = account.as_ref().map_or(Path::new("/"), |a| a.dir.as_path());
        vars.insert("HOME".into(), home.into());
    }
    for (name, value) in [("SHELL", "/bin/sh"), ("TERM", "dumb"), ("LANG", "C.UTF-8")] {
        if missing(vars, name) {
            vars.insert(name.into(), value.into());
        }
    }
    if missing(vars, "SSL_CERT_FILE")
        && let Some(found) = CERTIFICATES.iter().find(|path| Path::new(path).is_file())
    {
        vars.insert("SSL_CERT_FILE".into(), found.into());
    }
}

/// A template with the workspace in its place. The workspace's path may be any bytes.
fn fill(template: &str, workspace: &Path) -> OsString {
    let pieces: Vec<&[u8]> = template.split("{workspace}").map(str::as_bytes).collect();
    OsString::from_vec(pieces.join(workspace.as_os_str().as_bytes()))
}

fn join(entries: impl IntoIterator<Item = OsString>) -> OsString {
    let entries: Vec<Vec<u8>> = entries.into_iter().map(OsString::into_vec).collect();
    OsString::from_vec(entries.join(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_environment_is_complete_and_not_the_users() {
        let activation = Activation {
            path: vec!["{workspace}/.venv/bin".into(), "{workspace}/.zagi/env/bin".into()],
            last: vec!["/farm/usr/bin".into()],
            vars: BTreeMap::from([("CARGO_HOME".into(), "{workspace}/.zagi/cargo".into())]),
            project: BTreeMap::from([("LOG_LEVEL".into(), "debug".into())]),
        };
        let user: BTreeMap<OsString, OsString> = [
            ("PATH", "/home/u/.pyenv/shims:/usr/bin"),
            ("HOME", "/home/u"),
            ("PYTHONPATH", "/x"),
            ("NODE_OPTIONS", "--inspect"),
            ("RUST_BACKTRACE", "1"),
            ("LD_LIBRARY_PATH", "/x"),
            ("https_proxy", "http://p"),
            ("LC_ALL", "de_DE.UTF-8"),
            ("CARGO_HOME", "/home/u/.cargo"),
            ("TZ", ""),
        ]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
        let vars = activation.environment(Path::new("/w s"), &user);
        let get = |name: &str| vars.get(OsStr::new(name)).map(|v| v.to_str().unwrap());
        assert_eq!(
            get("PATH"),
            Some(format!("/w s/.venv/bin:/w s/.zagi/env/bin:{SYSTEM_PATH}:/farm/usr/bin").as_str())
        );
        assert_eq!(get("HOME"), Some("/home/u"));
        assert_eq!(get("CARGO_HOME"), Some("/w s/.zagi/cargo"));
        assert_eq!(get("LOG_LEVEL"), Some("debug"));
        assert_eq!(get("https_proxy"), Some("http://p"));
        assert_eq!(get("LC_ALL"), Some("de_DE.UTF-8"));
        assert_eq!(get("ZAGI_WORKSPACE"), Some("/w s"));
        for name in ["USER", "LOGNAME", "SHELL", "TERM", "LANG"] {
            assert!(get(name).is_some_and(|v| !v.is_empty()), "{name}");
        }
        for name in ["PYTHONPATH", "NODE_OPTIONS", "RUST_BACKTRACE", "LD_LIBRARY_PATH", "TZ"] {
            assert_eq!(get(name), None, "{name}");
        }
    }

    #[test]
    fn what_a_lock_may_not_set() {
        for name in
            ["LD_PRELOAD", "PATH", "NODE_OPTIONS", "GIT_SSH_COMMAND", "a b", "", "1X", "A=B"]
                .into_iter()
                .chain(["NIX_CONFIG", "ZAGI_HOME"])
        {
            assert!(!may_set(name), "{name}");
        }
        for name in ["GOTOOLCHAIN", "CARGO_HOME", "npm_config_nodedir", "UV_PYTHON"] {
            assert!(may_set(name), "{name}");
        }
    }

    #[test]
    fn a_record_round_trips_and_a_stranger_cannot_name_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            version: VERSION,
            key: "abc".into(),
            root: "/home/u/.zagi".into(),
            activation: Activation { path: vec!["p".into()], ..Activation::default() },
            view: None,
            trees: vec!["/t".into()],
        };
        std::fs::create_dir(dir.path().join("abc")).unwrap();
        let text = serde_json::to_vec(&record).unwrap();
        std::fs::write(dir.path().join("abc").join(FILE), &text).unwrap();
        assert_eq!(Record::read(dir.path(), "abc"), Some(record));
        for key in ["", "..", "../abc", "x", "a/c"] {
            assert_eq!(Record::read(dir.path(), key), None);
        }
    }
}
