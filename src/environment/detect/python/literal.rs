//! Python source and INI files, read as text. Nothing is ever executed.

/// What stands between the bracket at the start of `text` and its partner, both left out.
pub(super) fn bracketed(text: &str) -> Option<&str> {
    let mut depth = 0usize;
    let mut scan = Scan { text, at: 0 };
    while let Some(token) = scan.next() {
        match token {
            Token::Open => depth += 1,
            Token::Close => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return text.get(1..scan.at - 1);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The string literals in `text`, outside comments.
pub(super) fn strings(text: &str) -> Vec<String> {
    let tokens = Scan { text, at: 0 };
    tokens.filter_map(|t| if let Token::Text(s) = t { Some(s.to_owned()) } else { None }).collect()
}

/// The string literals in `text` that are in no bracket of it.
pub(super) fn outer_strings(text: &str) -> Vec<String> {
    let mut depth = 0usize;
    let mut found = Vec::new();
    for token in (Scan { text, at: 0 }) {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Text(s) if depth == 0 => found.push(s.to_owned()),
            Token::Text(_) | Token::Other(_) => {}
        }
    }
    found
}

/// The string literals that are keys of the dictionary whose inside is `text`, each with
/// the strings of its value.
pub(super) fn dictionary(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let (mut depth, mut last) = (0usize, None);
    for token in (Scan { text, at: 0 }) {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            Token::Text(s) => {
                if let Some(previous) = last.replace(s.to_owned())
                    && let Some((_, values)) = found.last_mut()
                {
                    values.push(previous);
                }
                continue;
            }
            Token::Other(b':') if depth == 0 => {
                if let Some(key) = last.take() {
                    found.push((key, Vec::new()));
                }
                continue;
            }
            Token::Other(_) => {}
        }
        if let (Some(previous), Some((_, values))) = (last.take(), found.last_mut()) {
            values.push(previous);
        }
    }
    if let (Some(previous), Some((_, values))) = (last, found.last_mut()) {
        values.push(previous);
    }
    found
}

/// The text after each `name =`, `name=` or `"name":`, and its offset.
pub(super) fn assigned<'t>(text: &'t str, name: &str) -> impl Iterator<Item = (usize, &'t str)> {
    let length = name.len();
    text.match_indices(name).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let after = text[at + length..].trim_start_matches(['"', '\'']).trim_start();
        let value = after.strip_prefix('=').or_else(|| after.strip_prefix(':'))?;
        (!value.starts_with('=')).then(|| (at, value.trim_start()))
    })
}

/// The string literal at the start of `text`.
pub(super) fn literal(text: &str) -> Option<String> {
    let text = text.strip_prefix('(').unwrap_or(text).trim_start();
    match (Scan { text, at: 0 }).next()? {
        Token::Text(s) => Some(s.to_owned()),
        _ => None,
    }
}

enum Token<'t> {
    Open,
    Close,
    Text(&'t str),
    Other(u8),
}

struct Scan<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Iterator for Scan<'t> {
    type Item = Token<'t>;
    fn next(&mut self) -> Option<Token<'t>> {
        let bytes = self.text.as_bytes();
        loop {
            let byte = *bytes.get(self.at)?;
            self.at += 1;
            return Some(match byte {
                b'(' | b'[' | b'{' => Token::Open,
                b')' | b']' | b'}' => Token::Close,
                b'#' => {
                    while bytes.get(self.at).is_some_and(|b| *b != b'\n') {
                        self.at += 1;
                    }
                    continue;
                }
                b'"' | b'\'' => Token::Text(self.quoted(byte)),
                b if b.is_ascii_whitespace() => continue,
                b => Token::Other(b),
            });
        }
    }
}

impl<'t> Scan<'t> {
    /// The literal whose first quote was just passed; an open one ends with the text.
    fn quoted(&mut self, quote: u8) -> &'t str {
        let bytes = self.text.as_bytes();
        let triple = bytes[self.at..].starts_with(&[quote, quote]);
        if triple {
            self.at += 2;
        }
        let begin = self.at;
        while let Some(byte) = bytes.get(self.at) {
            let closed = match triple {
                true => bytes[self.at..].starts_with(&[quote; 3]),
                false => *byte == quote || *byte == b'\n',
            };
            if closed {
                let text = &self.text[begin..self.at];
                self.at += if triple { 3 } else { 1 };
                return text;
            }
            self.at += if *byte == b'\\' { 2 } else { 1 };
        }
        self.at = bytes.len();
        &self.text[begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_found_among_code() {
        let setup = r#"
setup(
    name="x",  # it's a "name"
    python_requires = ">=3.8",
    tests_require=['pytest>=6', "mock; python_version < '3'"],
    extras_require={
        "test": ["pytest", 'cov'],
        'docs': "sphinx", **more,
        "empty": [],
    },
    "tests_require": """no""",
)"#;
        let value = |name| assigned(setup, name).next().map(|(_, value)| value).unwrap_or("");
        assert_eq!(literal(value("python_requires")).as_deref(), Some(">=3.8"));
        let tests = bracketed(value("tests_require")).expect("a list");
        assert_eq!(strings(tests), ["pytest>=6", "mock; python_version < '3'"]);
        let extras = dictionary(bracketed(value("extras_require")).expect("a dictionary"));
        let expected: [(&str, &[&str]); 3] =
            [("test", &["pytest", "cov"]), ("docs", &["sphinx"]), ("empty", &[])];
        let expected = expected
            .map(|(k, v)| (k.to_owned(), v.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()));
        assert_eq!(extras, expected);
        assert_eq!(assigned(setup, "tests_require").count(), 2);
        assert_eq!(assigned(setup, "require").count(), 0);
    }

    #[test]
    fn what_does_not_end_is_no_danger() {
        for text in ["[", "['a", "[\"\"\"", "(((", "]", "'\\", "é'é\\é", ""] {
            assert_eq!(bracketed(text), None, "{text}");
            strings(text);
            dictionary(text);
        }
        assert_eq!(bracketed(&"(".repeat(1_000_000)), None);
    }
}
