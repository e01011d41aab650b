//! From the library's errors to what the user reads: the message with its causes, and what to
//! run next.

use zagi_sandbox::SandboxError;

use super::error::CommandError;
use crate::config::ConfigError;
use crate::environment::resolve::ResolveError;
use crate::home::HomeError;
use crate::registry::http::HttpError;
use crate::secrets::SecretsError;
use crate::services::ServiceError;
use crate::source::SourceError;
use crate::store::StoreError;
use crate::workspace::WorkspaceError;
use crate::workspace::daemon::DaemonError;

impl From<HomeError> for CommandError {
    fn from(e: HomeError) -> CommandError {
        let hint = match &e {
            HomeError::Newer { .. } => "use the newer zagi, or another ZAGI_HOME",
            HomeError::Io { .. } => "set ZAGI_HOME to a directory that you may write to",
        };
        CommandError::from_chain(&e).hint(hint)
    }
}

impl From<StoreError> for CommandError {
    fn from(e: StoreError) -> CommandError {
        let error = CommandError::from_chain(&e);
        match &e {
            StoreError::UnknownTree { .. } => error.hint(
                "`zagi snapshot DIR` prints a tree's id; its first 6 digits are enough, and so \
                 is the name of a ref",
            ),
            StoreError::AmbiguousTree { trees, .. } => {
                let ids: Vec<String> = trees.iter().map(ToString::to_string).collect();
                error.hint(format!("give more digits: {}", ids.join(", ")))
            }
            StoreError::InUse { .. } => error.hint("run it again when they are done"),
            StoreError::Root { .. } | StoreError::DamagedPack { .. } => {
                error.hint("`zagi store verify` says what is damaged, `zagi store repair` mends it")
            }
            StoreError::CannotLink { .. } => error.hint("leave out `--require-link` to copy"),
            StoreError::OverStore { .. } => {
                error.hint("take another directory; $ZAGI_HOME says where the store is")
            }
            StoreError::Newer { .. } => error.hint("use the newer zagi, or another ZAGI_HOME"),
            _ => error,
        }
    }
}

impl From<ConfigError> for CommandError {
    fn from(e: ConfigError) -> CommandError {
        CommandError::from_chain(&e)
    }
}

impl From<SecretsError> for CommandError {
    fn from(e: SecretsError) -> CommandError {
        let error = CommandError::from_chain(&e);
        match e.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl From<DaemonError> for CommandError {
    fn from(e: DaemonError) -> CommandError {
        let error = CommandError::from_chain(&e);
        match e {
            DaemonError::Busy { .. } => {
                error.hint("leave the directory in every shell and editor, or add `--force`")
            }
            DaemonError::Silent { .. } | DaemonError::Broken(_) => {
                error.hint("run it again; `zagi doctor` shows what this machine lacks")
            }
            DaemonError::Failed(_) => error.hint(
                "`zagi doctor` shows what this machine lacks; `zagi mount --materialise` makes \
                 real files instead",
            ),
            _ => error,
        }
    }
}

impl From<SourceError> for CommandError {
    fn from(e: SourceError) -> CommandError {
        let error = CommandError::from_chain(&e);
        let nearest = |names: &[String]| format!("there is {}", names.join(", "));
        match &e {
            SourceError::NoGit | SourceError::OldGit { .. } => {
                error.hint("install git (Debian, Ubuntu: apt-get install git)")
            }
            SourceError::NoRevision { nearest: names, .. }
            | SourceError::NoVersion { nearest: names, .. }
                if !names.is_empty() =>
            {
                error.hint(nearest(names))
            }
            SourceError::Offline { .. } => error.hint("run it once without `--offline`"),
            SourceError::Denied { .. } => {
                error.hint("check the address, and that `git ls-remote` of it works for you")
            }
            SourceError::Refused { .. } => error
                .hint("do not trust it; whoever made it sees the same with `git fsck --strict`"),
            SourceError::TooLarge { .. } => {
                error.hint("do not trust it, or mount a revision that is smaller")
            }
            SourceError::NoSource { with_source: Some(version), .. } => {
                error.hint(format!("version {version} has one"))
            }
            _ => match offline(&e) {
                true => error.hint("run it once without `--offline`"),
                false => error,
            },
        }
    }
}

impl From<ResolveError> for CommandError {
    fn from(e: ResolveError) -> CommandError {
        let error = CommandError::from_chain(&e);
        match &e {
            ResolveError::Unreachable { reasons, .. } if reasons.iter().any(|r| offline(r)) => {
                error.hint("run it once without `--offline`")
            }
            _ => match e.hint() {
                Some(hint) => error.hint(hint),
                None => error,
            },
        }
    }
}

impl From<WorkspaceError> for CommandError {
    fn from(e: WorkspaceError) -> CommandError {
        match e {
            WorkspaceError::Source(e) => e.into(),
            WorkspaceError::Resolve(e) => e.into(),
            WorkspaceError::Daemon(e) => e.into(),
            WorkspaceError::Agent { source: SandboxError::Exec { program, source } } => {
                CommandError::not_started(&program, &source)
            }
            WorkspaceError::Dependencies(e) => {
                let error = CommandError::from_chain(&e);
                match e.hint() {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
            e => {
                let error = CommandError::from_chain(&e);
                match workspace(&e) {
                    Some(hint) => error.hint(hint),
                    None if offline(&e) => error.hint("run it once without `--offline`"),
                    None => error,
                }
            }
        }
    }
}

/// What to do about an error of the workspace itself.
fn workspace(e: &WorkspaceError) -> Option<String> {
    Some(match e {
        WorkspaceError::NotEmpty(dir) => {
            format!("choose a directory that is empty or missing, as `{}-2`", dir.display())
        }
        WorkspaceError::Taken { path, .. } => format!(
            "choose another directory, or delete that workspace with `zagi discard {}`",
            path.display()
        ),
        WorkspaceError::AlreadyThere(dir) => format!("cd {}", dir.display()),
        WorkspaceError::Gone(dir) => {
            format!("`zagi discard {}` forgets it", dir.display())
        }
        WorkspaceError::NotAWorkspace(_) => {
            "`zagi mount REPO DIR` makes one, `zagi list` shows those that there are; \
             an ordinary checkout gets its environment by `zagi init`, and says by `git status` \
             what changed in it"
                .into()
        }
        WorkspaceError::NotMounted(dir) => format!("`zagi mount {}` resumes it", dir.display()),
        WorkspaceError::Materialised(dir) => {
            format!("`zagi discard {}` deletes it", dir.display())
        }
        WorkspaceError::NfsIsPrivate(dir) => {
            format!("`zagi mount {}` resumes it through FUSE", dir.display())
        }
        WorkspaceError::NotFollowed(_) => {
            "`zagi status` compares them; a mounted workspace can be followed".into()
        }
        WorkspaceError::ForeignProgram { file, .. } => {
            format!("do not trust this repository; without `{file}` it could be mounted")
        }
        WorkspaceError::Service(e) => return service(e),
        WorkspaceError::NoSuchService { name, .. } => format!("`zagi add {name}` asks for it"),
        WorkspaceError::ServiceNotLocked(name) => {
            format!("`zagi lock` takes `.zagi/env.toml` over, `zagi add {name}` asks for it there")
        }
        WorkspaceError::NotAsked { tool, evidence: None } => {
            format!("`zagi add {tool}` asks for it; `zagi env` shows what there is")
        }
        WorkspaceError::NotAsked { evidence: Some(read), .. } => {
            format!("edit `{}`", read.file)
        }
        WorkspaceError::NothingToRun(_) => {
            "say it in `.zagi/env.toml`: `[run]`, below it `test = \"…\"` or `build = \"…\"`".into()
        }
        WorkspaceError::Exists(_) => {
            "`zagi lock` makes its tools ready; add `--force` to write it anew".into()
        }
        WorkspaceError::Address(_) => {
            "REPO is a path, a git address, owner/repo, or npm:, pypi: or crate: and a name".into()
        }
        _ => return None,
    })
}

/// What to do about an error of a service.
fn service(e: &ServiceError) -> Option<String> {
    Some(match e {
        ServiceError::Sandbox { source, .. } => source.hint()?,
        ServiceError::OtherVersion { name, made, data, .. } => format!(
            "`zagi add {name}@{made}` runs it as before, to take a dump; without `{}` it begins \
             anew",
            data.display()
        ),
        ServiceError::PortTaken { name, .. } => format!(
            "choose another port in [services] of .zagi/env.toml and run `zagi lock`; without \
             one, {name} listens at its socket alone"
        ),
        ServiceError::NotMade { name, .. }
        | ServiceError::Crashed { name, .. }
        | ServiceError::Silent { name, .. } => format!("`zagi logs {name}` shows all that it said"),
        _ => return None,
    })
}

/// Whether the cause of it all is that the network may not be used.
fn offline(e: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(e);
    while let Some(c) = cause {
        if matches!(c.downcast_ref::<HttpError>(), Some(HttpError::Offline { .. })) {
            return true;
        }
        cause = c.source();
    }
    false
}
