//! What a command failed of: said in words, with hints that can be run. The kind decides the
//! exit code.

use std::io;
use std::process::ExitCode;

use super::printable::printable;

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    Internal,
    /// A launcher that could not launch.
    Launch(u8),
}

/// A failure as the user sees it.
#[derive(Debug)]
pub struct CommandError {
    kind: Kind,
    message: String,
    hints: Vec<String>,
}

impl CommandError {
    fn new(kind: Kind, message: impl Into<String>) -> CommandError {
        CommandError { kind, message: message.into(), hints: Vec::new() }
    }

    /// What was asked could not be done.
    pub fn failed(message: impl Into<String>) -> CommandError {
        CommandError::new(Kind::Failed, message)
    }

    /// A fault of ours.
    pub fn internal(message: impl Into<String>) -> CommandError {
        CommandError::new(Kind::Internal, message)
    }

    /// A launcher could not launch; `code` is 125, 126 or 127.
    pub fn launch(code: u8, message: impl Into<String>) -> CommandError {
        CommandError::new(Kind::Launch(code), message)
    }

    /// The program of a launcher did not start, as a shell says it.
    pub fn not_started(name: &str, error: &io::Error) -> CommandError {
        match error.kind() {
            io::ErrorKind::NotFound => CommandError::launch(127, format!("`{name}` was not found"))
                .hint("`ls .zagi/env/bin` shows the tools of this workspace"),
            io::ErrorKind::PermissionDenied => {
                CommandError::launch(126, format!("`{name}` is not executable"))
            }
            _ => CommandError::launch(125, format!("cannot run `{name}`: {error}")),
        }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> CommandError {
        self.hints.push(hint.into());
        self
    }

    /// From an error of the library: its message and, where they say more, its causes.
    pub fn from_chain(error: &dyn std::error::Error) -> CommandError {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(c) = cause {
            let text = c.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = c.source();
        }
        CommandError::failed(message)
    }

    /// Writes it to standard error. It may quote what a stranger wrote.
    pub fn print(&self) {
        eprintln!("error: {}", printable(&self.message));
        if !self.hints.is_empty() {
            eprintln!();
        }
        for hint in &self.hints {
            eprintln!("hint: {}", printable(hint));
        }
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.kind {
            Kind::Failed => 1,
            Kind::Internal => 255,
            Kind::Launch(code) => code,
        })
    }
}
