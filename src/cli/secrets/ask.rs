//! Values and passphrases from the terminal, without an echo, or from standard input. They go
//! straight from the kernel into memory that is kept: no buffered reader has a copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use age::Callbacks;
use age::secrecy::SecretString;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};

use crate::cli::error::CommandError;
use crate::cli::output::printable;
use crate::secrets::Pages;

/// The longest that standard input may be. Bytes.
const MOST: usize = 4 << 20;
/// How long the next line of a paste may take. Milliseconds.
const PASTE: u16 = 50;

/// Signals that would leave the terminal, or a file in memory, as it is.
pub const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// A terminal that shows nothing of what is typed, until it is dropped.
struct Quiet {
    tty: File,
    before: Termios,
    blocked: SigSet,
}

impl Quiet {
    fn new() -> io::Result<Quiet> {
        let tty = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&tty)?;
        let mut quiet = before.clone();
        // Byte by byte: a line of the terminal's own is cut at 4096 bytes.
        let off = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN;
        quiet.local_flags.remove(off);
        quiet.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        quiet.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        let blocked: SigSet = ENDING.into_iter().collect();
        blocked.thread_block()?;
        let this = Quiet { tty, before, blocked };
        tcsetattr(&this.tty, SetArg::TCSADRAIN, &quiet)?;
        Ok(this)
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // What was pasted and not read must not reach the shell.
        let _ = tcsetattr(&self.tty, SetArg::TCSAFLUSH, &self.before);
        let _ = self.blocked.thread_unblock();
    }
}

/// One line from the terminal.
pub fn line(prompt: &str) -> Result<Pages, CommandError> {
    let failed = |e: io::Error| CommandError::failed(format!("cannot ask at the terminal: {e}"));
    let mut quiet = Quiet::new().map_err(failed)?;
    quiet.tty.write_all(format!("{prompt}: ").as_bytes()).map_err(failed)?;
    let read = keys(&mut quiet.tty);
    let _ = quiet.tty.write_all(b"\n");
    read
}

fn keys(tty: &mut File) -> Result<Pages, CommandError> {
    let failed = |e: io::Error| CommandError::failed(format!("cannot read the terminal: {e}"));
    let mut line = Pages::new(256).map_err(failed)?;
    let mut key = [0];
    loop {
        let read = tty.read(&mut key).map_err(failed)?;
        match key[0] {
            _ if read == 0 => break,
            b'\n' | b'\r' => break,
            // Control-C, Control-\, Control-D.
            3 | 28 => return Err(CommandError::failed("nothing was entered")),
            4 if line.bytes().is_empty() => {
                return Err(CommandError::failed("nothing was entered"));
            }
            4 => break,
            // Backspace, and Control-U.
            8 | 127 => line.truncate(char_before(line.bytes())),
            21 => line.truncate(0),
            byte => line.push(&[byte]).map_err(failed)?,
        }
    }
    let mut more = [PollFd::new(tty.as_fd(), PollFlags::POLLIN)];
    if poll(&mut more, PollTimeout::from(PASTE)).is_ok_and(|n| n > 0) {
        return Err(CommandError::failed("what was pasted has several lines; nothing was taken")
            .hint("give it to standard input: `zagi secrets set NAME < FILE`"));
    }
    Ok(line)
}

/// Where the last character of `bytes` begins.
fn char_before(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0)
}

/// All of standard input.
pub fn standard_input() -> Result<Pages, CommandError> {
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::FileTooLarge => {
            CommandError::failed("standard input is longer than the 4 MB that secrets may have")
        }
        _ => CommandError::failed(format!("cannot read standard input: {e}")),
    };
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().map_err(failed)?);
    let mut pages = Pages::new(4096).map_err(failed)?;
    pages.read(&mut input, MOST).map_err(failed)?;
    Ok(pages)
}

/// Whether standard input is a terminal: somebody to ask.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Answers what age asks, each question once.
#[derive(Clone, Default)]
pub struct Ask {
    known: Arc<Mutex<BTreeMap<String, SecretString>>>,
}

/// On one line, and without what would drive the terminal.
fn clean(text: &str) -> String {
    printable(&text.replace(char::is_control, " "))
}

impl Callbacks for Ask {
    fn display_message(&self, message: &str) {
        eprintln!("{}", clean(message));
    }

    fn confirm(&self, message: &str, yes: &str, no: Option<&str>) -> Option<bool> {
        if !is_terminal() {
            return None;
        }
        let no = no.map_or_else(|| "no".into(), clean);
        eprint!("{} [y: {}, n: {no}] ", clean(message), clean(yes));
        let _ = io::stderr().flush();
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn request_public_string(&self, description: &str) -> Option<String> {
        if !is_terminal() {
            return None;
        }
        eprint!("{}: ", clean(description));
        let _ = io::stderr().flush();
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(answer.trim().to_owned())
    }

    fn request_passphrase(&self, description: &str) -> Option<SecretString> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(passphrase) = known.get(description) {
            return Some(passphrase.clone());
        }
        // The value may be on standard input; the terminal is still there to ask at.
        let typed = match line(&clean(description)) {
            Ok(typed) => typed,
            Err(_) => {
                eprintln!("no passphrase was entered: {}", clean(description));
                return None;
            }
        };
        let passphrase = SecretString::from(std::str::from_utf8(typed.bytes()).ok()?.to_owned());
        known.insert(description.to_owned(), passphrase.clone());
        Some(passphrase)
    }
}
