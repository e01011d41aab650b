//! Why there is no lock.

use std::fmt;

use crate::environment::catalog::{CatalogError, perhaps};
use crate::environment::detect::Evidence;
use crate::environment::provider::ProviderError;
use crate::environment::system::SystemError;
use crate::environment::version::{Constraint, Version};

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// System packages.
    #[error(transparent)]
    System(#[from] SystemError),
    /// Nobody knows such a tool.
    #[error("no tool is called `{tool}`{}{}", said_in(.evidence), perhaps(.nearest))]
    UnknownTool {
        /// The name.
        tool: String,
        /// Where it was asked for.
        evidence: Vec<Evidence>,
        /// Names like it.
        nearest: Vec<String>,
    },
    /// Nobody knows such a service.
    #[error("no service is called `{service}`{}{}", said_in(.evidence), perhaps(.nearest))]
    UnknownService {
        /// The name.
        service: String,
        /// Where it was asked for.
        evidence: Vec<Evidence>,
        /// Names like it.
        nearest: Vec<String>,
    },
    /// The tool exists, and not in any such version.
    #[error("no {tool} matches `{constraint}`{}{}", said_in(.evidence), nearest_are(.nearest))]
    NoVersion {
        /// The tool.
        tool: String,
        /// What was asked for.
        constraint: Constraint,
        /// Where.
        evidence: Vec<Evidence>,
        /// The versions nearest to it, ascending.
        nearest: Vec<Version>,
    },
    /// No source of the tool answered.
    #[error("{tool} cannot be had: {}", Reasons(.reasons))]
    Unreachable {
        /// The tool.
        tool: String,
        /// What each source said.
        reasons: Vec<ProviderError>,
    },
    /// The catalogue has no source of it for this machine.
    #[error("{tool} cannot be had for {platform}")]
    Platform {
        /// The tool.
        tool: String,
        /// The machine.
        platform: String,
    },
    /// A source said something that must not be passed over.
    #[error("{tool}: {source}")]
    Refused {
        /// The tool.
        tool: String,
        /// What is wrong.
        source: Box<ProviderError>,
    },
}

impl ResolveError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ResolveError::NoVersion { tool, nearest, constraint, .. } => {
                let above = |v: &&Version| constraint.lowest().is_some_and(|low| *v >= low);
                let version = nearest.iter().find(above).or(nearest.last())?;
                Some(format!("ask for {tool} {version} in .zagi/env.toml"))
            }
            ResolveError::UnknownTool { .. } => {
                Some("$ZAGI_HOME/catalog.toml may say where a tool comes from".into())
            }
            ResolveError::UnknownService { .. } => {
                Some("$ZAGI_HOME/catalog.toml may say how a service is run".into())
            }
            _ => None,
        }
    }
}

pub(super) fn said_in(evidence: &[Evidence]) -> String {
    match evidence.first() {
        Some(first) => format!(" ({}:{})", first.file, first.line),
        None => String::new(),
    }
}

fn nearest_are(versions: &[Version]) -> String {
    let all: Vec<String> = versions.iter().map(Version::to_string).collect();
    match all.len() {
        0 => String::new(),
        1 => format!("; the nearest is {}", all[0]),
        _ => format!("; the nearest are {}", all.join(", ")),
    }
}

struct Reasons<'a>(&'a [ProviderError]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, reason) in self.0.iter().enumerate() {
            write!(f, "{}{reason}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}
