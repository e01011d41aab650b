//! Why a request came to nothing.

use std::path::PathBuf;

use crate::registry::digest::Digest;

/// Why a request came to nothing. Addresses are shown without any password in them.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The network may not be used, and the answer was never fetched.
    #[error("`{url}` was never fetched, and the network may not be used")]
    Offline {
        /// What was asked for.
        url: String,
    },
    /// The server says that there is no such thing.
    #[error("`{url}` does not exist")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The server answered with another status than success.
    #[error("`{url}` answered with status {code}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        code: u16,
    },
    /// No connection, no answer in time, or one that is no HTTP.
    #[error("cannot reach `{url}`: {source}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the network or TLS said.
        source: Box<ureq::Error>,
    },
    /// The host did not answer a moment ago, so it was not asked again.
    #[error("cannot reach `{url}`: {host} did not answer a moment ago")]
    PassedOver {
        /// What was asked for.
        url: String,
        /// The host that does not answer.
        host: String,
    },
    /// An `https` address was redirected to one without encryption.
    #[error("`{url}` was redirected to `{target}`, which is not encrypted")]
    Downgraded {
        /// What was asked for.
        url: String,
        /// Where it led.
        target: String,
    },
    /// The bytes are not those that were promised. They were thrown away.
    #[error("`{url}` has digest {found}, expected {expected}")]
    Mismatch {
        /// What was asked for.
        url: String,
        /// What was promised.
        expected: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// The body ended early, also at the second attempt.
    #[error("`{url}` broke off after {got} bytes: {source}")]
    Truncated {
        /// What was asked for.
        url: String,
        /// How many bytes there are by now; the next attempt goes on from there.
        got: u64,
        /// How the stream ended.
        source: std::io::Error,
    },
    /// The answer is longer than metadata may be.
    #[error("`{url}` is longer than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The bound.
        limit: u64,
    },
    /// A file of the cache could not be written or read.
    #[error("cannot use the cache file `{path}`: {source}")]
    Cache {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The file that `SSL_CERT_FILE` names cannot be used.
    #[error("cannot read the certificates in `{path}` (SSL_CERT_FILE): {reason}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A proxy variable holds no proxy's address.
    #[error("the variable {variable} holds no proxy address that can be used")]
    Proxy {
        /// The variable's name; its value may hold a password.
        variable: String,
    },
}

impl HttpError {
    /// Whether another source, or what was fetched before, may be used instead: the server
    /// did not answer, or not in a way that means anything.
    pub fn is_unreachable(&self) -> bool {
        match self {
            HttpError::Unreachable { .. }
            | HttpError::PassedOver { .. }
            | HttpError::Truncated { .. } => true,
            HttpError::Status { code, .. } => *code >= 500 || *code == 429,
            _ => false,
        }
    }
}

/// `url` without the user and password it may hold.
pub(super) fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.find('/').unwrap_or(rest.len());
    match rest[..authority].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("https://u:p@h/x@y"), "https://h/x@y");
        assert_eq!(shown("https://h/x@y"), "https://h/x@y");
        assert_eq!(shown("https://u@h"), "https://h");
    }
}
