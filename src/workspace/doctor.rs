//! What this machine offers to a mount, and what to do about each lack.

pub mod attack;

use std::process::Command;

use serde::Serialize;

use super::description::Presentation;
use crate::context::Context;
use crate::registry::http::Client;
use crate::system;

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is there.
    Good,
    /// It is not, and zagi does without.
    Lacking,
    /// It is not, and something asked of zagi will fail for it.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What was found.
    pub found: String,
    /// How good that is.
    pub verdict: Verdict,
    /// What to do about a lack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// Everything that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One by one.
    pub checks: Vec<Check>,
    /// How a mount would be presented.
    pub presentation: Presentation,
}

/// Looks at everything; the registries are asked at once.
pub fn examine(ctx: &Context) -> Report {
    let lack = super::mounts::fuse_lack(ctx);
    let presentation = if lack.is_none() { Presentation::Fuse } else { Presentation::Materialised };
    let mut checks = vec![git(ctx), fuse(lack), fusermount3(ctx)];
    checks.extend(sandbox(ctx));
    checks.push(secrets(ctx));
    checks.extend(registries(ctx));
    Report { checks, presentation }
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, found: found.into(), verdict: Verdict::Good, advice: None }
}

fn bad(name: &'static str, verdict: Verdict, found: impl Into<String>, advice: &str) -> Check {
    Check { name, found: found.into(), verdict, advice: Some(advice.to_owned()) }
}

fn git(ctx: &Context) -> Check {
    let path = ctx.var("PATH").unwrap_or_default();
    match Command::new("git").arg("--version").env("PATH", path).output() {
        Ok(out) if out.status.success() => {
            let text = String::from_utf8_lossy(&out.stdout);
            good("git", text.trim().trim_start_matches("git version "))
        }
        _ => bad("git", Verdict::Missing, "not found", "install git (Debian: apt-get install git)"),
    }
}

fn fuse(lack: Option<String>) -> Check {
    match lack {
        None => good("fuse", "usable"),
        Some(lack) => bad(
            "fuse",
            Verdict::Lacking,
            lack,
            "install fuse3 and see that /dev/fuse is there; until then `zagi mount` makes real files",
        ),
    }
}

fn fusermount3(ctx: &Context) -> Check {
    let root = nix::unistd::geteuid().is_root();
    match zagi_fuse::mount::find_fusermount3(ctx.var("PATH")) {
        Some(path) => good("fusermount3", path.display().to_string()),
        None if root => good("fusermount3", "not found, and not needed by root"),
        None => bad(
            "fusermount3",
            Verdict::Lacking,
            "not found",
            "install fuse3 (Debian, Ubuntu: apt-get install fuse3)",
        ),
    }
}

fn sandbox(ctx: &Context) -> [Check; 2] {
    let found = zagi_sandbox::probe(&ctx.program);
    let namespaces = match found.sandbox {
        Ok(_) => good("user namespaces", "usable"),
        Err(why) => bad(
            "user namespaces",
            Verdict::Missing,
            why.to_string(),
            "dependencies are installed in them; without, mount with --no-deps",
        ),
    };
    let landlock = match found.landlock_abi {
        Some(abi) => good("landlock", format!("ABI {abi}")),
        None => bad("landlock", Verdict::Lacking, "not in this kernel", "use Linux 5.13 or newer"),
    };
    [namespaces, landlock]
}

/// From whom secrets are kept.
fn secrets(ctx: &Context) -> Check {
    match system::broker(Some(&ctx.config)) {
        Some(_) => good("secrets", "system mode: out of reach of all of your processes"),
        None => bad(
            "secrets",
            Verdict::Lacking,
            "user mode: kept from agents, not from an unconfined process of yours",
            "`sudo packaging/system-mode setup $USER` keeps them from those, too",
        ),
    }
}

fn registries(ctx: &Context) -> Vec<Check> {
    let a = &ctx.config.addresses;
    let all = [
        ("npm", format!("{}/npm", a.npm)),
        ("pypi", format!("{}/simple/pip/", a.pypi)),
        ("debian", format!("{}/dists/stable/Release", a.debian)),
        ("crates", format!("{}/config.json", a.crates_index)),
    ];
    if ctx.offline {
        return all.map(|(name, _)| good(name, "not asked (--offline)")).into();
    }
    let client = Client::new(ctx);
    std::thread::scope(|scope| {
        let client = &client;
        let asked = all.map(|(name, url)| {
            scope.spawn(move || match client.check(&url) {
                Ok(took) => good(name, format!("reached in {} ms", took.as_millis())),
                Err(e) => bad(
                    name,
                    Verdict::Lacking,
                    format!("not reached: {e}"),
                    "set another address under [addresses] in config.toml, or a proxy",
                ),
            })
        });
        asked
            .into_iter()
            .map(|check| {
                check.join().unwrap_or_else(|_| {
                    bad("registry", Verdict::Lacking, "the check failed", "try again")
                })
            })
            .collect()
    })
}
