//! Standard output: data, for people or as JSON.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::process::ExitCode;

use zagi_sandbox::Exit;

use super::error::CommandError;
use super::printable::is_odd;
pub use super::printable::printable;

/// Prints a value as JSON, with a newline.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| CommandError::internal(format!("cannot write JSON: {e}")))?;
    print(&format!("{text}\n"))
}

/// Writes to standard output. A reader that went away (`zagi list | head -1`) is no error.
pub fn print(text: &str) -> Result<(), CommandError> {
    print_bytes(text.as_bytes())
}

/// The same for what need not be UTF-8.
pub fn print_bytes(bytes: &[u8]) -> Result<(), CommandError> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::failed(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Asks at the terminal; anything but a yes is a no.
pub fn confirmed(question: &str) -> Result<bool, CommandError> {
    eprint!("{} [y/N] ", printable(question));
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| CommandError::failed(format!("cannot read the answer: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Words of a command line, as text.
pub fn words(words: Vec<OsString>) -> Result<Vec<String>, CommandError> {
    let text = |word: OsString| {
        word.into_string().map_err(|word| {
            CommandError::failed(format!("`{}` is not UTF-8", word.to_string_lossy()))
        })
    };
    words.into_iter().map(text).collect()
}

/// A program's end as a shell says it.
pub fn exit_code(exit: Exit) -> ExitCode {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// A path as one line of text, and whether it had to be quoted for that: in double quotes,
/// with `\\`, `\"`, `\n` and `\xNN` inside.
pub fn quoted(path: &[u8]) -> (std::borrow::Cow<'_, str>, bool) {
    if let Ok(text) = std::str::from_utf8(path)
        && !text.starts_with('"')
        && !text.chars().any(is_odd)
    {
        return (text.into(), false);
    }
    let mut text = String::from("\"");
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '\n' => text.push_str("\\n"),
                c if is_odd(c) => {
                    let mut bytes = [0; 4];
                    let escaped = c.encode_utf8(&mut bytes).bytes().map(|b| format!("\\x{b:02x}"));
                    text.extend(escaped);
                }
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text.push('"');
    (text.into(), true)
}

/// A JSON array that is written out as it comes, however long it is.
#[derive(Default)]
pub struct Array {
    begun: bool,
}

impl Array {
    /// Appends an item to `text`.
    pub fn push(
        &mut self,
        text: &mut String,
        item: &impl serde::Serialize,
    ) -> Result<(), CommandError> {
        text.push_str(if self.begun { ",\n  " } else { "[\n  " });
        self.begun = true;
        let item = serde_json::to_string(item)
            .map_err(|e| CommandError::internal(format!("cannot write JSON: {e}")))?;
        text.push_str(&item);
        Ok(())
    }

    /// Appends its end.
    pub fn end(self, text: &mut String) {
        text.push_str(if self.begun { "\n]\n" } else { "[]\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_line_and_plain_where_they_can_be() {
        assert_eq!(quoted("a b/é\\".as_bytes()), ("a b/é\\".into(), false));
        assert_eq!(quoted(b"a\nb\\\xff\x1b"), ("\"a\\nb\\\\\\xff\\x1b\"".into(), true));
        assert_eq!(quoted("a\u{202e}b".as_bytes()), ("\"a\\xe2\\x80\\xaeb\"".into(), true));
        assert_eq!(quoted(b"\"x"), ("\"\\\"x\"".into(), true));
    }
}
