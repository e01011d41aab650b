//! What an app and an agent have in common: the workspace and its tools in a sandbox, and a
//! network that leads through this process ([`crate::egress`]) to other hosts.
//!
//! A host that a secret's value goes to has another address inside: one at which this process
//! listens, with a certificate that is trusted inside alone. So programs need to know of no proxy
//! for it. For all other hosts they do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use zagi_sandbox::{Plan, Profile};

use super::description::Description;
use super::error::{WorkspaceError, at};
use super::pins;
use super::tools::{self, Seen};
use crate::context::Context;
use crate::dependencies;
use crate::egress::{self, Broker, Credential, Way};
use crate::environment::activate;
use crate::secrets::SecretsError;
use crate::secrets::broker::Brokered;

/// The address inside of hosts that values go to.
const HOSTS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The file inside of certificates that are trusted there.
const TRUSTED: &str = "/etc/zagi/certificates.pem";

/// Who is confined.
pub(super) struct Who<'a> {
    pub profile: Profile,
    pub argv: &'a [String],
    /// Where it starts, if that is in the workspace.
    pub cwd: &'a Path,
    /// What is shown as the workspace: its own directory, or a copy of it.
    pub files: &'a Path,
    /// The directory that is its home; else it has one in memory.
    pub home: Option<PathBuf>,
}

/// What the sandbox of `who` begins with, in a workspace at `root`. Its network leads to the proxy,
/// the first of its listeners, and nowhere.
pub(super) fn bare(ctx: &Context, root: &Path, who: Who<'_>) -> Plan {
    let mut plan = Plan::new(who.profile, who.argv.to_vec()).bind(who.files, root, true);
    if let Some(own) = who.home {
        let home = plan.identity.home.clone();
        plan = plan.bind(own, home, true);
    }
    plan.pins = pins::of(ctx, who.files, root);
    plan.listen = vec![egress::PROXY];
    plan.cwd = if who.cwd.starts_with(root) { who.cwd.to_owned() } else { root.to_owned() };
    plan
}

/// Refuses a directory that would show the home of zagi, or of the user, to whoever is confined to it.
pub(super) fn check(ctx: &Context, root: &Path) -> Result<(), WorkspaceError> {
    let real = root.canonicalize().map_err(at(root))?;
    let homes = [Some(ctx.home.root()), ctx.var("HOME").map(Path::new)].into_iter().flatten();
    for home in homes {
        // One that is not there is in nothing.
        if home.canonicalize().is_ok_and(|home| home.starts_with(&real)) {
            return Err(WorkspaceError::Encloses(root.to_owned(), home.to_owned()));
        }
    }
    Ok(())
}

/// The sandbox of `who` in a workspace, with its tools.
pub(super) fn surround(ctx: &Context, description: &Description, who: Who<'_>) -> Plan {
    surround_with(ctx, description, who, tools::of(ctx, description, &description.path))
}

/// The same, with the tools that it had when they were looked at.
pub(super) fn surround_with(
    ctx: &Context,
    description: &Description,
    who: Who<'_>,
    Seen { tools, borrowed, .. }: Seen,
) -> Plan {
    let root = &description.path;
    let mut plan = bare(ctx, root, who);
    let mut seen = BTreeSet::new();
    dependencies::show(&mut plan, &tools, &borrowed, &mut seen);
    plan.env = tools.vars;
    // One that is the user's own is not seen there.
    let of_system = |shell: &String| ["/bin/", "/usr/"].iter().any(|dir| shell.starts_with(dir));
    if !plan.env.get("SHELL").is_some_and(of_system) {
        plan.env.insert("SHELL".into(), "/bin/sh".into());
    }
    dependencies::withhold(&mut plan.env);
    dependencies::certificates(ctx, &mut plan, &mut seen);
    plan.env.extend(author(root));
    let (name, home) = (plan.identity.name.clone(), plan.identity.home.display().to_string());
    plan.env.extend(egress::variables().map(|(variable, value)| (variable.to_owned(), value)));
    for (variable, value) in [
        ("HOME", home.as_str()),
        ("USER", &name),
        ("LOGNAME", &name),
        ("TMPDIR", "/tmp"),
        // The monitor that git's configuration names is outside.
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "core.fsmonitor"),
        ("GIT_CONFIG_VALUE_0", "false"),
    ] {
        plan.env.insert(variable.into(), value.into());
    }
    plan
}

/// Shows services: the directories of their sockets, and the variables by which they are found.
pub(super) fn serviced(
    mut plan: Plan,
    (sockets, vars): (Vec<PathBuf>, BTreeMap<String, String>),
) -> Plan {
    for dir in sockets {
        // A socket is connected to, also where nothing can be made beside it.
        plan = plan.bind(&dir, &dir, false);
    }
    for (name, value) in vars {
        // What the project says itself goes before.
        plan.env.entry(name).or_insert(value);
    }
    plan
}

/// Has the hosts that credentials go to lead here: a listener for each port, after those that the
/// plan has. `certificate` is trusted inside, by
/// a file that is written to `dir`.
pub(super) fn lead(
    ctx: &Context,
    plan: &mut Plan,
    credentials: &[Arc<impl Credential>],
    (certificate, dir): (&str, &Path),
) -> Result<(), WorkspaceError> {
    if credentials.is_empty() {
        return Ok(());
    }
    for credential in credentials {
        let Some((host, port)) = credential.host().rsplit_once(':') else { continue };
        let Ok(port) = port.parse() else { continue };
        let address = match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) if v4.is_loopback() => v4,
            // It can be had by the proxy.
            Ok(_) => continue,
            // RFC 6761, 6.3: it is always this machine's own, also without a look into a file.
            Err(_) if host == "localhost" || host.ends_with(".localhost") => Ipv4Addr::LOCALHOST,
            Err(_) => {
                plan.hosts.insert(host.to_owned(), HOSTS);
                HOSTS
            }
        };
        let address = SocketAddrV4::new(address, port);
        if !plan.listen.contains(&address) {
            plan.listen.push(address);
        }
    }
    let path = dir.join("certificates.pem");
    let own = |name: &str| ctx.var(name).map(PathBuf::from).filter(|path| path.is_file());
    let system = || activate::CERTIFICATES.iter().map(PathBuf::from).find(|path| path.is_file());
    let trusted = own("SSL_CERT_FILE").or_else(system);
    let mut text = trusted.map_or_else(|| Ok(Vec::new()), std::fs::read).map_err(at(&path))?;
    text.extend_from_slice(b"\n");
    text.extend_from_slice(certificate.as_bytes());
    std::fs::write(&path, text).map_err(at(&path))?;
    let bind = |target: &Path| zagi_sandbox::Bind {
        source: path.clone(),
        target: target.to_owned(),
        writable: false,
    };
    plan.binds.push(bind(Path::new(TRUSTED)));
    // Programs that heed no variable.
    let system = activate::CERTIFICATES.iter().map(Path::new).filter(|path| path.is_file());
    plan.binds.extend(system.filter_map(|path| path.canonicalize().ok()).map(|path| bind(&path)));
    for variable in dependencies::CERTIFICATES {
        plan.env.insert(variable.into(), TRUSTED.into());
    }
    Ok(())
}

/// Serves the listeners of a plan: the proxy, and the hosts that values go to. They end with this
/// process.
pub(super) fn serve(listeners: impl Iterator<Item = TcpListener>, way: &Arc<Way>) {
    for (n, listener) in listeners.enumerate() {
        let way = way.clone();
        std::thread::spawn(move || match n {
            0 => egress::serve(&listener, &way),
            _ => egress::serve_hosts(&listener, &way),
        });
    }
}

/// Who puts the values in.
pub(super) fn broker(
    ctx: &Context,
    broker: &crate::secrets::broker::Broker,
    credentials: &[Arc<Brokered>],
) -> Result<Broker, WorkspaceError> {
    let needles = broker.needles().map_err(SecretsError::Memory)?;
    let roots = roots(ctx)?;
    let credentials = credentials.iter().map(|c| c.clone() as Arc<dyn Credential>).collect();
    Ok(Broker::new(credentials, Arc::new(needles), roots.as_deref())?)
}

/// What hosts' certificates are checked against, where the user says so; else the platform's.
fn roots(ctx: &Context) -> Result<Option<Vec<u8>>, WorkspaceError> {
    let Some(path) = ctx.var("SSL_CERT_FILE").map(PathBuf::from) else { return Ok(None) };
    std::fs::read(&path).map(Some).map_err(at(&path))
}

/// In whose name it commits: the user's, who is answerable for it.
fn author(root: &Path) -> BTreeMap<String, String> {
    // git would wait for a pipe.
    let waits = |name: &str| {
        let about = root.join(".git").join(name).metadata();
        about.is_ok_and(|about| !about.is_file())
    };
    if ["HEAD", "config", "config.worktree", "commondir"].into_iter().any(waits) {
        return BTreeMap::new();
    }
    let asked = ["config", "--null", "--get-regexp", r"^user\.(name|email)$"];
    let said = Command::new("git").arg("-C").arg(root).args(asked).output();
    let said = said.ok().and_then(|said| String::from_utf8(said.stdout).ok()).unwrap_or_default();
    let mut vars = BTreeMap::new();
    // Of several the last holds.
    for (key, value) in said.split('\0').filter_map(|one| one.split_once('\n')) {
        let names = match key {
            "user.name" => ["GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"],
            _ => ["GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"],
        };
        if !value.trim().is_empty() {
            vars.extend(names.map(|name| (name.to_owned(), value.trim().to_owned())));
        }
    }
    vars
}
