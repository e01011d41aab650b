//! What an app has beside an agent: values that are in no plan, names that lead to its caller, and
//! ports that its caller reaches.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use zagi_sandbox::{Child, Console, Plan, Private, Profile};

use crate::support::*;

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("what_is_private_reaches_the_program_alone", what_is_private_reaches_the_program_alone),
    ("a_name_leads_to_the_caller", a_name_leads_to_the_caller),
    ("what_the_program_listens_on_is_reached", what_the_program_listens_on_is_reached),
];

/// Backwards, so that this program's own memory does not hold it in one piece.
const CANARY: &str = "etavirp-yranac";

fn canary() -> String {
    CANARY.chars().rev().collect()
}

fn app(dir: &std::path::Path, script: &str) -> Plan {
    at_work(Profile::App, dir, &["/bin/bash", "-c", script])
}

/// Starts it with what is private; what it writes comes through the pipe.
fn start(plan: &Plan, private: Option<&Private>) -> (Child, impl Read + use<>) {
    let (out, writing) = std::io::pipe().expect("a pipe");
    let null = File::open("/dev/null").expect("there");
    let console = Console { input: null.as_fd(), output: writing.as_fd(), error: writing.as_fd() };
    let child = zagi_sandbox::spawn_on(plan, &program(), console, private);
    (child.unwrap_or_else(|e| panic!("{e}; hint: {:?}", e.hint())), out)
}

fn what_is_private_reaches_the_program_alone() {
    let dir = tempfile::tempdir().expect("made");
    let script = "echo $KEY $PLAIN; cat /run/secrets/sa.json; stat -c %a /run/secrets; \
                  cat /proc/1/environ /proc/1/mem 2>&1 | grep -a -c $KEY";
    let mut plan = app(dir.path(), script).env("KEY", "placeholder").env("PLAIN", "plain");
    plan.weaker.push(zagi_sandbox::Weaker::Landlock);
    let mut private = Private::new().expect("memory");
    private.var("KEY", canary().as_bytes()).expect("a variable");
    private.file("sa.json", b"{}\n").expect("a file");
    let (mut child, mut out) = start(&plan, Some(&private));
    let mut said = String::new();
    out.read_to_string(&mut said).expect("text");
    assert!(child.wait().is_ok());
    assert_eq!(said, format!("{} plain\n{{}}\n700\n0\n", canary()));
    assert!(!std::path::Path::new("/run/secrets/sa.json").exists(), "on the host");
    drop(child);
    // As much as a socket holds does not have to be taken at once.
    let mut private = Private::new().expect("memory");
    private.file("large", &vec![b'x'; 3 << 20]).expect("a file");
    let (mut child, mut out) =
        start(&app(dir.path(), "wc -c < /run/secrets/large"), Some(&private));
    said.clear();
    out.read_to_string(&mut said).expect("text");
    assert!(child.wait().is_ok());
    assert_eq!(said.trim(), (3 << 20).to_string());
}

fn a_name_leads_to_the_caller() {
    let dir = tempfile::tempdir().expect("made");
    let script = "exec 3<>/dev/tcp/api.example.com/443; read -r answer <&3; echo $answer; \
                  getent hosts localhost | wc -l";
    let mut plan = app(dir.path(), script);
    let ours = Ipv4Addr::new(127, 0, 0, 2);
    plan.listen = vec![SocketAddrV4::new(ours, 443)];
    plan.hosts.insert("api.example.com".into(), ours);
    let (mut child, mut out) = start(&plan, None);
    let (stream, _) = child.listeners[0].accept().expect("it connects");
    (&stream).write_all(b"answered\n").expect("read");
    let mut said = String::new();
    out.read_to_string(&mut said).expect("text");
    assert!(child.wait().is_ok());
    assert_eq!(said, "answered\n1\n");
    plan.hosts.insert("two words".into(), ours);
    assert!(zagi_sandbox::spawn(&plan, &program()).is_err());
}

fn what_the_program_listens_on_is_reached() {
    let dir = tempfile::tempdir().expect("made");
    let server = "import socket\n\
                  s = socket.create_server(('127.0.0.1', 8765))\n\
                  while True:\n    c, _ = s.accept(); c.sendall(b'hello\\n'); c.close()\n";
    let mut plan = at_work(Profile::App, dir.path(), &["/usr/bin/python3", "-c", server]);
    plan.listen = vec![SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128)];
    plan.publish = true;
    let (mut child, _out) = start(&plan, None);
    let ports = child.ports.take().expect("asked for");
    let begun = Instant::now();
    while ports.listening().expect("it lives").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(ports.listening().expect("it lives"), [8765], "and not what its caller serves");
    for _ in 0..3 {
        let stream = ports.connect(8765).expect("it listens");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("text");
        assert_eq!(line, "hello\n");
    }
    assert!(ports.connect(8766).is_err());
    assert!(TcpStream::connect("127.0.0.1:8765").is_err(), "the host's own is another");
    child.kill().expect("it ends");
    assert!(ports.listening().is_err() && ports.connect(8765).is_err());
}
