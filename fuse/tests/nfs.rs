//! An overlay through NFS, asked by a client of a few lines: what `nfsserve` answers, and what is
//! answered before it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use nfsserve::nfs::{
    diropargs3, fattr3, ftype3, nfs_fh3, nfsstring, post_op_attr, post_op_fh3, sattr3, set_mode3,
    set_size3,
};
use nfsserve::xdr::XDR;
use zagi_fuse::directory::Directory;
use zagi_fuse::nfs::{Secret, Server, listen};
use zagi_fuse::overlay::{Attached, Options, Overlay, OverlayError};

use crate::support::me;

const FILES: (u32, u32) = (100_003, 3);
const MOUNT: (u32, u32) = (100_005, 3);
const OK: u32 = 0;

/// A server, and a connection to it.
struct Client {
    dir: tempfile::TempDir,
    secret: Secret,
    server: Option<Server>,
    port: u16,
    stream: TcpStream,
    uid: u32,
    xid: u32,
}

/// How an overlay is opened: for the first time, or after a process that died.
type Open = fn(Options) -> Result<Overlay, OverlayError>;

/// A call or the rest of an answer.
type Bytes = Vec<u8>;

fn with(values: &[&dyn Fn(&mut Bytes)]) -> Bytes {
    let mut bytes = Vec::new();
    values.iter().for_each(|value| value(&mut bytes));
    bytes
}

fn put<T: XDR>(value: T) -> impl Fn(&mut Bytes) {
    move |bytes| value.serialize(bytes).expect("memory takes all")
}

fn take<T: XDR>(bytes: &mut &[u8], mut value: T) -> T {
    value.deserialize(bytes).expect("the answer has it");
    value
}

fn text(text: &str) -> nfsstring {
    text.as_bytes().into()
}

fn at(dir: &nfs_fh3, name: &str) -> impl Fn(&mut Bytes) + use<> {
    put(diropargs3 { dir: dir.clone(), name: text(name) })
}

fn attributes(bytes: &mut &[u8]) -> fattr3 {
    match take(bytes, post_op_attr::Void) {
        post_op_attr::attributes(attr) => attr,
        post_op_attr::Void => panic!("no attributes came"),
    }
}

fn made(bytes: &mut &[u8]) -> (nfs_fh3, fattr3) {
    match take(bytes, post_op_fh3::Void) {
        post_op_fh3::handle(handle) => (handle, attributes(bytes)),
        post_op_fh3::Void => panic!("no handle came"),
    }
}

impl Client {
    fn new() -> Client {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("layer/sub")).expect("made");
        fs::write(dir.path().join("layer/alpha"), "alpha\n").expect("written");
        fs::write(dir.path().join("layer/sub/beta"), "beta\n").expect("written");
        let secret = Secret::new().expect("random");
        let (server, port) = serve(dir.path(), &secret, Overlay::open, 0);
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        Client { dir, secret, server: Some(server), port, stream, uid: me().uid, xid: 0 }
    }

    /// Another process serves the same from now on, as after the death of this one.
    fn again(&mut self) {
        self.server = None;
        let dir = self.dir.path();
        let (server, _) = serve(dir, &self.secret, Overlay::take_over, self.port);
        self.server = Some(server);
        self.stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
    }

    fn send(&mut self, (program, version): (u32, u32), procedure: u32, arguments: &[u8]) {
        self.xid += 1;
        let head = [self.xid, 0, 2, program, version, procedure, 1, 20, 0, 0, self.uid, 0, 0, 0, 0];
        let length = head.len() * 4 + arguments.len();
        let mut call = (length as u32 | 1 << 31).to_be_bytes().to_vec();
        call.extend(head.iter().flat_map(|word| word.to_be_bytes()));
        call.extend(arguments);
        self.stream.write_all(&call).expect("it listens");
    }

    fn receive(&mut self) -> Bytes {
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark).expect("it answers");
        let mut answer = vec![0; (u32::from_be_bytes(mark) & !(1 << 31)) as usize];
        self.stream.read_exact(&mut answer).expect("it answers");
        answer
    }

    /// What follows the head of an answer that was accepted: a status, and more.
    fn ask(&mut self, program: (u32, u32), procedure: u32, arguments: &[u8]) -> (u32, Bytes) {
        self.send(program, procedure, arguments);
        let answer = self.receive();
        let mut rest = &answer[..];
        assert_eq!(take(&mut rest, 0_u32), self.xid);
        let head: Vec<u32> = (0..5).map(|_| take(&mut rest, 0_u32)).collect();
        assert_eq!(head, [1, 0, 0, 0, 0], "a reply, accepted, executed");
        (take(&mut rest, 0_u32), rest.to_vec())
    }

    fn mount(&mut self, path: &str) -> Result<nfs_fh3, u32> {
        match self.ask(MOUNT, 1, &with(&[&put(text(path))])) {
            (OK, rest) => Ok(take(&mut &rest[..], nfs_fh3::default())),
            (status, _) => Err(status),
        }
    }

    fn root(&mut self) -> nfs_fh3 {
        self.mount(&format!("/{}", self.secret.token())).expect("that is the path")
    }

    fn lookup(&mut self, dir: &nfs_fh3, name: &str) -> Result<nfs_fh3, u32> {
        match self.ask(FILES, 3, &with(&[&at(dir, name)])) {
            (OK, rest) => Ok(take(&mut &rest[..], nfs_fh3::default())),
            (status, _) => Err(status),
        }
    }

    fn getattr(&mut self, handle: &nfs_fh3) -> Result<fattr3, u32> {
        match self.ask(FILES, 1, &with(&[&put(handle.clone())])) {
            (OK, rest) => Ok(take(&mut &rest[..], fattr3::default())),
            (status, _) => Err(status),
        }
    }

    fn read(&mut self, handle: &nfs_fh3) -> Bytes {
        let (status, rest) =
            self.ask(FILES, 6, &with(&[&put(handle.clone()), &put(0_u64), &put(1_u32 << 30)]));
        assert_eq!(status, OK);
        let mut rest = &rest[..];
        attributes(&mut rest);
        let (count, end) = (take(&mut rest, 0_u32), take(&mut rest, false));
        assert!(end);
        let data: Bytes = take(&mut rest, Vec::new());
        assert_eq!(data.len(), count as usize);
        data
    }

    /// Makes an empty file.
    fn create(&mut self, dir: &nfs_fh3, name: &str, mode: u32) -> nfs_fh3 {
        let set = sattr3 { mode: set_mode3::mode(mode), ..sattr3::default() };
        let (status, rest) = self.ask(FILES, 8, &with(&[&at(dir, name), &put(0_u32), &put(set)]));
        assert_eq!(status, OK);
        let (handle, attr) = made(&mut &rest[..]);
        assert_eq!(attr.mode, mode);
        handle
    }

    /// Writes, and says whether that was answered as stable.
    fn write(&mut self, handle: &nfs_fh3, data: &[u8]) -> bool {
        let (offset, length, unstable) = (put(0_u64), put(data.len() as u32), put(0_u32));
        let arguments =
            with(&[&put(handle.clone()), &offset, &length, &unstable, &put(data.to_vec())]);
        let (status, rest) = self.ask(FILES, 7, &arguments);
        assert_eq!(status, OK);
        // What comes before: attributes, then the count.
        let tail = &rest[rest.len() - 16..];
        assert_eq!(tail[..4], (data.len() as u32).to_be_bytes());
        tail[4..8] == 2_u32.to_be_bytes()
    }

    /// The names in a directory, in pieces of at most `count` bytes; with `plus` their sizes.
    fn list(&mut self, dir: &nfs_fh3, plus: bool, count: u32) -> Vec<(String, Option<u64>)> {
        let (mut names, mut cookie) = (Vec::new(), 0_u64);
        loop {
            let head = with(&[&put(dir.clone()), &put(cookie), &put(0_u64), &put(count)]);
            let tail = if plus { with(&[&put(count)]) } else { Vec::new() };
            let (status, rest) =
                self.ask(FILES, if plus { 17 } else { 16 }, &[head, tail].concat());
            assert_eq!(status, OK);
            assert!(rest.len() + 4 <= count as usize, "{} for {count}", rest.len());
            let mut rest = &rest[..];
            attributes(&mut rest);
            take(&mut rest, 0_u64);
            while take(&mut rest, false) {
                take(&mut rest, 0_u64);
                let name = take(&mut rest, nfsstring::default());
                cookie = take(&mut rest, 0_u64);
                let size = match plus.then(|| take(&mut rest, post_op_attr::Void)) {
                    Some(post_op_attr::attributes(attr)) => Some(attr.size),
                    _ => None,
                };
                if plus {
                    take(&mut rest, post_op_fh3::Void);
                }
                names.push((String::from_utf8(name.0).expect("UTF-8"), size));
            }
            if take(&mut rest, false) {
                return names;
            }
        }
    }
}

fn serve(dir: &std::path::Path, secret: &Secret, open: Open, port: u16) -> (Server, u16) {
    let layer = Arc::new(Directory::open(&dir.join("layer")).expect("opens"));
    let layers = vec![Attached { at: "".into(), layer }];
    let options = Options { layers, delta: dir.join("delta"), uid: me().uid, gid: me().gid };
    let overlay = open(options).expect("the one before has let it go");
    let listener = listen(port).expect("the port is free");
    let port = listener.local_addr().expect("it listens").port();
    let server = Server::start(listener, Arc::new(overlay), me(), secret.clone());
    (server.expect("it starts"), port)
}

#[test]
fn files_are_made_read_written_moved_and_removed() {
    let mut client = Client::new();
    let root = client.root();
    let alpha = client.lookup(&root, "alpha").expect("it is there");
    assert_eq!(client.read(&alpha), b"alpha\n");
    let sub = client.mount(&format!("/{}/sub/", client.secret.token())).expect("a directory");
    assert_eq!(client.lookup(&sub, "..").expect("up").data, root.data);

    let new = client.create(&root, "new", 0o640);
    assert!(client.write(&new, b"some words"), "it was not stable");
    assert!(client.write(&alpha, b"ALPHA"), "it was not stable");
    assert_eq!(client.read(&alpha), b"ALPHA\n");
    let cut = sattr3 { size: set_size3::size(4), ..sattr3::default() };
    let (status, _) = client.ask(FILES, 2, &with(&[&put(new.clone()), &put(cut), &put(false)]));
    assert_eq!((status, client.read(&new)), (OK, b"some".to_vec()));

    let moved = with(&[&at(&root, "new"), &at(&sub, "beta")]);
    let beta = client.lookup(&sub, "beta").expect("it is there");
    assert_eq!(client.ask(FILES, 14, &moved).0, OK);
    assert_eq!(client.lookup(&sub, "beta").expect("moved").data, new.data);
    assert_eq!(client.getattr(&beta).err(), Some(70), "what was there is stale");
    assert_eq!(client.ask(FILES, 12, &with(&[&at(&root, "alpha")])).0, OK);
    assert_eq!(client.lookup(&root, "alpha").err(), Some(2));
    assert_eq!(client.ask(FILES, 13, &with(&[&at(&root, "sub")])).0, 66, "not empty");
    assert!(fs::read_dir(client.dir.path().join("layer/sub")).expect("lists").count() == 1);
}

#[test]
fn what_the_crate_cannot_is_answered_before_it() {
    let mut client = Client::new();
    let root = client.root();
    let set = sattr3 { mode: set_mode3::mode(0o700), ..sattr3::default() };
    let (status, rest) = client.ask(FILES, 9, &with(&[&at(&root, "private"), &put(set)]));
    let (private, attr) = made(&mut &rest[..]);
    assert_eq!((status, attr.mode), (OK, 0o700));
    assert!(matches!(attr.ftype, ftype3::NF3DIR));

    let alpha = client.lookup(&root, "alpha").expect("it is there");
    assert_eq!(client.ask(FILES, 15, &with(&[&put(alpha.clone()), &at(&private, "hard")])).0, OK);
    let hard = client.lookup(&private, "hard").expect("linked");
    assert_eq!(hard.data, alpha.data);
    assert_eq!(client.getattr(&hard).expect("attributes").nlink, 2);
    // One name goes, the file stays.
    assert_eq!(client.ask(FILES, 12, &with(&[&at(&root, "alpha")])).0, OK);
    assert_eq!(client.read(&hard), b"alpha\n");

    let access = |client: &mut Client, handle: &nfs_fh3| {
        let (status, rest) = client.ask(FILES, 4, &with(&[&put(handle.clone()), &put(0x3f_u32)]));
        assert_eq!(status, OK);
        let mut rest = &rest[..];
        attributes(&mut rest);
        take(&mut rest, 0_u32)
    };
    assert_eq!(access(&mut client, &hard), 1 | 4 | 8, "it is no program");
    assert_eq!(access(&mut client, &private), 1 | 2 | 4 | 8 | 16);
    assert_eq!(client.ask(FILES, 21, &with(&[&put(hard), &put(0_u64), &put(0_u32)])).0, OK);
    for (procedure, length) in [(18, 88 + 52), (20, 88 + 24)] {
        let (status, rest) = client.ask(FILES, procedure, &with(&[&put(root.clone())]));
        assert_eq!((status, rest.len()), (OK, length), "{procedure}");
    }
    // And what nobody answers is said so: PROC_UNAVAIL.
    client.send(FILES, 11, &with(&[&at(&root, "pipe")]));
    assert_eq!(client.receive()[20..24], 3_u32.to_be_bytes());
}

#[test]
fn long_listings_come_in_pieces_and_whole() {
    let mut client = Client::new();
    let root = client.root();
    for number in 0..300 {
        client.create(&root, &format!("file with a number {number}"), 0o644);
    }
    for plus in [false, true] {
        for count in [512, 4096, 1 << 20] {
            let mut names = client.list(&root, plus, count);
            names.sort();
            names.dedup();
            assert_eq!(names.len(), 304, "plus {plus}, {count} bytes");
            let alpha = names.iter().find(|(name, _)| name == "alpha").expect("it is there");
            assert_eq!(alpha.1, plus.then_some(6));
        }
    }
    let few = with(&[&put(root), &put(0_u64), &put(0_u64), &put(100_u32)]);
    assert_eq!(client.ask(FILES, 16, &few).0, 10_005, "too small for one name");
}

#[test]
fn handles_outlive_the_process_that_gave_them_out() {
    let mut client = Client::new();
    let root = client.root();
    let sub = client.lookup(&root, "sub").expect("it is there");
    let beta = client.lookup(&sub, "beta").expect("it is there");
    let new = client.create(&sub, "new", 0o600);
    client.write(&new, b"kept");
    client.again();
    // The layer's file first: nothing on the way to it was looked up here.
    assert_eq!(client.read(&beta), b"beta\n");
    assert_eq!(client.read(&new), b"kept");
    client.write(&beta, b"BETA");
    client.again();
    assert_eq!(client.read(&beta), b"BETA\n");
    assert_eq!(client.lookup(&root, "sub").expect("it is there").data, sub.data);
}

#[test]
fn who_does_not_know_the_path_or_is_another_gets_nothing() {
    let mut client = Client::new();
    let token = client.secret.token();
    for wrong in ["/", "", "/sub", &token[1..], &format!("/x{token}"), &format!("/{token}x")] {
        assert_eq!(client.mount(wrong).err(), Some(2), "{wrong}");
    }
    let (status, rest) = client.ask(MOUNT, 5, &[]);
    assert!(status == 1 && rest.len() < token.len(), "the exports say the path");
    for guess in [vec![0; 16], vec![1, 0, 0, 0, 0, 0, 0, 0], vec![1; 40], Vec::new()] {
        assert_eq!(client.getattr(&nfs_fh3 { data: guess }).err(), Some(10_001));
    }
    let root = client.root();
    client.uid = 65_534;
    for procedure in [1, 3, 4, 6, 16, 17] {
        client.send(FILES, procedure, &with(&[&at(&root, "alpha")]));
        let answer = client.receive();
        assert_eq!(answer[4..], [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 5]].concat());
    }
    // What is no call, or longer than any, ends the connection and nothing else.
    for junk in [&[0xff; 64][..], &[0x80, 0, 0, 4, 1, 2, 3, 4]] {
        let mut stream = TcpStream::connect(("127.0.0.1", client.port)).expect("it listens");
        stream.write_all(junk).expect("sent");
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
    client.uid = me().uid;
    assert!(client.getattr(&root).is_ok());
}

#[test]
fn thousands_of_calls_at_once_are_all_answered() {
    let mut client = Client::new();
    let root = client.root();
    for _ in 0..5 {
        let calls = 700;
        for _ in 0..calls {
            client.send(FILES, 1, &with(&[&put(root.clone())]));
        }
        let answered: std::collections::HashSet<Bytes> =
            (0..calls).map(|_| client.receive()[..4].to_vec()).collect();
        assert_eq!(answered.len(), calls);
    }
}
