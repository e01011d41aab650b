//! Variables: what `.env.example` and its like say, and what of it is a value.
//!
//! A plain value (`PORT=3000`) becomes an entry of `[env]`. A name that looks like a secret,
//! a value that stands for another and an empty one get no value: a note lists the names. No
//! value is ever made up. Names that choose a mode (`NODE_ENV`) are left to those who run the
//! project: test runners set them only where nobody has.

use super::survey::{Place, Survey, Text};
use super::types::{Evidence, Strength};
use crate::environment::activate;

/// Where variables are shown; the first that is there is read.
const EXAMPLES: [&str; 7] = [
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    "env.example",
    ".env.defaults",
    ".env-example",
];

/// Parts of the names of secrets.
const SECRET: [&str; 19] = [
    "ACCOUNT",
    "AUTH",
    "CERT",
    "CLIENT",
    "CREDENTIAL",
    "CREDENTIALS",
    "DSN",
    "KEY",
    "KEYS",
    "PASS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PRIVATE",
    "PWD",
    "SALT",
    "SECRET",
    "TOKEN",
    "WEBHOOK",
];

/// Names that choose between developing, testing and production.
const MODES: [&str; 8] = [
    "APP_ENV",
    "ASPNETCORE_ENVIRONMENT",
    "CI",
    "ENVIRONMENT",
    "FLASK_ENV",
    "MIX_ENV",
    "NODE_ENV",
    "RAILS_ENV",
];

/// Values that stand for another, and what begins or is in such.
const PLACEHOLDERS: [&str; 17] = [
    "...",
    "<",
    ">",
    "changeme",
    "change-me",
    "change_me",
    "example.com",
    "fixme",
    "insert",
    "placeholder",
    "replace",
    "secret",
    "todo",
    "xxx",
    "your",
    "{",
    "}",
];

/// How many variables are taken.
const MOST: usize = 64;

/// What one assignment is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// A value to take.
    Plain,
    /// The user must know it.
    Wanted,
    /// Nothing to do with the environment.
    Ignored,
}

/// Reads the example in the root.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    let Some(name) = EXAMPLES.iter().find(|name| root.has(name)) else { return };
    let Some(text) = survey.text(name) else { return };
    let mut wanted = Vec::new();
    for (line, name, value) in assignments(&text) {
        match kind(&name, &value) {
            Kind::Plain => {
                let evidence = text.evidence(line, name.clone(), Strength::Manifest);
                set(survey, &name, &value, evidence);
            }
            Kind::Wanted => wanted.push(text.evidence(line, name, Strength::Manifest)),
            Kind::Ignored => {}
        }
    }
    wanted.truncate(MOST);
    if !wanted.is_empty() {
        let names: Vec<&str> = wanted.iter().map(|e| e.text.as_str()).collect();
        let said =
            format!("`{name}` names variables without a value of their own: {}", names.join(", "));
        survey.note(said, wanted);
    }
}

/// Takes a variable that some specification sets.
pub(super) fn set(survey: &mut Survey<'_>, name: &str, value: &str, evidence: Evidence) {
    let fits = activate::may_set(name) && !MODES.contains(&name) && value.len() <= 1024;
    let plain = !value.chars().any(char::is_control) && !value.contains(['$', '`']);
    if fits && plain && !is_secret(name) && survey.env.len() < MOST {
        let entry = || (value.to_owned(), vec![evidence]);
        survey.env.entry(name.to_owned()).or_insert_with(entry);
    }
}

fn is_secret(name: &str) -> bool {
    name.to_ascii_uppercase().split('_').any(|part| {
        SECRET.contains(&part)
            || part.ends_with("KEY")
            || part.ends_with("SECRET")
            || part.ends_with("PASSWORD")
    })
}

fn kind(name: &str, value: &str) -> Kind {
    if !activate::may_set(name) || MODES.contains(&name) {
        return Kind::Ignored;
    }
    let lower = value.to_ascii_lowercase();
    let stands = PLACEHOLDERS.iter().any(|part| lower.contains(part));
    // An address with a name or password in it, or of a service: not the same everywhere.
    let credentials = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    let odd =
        value.contains(['$', '`']) || value.chars().any(char::is_control) || value.len() > 256;
    match value.is_empty() || stands || credentials || odd || is_secret(name) {
        true => Kind::Wanted,
        false => Kind::Plain,
    }
}

/// `NAME=value`, `export NAME="value" # why`; with the line.
fn assignments(text: &Text) -> Vec<(u32, String, String)> {
    let of = |(line, said): (u32, &str)| {
        let said = said.trim();
        let said = said.strip_prefix("export ").unwrap_or(said);
        let (name, value) = said.split_once('=')?;
        let name = name.trim();
        let shaped = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (shaped && !name.is_empty()).then(|| (line, name.to_owned(), unquoted(value)))
    };
    text.lines().filter_map(of).take(4 * MOST).collect()
}

fn unquoted(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inner, _)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote))
        {
            return inner.to_owned();
        }
    }
    let value = if value.starts_with('#') { "" } else { value };
    value.split(" #").next().unwrap_or(value).trim().to_owned()
}

/// Whether an assignment is one of a value that is the same everywhere.
pub(super) fn is_plain(name: &str, value: &str) -> bool {
    kind(name, value) == Kind::Plain
}

/// The assignments of the example, each with where it stands: who looks for services reads
/// addresses.
pub(super) fn names(survey: &mut Survey<'_>, root: &Place) -> Vec<(Evidence, String)> {
    let Some(name) = EXAMPLES.iter().find(|name| root.has(name)) else { return Vec::new() };
    let Some(text) = survey.text(name) else { return Vec::new() };
    let all = assignments(&text).into_iter();
    all.map(|(line, name, value)| (text.evidence(line, name, Strength::Manifest), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_value() {
        for (name, value, expected) in [
            ("PORT", "3000", Kind::Plain),
            ("LOG_LEVEL", "debug", Kind::Plain),
            ("API_URL", "http://localhost:3000", Kind::Plain),
            ("DATABASE_URL", "postgres://user:pw@localhost/x", Kind::Wanted),
            ("SECRET_KEY", "abc", Kind::Wanted),
            ("APIKEY", "abc", Kind::Wanted),
            ("GITHUB_TOKEN", "", Kind::Wanted),
            ("MONKEY_NAME", "bobo", Kind::Wanted),
            ("KEYBOARD", "us", Kind::Plain),
            ("NAME", "your-name", Kind::Wanted),
            ("SITE", "<site>", Kind::Wanted),
            ("HOST", "$OTHER", Kind::Wanted),
            ("NODE_ENV", "production", Kind::Ignored),
            ("LD_PRELOAD", "x.so", Kind::Ignored),
            ("PATH", "/bin", Kind::Ignored),
            ("NODE_OPTIONS", "--require ./x.js", Kind::Ignored),
        ] {
            assert_eq!(kind(name, value), expected, "{name}={value}");
        }
    }

    #[test]
    fn assignments_of_examples() {
        let text =
            "# A=1\nexport B = \"x # y\" # z\nC='q'\nD=1 # why\nE=# nothing\nno line\nF-G=1\n";
        let text = Text { path: ".env.example".into(), text: text.into() };
        let found: Vec<String> =
            assignments(&text).into_iter().map(|(l, n, v)| format!("{l} {n} [{v}]")).collect();
        assert_eq!(found, ["2 B [x # y]", "3 C [q]", "4 D [1]", "5 E []"]);
    }
}
