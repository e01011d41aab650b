//! Standard output: data, for people or as JSON.

use super::error::CommandError;

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
    use std::io::Write;
    match std::io::stdout().lock().write_all(bytes) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::failed(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
