//! What goes over the broker's socket. Version 2: each way one message, its length (32 bits,
//! little-endian) and JSON; the question brings the three standard streams with it. In version 1 there
//! was no command for agents, whose standard input is a socket on which more such messages go (module
//! `agent`).

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) const VERSION: u32 = 2;
/// A message is not longer, in bytes: a secrets file may be in it.
const LONGEST: usize = 16 << 20;
const STREAMS: usize = 3;

/// A command to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// 2.
    pub version: u32,
    /// For whom, where root asks; else it is whoever asks.
    pub user: u32,
    /// Their `$ZAGI_HOME`.
    pub home: PathBuf,
    /// The project.
    pub root: PathBuf,
    /// Where the command was given.
    pub cwd: PathBuf,
    /// Its words, without the program's own name.
    pub argv: Vec<String>,
    /// `TERM`, `LANG` and the like.
    pub vars: Vec<(String, String)>,
}

impl Request {
    /// With the version that this program speaks.
    pub fn new(
        user: u32,
        home: PathBuf,
        root: PathBuf,
        cwd: PathBuf,
        argv: Vec<String>,
    ) -> Request {
        Request { version: VERSION, user, home, root, cwd, argv, vars: Vec::new() }
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// It ran.
    Ended {
        /// Its exit code, as a shell says it.
        code: u8,
        /// The secrets file before and after, where it was changed: to be written by who asked.
        changed: Option<(Option<String>, String)>,
    },
    /// It did not.
    Refused(String),
}

pub(super) fn send_request(
    stream: &UnixStream,
    request: &Request,
    streams: [BorrowedFd<'_>; STREAMS],
) -> io::Result<()> {
    send_with(stream, request, &streams)
}

pub(super) fn receive_request(stream: &UnixStream) -> io::Result<(Request, [OwnedFd; STREAMS])> {
    let (request, streams) = receive_with(stream)?;
    let streams = streams.try_into();
    Ok((request, streams.map_err(|_| io::Error::other("three streams have to come along"))?))
}

/// With descriptors, three at most.
pub(super) fn send_with(
    stream: &UnixStream,
    message: &impl Serialize,
    with: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = framed(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(with));
    let sent = sendmsg(stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
    (&*stream).write_all(&bytes[sent..])
}

pub(super) fn receive_with<T: DeserializeOwned>(
    stream: &UnixStream,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(STREAMS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut length)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<OwnedFd>>()),
        _ => None,
    });
    let with: Vec<OwnedFd> = rights.flatten().collect();
    (&*stream).read_exact(&mut length[got.bytes..])?;
    Ok((body(stream, length)?, with))
}

pub(super) fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&framed(message)?)
}

pub(super) fn receive<T: DeserializeOwned>(mut stream: &UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    body(stream, length)
}

fn framed(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes(), json.as_slice()].concat())
}

fn body<T: DeserializeOwned>(mut stream: &UnixStream, length: [u8; 4]) -> io::Result<T> {
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::Error::other("the message is too long"));
    }
    let mut json = vec![0; length];
    stream.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn request() -> Request {
        let path = |p: &str| PathBuf::from(p);
        Request::new(7, path("/h"), path("/r"), path("/r/c"), vec!["run".into(), "é".into()])
    }

    #[test]
    fn there_and_back_with_three_streams() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut reading, writing) = io::pipe().unwrap();
        let fd = writing.as_fd();
        send_request(&ours, &request(), [fd, fd, fd]).unwrap();
        let (came, streams) = receive_request(&theirs).unwrap();
        assert_eq!(came, request());
        drop(writing);
        std::fs::File::from(streams.into_iter().next().unwrap()).write_all(b"x").unwrap();
        let mut said = String::new();
        reading.read_to_string(&mut said).unwrap();
        assert_eq!(said, "x");
        let reply = Reply::Ended { code: 3, changed: Some((None, "text".into())) };
        send(&theirs, &reply).unwrap();
        assert_eq!(receive::<Reply>(&ours).unwrap(), reply);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let ask = |bytes: &[u8]| {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(bytes).unwrap();
            drop(ours);
            receive_request(&theirs).map(drop).unwrap_err()
        };
        ask(b"");
        ask(b"\x02\0\0");
        ask(b"\x02\0\0\0{");
        ask(b"\xff\xff\xff\xff{}");
        ask(b"\x02\0\0\0{}");
        let whole = framed(&request()).unwrap();
        assert!(ask(&whole).to_string().contains("three streams"));
    }

    #[test]
    fn a_changed_question_is_refused_or_says_the_same() {
        let (sound, mut read) = (framed(&request()).unwrap(), 0);
        crate::chance::changes(1000, &[&sound], |bytes| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            (&ours).write_all(bytes).unwrap();
            drop(ours);
            let Ok(request) = receive::<Request>(&theirs) else { return };
            read += 1;
            let (ours, theirs) = UnixStream::pair().unwrap();
            send(&ours, &request).unwrap();
            assert_eq!(receive::<Request>(&theirs).unwrap(), request);
            // Streams did not come along.
            let (ours, theirs) = UnixStream::pair().unwrap();
            (&ours).write_all(bytes).unwrap();
            drop(ours);
            assert!(receive_request(&theirs).is_err());
        });
        assert!(read > 20, "{read}");
    }
}
