//! Who holds the values while something runs, and gives them out.
//!
//! One is made for each run, in the process that starts it, which cannot be dumped or looked into
//! ([`super::process::harden`]). The values are with nobody else; when it goes, they are gone, and
//! what it served gets no more of them.
//!
//! | release | how |
//! |---|---|
//! | brokered | [`Broker::credentials`]: a placeholder made for this run, and the value where `crate::egress` puts it |
//! | raw, file | [`Broker::private`]: handed to one sandbox, and in no other process |
//!
//! Each release has its row in the audit log first: `run` for what is handed over, `put` for each
//! request that a value is put into. Without the row there is no release.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use zagi_sandbox::{Private, SECRETS};
use zeroize::Zeroizing;

use super::audit::{Log, Receipt, Use};
use super::document::Document;
use super::error::SecretsError;
use super::policy::{Policy, Release};
use super::sign::{hex, random};
use super::vault::{Values, Vault};
use crate::egress::{Credential, Wanted};
use crate::redact::Needles;

/// See the module.
pub struct Broker {
    values: Values,
    document: Document,
    file: String,
    log: Log,
    /// Who started it.
    by: String,
    /// By both clocks.
    began: (i64, Instant),
}

/// What some command may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// The secret.
    pub name: String,
    /// What it may be used for.
    pub policy: Policy,
}

impl Granted {
    /// Whether its value is handed over.
    pub fn is_raw(&self) -> bool {
        matches!(self.policy.release(), Release::Raw | Release::File)
    }
}

/// The secrets of a project that a command may have, or any command, started by its user or by an
/// agent.
pub fn granted(document: &Document, argv: Option<&[String]>, agent: Option<&str>) -> Vec<Granted> {
    let command = argv.map(|argv| argv.join(" "));
    let may = |policy: &Policy| {
        let commands = policy.all("command");
        let released = policy.release() != Release::None;
        released
            && (commands.is_empty() || command.as_ref().is_none_or(|c| commands.contains(c)))
            && agent.is_none_or(|agent| policy.all("agent").iter().any(|name| name == agent))
    };
    let granted = document.policies.iter().filter(|(_, policy)| may(policy));
    granted.map(|(name, policy)| Granted { name: name.clone(), policy: policy.clone() }).collect()
}

impl Broker {
    /// For values that were unlocked; `now` is in seconds since the epoch.
    pub fn new(home: &Path, vault: &Vault, values: Values, by: String, now: i64) -> Arc<Broker> {
        Arc::new(Broker {
            values,
            document: vault.document.clone(),
            file: vault.place.path.to_string_lossy().into_owned(),
            log: Log::new(home),
            by,
            began: (now, Instant::now()),
        })
    }

    /// What an agent's command may have, or any of its commands.
    pub fn granted(&self, argv: Option<&[String]>, agent: &str) -> Vec<Granted> {
        granted(&self.document, argv, Some(agent))
    }

    /// All its values, as what is taken out of texts.
    pub fn needles(&self) -> io::Result<Needles> {
        let mut needles = Needles::default();
        for value in self.values.each() {
            needles.add(value)?;
        }
        Ok(needles)
    }

    fn record(&self, action: &str, names: Vec<String>, to: &str) -> Result<Receipt, SecretsError> {
        let (began, since) = self.began;
        let since = i64::try_from(since.elapsed().as_secs()).unwrap_or_default();
        let of = Use {
            action: action.to_owned(),
            names,
            to: to.to_owned(),
            file: self.file.clone(),
            project: self.document.project.clone(),
            revision: self.document.revision,
            uid: nix::unistd::getuid().as_raw(),
            pid: std::process::id(),
            by: self.by.clone(),
        };
        self.log.append(began + since, of)
    }

    /// The values of these that are raw, for one sandbox, as variables and files. `to` says whom
    /// for. None, where none is.
    pub fn private(&self, all: &[Granted], to: &str) -> Result<Option<Private>, SecretsError> {
        let raw: Vec<&Granted> = all.iter().filter(|granted| granted.is_raw()).collect();
        if raw.is_empty() {
            return Ok(None);
        }
        let names = raw.iter().map(|granted| granted.name.clone()).collect();
        let receipt = self.record("run", names, to)?;
        let mut private = Private::new().map_err(SecretsError::Memory)?;
        for granted in raw {
            let value = self.values.expose(&granted.name, &receipt)?;
            match granted.policy.get("file") {
                None => private.var(&granted.name, value),
                Some(file) => private.file(file, value).and_then(|()| {
                    private.var(&granted.name, format!("{SECRETS}/{file}").as_bytes())
                }),
            }
            .map_err(SecretsError::Memory)?;
        }
        Ok(Some(private))
    }

    /// One value that an agent is granted as it is, to `give`.
    pub fn give(
        &self,
        granted: &Granted,
        to: &str,
        give: &mut dyn FnMut(&[u8]),
    ) -> Result<(), SecretsError> {
        let receipt = self.record("run", vec![granted.name.clone()], to)?;
        give(self.values.expose(&granted.name, &receipt)?);
        Ok(())
    }

    /// Those of these that are brokered, each with a placeholder of its own.
    pub fn credentials(
        self: &Arc<Broker>,
        all: &[Granted],
    ) -> Result<Vec<Arc<Brokered>>, SecretsError> {
        let brokered = all.iter().filter(|g| g.policy.release() == Release::Brokered);
        brokered
            .map(|granted| {
                let host = granted.policy.get("host").unwrap_or_default();
                let port = if host.contains(':') { "" } else { ":443" };
                Ok(Arc::new(Brokered {
                    broker: self.clone(),
                    granted: granted.clone(),
                    host: format!("{host}{port}"),
                    placeholder: format!("zagi-placeholder-{}", hex(&random::<16>()?)),
                }))
            })
            .collect()
    }
}

/// A secret whose value an app never has.
pub struct Brokered {
    broker: Arc<Broker>,
    granted: Granted,
    host: String,
    placeholder: String,
}

impl Credential for Brokered {
    fn name(&self) -> &str {
        &self.granted.name
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn header(&self) -> &str {
        self.granted.policy.get("header").unwrap_or_default()
    }

    fn placeholder(&self) -> &str {
        &self.placeholder
    }

    fn refuses(&self, wanted: &Wanted<'_>) -> Option<String> {
        let policy = &self.granted.policy;
        let methods = policy.all("method");
        if !methods.is_empty() && !methods.iter().any(|method| method == wanted.method) {
            return Some(format!("is for {} alone", methods.join(", ")));
        }
        let path = policy.get("path")?;
        if !is_plain(wanted.path) {
            return Some("is for some paths alone, and servers read this one in two ways".into());
        }
        let fits = match path.strip_suffix('*') {
            Some(begin) => wanted.path.starts_with(begin),
            None => wanted.path == path,
        };
        (!fits).then(|| format!("is for {path} alone"))
    }

    fn release(&self, wanted: &Wanted<'_>, put: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let to = format!("{} https://{}{}", wanted.method, self.host, wanted.path);
        let name = &self.granted.name;
        let receipt = self.broker.record("put", vec![name.clone()], &to);
        let receipt = receipt.map_err(|e| e.to_string())?;
        let value = self.broker.values.expose(name, &receipt).map_err(|e| e.to_string())?;
        if value.iter().any(|byte| byte.is_ascii_control()) {
            return Err(format!("the value of {name} has a line's end in it: no field can"));
        }
        let (before, after) =
            self.granted.policy.get("format").unwrap_or("{}").split_once("{}").unwrap_or_default();
        put(&Zeroizing::new([before.as_bytes(), value, after.as_bytes()].concat()));
        Ok(())
    }
}

/// Whether every server reads a path in the same way.
fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let odd = ["//", "\\", "%2e", "%2f", "%5c", "%00", ";"];
    !odd.iter().any(|odd| lower.contains(odd)) && !path.split('/').any(|p| p == "." || p == "..")
}
