//! What the client is built from: certificates, proxies and patience, all from
//! [`Context`].

use std::path::PathBuf;
use std::time::Duration;

use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy};

use super::error::HttpError;
use crate::context::Context;
use crate::proxy::{Named, Proxies};

/// How long to wait and how much to take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For the first byte of an answer.
    pub answer: Duration,
    /// For each further piece of a body.
    pub stall: Duration,
    /// The most bytes that metadata may have.
    pub metadata: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            // npm's documents of the packages with the most releases have some 100 MB.
            metadata: 256 << 20,
        }
    }
}

/// Builds the agent. The certificates are those in `SSL_CERT_FILE`, or the platform's.
pub(super) fn agent(ctx: &Context, limits: &Limits) -> Result<Agent, HttpError> {
    let roots = match ctx.var("SSL_CERT_FILE") {
        Some(path) => roots(PathBuf::from(path))?,
        None => RootCerts::PlatformVerifier,
    };
    let config = Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        // From the context's variables, a request; never from this process's environment.
        .proxy(None)
        .http_status_as_error(false)
        // A lost question to a name server is asked again after 5 s (resolv.conf(5)).
        .timeout_resolve(Some(limits.connect * 2))
        .timeout_connect(Some(limits.connect))
        .timeout_recv_response(Some(limits.answer))
        .timeout_per_read(Some(limits.stall))
        .user_agent(concat!("zagi/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(config.new_agent())
}

fn roots(path: PathBuf) -> Result<RootCerts, HttpError> {
    let pem = match std::fs::read(&path) {
        Ok(pem) => pem,
        Err(e) => return Err(HttpError::Roots { path, reason: e.to_string() }),
    };
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(e) => return Err(HttpError::Roots { path, reason: e.to_string() }),
        }
    }
    if certificates.is_empty() {
        return Err(HttpError::Roots { path, reason: "it holds no certificate".into() });
    }
    Ok(RootCerts::from(certificates))
}

/// The proxy that the user's variables name for `url`.
pub(super) fn proxy(ctx: &Context, url: &str) -> Result<Option<Proxy>, HttpError> {
    let Some((scheme, _)) = url.split_once("://") else { return Ok(None) };
    let proxies = Proxies::of(ctx);
    let Some(Named { variable, address }) = proxies.to(scheme, host_of(url)) else {
        return Ok(None);
    };
    let wrong = |_| HttpError::Proxy { variable: variable.clone() };
    Proxy::new(address).map(Some).map_err(wrong)
}

/// Host and port in `url`, without the user.
pub(super) fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().expect("split yields at least one item");
    authority.rsplit('@').next().expect("split yields at least one item")
}

/// The host in `url`, without user and port.
fn host_of(url: &str) -> &str {
    let host = authority(url);
    match host.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split(':').next().expect("split yields at least one item"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(host_of("https://u:p@example.org:8080/a:b@c"), "example.org");
        assert_eq!(authority("https://u:p@example.org:8080/a:b@c"), "example.org:8080");
        assert_eq!(host_of("http://[::1]:80/"), "::1");
        assert_eq!(host_of("http://127.0.0.1?x"), "127.0.0.1");
    }
}
