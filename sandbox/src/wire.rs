//! What goes over the control socket, both ways.
//!
//! From the caller: the order's length (32 bits, little-endian) and its JSON, with the
//! descriptors that the program is to have; after that a byte a signal ([`Ordered`]). To the
//! caller: one JSON object a line ([`Report`]), the first of which may bring descriptors.
//! A caller or helper that went away is noticed by whoever reads next.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::report::Report;
use crate::sys;

/// As many descriptors as one message may bring.
pub(crate) const DESCRIPTORS: usize = 16;
/// A longer report is none of ours.
const LINE: usize = 1 << 20;

/// What the caller asks for: a plan, and what is to be done with its own standard streams.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub plan: Plan,
    /// None: the helper's own output and error are the program's, and it has no input.
    pub streams: Option<Streams>,
    /// How many bytes of what is private follow, if anything is ([`crate::Private`]).
    pub private: Option<usize>,
}

/// The program's standard input, output and error.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Streams {
    /// Which of the three are on a terminal of the program's own. The others came along, in
    /// their order.
    pub terminal: [bool; 3],
    /// What that terminal is like.
    pub settings: Settings,
}

/// A terminal's size and modes; termios(3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub rows: u16,
    pub columns: u16,
    /// Input, output, control and local modes.
    pub modes: [u32; 4],
    /// Control characters. Empty: the modes stay as the kernel makes them.
    pub characters: Vec<u8>,
}

/// A signal that the caller orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub signal: Signal,
    /// For the program's process group, not for it alone.
    pub group: bool,
}

const GROUP: u8 = 0x80;

impl Ordered {
    pub fn byte(self) -> u8 {
        // Signal numbers end at 64.
        self.signal as u8 | if self.group { GROUP } else { 0 }
    }

    pub fn from_byte(byte: u8) -> Option<Ordered> {
        let signal = Signal::try_from(i32::from(byte & !GROUP)).ok()?;
        Some(Ordered { signal, group: byte & GROUP != 0 })
    }
}

/// Sends the order.
pub(crate) fn send_order(
    mut control: &UnixStream,
    order: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let length = u32::try_from(order.len()).map_err(io::Error::other)?;
    send_with(control, &length.to_le_bytes(), descriptors)?;
    control.write_all(order)
}

/// The other end of [`send_order`].
pub(crate) fn receive_order(mut control: &UnixStream) -> io::Result<(Order, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut descriptors = Vec::new();
    let first = receive_with(control, &mut length, &mut descriptors)?;
    control.read_exact(&mut length[first..])?;
    let mut json = vec![0; u32::from_le_bytes(length) as usize];
    control.read_exact(&mut json)?;
    Ok((serde_json::from_slice(&json).map_err(io::Error::other)?, descriptors))
}

/// Sends one report.
pub(crate) fn send(control: &UnixStream, report: &Report) {
    send_bringing(control, report, &[]);
}

/// Sends one report that brings descriptors.
pub(crate) fn send_bringing(control: &UnixStream, report: &Report, with: &[BorrowedFd<'_>]) {
    let mut line = serde_json::to_vec(report).expect("a report has only plain fields");
    line.push(b'\n');
    let _ = send_with(control, &line, with);
}

/// Sends all bytes; the descriptors go with the first.
pub(crate) fn send_with(
    mut control: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut sent = 0;
    if !descriptors.is_empty() {
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let parts = [IoSlice::new(bytes)];
        sent = sendmsg::<()>(control.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    }
    control.write_all(&bytes[sent..])
}

/// Reads some bytes, and the descriptors that come with them.
pub(crate) fn receive_with(
    control: &UnixStream,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = cmsg_space!([i32; DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(control.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            descriptors.extend(sys::own_received(raw));
        }
    }
    Ok(message.bytes)
}

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Reports {
    pub socket: UnixStream,
    /// What was read and is not a whole line yet.
    pending: Vec<u8>,
    /// What came along.
    pub descriptors: Vec<OwnedFd>,
}

impl Reports {
    pub fn new(socket: UnixStream) -> Reports {
        Reports { socket, pending: Vec::new(), descriptors: Vec::new() }
    }

    /// The next report; none when the connection ended. An error is nonsense.
    pub fn next(&mut self) -> Result<Option<Report>, ()> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(drop);
            }
            if self.pending.len() > LINE {
                return Err(());
            }
            let mut bytes = [0; 4096];
            // A connection that breaks is a helper that ended.
            match receive_with(&self.socket, &mut bytes, &mut self.descriptors).unwrap_or(0) {
                0 if self.pending.is_empty() => return Ok(None),
                0 => return Err(()),
                read => self.pending.extend_from_slice(&bytes[..read]),
            }
        }
    }

    /// Whether [`Reports::next`] would not have to wait: something is there already.
    pub fn is_pending(&self) -> bool {
        self.pending.contains(&b'\n')
    }
}
