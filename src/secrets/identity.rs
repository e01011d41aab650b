//! Who one is: the keys that open a file, and the recipients that a file is made for.
//!
//! `$ZAGI_HOME/secrets/identity` is an ordinary age identity file with one X25519 key, made at
//! first use, 0600. Beside it the user may name others (`[secrets] identities` of `config.toml`,
//! `--identity`): age identity files, plain or encrypted with a passphrase, with keys of plugins
//! too, and private keys of ssh. What is asked of the user goes through age's [`Callbacks`].

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::armor::ArmoredReader;
use age::secrecy::ExposeSecret;
use age::{Callbacks, Identity, IdentityFile, plugin, ssh, x25519};
use zagi_sandbox::Pages;

use super::error::{SecretsError, at};

/// The file in the home.
const FILE: &str = "secrets/identity";
/// A longer file holds no identities. Bytes.
const MOST_BYTES: usize = 1 << 20;
/// Of scrypt, as a power of two: some seconds.
const MOST_WORK: u8 = 22;

/// Where programs of plugins are looked for, and where they must not be found.
#[derive(Debug, Clone)]
pub struct Plugins {
    /// `PATH`.
    pub path: Option<OsString>,
    /// Directories that the project can change: its own, and its tools'.
    pub distrusted: Vec<PathBuf>,
}

impl Plugins {
    /// A plugin is given the key of the file that it helps to encrypt or to open. The crate runs the
    /// first `age-plugin-NAME` of PATH; that must not be one that a repository brought.
    fn allow(&self, name: &str) -> Result<(), SecretsError> {
        let program = format!("age-plugin-{name}");
        for dir in self.path.iter().flat_map(std::env::split_paths) {
            let file = dir.join(&program);
            let Ok(about) = file.metadata() else { continue };
            if !about.is_file() || about.permissions().mode() & 0o111 == 0 {
                continue;
            }
            let refuse = |tree: &Path| {
                Err(SecretsError::Plugin { program: file.clone(), tree: tree.to_owned() })
            };
            if !dir.is_absolute() {
                return refuse(&dir);
            }
            let real = file.canonicalize().map_err(at(&file))?;
            for tree in &self.distrusted {
                let tree = tree.canonicalize().unwrap_or_else(|_| tree.clone());
                if real.starts_with(&tree) || file.starts_with(&tree) {
                    return refuse(&tree);
                }
            }
            return Ok(());
        }
        Ok(())
    }
}

/// The home's own identity, and whether it was made just now.
pub fn own(home: &Path) -> Result<(x25519::Identity, bool), SecretsError> {
    let path = home.join(FILE);
    if !path.exists() {
        let made = make(&path)?;
        if made {
            return Ok((read_own(&path)?, true));
        }
    }
    Ok((read_own(&path)?, false))
}

/// The recipient of the home's own identity, if there is one.
pub fn known(home: &Path) -> Result<Option<String>, SecretsError> {
    let path = home.join(FILE);
    match path.exists() {
        true => Ok(Some(own_recipient(&read_own(&path)?))),
        false => Ok(None),
    }
}

/// Its recipient, to be given to others.
pub fn own_recipient(identity: &x25519::Identity) -> String {
    identity.to_public().to_string()
}

/// Writes a new one; not if another process was faster.
fn make(path: &Path) -> Result<bool, SecretsError> {
    let dir = path.parent().expect("it is in a directory");
    super::private_directory(dir)?;
    let identity = x25519::Identity::generate();
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .map_err(at(path))?;
    let secret = identity.to_string();
    writeln!(file, "# public key: {}", identity.to_public())
        .and_then(|()| file.write_all(secret.expose_secret().as_bytes()))
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.as_file().sync_all())
        .map_err(at(path))?;
    match file.persist_noclobber(path) {
        Ok(_) => File::open(dir).and_then(|dir| dir.sync_all()).map(|()| true).map_err(at(path)),
        Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(at(path)(e.error)),
    }
}

fn read_own(path: &Path) -> Result<x25519::Identity, SecretsError> {
    let bytes = read(path)?;
    let text = std::str::from_utf8(bytes.bytes()).unwrap_or_default();
    let line = text.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
    let identity = line.and_then(|line| x25519::Identity::from_str(line.trim()).ok());
    identity.ok_or_else(|| wrong(path, "it holds no identity of age (AGE-SECRET-KEY-1…)"))
}

fn wrong(path: &Path, reason: impl Into<String>) -> SecretsError {
    SecretsError::Identity { path: path.to_owned(), reason: reason.into() }
}

/// A private file, straight into memory that is kept.
fn read(path: &Path) -> Result<Pages, SecretsError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| wrong(path, e.to_string()))?;
    let about = file.metadata().map_err(at(path))?;
    if !about.is_file() {
        return Err(wrong(path, "it is no ordinary file"));
    }
    let mine = about.uid() == nix::unistd::geteuid().as_raw();
    if !mine || about.mode() & 0o077 != 0 {
        let reason = format!("others can read or change it; `chmod 600 {}`", path.display());
        return Err(wrong(path, reason));
    }
    let mut pages = Pages::new(about.len() as usize).map_err(SecretsError::Memory)?;
    pages.read(&mut &file, MOST_BYTES).map_err(|e| wrong(path, e.to_string()))?;
    Ok(pages)
}

/// The identities of a file, of whichever kind.
pub fn load<C: Callbacks>(
    path: &Path,
    plugins: &Plugins,
    ask: &C,
) -> Result<Vec<Box<dyn Identity>>, SecretsError> {
    let pages = read(path)?;
    let bytes = pages.bytes();
    let name = Some(path.display().to_string());
    if bytes.starts_with(b"age-encryption.org/") || bytes.starts_with(b"-----BEGIN AGE ") {
        // Encrypted: what is copied here is nothing secret.
        let input = ArmoredReader::new(io::Cursor::new(bytes.to_vec()));
        let locked = Locked { plugins: plugins.clone(), ask: ask.clone() };
        let found = age::encrypted::Identity::from_buffer(input, name, locked, Some(MOST_WORK));
        return match found {
            Ok(Some(identity)) => Ok(vec![Box::new(identity)]),
            Ok(None) => Err(wrong(path, "it is encrypted to something else than a passphrase")),
            Err(e) => Err(wrong(path, e.to_string())),
        };
    }
    if bytes.starts_with(b"-----BEGIN ") {
        return match ssh::Identity::from_buffer(bytes, name) {
            Ok(ssh::Identity::Unsupported(_)) => {
                Err(wrong(path, "age opens ssh keys of Ed25519 and RSA only"))
            }
            Ok(identity) => Ok(vec![Box::new(identity.with_callbacks(ask.clone()))]),
            Err(e) => Err(wrong(path, e.to_string())),
        };
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(path, "it holds no identities"))?;
    for line in text.lines() {
        if let Ok(identity) = line.parse::<plugin::Identity>() {
            plugins.allow(identity.plugin())?;
        }
    }
    let file = IdentityFile::from_buffer(bytes)
        .map_err(|_| wrong(path, "it holds something else than identities"))?;
    let all = file.with_callbacks(ask.clone()).into_identities();
    let all = all.map_err(|e| wrong(path, e.to_string()))?;
    match all.is_empty() {
        true => Err(wrong(path, "it holds no identity")),
        false => Ok(all.into_iter().map(|identity| identity as Box<dyn Identity>).collect()),
    }
}

/// Asks for the passphrase of an identity file. A plugin whose key is in such a file would be run
/// without having been looked at; the file's passphrase is not asked for then.
#[derive(Clone)]
struct Locked<C> {
    plugins: Plugins,
    ask: C,
}

impl<C: Callbacks> Callbacks for Locked<C> {
    fn display_message(&self, message: &str) {
        self.ask.display_message(message);
    }
    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        self.ask.confirm(message, yes, no)
    }
    fn request_public_string(&self, description: &str) -> Option<String> {
        self.ask.request_public_string(description)
    }
    fn request_passphrase(&self, description: &str) -> Option<age::secrecy::SecretString> {
        if !self.plugins.none_distrusted() {
            self.ask.display_message(
                "the passphrase is not asked for: a directory of PATH that the project can change \
                 has a plugin for age, which a key behind the passphrase could name",
            );
            return None;
        }
        self.ask.request_passphrase(description)
    }
}

impl Plugins {
    /// Whether no directory of PATH that the project can change has any plugin.
    fn none_distrusted(&self) -> bool {
        let names = self.path.iter().flat_map(std::env::split_paths).flat_map(|dir| {
            std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name())
        });
        names
            .filter_map(|name| Some(name.to_str()?.strip_prefix("age-plugin-")?.to_owned()))
            .all(|name| self.allow(&name).is_ok())
    }
}

/// A recipient's text in its one form, and the comment that stood behind it.
pub fn parse_recipient(text: &str) -> Result<(String, Option<String>), SecretsError> {
    let wrong = |reason: &str| SecretsError::Recipient {
        text: text.chars().take(40).collect(),
        reason: reason.to_owned(),
    };
    let text = text.trim();
    if text.starts_with("AGE-SECRET-KEY-") || text.starts_with("AGE-PLUGIN-") {
        // Not repeated: it is the private half.
        return Err(SecretsError::Recipient {
            text: "AGE-…".into(),
            reason: "it is a private key, now in this shell's history; its recipient is in the \
                     comment beside it (`age1…`)"
                .into(),
        });
    }
    if text.starts_with("ssh-") {
        let mut words = text.split_whitespace();
        let key: Vec<&str> = words.by_ref().take(2).collect();
        let comment = words.next().map(str::to_owned);
        let key = key.join(" ");
        return match ssh::Recipient::from_str(&key) {
            Ok(_) => Ok((key, comment)),
            Err(ssh::ParseRecipientKeyError::RsaModulusTooSmall) => {
                Err(wrong("an RSA key of less than 2048 bits is weak"))
            }
            Err(_) => Err(wrong("of ssh keys, age takes ssh-ed25519 and ssh-rsa")),
        };
    }
    let fine =
        x25519::Recipient::from_str(text).is_ok() || plugin::Recipient::from_str(text).is_ok();
    match fine {
        true => Ok((text.to_owned(), None)),
        false => Err(wrong("it begins with `age1`, `ssh-ed25519` or `ssh-rsa`")),
    }
}

/// Recipients that age can encrypt to.
pub(super) fn recipients<'a, C: Callbacks>(
    keys: impl Iterator<Item = &'a str>,
    plugins: &Plugins,
    ask: &C,
) -> Result<Vec<Box<dyn age::Recipient + Send>>, SecretsError> {
    let mut all: Vec<Box<dyn age::Recipient + Send>> = Vec::new();
    let mut of_plugins: Vec<plugin::Recipient> = Vec::new();
    for key in keys {
        let (key, _) = parse_recipient(key)?;
        if let Ok(recipient) = x25519::Recipient::from_str(&key) {
            all.push(Box::new(recipient));
        } else if let Ok(recipient) = ssh::Recipient::from_str(&key) {
            all.push(Box::new(recipient));
        } else if let Ok(recipient) = plugin::Recipient::from_str(&key) {
            of_plugins.push(recipient);
        }
    }
    let mut names: Vec<&str> = of_plugins.iter().map(plugin::Recipient::plugin).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        plugins.allow(name)?;
        let recipient = plugin::RecipientPluginV1::new(name, &of_plugins, &[], ask.clone());
        all.push(Box::new(recipient.map_err(|e| SecretsError::Encrypt(e.to_string()))?));
    }
    Ok(all)
}
