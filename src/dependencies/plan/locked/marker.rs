//! Environment markers (PEP 508) as lock files use them: what they say of extras is decided
//! here, the rest is left to the installer.

use std::collections::BTreeSet;

/// A marker, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marker {
    /// It holds, or it does not.
    Known(bool),
    /// A comparison, as it was written.
    Atom(String),
    /// All of them.
    All(Vec<Marker>),
    /// One of them at least.
    Any(Vec<Marker>),
}

/// Deeper brackets than this are nobody's.
const DEEPEST: usize = 32;

/// Reads a marker in which `extras` are chosen. What cannot be read is passed on whole, for
/// the installer to say what is wrong with it.
pub(super) fn read(text: &str, extras: &BTreeSet<String>) -> Marker {
    let tokens = tokens(text);
    let mut parser = Parser { tokens: &tokens, at: 0, extras };
    match parser.any(0) {
        Some(marker) if parser.at == tokens.len() => marker,
        _ => Marker::Atom(text.trim().to_owned()),
    }
}

impl Marker {
    /// Both.
    pub fn and(self, other: Marker) -> Marker {
        all(vec![self, other])
    }

    /// One of the two.
    pub fn or(self, other: Marker) -> Marker {
        any(vec![self, other])
    }

    /// As it stands after `;`, `None` where it always holds.
    pub fn text(&self) -> Option<String> {
        let join = |parts: &[Marker], word: &str| {
            let parts = parts.iter().map(|part| match (part, part.text()) {
                (Marker::Atom(text), _) => text.clone(),
                (_, text) => format!("({})", text.unwrap_or_default()),
            });
            parts.collect::<Vec<_>>().join(word)
        };
        match self {
            Marker::Known(true) => None,
            // No Python is as old.
            Marker::Known(false) => Some("python_version < \"1\"".to_owned()),
            Marker::Atom(text) => Some(text.clone()),
            Marker::All(parts) => Some(join(parts, " and ")),
            Marker::Any(parts) => Some(join(parts, " or ")),
        }
    }
}

fn all(parts: Vec<Marker>) -> Marker {
    combined(parts, true)
}

fn any(parts: Vec<Marker>) -> Marker {
    combined(parts, false)
}

/// The parts, flat, each once; `all` of them or any.
fn combined(parts: Vec<Marker>, all: bool) -> Marker {
    let mut flat: Vec<Marker> = Vec::new();
    for part in parts {
        match part {
            Marker::Known(known) if known == all => {}
            Marker::Known(known) => return Marker::Known(known),
            Marker::All(inner) if all => flat.extend(inner),
            Marker::Any(inner) if !all => flat.extend(inner),
            other => flat.push(other),
        }
    }
    let mut once: Vec<Marker> = Vec::new();
    for part in flat {
        if !once.contains(&part) {
            once.push(part);
        }
    }
    match (once.len(), all) {
        (0, all) => Marker::Known(all),
        (1, _) => once.remove(0),
        (_, true) => Marker::All(once),
        (_, false) => Marker::Any(once),
    }
}

/// Brackets, quoted texts, and words.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' => 1,
            '"' | '\'' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            _ => {
                let ends = |c: char| c.is_whitespace() || "()\"'".contains(c);
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        let (token, after) = rest.split_at(length);
        found.push(token);
        rest = after.trim_start();
    }
    found
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    at: usize,
    extras: &'a BTreeSet<String>,
}

impl Parser<'_> {
    fn any(&mut self, depth: usize) -> Option<Marker> {
        let mut parts = vec![self.all(depth)?];
        while self.takes("or") {
            parts.push(self.all(depth)?);
        }
        Some(any(parts))
    }

    fn all(&mut self, depth: usize) -> Option<Marker> {
        let mut parts = vec![self.one(depth)?];
        while self.takes("and") {
            parts.push(self.one(depth)?);
        }
        Some(all(parts))
    }

    fn one(&mut self, depth: usize) -> Option<Marker> {
        if self.takes("(") {
            let inner = if depth < DEEPEST { self.any(depth + 1)? } else { return None };
            return self.takes(")").then_some(inner);
        }
        let begin = self.at;
        let ends = |token: &&str| matches!(*token, "and" | "or" | "(" | ")");
        while self.tokens.get(self.at).is_some_and(|token| !ends(token)) {
            self.at += 1;
        }
        let words = &self.tokens[begin..self.at];
        (!words.is_empty()).then(|| self.comparison(words))
    }

    fn comparison(&self, words: &[&str]) -> Marker {
        let chosen = |quoted: &str| {
            let name = super::normal_name(quoted.trim_matches(['"', '\'']));
            self.extras.contains(&name)
        };
        match words {
            ["extra", "==", name] | [name, "==", "extra"] => Marker::Known(chosen(name)),
            ["extra", "!=", name] | [name, "!=", "extra"] => Marker::Known(!chosen(name)),
            words => Marker::Atom(words.join(" ")),
        }
    }

    fn takes(&mut self, word: &str) -> bool {
        let found = self.tokens.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, extras: &[&str]) -> Option<String> {
        let extras = extras.iter().map(|e| (*e).to_owned()).collect();
        read(text, &extras).text()
    }

    #[test]
    fn extras_are_decided_and_the_rest_stays() {
        let python = "python_version < \"3.11\"";
        assert_eq!(shown(python, &[]).as_deref(), Some(python));
        assert_eq!(shown("extra == \"old\"", &["old"]), None);
        assert_eq!(shown("extra == 'old'", &[]).as_deref(), Some("python_version < \"1\""));
        let both = format!("{python} and (extra == \"a\" or extra == \"b_c\")");
        assert_eq!(shown(&both, &["b-c"]).as_deref(), Some(python));
        assert_eq!(shown(&both, &[]).as_deref(), Some("python_version < \"1\""));
        let nested =
            "os_name == \"nt\" and (sys_platform != 'win32' or 'x' not in platform_version)";
        assert_eq!(shown(nested, &[]).as_deref(), Some(nested));
    }

    #[test]
    fn what_is_no_marker_is_passed_on() {
        for broken in ["(a == 'b'", "a == 'b')", "and", "a == 'b' or", &"(".repeat(100)] {
            assert_eq!(shown(broken, &[]).as_deref(), Some(broken), "{broken}");
        }
    }

    #[test]
    fn each_part_stands_once() {
        let read = |text| read(text, &BTreeSet::new());
        let (a, b) = (read("a == '1'"), read("b == '2'"));
        assert_eq!(a.clone().and(a.clone()), a);
        assert_eq!(a.clone().or(Marker::Known(true)), Marker::Known(true));
        let both = a.clone().or(b.clone()).or(a.clone());
        assert_eq!(both.text().as_deref(), Some("a == '1' or b == '2'"));
        assert_eq!(
            a.clone().and(b.or(a)).text().as_deref(),
            Some("a == '1' and (b == '2' or a == '1')")
        );
    }
}
