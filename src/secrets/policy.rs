//! Who may use a secret, and how: cleartext, reviewed in diffs, signed.
//!
//! | field | means |
//! |---|---|
//! | `host`, `header` | *brokered*: the app gets a placeholder; the value goes only to that host (`api.x.com`, `api.x.com:8443`) in that header |
//! | `format` | what the header holds, `{}` being the value; `{}` if not given. Not the app's to choose |
//! | `method` | only with these methods: one, or a list |
//! | `path` | only to this path; with `*` at its end, to all that begin so |
//! | `raw = true` | the app gets the value itself in a variable, once a human has approved the code |
//! | `file = "sa.json"` | the same in a file of that name; the variable holds its path |
//! | `command` | only for these commands: one, or a list, each all its words with a space between; any if not given |
//! | `agent` | for these agents, too, by name: one, or a list; for none if not given |
//!
//! One that says nothing of these is released to nobody but by `zagi secrets get`.

use std::collections::BTreeMap;

use toml_edit::{Item, TableLike};

/// The fields that a policy may have.
pub const FIELDS: [&str; 9] =
    ["host", "header", "format", "method", "path", "raw", "file", "command", "agent"];
/// Those that hold one text or a list.
const LISTS: [&str; 3] = ["method", "command", "agent"];
/// So many methods one may have; there are nine in all that HTTP itself knows.
const METHODS: usize = 16;
/// Those that say for whom it is, whatever the way.
pub const GRANTS: [&str; 2] = ["command", "agent"];

/// See the module. What is in it was checked by [`Policy::check`] if it came out of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy(BTreeMap<&'static str, Vec<String>>);

/// How a secret reaches an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Not at all.
    None,
    /// As a placeholder.
    Brokered,
    /// As a variable.
    Raw,
    /// As a file.
    File,
}

/// A field that is not as it must be.
pub enum Wrong {
    /// There is no such field.
    Unknown(String),
    /// What it holds cannot be.
    Value(String),
}

impl Policy {
    /// From a table of the file.
    pub fn parse(table: &dyn TableLike) -> Result<Policy, Wrong> {
        let mut policy = Policy::default();
        for (key, item) in table.iter() {
            let field = FIELDS.into_iter().find(|field| *field == key);
            let field = field.ok_or_else(|| Wrong::Unknown(key.to_owned()))?;
            let values = match (field, item) {
                ("raw", item) => match item.as_bool() {
                    Some(true) => vec!["true".to_owned()],
                    _ => return Err(Wrong::Value("`raw` is `true`, or is left out".into())),
                },
                (field, Item::Value(toml_edit::Value::Array(all))) if LISTS.contains(&field) => all
                    .iter()
                    .map(|value| value.as_str().map(str::to_owned))
                    .collect::<Option<_>>()
                    .ok_or_else(|| Wrong::Value(format!("`{field}` is a list of texts")))?,
                (field, item) => match item.as_str() {
                    Some(text) => vec![text.to_owned()],
                    None => return Err(Wrong::Value(format!("`{field}` is a text"))),
                },
            };
            policy.0.insert(field, values);
        }
        policy.check().map_err(Wrong::Value)?;
        Ok(policy)
    }

    /// From fields and what each holds, as somebody wishes for them; or what is wrong with it.
    pub fn of(fields: &BTreeMap<String, Vec<String>>) -> Result<Policy, String> {
        let mut policy = Policy::default();
        for (field, values) in fields {
            let known = FIELDS.into_iter().find(|known| known == field);
            policy.set(known.ok_or_else(|| format!("unknown field `{field}`"))?, values.clone());
        }
        policy.check()?;
        Ok(policy)
    }

    /// Sets a field; nothing, where there are no values. A `method` is upper-cased, a `host`
    /// lower-cased.
    pub fn set(&mut self, field: &'static str, values: Vec<String>) {
        debug_assert!(FIELDS.contains(&field), "{field} is a field");
        let values: Vec<String> = match field {
            "method" => values.iter().map(|m| m.to_ascii_uppercase()).collect(),
            "host" => values.iter().map(|h| h.to_ascii_lowercase()).collect(),
            _ => values,
        };
        if !values.is_empty() {
            self.0.insert(field, values);
        }
    }

    /// Grants it to more, or (`revoke`) to fewer: `field` is one of [`GRANTS`].
    pub fn grant(&mut self, field: &'static str, values: Vec<String>, revoke: bool) {
        debug_assert!(GRANTS.contains(&field), "{field} is a grant");
        let all = self.0.entry(field).or_default();
        all.retain(|value| !values.contains(value));
        if !revoke {
            all.extend(values);
        }
        all.sort();
        if all.is_empty() {
            self.0.remove(field);
        }
    }

    /// For whom `other` is, this is from now on, too.
    pub fn inherit(&mut self, other: &Policy) {
        for field in GRANTS {
            self.set(field, other.0.get(field).cloned().unwrap_or_default());
        }
    }

    /// Its fields in order, each with what it holds.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        FIELDS.into_iter().filter_map(|field| Some((field, self.0.get(field)?.as_slice())))
    }

    /// What a field holds, of those that hold one text.
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.first().map(String::as_str)
    }

    /// All that a field holds; nothing, where it is not there.
    pub fn all(&self, field: &str) -> &[String] {
        self.0.get(field).map_or(&[], Vec::as_slice)
    }

    /// How it reaches an app.
    pub fn release(&self) -> Release {
        match () {
            () if self.get("host").is_some() => Release::Brokered,
            () if self.get("file").is_some() => Release::File,
            () if self.get("raw").is_some() => Release::Raw,
            () => Release::None,
        }
    }

    /// Whether it can be; what is wrong with it if not.
    pub fn check(&self) -> Result<(), String> {
        let brokered = ["host", "header", "format", "method", "path"];
        let has = |field: &str| self.0.contains_key(field);
        let any = brokered.into_iter().find(|field| has(field));
        if let Some(field) = any {
            if let Some(other) = ["raw", "file"].into_iter().find(|field| has(field)) {
                return Err(format!(
                    "`{field}` is of a brokered secret, `{other}` of one that is not"
                ));
            }
            if let Some(missing) = ["host", "header"].into_iter().find(|field| !has(field)) {
                return Err(format!("a brokered secret needs `{missing}`, too"));
            }
        }
        if let Some(field) = GRANTS.into_iter().find(|field| has(field))
            && self.release() == Release::None
        {
            return Err(format!("`{field}` says who gets it, and nothing says how"));
        }
        for (field, values) in self.fields() {
            if values.is_empty() {
                return Err(format!("`{field}` is empty"));
            }
            if field == "method" && values.len() > METHODS {
                return Err(format!("`method`: there are more than {METHODS}"));
            }
            for value in values {
                if let Some(reason) = wrong(field, value) {
                    return Err(format!("`{field} = {value:?}`: {reason}"));
                }
            }
        }
        Ok(())
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// How long a field's value may be. Somebody is to see all of what they are asked about.
fn most(field: &str) -> usize {
    match field {
        "host" => 255,
        "method" => 32,
        "path" => 1024,
        "command" => 4096,
        _ => 128,
    }
}

/// What is wrong with one field's value.
fn wrong(field: &str, value: &str) -> Option<&'static str> {
    let printable = |text: &str| text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    let fits = value.len() <= most(field);
    let fine = match field {
        "host" => {
            let (name, port) = value.split_once(':').unwrap_or((value, "443"));
            let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && !name.ends_with('.')
                && !name.contains("..")
                && name.chars().all(letter)
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        // RFC 9110, section 5.6.2.
        "header" => !value.is_empty() && value.chars().all(is_token),
        "method" => {
            !value.is_empty() && value.chars().all(|c| is_token(c) && !c.is_ascii_lowercase())
        }
        "format" => value.matches("{}").count() == 1 && printable(value) && !value.contains("  "),
        "path" => {
            let fixed = value.strip_suffix('*').unwrap_or(value);
            fixed.starts_with('/')
                && fixed.chars().all(|c| c.is_ascii_graphic() && !"*?#\\".contains(c))
                && !fixed.split('/').any(|part| part == "." || part == "..")
        }
        "command" => printable(value) && value.split(' ').all(|word| !word.is_empty()),
        "file" | "agent" => {
            let letter = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            value.chars().all(letter) && value.starts_with(|c: char| c.is_ascii_alphanumeric())
        }
        _ => true,
    };
    let expected = match field {
        "host" => "it is one host, in lower case, as `api.example.com` or `api.example.com:8443`",
        "header" => "it is a header's name",
        "method" => "it is a method, in upper case, as `GET`",
        "format" => "it has `{}` in it once, where the value goes, and one space between words",
        "path" => "it begins with `/`, and may end with `*`",
        "command" => "it is a command's words, with one space between",
        "agent" => "it is an agent's name: letters, digits, `-`, `_` and `.`",
        _ => "it is a file's name without a directory: letters, digits, `-`, `_` and `.`",
    };
    match (fits, fine) {
        (false, _) => Some("it is too long"),
        (true, false) => Some(expected),
        (true, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Policy, String> {
        let table: toml_edit::DocumentMut = text.parse().unwrap();
        Policy::parse(table.as_table()).map_err(|wrong| match wrong {
            Wrong::Unknown(field) => format!("unknown {field}"),
            Wrong::Value(reason) => reason,
        })
    }

    #[test]
    fn three_ways_and_none() {
        let of = |text| parse(text).map(|policy| policy.release());
        assert_eq!(of("host = 'a.b'\nheader = 'X-Key'"), Ok(Release::Brokered));
        assert_eq!(of("raw = true"), Ok(Release::Raw));
        assert_eq!(of("file = 'sa.json'"), Ok(Release::File));
        assert_eq!(of(""), Ok(Release::None));
    }

    #[test]
    fn grants_are_added_taken_and_inherited() {
        let mut policy = parse("raw = true\nagent = 'b'").unwrap();
        policy.grant("agent", vec!["a".into(), "b".into()], false);
        assert_eq!(policy, parse("raw = true\nagent = ['a', 'b']").unwrap());
        let mut other = parse("file = 'x'").unwrap();
        other.inherit(&policy);
        assert_eq!(other, parse("file = 'x'\nagent = ['a', 'b']").unwrap());
        policy.grant("agent", vec!["a".into(), "b".into()], true);
        assert_eq!(policy, parse("raw = true").unwrap());
    }

    #[test]
    fn what_is_too_long_to_be_looked_at_is_refused() {
        let brokered = |more: &str| parse(&format!("host = 'a.b'\nheader = 'X'\n{more}"));
        let long = |field: &str, begin: &str, length: usize| {
            brokered(&format!("{field} = '{begin}{}'", "A".repeat(length - begin.len())))
        };
        for (field, begin, most) in [("format", "{}", 128), ("method", "", 32), ("path", "/", 1024)]
        {
            assert!(long(field, begin, most).is_ok(), "{field}");
            assert!(long(field, begin, most + 1).is_err_and(|e| e.contains("too long")), "{field}");
        }
        let two = |host: usize, header: usize| {
            let (host, header) = ("a".repeat(host), "X".repeat(header));
            parse(&format!("host = '{host}'\nheader = '{header}'"))
        };
        assert!(two(255, 128).is_ok());
        assert!(two(256, 128).is_err_and(|e| e.contains("too long")));
        assert!(two(255, 129).is_err_and(|e| e.contains("too long")));
        let e = brokered("format = '{}  x'").unwrap_err();
        assert!(e.contains("one space"), "{e}");
        let methods = |n: usize| brokered(&format!("method = {:?}", vec!["GET"; n]));
        assert!(methods(METHODS).is_ok() && methods(METHODS + 1).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, reason) in [
            ("hots = 'a.b'", "unknown hots"),
            ("host = 'a.b'", "needs `header`"),
            ("header = 'X'", "needs `host`"),
            ("host = 'a.b'\nheader = 'X'\nraw = true", "`raw` of one that is not"),
            ("raw = false", "left out"),
            ("raw = 'true'", "left out"),
            ("host = '*.b'\nheader = 'X'", "one host"),
            ("host = 'a.b\\nevil'\nheader = 'X'", "one host"),
            ("host = 'a.b:0'\nheader = 'X'", "one host"),
            ("host = 'a.b'\nheader = 'X Y'", "header's name"),
            ("host = 'a.b'\nheader = 'X'\nformat = 'Bearer'", "once"),
            ("host = 'a.b'\nheader = 'X'\nformat = \"{}\\r\\nHost: c\"", "once"),
            ("host = 'a.b'\nheader = 'X'\nmethod = 'get'", "upper case"),
            ("host = 'a.b'\nheader = 'X'\nmethod = []", "empty"),
            ("host = 'a.b'\nheader = 'X'\nmethod = [1]", "texts"),
            ("host = 'a.b'\nheader = 'X'\npath = 'v1'", "begins with `/`"),
            ("host = 'a.b'\nheader = 'X'\npath = '/a/../b'", "begins with `/`"),
            ("agent = 'ci'", "nothing says how"),
            ("raw = true\nagent = ['ci', '']", "an agent's name"),
            ("raw = true\ncommand = 'npm  start'", "one space"),
            ("raw = true\ncommand = []", "empty"),
            ("file = '../x'", "without a directory"),
            ("file = 3", "is a text"),
        ] {
            let e = parse(text).unwrap_err();
            assert!(e.contains(reason), "{text}: {e}");
        }
    }
}
