//! What the hook changed in a shell, kept in one of the shell's own variables so that it
//! can be undone exactly.
//!
//! `__ZAGI_STATE`, version 1: fields separated by `;`, every byte of a value that is not a
//! plain letter, digit or one of `/._-+` written as `%XX`:
//!
//! ```text
//! 1;WORKSPACE;KEY;ENTRY,ENTRY;NAME=NEW=OLD;NAME=NEW
//! ```
//!
//! `NAME=NEW` without an old value was not set before.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The variable.
pub const NAME: &str = "__ZAGI_STATE";
const VERSION: &str = "1";

/// One variable that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Its name.
    pub name: OsString,
    /// What it was set to.
    pub new: OsString,
    /// What it was before, if it was set.
    pub old: Option<OsString>,
}

/// What was changed, by which environment of which workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The workspace.
    pub workspace: PathBuf,
    /// The environment's key.
    pub key: String,
    /// The entries that were put on `PATH`.
    pub path: Vec<OsString>,
    /// The other variables.
    pub vars: Vec<Changed>,
}

impl State {
    /// The variable's value.
    pub fn encode(&self) -> String {
        let entries: Vec<String> = self.path.iter().map(|entry| escape(entry)).collect();
        let mut fields = vec![
            VERSION.to_owned(),
            escape(self.workspace.as_os_str()),
            escape(OsStr::new(&self.key)),
            entries.join(","),
        ];
        for var in &self.vars {
            let mut field = format!("{}={}", escape(&var.name), escape(&var.new));
            if let Some(old) = &var.old {
                field = format!("{field}={}", escape(old));
            }
            fields.push(field);
        }
        fields.join(";")
    }

    /// Reads it; `None` where it is another version's or was damaged.
    pub fn decode(text: &OsStr) -> Option<State> {
        let mut fields = text.to_str()?.split(';');
        if fields.next()? != VERSION {
            return None;
        }
        let workspace = PathBuf::from(unescape(fields.next()?)?);
        let key = unescape(fields.next()?)?.into_string().ok()?;
        let entries = fields.next()?.split(',').filter(|entry| !entry.is_empty());
        let path = entries.map(unescape).collect::<Option<_>>()?;
        let vars = fields
            .map(|field| {
                let mut parts = field.split('=');
                let (name, new) = (unescape(parts.next()?)?, unescape(parts.next()?)?);
                let old = match parts.next() {
                    Some(old) => Some(unescape(old)?),
                    None => None,
                };
                parts.next().is_none().then_some(Changed { name, new, old })
            })
            .collect::<Option<_>>()?;
        Some(State { workspace, key, path, vars })
    }
}

fn escape(text: &OsStr) -> String {
    let mut out = String::new();
    for byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'+' => {
                out.push(char::from(*byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn unescape(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_round_trip() {
        let odd = OsString::from_vec((1..=255).collect());
        let state = State {
            workspace: PathBuf::from(&odd),
            key: "abc".into(),
            path: vec![odd.clone(), "/x".into()],
            vars: vec![
                Changed { name: "A".into(), new: odd.clone(), old: Some("".into()) },
                Changed { name: "B".into(), new: "".into(), old: None },
                Changed { name: "C".into(), new: "1".into(), old: Some(odd) },
            ],
        };
        let text = state.encode();
        assert!(text.is_ascii());
        assert_eq!(State::decode(OsStr::new(&text)), Some(state));
    }

    #[test]
    fn what_was_damaged_is_not_believed() {
        for text in ["", "2;/w;k;", "1;/w", "1;%;k;", "1;%G0;k;", "1;/w;k;;A", "1;/w;k;;A=b=c=d"] {
            assert_eq!(State::decode(OsStr::new(text)), None, "{text}");
        }
    }
}
