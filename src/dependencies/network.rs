//! The network of an installation: by the proxy of this process ([`crate::egress`]) to the registries,
//! to where its lock file has packages, and to what the user allows (`[install] hosts` in
//! `config.toml`). What of that the user's own configuration names may be near.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use super::DependenciesError;
use crate::context::Context;
use crate::egress::{self, Rule, Rules, Seen, Serving, Way};
use crate::proxy::Proxies;

/// How Go reaches modules: what the user says of it.
const GO_MODULES: [&str; 2] = ["GOPROXY", "GOSUMDB"];
/// Of more refused hosts nothing is told.
const MOST: usize = 20;

/// Hosts that were not reached, since nobody allowed it.
pub(super) type Refused = BTreeSet<String>;

/// Where one installation may go.
pub(super) struct Network {
    rules: Rules,
    proxies: Proxies,
}

impl Network {
    /// That of an installation whose lock file has packages at `hosts`.
    pub fn new(ctx: &Context, hosts: &[String]) -> Result<Network, DependenciesError> {
        let own = ctx.config.install.hosts.iter().map(|host| host.parse::<Rule>());
        let own: Vec<Rule> =
            own.collect::<Result<_, _>>().map_err(|source| DependenciesError::Hosts { source })?;
        let modules = GO_MODULES.iter().filter_map(|name| ctx.var(name)?.to_str());
        let modules = modules.flat_map(|list| list.split([',', '|', ' ']));
        let modules = modules.filter_map(Rule::of_address);
        let rules: Rules = hosts.iter().filter_map(|host| host.parse::<Rule>().ok()).collect();
        let registries = egress::registries(&ctx.config.addresses);
        let rules = rules.and_near(registries.into_iter().chain(own).chain(modules));
        Ok(Network { rules, proxies: Proxies::of(ctx) })
    }

    /// Leads a sandbox here.
    pub fn lead(&self, sandbox: &mut zagi_sandbox::Plan) {
        sandbox.listen = egress::listens(&self.rules);
        sandbox.env.extend(egress::variables().map(|(name, value)| (name.to_owned(), value)));
    }

    /// Serves what comes from inside.
    pub fn serve(&self, listeners: Vec<TcpListener>) -> Watched {
        let refused = Arc::<Mutex<Refused>>::default();
        let all = refused.clone();
        let tell = Arc::new(move |seen: Seen| {
            if let Seen::NotListed { target } | Seen::Refused { target, near: true, .. } = seen {
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                if all.len() < MOST {
                    let host = target.strip_suffix(":443").or(target.strip_suffix(":80"));
                    all.insert(host.unwrap_or(&target).to_owned());
                }
            }
        });
        let (rules, proxies) = (self.rules.clone(), self.proxies.clone());
        let way = Arc::new(Way { rules, proxies, broker: None, tell });
        Watched { _serving: egress::serve_all(listeners, &way), refused }
    }
}

/// A network at work.
pub(super) struct Watched {
    _serving: Serving,
    refused: Arc<Mutex<Refused>>,
}

impl Watched {
    /// Ends it; what was not reached.
    pub fn end(self) -> Refused {
        std::mem::take(&mut self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What was not reached, and the line that would allow it.
pub fn allowing(refused: &BTreeSet<String>) -> Option<String> {
    if refused.is_empty() {
        return None;
    }
    let list =
        |each: fn(&String) -> String| refused.iter().map(each).collect::<Vec<_>>().join(", ");
    let were = if refused.len() == 1 { "was" } else { "were" };
    Some(format!(
        "{} {were} not reached: `[install] hosts = [{}]` in `$ZAGI_HOME/config.toml` allows it",
        list(|host| format!("`{host}`")),
        list(|host| format!("\"{host}\"")),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_would_allow_it() {
        assert_eq!(allowing(&Refused::new()), None);
        let two = Refused::from(["a.example".to_owned(), "b.example:8443".to_owned()]);
        let expected = "`a.example`, `b.example:8443` were not reached: `[install] hosts = \
                        [\"a.example\", \"b.example:8443\"]` in `$ZAGI_HOME/config.toml` allows it";
        assert_eq!(allowing(&two).as_deref(), Some(expected));
    }
}
