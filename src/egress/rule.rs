//! Which hosts may be reached.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

/// A host and, where it says so, the one port of it: `api.example.com`, `*.example.com`,
/// `example.com:8443`, `192.0.2.7:5432`, `[2001:db8::7]:443`. Without a port: 443 and 80.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    /// In small letters.
    Name(String),
    /// Every name below this one, and not this one.
    Below(String),
    Address(IpAddr),
}

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host: say `api.example.com`, `*.example.com` or `example.com:8443`")]
pub struct RuleError(String);

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Rule, RuleError> {
        let wrong = || RuleError(text.to_owned());
        let (host, port) = split(text).ok_or_else(wrong)?;
        let host = match host.strip_prefix("*.") {
            // `*` alone and `*.com`, also with the dot of the root, are no choice of hosts.
            Some(below) => {
                let below = name(below).filter(|name| name.contains('.'));
                Host::Below(below.ok_or_else(wrong)?)
            }
            None => match host.parse() {
                Ok(address) => Host::Address(address),
                Err(_) => Host::Name(name(host).ok_or_else(wrong)?),
            },
        };
        Ok(Rule { host, port })
    }
}

impl Rule {
    /// The host of an address like `https://example.com:8443/path`, if it has one.
    pub fn of_address(address: &str) -> Option<Rule> {
        let (_, rest) = address.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        authority.rsplit('@').next()?.parse().ok()
    }

    /// Whether it names one host by its name.
    pub fn is_name(&self) -> bool {
        matches!(self.host, Host::Name(_))
    }

    /// Whether it names a service at this machine's own loopback.
    pub fn is_of_this_machine(&self) -> bool {
        self.loopback().next().is_some()
    }

    fn names(&self, target: &Target) -> bool {
        let is_host = match &self.host {
            Host::Name(name) => *name == target.host,
            Host::Below(name) => target
                .host
                .strip_suffix(name.as_str())
                .is_some_and(|before| before.len() > 1 && before.ends_with('.')),
            Host::Address(named) => target.host.parse() == Ok(*named),
        };
        is_host && self.port.map_or([80, 443].contains(&target.port), |p| p == target.port)
    }

    /// Where it leads to this machine's own loopback: the addresses inside that stand for it.
    fn loopback(&self) -> impl Iterator<Item = (SocketAddrV4, Target)> {
        let local = |name: &str| name == "localhost" || name.ends_with(".localhost");
        let address = match &self.host {
            Host::Address(IpAddr::V4(v4)) if v4.is_loopback() => Some(*v4),
            Host::Name(name) if local(name) => Some(Ipv4Addr::LOCALHOST),
            _ => None,
        };
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            _ => address.map(|address| address.to_string()).unwrap_or_default(),
        };
        let ports = self.port.map_or(vec![80, 443], |port| vec![port]);
        address.into_iter().flat_map(move |address| {
            let all = ports.clone().into_iter();
            let host = host.clone();
            all.map(move |port| {
                (SocketAddrV4::new(address, port), Target { host: host.clone(), port })
            })
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => f.write_str(name)?,
            Host::Below(name) => write!(f, "*.{name}")?,
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]")?,
            Host::Address(address) => write!(f, "{address}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// What a program asks to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// A name in small letters, or an address.
    pub host: String,
    pub port: u16,
}

impl Target {
    /// `host:port` of a request; the port may be left out where there is a usual one.
    pub fn parse(authority: &str, usual: Option<u16>) -> Option<Target> {
        let (host, port) = split(authority)?;
        let host = match host.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => name(host)?,
        };
        Some(Target { host, port: port.or(usual)? })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// All hosts that may be reached.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    named: Vec<Rule>,
    /// Those of [`Rules::and_near`].
    own: Vec<Rule>,
    everything: bool,
}

impl FromIterator<Rule> for Rules {
    fn from_iter<T: IntoIterator<Item = Rule>>(rules: T) -> Rules {
        Rules { named: rules.into_iter().collect(), ..Rules::default() }
    }
}

impl Rules {
    /// Every host and port, but for those of this machine and its network.
    pub fn everything() -> Rules {
        Rules { everything: true, ..Rules::default() }
    }

    /// Those and `rules`, which the user's own configuration has, or which name this machine: what
    /// they name is meant also where it is of this machine or its network.
    pub fn and_near(mut self, rules: impl IntoIterator<Item = Rule>) -> Rules {
        self.own.extend(rules);
        self
    }

    /// Whether the target is meant wherever it leads: some rule names its very address, or is the
    /// user's own.
    pub(super) fn may_be_near(&self, target: &Target) -> bool {
        self.own.iter().any(|rule| rule.names(target))
            || self
                .named
                .iter()
                .any(|rule| matches!(rule.host, Host::Address(_)) && rule.names(target))
    }

    /// Whether some rule names the target.
    pub(super) fn name(&self, target: &Target) -> bool {
        self.everything || self.named.iter().chain(&self.own).any(|rule| rule.names(target))
    }

    /// What those that may be near name of this machine's loopback, which programs look for there
    /// whatever proxy they know: each with the address that stands for it inside.
    pub(super) fn loopback(&self) -> Vec<(SocketAddrV4, Target)> {
        let mut found: Vec<(SocketAddrV4, Target)> = Vec::new();
        for (address, target) in self.own.iter().flat_map(Rule::loopback) {
            if found.iter().all(|(other, _)| *other != address) {
                found.push((address, target));
            }
        }
        found
    }
}

/// Host and port of `host:port`, `[v6]:port`, `host`.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("")),
        },
    };
    match port? {
        "" if text.ends_with(':') => None,
        "" => Some((host, None)),
        // `+80` parses, too.
        port if port.bytes().all(|b| b.is_ascii_digit()) => Some((host, Some(port.parse().ok()?))),
        _ => None,
    }
}

/// A host's name (RFC 1123, 2.1) in small letters, without the dot of the root.
fn name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..64).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // `127.1` and `0x7f000001` are addresses to some resolvers.
    let last = text.rsplit('.').next().unwrap_or(text);
    let fits = text.len() < 254 && last.starts_with(|c: char| c.is_ascii_alphabetic());
    (fits && text.split('.').all(is_label)).then(|| text.to_ascii_lowercase())
}
