//! Whose keys open it: age's own program, ssh, passphrases, plugins.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{CANARY, Place, Terminal};
use crate::support::program;

/// Runs a program of this machine and gives its standard output.
fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} is not installed: {e}"));
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn payload(place: &Place) -> String {
    let file: toml_edit::DocumentMut = place.text().parse().expect("it is TOML");
    file["sealed"]["payload"].as_str().expect("a text").to_owned()
}

fn ssh_key(place: &Place, name: &str, arguments: &[&str]) -> (PathBuf, String) {
    let file = place.dir.path().join(format!("key-{name}"));
    let path = file.to_str().expect("UTF-8");
    run("ssh-keygen", &[&["-q", "-C", name, "-f", path][..], arguments].concat(), "");
    let public = std::fs::read_to_string(file.with_extension("pub")).expect("it was made");
    (file, public.trim().to_owned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_payload_is_an_ordinary_age_file() {
    let place = Place::new();
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    let identity = place.home("alice").join("secrets/identity");
    let opened = run("age", &["--decrypt", "--identity", text(&identity)], &payload(&place));
    assert!(opened.starts_with("zagi secrets 1\nproject "), "{opened}");
    assert!(opened.ends_with(&format!("\nA {}\n{CANARY}\n", CANARY.len())), "{opened}");
    // And a key of age's own program is one of ours.
    let other = place.dir.path().join("key.txt");
    run("age-keygen", &["--output", text(&other)], "");
    let recipient = run("age-keygen", &["-y", text(&other)], "");
    place.done("alice", &["share", recipient.trim(), "--name", "ci"], b"");
    let got = place.done("ci", &["get", "A", "--reveal", "--identity", text(&other)], b"");
    assert_eq!(got.out, CANARY);
    assert!(got.err.contains("first seen here"), "{}", got.err);
    let e = place.refused("mallory", &["get", "A", "--reveal"]);
    assert!(e.contains("none of your identities opens") && e.contains("zagi secrets share"), "{e}");
}

#[test]
fn ssh_keys_open_it_with_their_passphrase() {
    let place = Place::new();
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    let (ed25519, public) = ssh_key(&place, "bob", &["-t", "ed25519", "-N", ""]);
    place.done("alice", &["share", &public], b"");
    let (rsa, public) = ssh_key(&place, "ci", &["-t", "rsa", "-b", "2048", "-N", ""]);
    place.done("alice", &["share", &public], b"");
    let (locked, public) = ssh_key(&place, "carol", &["-t", "ed25519", "-N", "correct horse"]);
    place.done("alice", &["share", &public], b"");
    assert!(place.text().contains("name = \"bob\"\nkey = \"ssh-ed25519 "), "{}", place.text());
    for key in [&ed25519, &rsa] {
        let got = place.done("bob", &["get", "A", "--reveal", "--identity", text(key)], b"");
        assert_eq!(got.out, CANARY);
    }
    // Named once, in the configuration.
    let config = format!("[secrets]\nidentities = [{:?}]\n", text(&ed25519));
    std::fs::write(place.home("bob").join("config.toml"), config).expect("written");
    assert_eq!(place.get("bob", "A"), CANARY);
    place.done("bob", &["set", "B"], b"from bob");
    assert_eq!(place.get("alice", "B"), "from bob");
    let get = place.command("carol", &["get", "A", "--reveal", "--identity", text(&locked)]);
    let mut terminal = Terminal::start(&get);
    terminal.expect("key-carol");
    terminal.expect(": ");
    terminal.enter("correct horse\r");
    let (ok, shown) = terminal.end();
    assert!(ok && shown.contains(CANARY) && !shown.contains("horse"), "{shown}");
    let e = place.refused("carol", &["get", "A", "--reveal", "--identity", text(&locked)]);
    assert!(e.contains("none of your identities opens"), "{e}");
    std::fs::set_permissions(&rsa, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let e = place.refused("bob", &["get", "A", "--reveal", "--identity", text(&rsa)]);
    assert!(e.contains("chmod 600"), "{e}");
}

#[test]
fn an_identity_file_may_have_a_passphrase() {
    let place = Place::new();
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    let key = age::x25519::Identity::generate();
    let recipient = key.to_public().to_string();
    place.done("alice", &["share", &recipient, "--name", "bob"], b"");
    let mut locked = Vec::new();
    let mut scrypt = age::scrypt::Recipient::new("correct horse".to_owned().into());
    scrypt.set_work_factor(10);
    let all = [&scrypt as &dyn age::Recipient];
    let encryptor = age::Encryptor::with_recipients(all.into_iter()).expect("one passphrase");
    let mut writer = encryptor.wrap_output(&mut locked).expect("in memory");
    writer
        .write_all(age::secrecy::ExposeSecret::expose_secret(&key.to_string()).as_bytes())
        .expect("in memory");
    writer.finish().expect("in memory");
    let file = place.dir.path().join("locked.age");
    std::fs::write(&file, locked).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (typed, opens) in [("correct horse\r", true), ("wrong\r", false)] {
        let get = place.command("bob", &["get", "A", "--reveal", "--identity", text(&file)]);
        let mut terminal = Terminal::start(&get);
        terminal.expect("locked.age");
        terminal.expect(": ");
        terminal.enter(typed);
        let (ok, shown) = terminal.end();
        assert_eq!((ok, shown.contains(CANARY)), (opens, opens), "{shown}");
    }
}

/// A plugin for age, <https://c2sp.org/age-plugin>: wraps a file key by turning its bits over.
const PLUGIN: &str = r#"#!/usr/bin/env python3
import base64, sys

def lines():
    for line in sys.stdin: yield line.rstrip("\n")
source = lines()

def stanza():
    head = next(source)
    assert head.startswith("-> "), head
    body = ""
    while True:
        line = next(source)
        body += line
        if len(line) < 64: break
    return head[3:].split(" "), base64.b64decode(body + "=" * (-len(body) % 4))

def send(words, body=b""):
    text = base64.b64encode(body).decode().rstrip("=")
    parts = [text[i:i + 64] for i in range(0, len(text), 64)]
    if len(text) % 64 == 0: parts.append("")
    print("-> " + " ".join(words) + "\n" + "\n".join(parts), flush=True)
    if words[0] != "done": stanza()

turn = lambda key: bytes(b ^ 0xff for b in key)
said = []
while not said or said[-1][0][0] != "done": said.append(stanza())
if sys.argv[1] == "--age-plugin=recipient-v1":
    for i, (words, body) in enumerate(s for s in said if s[0][0] == "wrap-file-key"):
        send(["recipient-stanza", str(i), "turned"], turn(body))
else:
    for words, body in said:
        if words[0] == "recipient-stanza" and words[2] == "turned":
            send(["file-key", words[1]], turn(body))
send(["done"])
"#;

#[test]
fn plugins_open_it_but_none_that_the_project_brought() {
    let place = Place::new();
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    let (bin, tools) = (place.dir.path().join("bin"), place.web().join("tools"));
    for dir in [&bin, &tools] {
        std::fs::create_dir(dir).expect("made");
        program::write(&dir.join("age-plugin-turn"), PLUGIN.as_bytes());
    }
    // bech32(1) of nothing, made by age-plugin's own rules.
    let identity = age::plugin::Identity::default_for_plugin("turn").expect("a name").to_string();
    let file = place.dir.path().join("turn.txt");
    std::fs::write(&file, format!("{identity}\n")).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let recipient = bech32("age1turn", &[0; 4]);
    let with = |path: &Path, who: &str, arguments: &[&str]| {
        let mut command = place.command(who, arguments);
        command.env("PATH", format!("{}:/usr/bin:/bin", text(path))).stdin(Stdio::null());
        super::said(command.output().expect("it was built"))
    };
    let shared = with(&tools, "alice", &["share", &recipient, "--name", "bob"]);
    assert!(!shared.ok && shared.err.contains("which the project can change"), "{}", shared.err);
    let shared = with(&bin, "alice", &["share", &recipient, "--name", "bob"]);
    assert!(shared.ok, "{}", shared.err);
    let get = ["get", "A", "--reveal", "--identity", text(&file)];
    let got = with(&bin, "bob", &get);
    assert_eq!((got.ok, got.out.as_str()), (true, CANARY), "{}", got.err);
    let got = with(&tools, "bob", &get);
    assert!(!got.ok && got.out.is_empty(), "{}", got.err);
    assert!(got.err.contains("which the project can change"), "{}", got.err);
}

/// BIP 173, of whole groups of five bits.
fn bech32(hrp: &str, groups: &[u8]) -> String {
    const LETTERS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let step = |sum: u32, value: u8| {
        let generator = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
        let top = sum >> 25;
        let sum = ((sum & 0x1ff_ffff) << 5) ^ u32::from(value);
        (0..5).filter(|i| top >> i & 1 == 1).fold(sum, |sum, i| sum ^ generator[i])
    };
    let bytes = hrp.bytes();
    let expanded = bytes.clone().map(|b| b >> 5).chain([0]).chain(bytes.map(|b| b & 31));
    let sum = expanded.chain(groups.iter().copied()).chain([0; 6]).fold(1, step) ^ 1;
    let check = (0..6).map(|i| (sum >> (5 * (5 - i)) & 31) as u8);
    let data = groups.iter().copied().chain(check).map(|group| LETTERS[usize::from(group)] as char);
    format!("{hrp}1{}", data.collect::<String>())
}
