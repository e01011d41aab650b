//! `NAME=value` lines, as `.env` files have them: for `import`, and for `edit`.
//!
//! ```sh
//! # a comment
//! export PLAIN=anything up to the end of the line     # or up to a space and `#`
//! SINGLE='as it is, over several lines too'
//! DOUBLE="with \n \r \t \" \\ \$"
//! ```
//! Variables in values (`$OTHER`) are not expanded: a value that has one in double quotes or none
//! is kept as it is written. Values go from the text into [`Pages`], and into no string.

use std::collections::BTreeMap;

use zagi_sandbox::Pages;

use super::document::is_name;

/// A line that cannot be read. No part of it is in here: it may hold a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct DotenvError {
    /// Its number, from 1 on.
    pub line: usize,
    /// What is wrong.
    pub reason: &'static str,
}

/// Reads `text`.
pub fn parse(text: &[u8]) -> Result<BTreeMap<String, Pages>, DotenvError> {
    let mut values = BTreeMap::new();
    let mut reader = Reader { text, at: 0 };
    while reader.skip_blank() {
        let line = reader.line();
        let wrong = |reason| DotenvError { line, reason };
        let name = reader.name().ok_or(wrong("it is not NAME=value"))?.to_owned();
        let value = reader.value().map_err(wrong)?;
        if values.insert(name, value).is_some() {
            return Err(wrong("the name is there twice"));
        }
    }
    Ok(values)
}

/// Appends a line that [`parse`] reads back as `value`.
pub fn write(to: &mut Pages, name: &str, value: &[u8]) -> std::io::Result<()> {
    to.push(name.as_bytes())?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(b);
    if !value.is_empty() && value.iter().all(plain) {
        to.push(b"=")?;
        to.push(value)?;
        return to.push(b"\n");
    }
    if !value.contains(&b'\'') {
        to.push(b"='")?;
        to.push(value)?;
        return to.push(b"'\n");
    }
    to.push(b"=\"")?;
    for byte in value {
        match byte {
            b'"' | b'\\' | b'$' => to.push(&[b'\\', *byte])?,
            byte => to.push(&[*byte])?,
        }
    }
    to.push(b"\"\n")
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn line(&self) -> usize {
        self.text[..self.at].iter().filter(|b| **b == b'\n').count() + 1
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_while(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at;
        while self.peek().is_some_and(&is) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// To the next line that says something; whether there is one.
    fn skip_blank(&mut self) -> bool {
        loop {
            self.skip_while(|b| b.is_ascii_whitespace());
            match self.peek() {
                Some(b'#') => drop(self.skip_while(|b| b != b'\n')),
                next => return next.is_some(),
            }
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.at..];
        if rest.starts_with(b"export ") {
            self.at += 7;
            self.skip_while(|b| b == b' ');
        }
        let name = self.skip_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        let name = std::str::from_utf8(name).ok().filter(|name| is_name(name))?;
        self.skip_while(|b| b == b' ');
        (self.peek() == Some(b'=')).then(|| self.at += 1)?;
        self.skip_while(|b| b == b' ' || b == b'\t');
        Some(name)
    }

    fn value(&mut self) -> Result<Pages, &'static str> {
        let memory = |_| "there is no memory for it";
        let quote = self.peek().filter(|b| matches!(b, b'\'' | b'"'));
        let Some(quote) = quote else {
            let mut value = self.skip_while(|b| b != b'\n');
            let comment = (1..value.len()).find(|i| value[*i] == b'#' && value[i - 1] == b' ');
            value = value[..comment.unwrap_or(value.len())].trim_ascii_end();
            if value.starts_with(b"#") {
                value = b"";
            }
            return Pages::of(value).map_err(memory);
        };
        self.at += 1;
        let mut value = Pages::new(64).map_err(memory)?;
        loop {
            let plain = self.skip_while(|b| b != quote && (b != b'\\' || quote == b'\''));
            value.push(plain).map_err(memory)?;
            match self.peek() {
                Some(b'\\') => {
                    let next = self.text.get(self.at + 1).copied();
                    let escaped: &[u8] = match next {
                        Some(b'n') => b"\n",
                        Some(b'r') => b"\r",
                        Some(b't') => b"\t",
                        Some(b'"') => b"\"",
                        Some(b'\\') => b"\\",
                        Some(b'$') => b"$",
                        Some(_) => &self.text[self.at..self.at + 2],
                        None => return Err("a quote is not closed"),
                    };
                    value.push(escaped).map_err(memory)?;
                    self.at += 2;
                }
                Some(_) => break,
                None => return Err("a quote is not closed"),
            }
        }
        self.at += 1;
        self.skip_while(|b| b == b' ' || b == b'\t' || b == b'\r');
        match self.peek() {
            None | Some(b'\n' | b'#') => Ok(value),
            Some(_) => Err("something stands behind the closing quote"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Vec<u8>, String> {
        let mut all = parse(text.as_bytes()).map_err(|e| e.to_string())?;
        Ok(all.remove("A").map(|value| value.bytes().to_vec()).unwrap_or_default())
    }

    #[test]
    fn as_people_write_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("export A = b c \r\n", "b c"),
            ("# x\n\n  A=b#c # d\nB=", "b#c"),
            ("A=  # nothing", ""),
            ("A='b # \"c\\n'", "b # \"c\\n"),
            ("A=\"b\\n\\\"\\$c\\q\" # d", "b\n\"$c\\q"),
            ("A='b\nB=c'\nC=d", "b\nB=c"),
            ("A=postgres://u:p@h/d?x=y", "postgres://u:p@h/d?x=y"),
        ] {
            assert_eq!(one(text).as_deref(), Ok(value.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_without_it() {
        for (text, reason) in [
            ("A", "line 1: it is not NAME=value"),
            ("\n1A=b", "line 2: it is not NAME=value"),
            ("A='hunter2", "line 1: a quote is not closed"),
            ("A=\"hunter2\\", "line 1: a quote is not closed"),
            ("A='x' hunter2", "line 1: something stands behind the closing quote"),
            ("A=1\nA=2", "line 2: the name is there twice"),
        ] {
            assert_eq!(one(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let all: Vec<u8> = (0..=255).collect();
        for value in
            [&b"plain"[..], b"two words", b"it's", b"'\"\\$\n\r\t", b"a\\n'", &all, b"#'", b""]
        {
            let mut text = Pages::new(0).unwrap();
            write(&mut text, "A", value).unwrap();
            write(&mut text, "B", b"x").unwrap();
            let read = parse(text.bytes()).unwrap();
            assert_eq!(read["A"].bytes(), value);
        }
    }
}
