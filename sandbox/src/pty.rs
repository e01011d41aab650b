//! A terminal of the program's own, on the `/dev/pts` of its sandbox, and what terminals are
//! like.
//!
//! The other end goes to the caller, which carries bytes between the two ([`crate::attend`]).
//! Nothing that is done to this terminal (keys pushed into it, its modes, its size) is done to
//! the caller's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
use nix::sys::termios::{
    ControlFlags, InputFlags, LocalFlags, OutputFlags, SetArg, Termios, tcgetattr, tcsetattr,
};

use crate::sys;
use crate::wire::Settings;

/// Both ends.
pub(crate) struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Makes one, and makes it the controlling terminal of this process, a session's leader.
pub(crate) fn open(settings: &Settings) -> io::Result<Pty> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = openat(AT_FDCWD, "/dev/pts/ptmx", flags, Mode::empty())?;
    let slave = sys::unlocked_peer(master.as_fd())?;
    sys::control_terminal(slave.as_fd())?;
    apply(slave.as_fd(), settings)?;
    Ok(Pty { master, slave })
}

/// What a terminal is like.
pub(crate) fn settings(terminal: BorrowedFd<'_>) -> io::Result<Settings> {
    let modes = tcgetattr(terminal)?;
    let (rows, columns) = sys::window(terminal)?;
    Ok(Settings {
        rows,
        columns,
        modes: [
            modes.input_flags.bits(),
            modes.output_flags.bits(),
            modes.control_flags.bits(),
            modes.local_flags.bits(),
        ],
        characters: modes.control_chars.to_vec(),
    })
}

/// For a terminal that is not the only one between the program and the user: bytes pass as
/// they are, and are echoed where they are typed.
pub(crate) fn quiet(settings: Settings) -> Settings {
    let [input, output, control, local] = settings.modes;
    let echo = LocalFlags::ECHO | LocalFlags::ECHONL;
    let modes = [input, output & !OutputFlags::OPOST.bits(), control, local & !echo.bits()];
    Settings { modes, ..settings }
}

fn apply(terminal: BorrowedFd<'_>, settings: &Settings) -> io::Result<()> {
    sys::set_window(terminal, settings.rows, settings.columns)?;
    if settings.characters.is_empty() {
        return Ok(());
    }
    let mut modes: Termios = tcgetattr(terminal)?;
    let [input, output, control, local] = settings.modes;
    modes.input_flags = InputFlags::from_bits_retain(input);
    modes.output_flags = OutputFlags::from_bits_retain(output);
    modes.control_flags = ControlFlags::from_bits_retain(control);
    modes.local_flags = LocalFlags::from_bits_retain(local);
    for (to, from) in modes.control_chars.iter_mut().zip(&settings.characters) {
        *to = *from;
    }
    Ok(tcsetattr(terminal, SetArg::TCSANOW, &modes)?)
}
