//! `.zagi/secrets.enc`, version 1: TOML, made by `zagi secrets` only, committed and reviewed.
//!
//! ```toml
//! version = 1
//! project = "<32 hex digits>"       # made with the file, never changed
//! revision = 3                      # one more at each write
//! signer = "<64 hex digits>"        # Ed25519; see `sign`
//!
//! [[recipients]]                    # who can open it, and so write it
//! name = "alice"
//! key = "age1…"                     # or ssh-ed25519 …, ssh-rsa …, age1plugin1…
//!
//! [policy.STRIPE_KEY]               # one for each secret; see `policy`
//! host = "api.stripe.com"
//! header = "Authorization"
//!
//! [[succession]]                    # after a rekey: the old signer vouches for the new one
//! from = "<64 hex digits>"
//! to = "<64 hex digits>"
//! signature = "<128 hex digits>"
//!
//! [sealed]
//! signature = "<128 hex digits>"
//! payload = """
//! -----BEGIN AGE ENCRYPTED FILE-----  what is in it: see `payload`
//! """
//! ```
//!
//! The signature is of everything else, [`Document::signed`]; comments and spacing are nobody's.
//! Unknown fields are refused, everything is bounded, and nothing is decrypted that is not
//! signed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use toml_edit::{Item, TableLike};

use super::error::SecretsError;
use super::policy::{self, Policy, Wrong};
use super::sign::{Fields, Key, Signer, hex, unhex};

/// The version of the format above.
const VERSION: i64 = 1;
/// A longer file is not read. Bytes.
pub(super) const MOST_BYTES: usize = 8 << 20;
/// Of recipients, secrets and successions.
const MOST: usize = 1024;

/// Somebody who can open the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// What people call them; unique in the file.
    pub name: String,
    /// An age recipient.
    pub key: String,
}

/// A signer vouches for the one that comes after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Succession {
    from: Signer,
    to: Signer,
    signature: [u8; 64],
}

/// What the file says. Not yet to be believed: see [`Document::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The project's id, 32 hexadecimal digits.
    pub project: String,
    /// How often it was written.
    pub revision: u64,
    /// Who signed it.
    pub signer: Signer,
    /// Who can open it.
    pub recipients: Vec<Recipient>,
    /// The secrets' names, and what each may be used for.
    pub policies: BTreeMap<String, Policy>,
    pub(super) successions: Vec<Succession>,
    /// An age file in armor.
    pub(super) payload: String,
    pub(super) signature: [u8; 64],
}

impl Document {
    /// Reads `text`; `file` is its name in errors.
    pub fn parse(file: &Path, text: &str) -> Result<Document, SecretsError> {
        let reader = Reader { file };
        let marks = ["<<<<<<< ", ">>>>>>> ", "||||||| "];
        if text.lines().any(|l| l == "=======" || marks.iter().any(|mark| l.starts_with(mark))) {
            return Err(SecretsError::Conflict(file.to_owned()));
        }
        // TOML's own error would quote the line: nothing secret, but nothing that helps.
        let document: toml_edit::DocumentMut =
            text.parse().map_err(|e: toml_edit::TomlError| {
                let at = e.span().map_or(0, |span| span.start);
                let line = text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
                reader.malformed(format!("line {line}: {}", e.message()))
            })?;
        let top = document.as_table();
        match top.get("version").and_then(Item::as_integer) {
            Some(VERSION) => {}
            Some(found) => return Err(SecretsError::Newer { path: file.to_owned(), found }),
            None => return Err(reader.malformed("it has no `version`")),
        }
        let known = [
            "version",
            "project",
            "revision",
            "signer",
            "recipients",
            "policy",
            "succession",
            "sealed",
        ];
        reader.only(top, "", &known)?;
        let project = reader.text(top, "project")?;
        if unhex::<16>(project).is_none() {
            return Err(reader.malformed("`project` is 32 hexadecimal digits"));
        }
        let revision = top.get("revision").and_then(Item::as_integer);
        let revision = revision.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let sealed = top.get("sealed").and_then(Item::as_table_like);
        let sealed = sealed.ok_or_else(|| reader.malformed("it has no `[sealed]`"))?;
        reader.only(sealed, "sealed.", &["signature", "payload"])?;
        Ok(Document {
            project: project.to_owned(),
            revision: revision
                .ok_or_else(|| reader.malformed("`revision` is a number from 1 on"))?,
            signer: reader.signer(top, "signer")?,
            recipients: reader.recipients(top)?,
            policies: reader.policies(top)?,
            successions: reader.successions(top)?,
            // As git's `autocrlf` may have left it.
            payload: reader.text(sealed, "payload")?.replace("\r\n", "\n"),
            signature: reader.hex(sealed, "signature")?,
        })
    }

    /// What the signature is of.
    fn signed(&self) -> Vec<u8> {
        let mut fields = Fields::new("zagi secrets.enc v1");
        fields.bytes(self.project.as_bytes());
        fields.number(self.revision);
        fields.bytes(self.signer.bytes());
        fields.number(self.recipients.len() as u64);
        for recipient in &self.recipients {
            fields.bytes(recipient.name.as_bytes());
            fields.bytes(recipient.key.as_bytes());
        }
        fields.number(self.policies.len() as u64);
        for (name, policy) in &self.policies {
            fields.bytes(name.as_bytes());
            fields.number(policy.fields().count() as u64);
            for (field, values) in policy.fields() {
                fields.bytes(field.as_bytes());
                fields.number(values.len() as u64);
                values.iter().for_each(|value| fields.bytes(value.as_bytes()));
            }
        }
        fields.number(self.successions.len() as u64);
        for succession in &self.successions {
            fields.bytes(succession.from.bytes());
            fields.bytes(succession.to.bytes());
            fields.bytes(&succession.signature);
        }
        fields.bytes(self.payload.as_bytes());
        fields.finish()
    }

    /// Signs it as it is now.
    pub(super) fn sign(&mut self, key: &Key) {
        self.signer = key.signer();
        self.signature = key.sign(&self.signed());
    }

    /// Whether its signer signed it, and every succession is what it says.
    pub fn verify(&self, file: &Path) -> Result<(), SecretsError> {
        let successions = self
            .successions
            .iter()
            .all(|s| s.from.verifies(&succeeds(&self.project, &s.from, &s.to), &s.signature));
        match successions && self.signer.verifies(&self.signed(), &self.signature) {
            true => Ok(()),
            false => Err(SecretsError::Forged(file.to_owned())),
        }
    }

    /// Lets `old` vouch for `new`.
    pub(super) fn succeed(&mut self, old: &Key, new: &Key) {
        let (from, to) = (old.signer(), new.signer());
        let signature = old.sign(&succeeds(&self.project, &from, &to));
        self.successions.push(Succession { from, to, signature });
    }

    /// Whether `known` is its signer, or vouches for it through others.
    pub fn descends(&self, known: &Signer) -> bool {
        let mut at = *known;
        // Each of them once: a circle ends.
        for _ in 0..=self.successions.len() {
            if at == self.signer {
                return true;
            }
            let Some(next) = self.successions.iter().rev().find(|s| s.from == at) else {
                return false;
            };
            at = next.to;
        }
        false
    }

    /// One text for one content.
    pub fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.signed()).update(&self.signature);
        hash.finalize().to_hex().to_string()
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let quoted = |text: &str| toml_edit::Value::from(text).to_string();
        let mut out = format!(
            "# Secrets of this project, encrypted with age and signed. `zagi secrets` changes it; a\n\
             # change by hand is refused.\nversion = {VERSION}\nproject = \"{}\"\nrevision = {}\n\
             signer = \"{}\"\n",
            self.project, self.revision, self.signer
        );
        for recipient in &self.recipients {
            let (name, key) = (quoted(&recipient.name), quoted(&recipient.key));
            let _ = write!(out, "\n[[recipients]]\nname = {name}\nkey = {key}\n");
        }
        for (name, policy) in &self.policies {
            let _ = write!(out, "\n[policy.{name}]\n");
            for (field, values) in policy.fields() {
                let text = match values {
                    [_] if field == "raw" => "true".into(),
                    [value] => quoted(value),
                    values => values.iter().collect::<toml_edit::Array>().to_string(),
                };
                let _ = writeln!(out, "{field} = {text}");
            }
        }
        for s in &self.successions {
            let signature = hex(&s.signature);
            let _ = write!(
                out,
                "\n[[succession]]\nfrom = \"{}\"\nto = \"{}\"\nsignature = \"{signature}\"\n",
                s.from, s.to
            );
        }
        let signature = hex(&self.signature);
        let _ = write!(out, "\n[sealed]\nsignature = \"{signature}\"\npayload = \"\"\"\n");
        out.push_str(&self.payload);
        out.push_str("\"\"\"\n");
        out
    }
}

fn succeeds(project: &str, from: &Signer, to: &Signer) -> Vec<u8> {
    let mut fields = Fields::new("zagi secrets succession v1");
    fields.bytes(project.as_bytes());
    fields.bytes(from.bytes());
    fields.bytes(to.bytes());
    fields.finish()
}

/// Whether a secret may be called so: as a variable of the environment.
pub fn is_name(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether a recipient may be called so.
pub fn is_recipient_name(name: &str) -> bool {
    !name.trim().is_empty() && name.len() <= 64 && !name.chars().any(char::is_control)
}

/// What stands in a stranger's file, as it may be shown on a terminal.
fn shown(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Takes tables apart, and refuses what it does not know.
struct Reader<'a> {
    file: &'a Path,
}

impl Reader<'_> {
    fn malformed(&self, reason: impl Into<String>) -> SecretsError {
        SecretsError::Malformed { path: self.file.to_owned(), reason: shown(&reason.into()) }
    }

    fn unknown(&self, at: &str, key: &str, known: &[&str]) -> SecretsError {
        let nearest = crate::nearest::nearest(key, known.iter().map(|k| ((*k).to_owned(), *k)));
        let field = shown(&format!("{at}{key}"));
        SecretsError::UnknownField { path: self.file.to_owned(), field, nearest }
    }

    fn only(&self, table: &dyn TableLike, at: &str, known: &[&str]) -> Result<(), SecretsError> {
        match table.iter().find(|(key, _)| !known.contains(key)) {
            Some((key, _)) => Err(self.unknown(at, key, known)),
            None => Ok(()),
        }
    }

    fn text<'t>(&self, table: &'t dyn TableLike, key: &str) -> Result<&'t str, SecretsError> {
        let text = table.get(key).and_then(Item::as_str);
        text.ok_or_else(|| self.malformed(format!("`{key}` is missing, or is no text")))
    }

    fn hex<const N: usize>(
        &self,
        table: &dyn TableLike,
        key: &str,
    ) -> Result<[u8; N], SecretsError> {
        let wrong = || self.malformed(format!("`{key}` is {} hexadecimal digits", 2 * N));
        unhex(self.text(table, key)?).ok_or_else(wrong)
    }

    fn signer(&self, table: &dyn TableLike, key: &str) -> Result<Signer, SecretsError> {
        let wrong = || self.malformed(format!("`{key}` is no key of Ed25519"));
        Signer::parse(self.text(table, key)?).ok_or_else(wrong)
    }

    /// The tables of `[[key]]`; none where there are none.
    fn each<'t>(
        &self,
        top: &'t toml_edit::Table,
        key: &str,
    ) -> Result<Vec<&'t toml_edit::Table>, SecretsError> {
        let Some(item) = top.get(key) else { return Ok(Vec::new()) };
        let tables = item.as_array_of_tables().filter(|tables| tables.len() <= MOST);
        let tables =
            tables.ok_or_else(|| self.malformed(format!("`{key}` is a list of tables")))?;
        Ok(tables.iter().collect())
    }

    fn recipients(&self, top: &toml_edit::Table) -> Result<Vec<Recipient>, SecretsError> {
        let mut all: Vec<Recipient> = Vec::new();
        for table in self.each(top, "recipients")? {
            self.only(table, "recipients.", &["name", "key"])?;
            let name = self.text(table, "name")?.to_owned();
            let key = self.text(table, "key")?.to_owned();
            if !is_recipient_name(&name) || all.iter().any(|r| r.name == name) {
                return Err(self.malformed("recipients have names, each its own"));
            }
            if !key.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
                return Err(self.malformed(format!("the key of {name} is no recipient")));
            }
            all.push(Recipient { name, key });
        }
        match all.is_empty() {
            true => Err(self.malformed("it has no recipients")),
            false => Ok(all),
        }
    }

    fn policies(&self, top: &toml_edit::Table) -> Result<BTreeMap<String, Policy>, SecretsError> {
        let Some(item) = top.get("policy") else { return Ok(BTreeMap::new()) };
        let all = item.as_table_like().filter(|all| all.len() <= MOST);
        let all = all.ok_or_else(|| self.malformed("`policy` is a table of tables"))?;
        let mut policies = BTreeMap::new();
        for (name, item) in all.iter() {
            if !is_name(name) {
                return Err(self.malformed("a secret's name is letters, digits and `_`"));
            }
            let wrong = || self.malformed(format!("`policy.{name}` is a table"));
            let policy = Policy::parse(item.as_table_like().ok_or_else(wrong)?);
            let policy = policy.map_err(|wrong| match wrong {
                Wrong::Unknown(key) => {
                    self.unknown(&format!("policy.{name}."), &key, &policy::FIELDS)
                }
                Wrong::Value(reason) => {
                    self.malformed(format!("the policy of {name} cannot be: {reason}"))
                }
            })?;
            policies.insert(name.to_owned(), policy);
        }
        Ok(policies)
    }

    fn successions(&self, top: &toml_edit::Table) -> Result<Vec<Succession>, SecretsError> {
        let mut all = Vec::new();
        for table in self.each(top, "succession")? {
            self.only(table, "succession.", &["from", "to", "signature"])?;
            all.push(Succession {
                from: self.signer(table, "from")?,
                to: self.signer(table, "to")?,
                signature: self.hex(table, "signature")?,
            });
        }
        Ok(all)
    }
}
