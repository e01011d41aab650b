//! What an installation may see: its copy of the source, the environment's tools, its
//! manager's download cache, and, unless it is off, of the network what [`super::network`] allows.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use zagi_sandbox::{Identity, Profile};

use super::network::Network;
use super::plan::{CACHE, Plan};
use super::{DependenciesError, WORKSPACE};
use crate::context::Context;
use crate::environment::activate::{self, PROXIES};
use crate::environment::launch::View;
use crate::environment::realise::Realised;
use crate::event::Event;
use crate::registry::nix::STORE;

/// Variables that name a file of certificates, by the tools that read them.
pub const CERTIFICATES: [&str; 7] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];
/// How Go reaches modules.
const GO_MODULES: [&str; 6] =
    ["GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE"];

/// What a complete environment may hold of the user's and an installation has no use for:
/// ways to agents, sessions and this program.
const WITHHELD: [&str; 6] = [
    "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "ZAGI_HOME",
];

/// The environment by whose tools is installed.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The realised environment: `bin/` is in it, as links.
    pub dir: PathBuf,
    /// Directories that it needs besides and that hold no secret: where its links lead.
    pub trees: Vec<PathBuf>,
    /// Its complete variables, for a workspace at [`WORKSPACE`].
    pub vars: BTreeMap<String, String>,
    /// What they must see at `/nix/store`, where some do.
    pub view: Option<View>,
}

impl Tools {
    /// Those of a realised environment.
    pub fn of(realised: &Realised) -> Tools {
        let vars = realised.activation.environment(Path::new(WORKSPACE), &BTreeMap::new());
        // What is no text belongs to a path that the sandbox will refuse by name.
        let text = |(name, value): (OsString, OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        let mut vars: BTreeMap<String, String> = vars.into_iter().filter_map(text).collect();
        // A workspace has a link to its environment; the place of installation may have none.
        let path = vars.entry("PATH".into()).or_default();
        *path = format!("{}:{path}", realised.dir.join("bin").display());
        let (dir, trees) = (realised.dir.clone(), realised.trees.clone());
        Tools { dir, trees, vars, view: realised.view.clone() }
    }
}

/// The directories of one installation.
pub(super) struct Work {
    /// The copy of the source, or the workspace itself.
    pub workspace: PathBuf,
    /// Where it is seen.
    pub seen: PathBuf,
    /// Its `/tmp`, on a disk rather than in memory.
    pub tmp: PathBuf,
    /// Object directories that the source's `.git` borrows from.
    pub borrowed: Vec<PathBuf>,
    /// Where lock files have packages.
    pub hosts: Vec<String>,
}

/// A sandbox, and the network that it is led to, unless that is off.
pub(super) struct Confined {
    pub sandbox: zagi_sandbox::Plan,
    pub network: Option<Network>,
}

/// The sandbox for `argv` of an installation.
pub(super) fn confine(
    ctx: &Context,
    tools: &Tools,
    plan: &Plan,
    work: &Work,
    argv: &[String],
) -> Result<Confined, DependenciesError> {
    let mut confined = surround(ctx, tools, work, (&plan.caches, &plan.env), argv)?;
    confined.sandbox.cwd = work.seen.join(&plan.project.root);
    Ok(confined)
}

/// The sandbox for `argv`, started where the workspace is seen; of download caches it has those that
/// are named, and its manager's variables.
pub(super) fn surround(
    ctx: &Context,
    tools: &Tools,
    work: &Work,
    (caches, vars): (&[String], &BTreeMap<String, String>),
    argv: &[String],
) -> Result<Confined, DependenciesError> {
    let mut sandbox = zagi_sandbox::Plan::new(Profile::Install, argv.to_vec())
        .bind(&work.tmp, "/tmp", true)
        .bind(&work.workspace, &work.seen, true);
    for kind in caches {
        let dir = ctx.home.cache(kind);
        fs::create_dir_all(&dir).map_err(DependenciesError::file(&dir))?;
        sandbox = sandbox.bind(dir, Path::new(CACHE).join(kind), true);
    }
    let mut seen = BTreeSet::new();
    show(&mut sandbox, tools, &work.borrowed, &mut seen);
    sandbox.env = tools.vars.clone();
    withhold(&mut sandbox.env);
    sandbox.env.extend(vars.clone());
    let Identity { name, home, .. } = &sandbox.identity;
    let home = home.display().to_string();
    for (variable, value) in
        [("HOME", home.as_str()), ("USER", name), ("LOGNAME", name), ("TMPDIR", "/tmp")]
    {
        sandbox.env.insert(variable.into(), value.into());
    }
    let mut network = None;
    if ctx.offline {
        offline(&mut sandbox.env);
    } else {
        certificates(ctx, &mut sandbox, &mut seen);
        go_modules(ctx, &mut sandbox.env);
        let own = Network::new(ctx, &work.hosts)?;
        own.lead(&mut sandbox);
        network = Some(own);
    }
    sandbox.cwd.clone_from(&work.seen);
    Ok(Confined { sandbox, network })
}

/// Lets a sandbox see the environment's tools, and `borrowed`, where they are. What it sees already
/// is in `seen`.
pub fn show(
    sandbox: &mut zagi_sandbox::Plan,
    tools: &Tools,
    borrowed: &[PathBuf],
    seen: &mut BTreeSet<PathBuf>,
) {
    let mut bind = |source: &Path, target: &Path| {
        let (source, target) = (source.to_owned(), target.to_owned());
        sandbox.binds.push(zagi_sandbox::Bind { source, target, writable: false });
    };
    let read_only = [tools.dir.clone()].into_iter().chain(tools.trees.iter().cloned());
    for path in read_only.chain(adopted(tools)).chain(borrowed.iter().cloned()) {
        if path.exists() && seen.insert(path.clone()) {
            bind(&path, &path);
        }
    }
    // No namespace can be made inside: the launchers find the store where they would show it.
    if let Some(view) = &tools.view {
        bind(&view.store, Path::new(STORE));
        if seen.insert(view.zagi.clone()) {
            bind(&view.zagi, &view.zagi);
        }
    }
}

/// Takes out what leads to the user's agents, sessions and proxies: an address of a proxy may hold
/// a password.
pub fn withhold(env: &mut BTreeMap<String, String>) {
    env.retain(|name, _| !WITHHELD.contains(&name.as_str()) && !PROXIES.contains(&name.as_str()));
}

/// Tells each manager that there is no network, so that it says what is missing instead of
/// waiting for it.
fn offline(env: &mut BTreeMap<String, String>) {
    for (name, value) in [
        ("npm_config_offline", "true"),
        ("pnpm_config_offline", "true"),
        ("UV_OFFLINE", "1"),
        ("CARGO_NET_OFFLINE", "true"),
        ("GOPROXY", "off"),
        ("YARN_ENABLE_NETWORK", "0"),
    ] {
        env.insert(name.into(), value.into());
    }
}

/// Tools that the environment adopted from this machine, where they are outside of what
/// every sandbox sees: the toolchain's directory if it is recognisably one, else the
/// program alone. Never a directory that may hold something else of the user's.
fn adopted(tools: &Tools) -> Vec<PathBuf> {
    let visible = |path: &Path| {
        ["/usr", "/bin", "/sbin", "/lib"].iter().any(|dir| path.starts_with(dir))
            || path.starts_with(&tools.dir)
            || tools.trees.iter().any(|tree| path.starts_with(tree))
    };
    let links = fs::read_dir(tools.dir.join("bin")).into_iter().flatten().flatten();
    let programs = links.filter_map(|link| link.path().canonicalize().ok());
    programs
        .filter(|program| !visible(program))
        .map(|program| {
            let prefix = program.parent().and_then(Path::parent);
            match prefix.filter(|prefix| prefix.join("lib/rustlib").is_dir()) {
                Some(toolchain) => toolchain.to_owned(),
                None => program,
            }
        })
        .collect()
}

/// The object directories that the source's `.git` borrows from: this repository's own, and
/// no other's. To be asked before the first command runs: a command could name others.
pub(super) fn borrowed(workspace: &Path) -> Vec<PathBuf> {
    let list = workspace.join(".git/objects/info/alternates");
    let text = fs::read_to_string(list).unwrap_or_default();
    text.lines().map(PathBuf::from).filter(|path| path.is_absolute()).collect()
}

/// The certificates that the user's own tools trust: a company's, a mirror's. Environments
/// bring tools that trust the makers' list only.
pub fn certificates(ctx: &Context, sandbox: &mut zagi_sandbox::Plan, seen: &mut BTreeSet<PathBuf>) {
    let given = |name: &str| ctx.var(name).map(PathBuf::from).filter(|path| path.is_file());
    let system = || activate::CERTIFICATES.iter().map(PathBuf::from).find(|path| path.is_file());
    let Some(default) = given("SSL_CERT_FILE").or_else(system) else { return };
    for name in CERTIFICATES {
        let path = given(name).unwrap_or_else(|| default.clone());
        let Some(text) = path.to_str() else { continue };
        if !path.starts_with("/etc/ssl/certs")
            && !path.starts_with("/usr")
            && seen.insert(path.clone())
        {
            sandbox.binds.push(zagi_sandbox::Bind {
                source: path.clone(),
                target: path.clone(),
                writable: false,
            });
        }
        sandbox.env.insert(name.into(), text.into());
    }
    // Older and newer name of the same switch of uv's.
    for name in ["UV_NATIVE_TLS", "UV_SYSTEM_CERTS"] {
        sandbox.env.insert(name.into(), "1".into());
    }
}

/// Ways to modules, except one whose address holds a password: it is the user's, and this is a
/// stranger's code.
fn go_modules(ctx: &Context, env: &mut BTreeMap<String, String>) {
    for name in GO_MODULES {
        let Some(value) = ctx.var(name).and_then(|value| value.to_str()) else { continue };
        if value.contains('@') {
            ctx.events.emit(Event::Warning(format!(
                "the address in `{name}` holds a password: it is not shown to the package manager"
            )));
        } else {
            env.insert(name.into(), value.into());
        }
    }
}
