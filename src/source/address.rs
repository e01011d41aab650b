//! What REPO may be. In this order:
//!
//! | REPO | is |
//! |---|---|
//! | `npm:NAME[@V]`, `pypi:NAME[@V]`, `crate:NAME[@V]` | a published package's source |
//! | `https://…`, `http://…`, `ssh://…`, `git://…` | a git repository there |
//! | `file://PATH` | the same as PATH |
//! | begins with `.` or `/` | a local directory |
//! | names a directory that exists | that directory |
//! | `[user@]host:owner/repo` | a git repository over ssh |
//! | `host.tld/owner/repo` | a git repository over https |
//! | `owner/repo` | a git repository on the default host, over https |
//!
//! So a directory `owner/repo` that exists wins over one on the default host; to mean the
//! latter, write the host. All but packages may end in `@REVISION`: a branch, a tag or a
//! commit. The `@` of `git@host:` is not it; nor is one in the name of a directory that
//! exists.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// A repository, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A directory on this machine: a git repository, bare or not, or only files.
    Local {
        /// Absolute.
        path: PathBuf,
        /// Anything that git understands as one commit.
        revision: Option<String>,
    },
    /// A repository that the git program fetches.
    Remote {
        /// As git takes it.
        url: String,
        /// A branch, a tag or a commit.
        revision: Option<String>,
    },
    /// The source of a published package.
    Package(Package),
}

/// A package in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Which registry.
    pub registry: Registry,
    /// As it was asked for.
    pub name: String,
    /// A version, a beginning of one (`3`), or an npm tag.
    pub version: Option<String>,
}

/// Where packages are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Registry {
    /// `npm:`
    Npm,
    /// `pypi:`
    Pypi,
    /// `crate:`
    Crate,
}

impl Registry {
    /// Its prefix in addresses, without the colon.
    pub fn prefix(self) -> &'static str {
        match self {
            Registry::Npm => "npm",
            Registry::Pypi => "pypi",
            Registry::Crate => "crate",
        }
    }
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It has none of the forms.
    #[error("`{text}` is neither a directory nor the address of a repository")]
    Unknown {
        /// What was given.
        text: String,
    },
    /// It has the form of a local path, and there is nothing.
    #[error("there is no directory `{path}`")]
    NoDirectory {
        /// What was given, made absolute.
        path: PathBuf,
    },
    /// It is a local file.
    #[error("`{path}` is not a directory")]
    NotDirectory {
        /// What was given, made absolute.
        path: PathBuf,
    },
    /// A package's name or version that no registry would take.
    #[error("`{text}` is not the name of a package, with or without `@VERSION`")]
    Package {
        /// What was given.
        text: String,
    },
    /// What stands after the `@` is nothing that git could take as a revision.
    #[error("`{revision}` is not a branch, tag or commit")]
    Revision {
        /// What was given.
        revision: String,
    },
}

impl Address {
    /// Reads REPO. `cwd` is what relative paths are seen from; `default_host` is a host, or
    /// a whole address that `/owner/repo` is added to.
    pub fn parse(text: &str, default_host: &str, cwd: &Path) -> Result<Address, AddressError> {
        for registry in [Registry::Npm, Registry::Pypi, Registry::Crate] {
            if let Some(rest) =
                text.strip_prefix(registry.prefix()).and_then(|r| r.strip_prefix(':'))
            {
                return package(registry, rest, text);
            }
        }
        let address = text.strip_prefix("git+").unwrap_or(text);
        if let Some(path) = address.strip_prefix("file://") {
            return local(&unescape(path), cwd);
        }
        if let Some((scheme, rest)) = address.split_once("://") {
            return match scheme {
                "https" | "http" | "ssh" | "git" => url(scheme, rest, text),
                _ => Err(AddressError::Unknown { text: text.to_owned() }),
            };
        }
        let is_path = text.starts_with(['.', '/']) && !text.is_empty();
        let exists = |name: &str| !name.is_empty() && cwd.join(name).is_dir();
        let named = text.split_once('@').map_or(text, |(name, _)| name);
        if is_path || exists(text) || exists(named) {
            return local(text, cwd);
        }
        if let Some(remote) = scp(text)? {
            return Ok(remote);
        }
        hosted(text, default_host)
    }

    /// The name of the directory that it would be mounted on.
    pub fn name(&self) -> String {
        let last = |text: &str| {
            let text = text.trim_end_matches('/');
            let text = text.strip_suffix(".git").unwrap_or(text).trim_end_matches('/');
            let name = text.rsplit(['/', ':']).next().expect("split yields at least one item");
            if name.is_empty() { "repository".to_owned() } else { name.to_owned() }
        };
        match self {
            Address::Local { path, .. } => last(&path.to_string_lossy()),
            Address::Remote { url, .. } => last(url),
            Address::Package(package) => last(&package.name),
        }
    }

    /// The branch, tag, commit or version that was asked for.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Address::Local { revision, .. } | Address::Remote { revision, .. } => {
                revision.as_deref()
            }
            Address::Package(package) => package.version.as_deref(),
        }
    }
}

/// The address in full, without any password; it parses to itself.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Local { path, .. } => write!(f, "{}", path.display())?,
            Address::Remote { url, .. } => f.write_str(&without_password(url))?,
            Address::Package(p) => write!(f, "{}:{}", p.registry.prefix(), p.name)?,
        }
        match self.revision() {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

/// `url` without a password, and without a user where that may be a token.
pub(super) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..authority].rfind('@') else { return url.to_owned() };
    let user = rest[..at].split(':').next().expect("split yields at least one item");
    match scheme {
        "ssh" => format!("{scheme}://{user}{}", &rest[at..]),
        _ => format!("{scheme}://{}", &rest[at + 1..]),
    }
}

fn package(registry: Registry, rest: &str, text: &str) -> Result<Address, AddressError> {
    let error = || AddressError::Package { text: text.to_owned() };
    // The `@` of a scope stands first.
    let scoped = usize::from(registry == Registry::Npm && rest.starts_with('@'));
    let (name, version) = match rest[scoped..].find('@') {
        Some(at) => (&rest[..scoped + at], Some(&rest[scoped + at + 1..])),
        None => (rest, None),
    };
    let plain = |part: &str, also: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || (also.contains('~') && c == '_'))
            && part.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
    };
    let valid = match (registry, name.strip_prefix('@').and_then(|n| n.split_once('/'))) {
        (Registry::Npm, Some((scope, name))) => plain(scope, "-._~") && plain(name, "-._~"),
        (Registry::Npm, None) => plain(name, "-._~"),
        (Registry::Pypi, _) => plain(name, "-._"),
        (Registry::Crate, _) => plain(name, "-_"),
    };
    let known = |c: char| c.is_ascii_alphanumeric() || "-._+!~^*<>= |".contains(c);
    match version {
        _ if !valid => Err(error()),
        Some(version) if version.is_empty() || !version.chars().all(known) => Err(error()),
        version => Ok(Address::Package(Package {
            registry,
            name: name.to_owned(),
            version: version.map(ToOwned::to_owned),
        })),
    }
}

fn url(scheme: &str, rest: &str, text: &str) -> Result<Address, AddressError> {
    let unknown = || AddressError::Unknown { text: text.to_owned() };
    let (authority, path) = rest.split_once('/').ok_or_else(unknown)?;
    let (path, revision) = with_revision(path)?;
    let path = path.trim_end_matches('/');
    // A host that begins with a dash would be an option to ssh.
    let host = authority.rsplit('@').next().expect("split yields at least one item");
    if host.is_empty() || host.starts_with('-') || authority.starts_with('-') || path.is_empty() {
        return Err(unknown());
    }
    Ok(Address::Remote { url: format!("{scheme}://{authority}/{path}"), revision })
}

/// `[user@]host:path`. As git has it, the colon comes before any slash.
fn scp(text: &str) -> Result<Option<Address>, AddressError> {
    let Some((host, path)) = text.split_once(':') else { return Ok(None) };
    // `x::…` names one of git's helpers, which may be any program.
    let plain = !host.contains('/') && !host.is_empty() && !path.starts_with(':');
    if !plain || host.starts_with('-') || host.contains("@-") {
        return Ok(None);
    }
    let (path, revision) = with_revision(path)?;
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        return Ok(None);
    }
    Ok(Some(Address::Remote { url: format!("{host}:{path}"), revision }))
}

/// `host.tld/owner/repo` or `owner/repo`.
fn hosted(text: &str, default_host: &str) -> Result<Address, AddressError> {
    let unknown = || AddressError::Unknown { text: text.to_owned() };
    let (path, revision) = with_revision(text)?;
    let path = path.trim_end_matches('/');
    let plain = |part: &&str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !matches!(*part, "." | "..")
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+".contains(c))
    };
    let (first, rest) = path.split_once('/').ok_or_else(unknown)?;
    if !rest.split('/').all(|part| plain(&part)) {
        return Err(unknown());
    }
    let parts = rest.split('/').count();
    let is_host = first.contains('.') || first == "localhost";
    let base = match default_host.contains("://") {
        true => default_host.trim_end_matches('/').to_owned(),
        false => format!("https://{default_host}"),
    };
    let url = match parts {
        2.. if is_host && plain(&first) => format!("https://{path}"),
        1 if plain(&first) => format!("{base}/{path}"),
        _ => return Err(unknown()),
    };
    Ok(Address::Remote { url, revision })
}

fn local(text: &str, cwd: &Path) -> Result<Address, AddressError> {
    let whole = cwd.join(text);
    let (path, revision) = match (whole.exists(), text.split_once('@')) {
        (false, Some((path, revision))) if !revision.is_empty() => {
            // git reads it, as one argument among options.
            let odd = revision.starts_with('-') || revision.contains(char::is_control);
            if odd {
                return Err(AddressError::Revision { revision: revision.to_owned() });
            }
            (cwd.join(path), Some(revision.to_owned()))
        }
        _ => (whole, None),
    };
    // Without `.` and links, so that one repository is known by one name.
    match path.canonicalize() {
        Ok(path) if path.is_dir() => Ok(Address::Local { path, revision }),
        Ok(path) => Err(AddressError::NotDirectory { path }),
        Err(_) => {
            let plain = path.components().filter(|c| *c != Component::CurDir).collect();
            Err(AddressError::NoDirectory { path: plain })
        }
    }
}

/// Splits `path[@revision]`.
fn with_revision(path: &str) -> Result<(&str, Option<String>), AddressError> {
    let Some((path, revision)) = path.split_once('@') else { return Ok((path, None)) };
    let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let plain = !revision.is_empty()
        && !revision.starts_with('-')
        && !revision.contains("..")
        && !revision.contains("@{")
        && !revision.contains(odd);
    match plain {
        true => Ok((path, Some(revision.to_owned()))),
        false => Err(AddressError::Revision { revision: revision.to_owned() }),
    }
}

/// Percent-decodes the path of a `file://` address.
fn unescape(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| path.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(text, "github.com", Path::new("/nowhere"))
    }

    fn remote(text: &str) -> (String, Option<String>) {
        match parse(text) {
            Ok(Address::Remote { url, revision }) => (url, revision),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn remotes() {
        for (text, url, revision) in [
            ("acme/web", "https://github.com/acme/web", None),
            ("acme/web@main", "https://github.com/acme/web", Some("main")),
            ("acme/web@feature/x", "https://github.com/acme/web", Some("feature/x")),
            ("github.com/acme/web@v1.0", "https://github.com/acme/web", Some("v1.0")),
            ("gitlab.com/a/b/c", "https://gitlab.com/a/b/c", None),
            ("https://h/a/b.git/", "https://h/a/b.git", None),
            ("git+https://h/a/b", "https://h/a/b", None),
            ("https://u:p@h/a/b@v1", "https://u:p@h/a/b", Some("v1")),
            ("ssh://git@h:22/a/b@v1", "ssh://git@h:22/a/b", Some("v1")),
            ("git@h:a/b.git", "git@h:a/b.git", None),
            ("git@h:a/b@1234567", "git@h:a/b", Some("1234567")),
            ("h:a", "h:a", None),
        ] {
            assert_eq!(remote(text), (url.to_owned(), revision.map(ToOwned::to_owned)), "{text}");
        }
        let other = Address::parse("a/b", "http://127.0.0.1:1/git/", Path::new("/"));
        let url = "http://127.0.0.1:1/git/a/b".to_owned();
        assert_eq!(other, Ok(Address::Remote { url, revision: None }));
    }

    #[test]
    fn packages() {
        for (text, registry, name, version) in [
            ("pypi:Jinja2", Registry::Pypi, "Jinja2", None),
            ("pypi:zope.interface@4.0", Registry::Pypi, "zope.interface", Some("4.0")),
            ("crate:serde_json@1.0.0+x", Registry::Crate, "serde_json", Some("1.0.0+x")),
            ("npm:left-pad@latest", Registry::Npm, "left-pad", Some("latest")),
            ("npm:@types/node", Registry::Npm, "@types/node", None),
            ("npm:@types/node@22", Registry::Npm, "@types/node", Some("22")),
        ] {
            let package =
                Package { registry, name: name.into(), version: version.map(ToOwned::to_owned) };
            let address = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(address.to_string(), text);
            assert_eq!(address, Address::Package(package));
        }
        for text in ["npm:", "npm:@types", "npm:../x", "npm:@a/b/c", "npm:x@", "pypi:a/b"] {
            assert!(matches!(parse(text), Err(AddressError::Package { .. })), "{text}");
        }
        assert!(parse("pypi:x@1;rm").is_err() && parse("crate:..").is_err());
    }

    #[test]
    fn what_would_run_a_program_is_refused() {
        for text in [
            "ext::sh -c id",
            "-oProxyCommand=id:x",
            "x@-oProxyCommand=id:x",
            "ssh://-oProxyCommand=id/x",
            "ssh://u@-o/x",
            "fd::3",
            "a/-b",
            "",
            "x",
            "a/b/c",
            "../",
            "ftp://h/a",
            "https://h",
            "https://h/",
        ] {
            assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
        }
        for revision in ["", "-x", "a..b", "a b", "a:b", "a*", "a^", "@{u}"] {
            let text = format!("acme/web@{revision}");
            assert!(matches!(parse(&text), Err(AddressError::Revision { .. })), "{text}");
        }
    }

    #[test]
    fn local_directories() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cwd = dir.path().canonicalize().expect("it is there");
        for name in ["acme/web", "at@home", "plain"] {
            std::fs::create_dir_all(cwd.join(name)).expect("it is ours");
        }
        std::fs::write(cwd.join("file"), "").expect("it is ours");
        let parse = |text: &str| Address::parse(text, "github.com", &cwd);
        let local = |name: &str, revision: Option<&str>| {
            let revision = revision.map(ToOwned::to_owned);
            Ok(Address::Local { path: cwd.join(name), revision })
        };
        assert_eq!(parse("acme/web"), local("acme/web", None), "it exists, so it wins");
        assert_eq!(parse("./acme/web@HEAD~1"), local("acme/web", Some("HEAD~1")));
        assert_eq!(parse("plain@v1"), local("plain", Some("v1")));
        assert_eq!(parse("at@home"), local("at@home", None));
        assert_eq!(parse("./at@home"), local("at@home", None));
        assert_eq!(parse("."), local("", None));
        let url = format!("file://{}/at%40home", cwd.display());
        assert_eq!(parse(&url), local("at@home", None));
        assert_eq!(
            parse("./missing"),
            Err(AddressError::NoDirectory { path: cwd.join("missing") })
        );
        assert_eq!(parse("./file"), Err(AddressError::NotDirectory { path: cwd.join("file") }));
        assert!(matches!(parse("acme/other"), Ok(Address::Remote { .. })));
    }

    #[test]
    fn names_and_texts() {
        for (text, name, shown) in [
            ("acme/web@v1", "web", "https://github.com/acme/web@v1"),
            ("https://u:secret@h/a/b.git", "b", "https://h/a/b.git"),
            ("ssh://git:secret@h/a/b", "b", "ssh://git@h/a/b"),
            ("git@h:b.git", "b", "git@h:b.git"),
            ("npm:@types/node@22", "node", "npm:@types/node@22"),
        ] {
            let address = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((address.name().as_str(), address.to_string().as_str()), (name, shown));
            let again = parse(shown).expect("it is an address");
            assert_eq!(again.to_string(), shown);
        }
    }
}
