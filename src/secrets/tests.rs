//! Files that are not what they say, made by who knows the format as well as we do.

mod mutated;

use std::path::{Path, PathBuf};

use age::NoCallbacks;

use super::audit::{Log, Receipt, Use};
use super::document::{Document, Recipient};
use super::identity::{self, Plugins};
use super::pins::Sight;
use super::sign::Key;
use super::vault::{Change, Values, Vault, accept, inspect, turn};
use super::*;

/// A home and a project.
struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        World { dir }
    }

    fn home(&self, who: &str) -> PathBuf {
        let home = self.dir.path().join(who);
        std::fs::create_dir_all(&home).unwrap();
        home
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn file(&self) -> PathBuf {
        self.root().join(place::PATH)
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    fn put(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    fn recipient(&self, who: &str) -> Recipient {
        let (identity, _) = identity::own(&self.home(who)).unwrap();
        Recipient { name: who.into(), key: identity::own_recipient(&identity) }
    }

    fn open(&self, who: &str) -> Result<Vault, SecretsError> {
        Vault::open(&self.home(who), place::Place::new(&self.root())).map(Option::unwrap)
    }

    fn unlock(&self, who: &str, vault: &Vault) -> Result<Values, SecretsError> {
        let (identity, _) = identity::own(&self.home(who)).unwrap();
        vault.unlock(&[Box::new(identity)])
    }

    fn change(&self, who: &str, change: &Change) {
        let home = self.home(who);
        let turn = turn(&home).unwrap();
        let (mut vault, values) =
            match Vault::open(&home, place::Place::new(&self.root())).unwrap() {
                Some(vault) => {
                    let values = self.unlock(who, &vault).unwrap();
                    (vault, values)
                }
                None => Vault::create(&home, place::Place::new(&self.root()), self.recipient(who))
                    .unwrap(),
            };
        let receipt = receipt(&home, &vault.document.project, &[]);
        vault.commit(&turn, &values, change, &receipt, (&no_plugins(), &NoCallbacks)).unwrap();
    }

    fn set(&self, who: &str, name: &str, value: &str) {
        let mut change = Change::default();
        change.values.insert(name.into(), Some(Pages::of(value.as_bytes()).unwrap()));
        self.change(who, &change);
    }

    fn get(&self, who: &str, name: &str) -> Result<String, SecretsError> {
        let vault = self.open(who)?;
        let values = self.unlock(who, &vault)?;
        let receipt = receipt(&self.home(who), &vault.document.project, &[name]);
        values.expose(name, &receipt).map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    fn document(&self) -> Document {
        Document::parse(Path::new("f"), &self.text()).unwrap()
    }
}

fn no_plugins() -> Plugins {
    Plugins { path: None, distrusted: Vec::new() }
}

fn receipt(home: &Path, project: &str, names: &[&str]) -> Receipt {
    let of = Use {
        action: "get".into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        to: String::new(),
        file: String::new(),
        project: project.into(),
        revision: 1,
        uid: 0,
        pid: 1,
        by: String::new(),
    };
    Log::new(home).append(0, of).unwrap()
}

/// What somebody makes who knows the recipients and has a signing key of their own.
fn forge(world: &World, project: &str, revision: u64, key: &Key) -> Document {
    let mut document = world.document();
    document.project = project.into();
    document.revision = revision;
    document.successions.clear();
    let values = [("A", &b"theirs"[..])].into();
    let text = payload::Payload::build(project, revision, key, &values).unwrap();
    let keys: Vec<String> = document.recipients.iter().map(|r| r.key.clone()).collect();
    let recipients =
        identity::recipients(keys.iter().map(String::as_str), &no_plugins(), &NoCallbacks).unwrap();
    let all = recipients.iter().map(|r| &**r as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).unwrap();
    let armor =
        age::armor::ArmoredWriter::wrap_output(Vec::new(), age::armor::Format::AsciiArmor).unwrap();
    let mut sealed = encryptor.wrap_output(armor).unwrap();
    std::io::Write::write_all(&mut sealed, text.bytes()).unwrap();
    let bytes = sealed.finish().and_then(|armor| armor.finish()).unwrap();
    document.payload = String::from_utf8(bytes).unwrap() + "\n";
    document.sign(key);
    document
}

fn error(world: &World, who: &str) -> SecretsError {
    world.get(who, "A").unwrap_err()
}

#[test]
fn there_and_back_and_to_a_colleague() {
    let world = World::new();
    world.set("alice", "A", "one");
    assert_eq!(world.get("alice", "A").unwrap(), "one");
    assert!(matches!(error(&world, "bob"), SecretsError::NoKey(_)));
    let recipients = vec![world.recipient("alice"), world.recipient("bob")];
    world.change("alice", &Change { recipients: Some(recipients), ..Change::default() });
    assert_eq!(world.get("bob", "A").unwrap(), "one");
    world.set("bob", "A", "two");
    assert_eq!(world.get("alice", "A").unwrap(), "two");
    assert_eq!(world.document().revision, 3);
    let read = world.get("alice", "AA").unwrap_err();
    assert_eq!(read.to_string(), "there is no secret AA; there is A");
}

#[test]
fn no_row_no_value() {
    let world = World::new();
    world.set("alice", "A", "one");
    let vault = world.open("alice").unwrap();
    let values = world.unlock("alice", &vault).unwrap();
    let home = world.home("alice");
    let project = &vault.document.project;
    for wrong in [receipt(&home, project, &["B"]), receipt(&home, "other", &["A"])] {
        assert!(matches!(values.expose("A", &wrong), Err(SecretsError::NotRecorded(_))));
    }
    assert_eq!(values.expose("A", &receipt(&home, project, &["A"])).unwrap(), b"one");
}

#[test]
fn every_changed_byte_is_noticed() {
    let world = World::new();
    world.set("alice", "A", "one");
    let text = world.text();
    let document = world.document();
    // Comments and the spaces between are nobody's; everything that is read is signed.
    let start = text.find("version").unwrap();
    for at in start..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let Ok(read) = Document::parse(Path::new("f"), &text) else { continue };
        assert!(read == document || read.verify(Path::new("f")).is_err(), "byte {at}");
    }
    for end in 0..text.len() - 1 {
        let read = Document::parse(Path::new("f"), &text[..end]);
        let Ok(read) = read else { continue };
        assert!(read == document || read.verify(Path::new("f")).is_err(), "cut at {end}");
    }
    let crlf = text.replace('\n', "\r\n");
    Document::parse(Path::new("f"), &crlf).unwrap().verify(Path::new("f")).unwrap();
}

#[test]
fn a_forged_file_is_refused_whoever_it_is_encrypted_to() {
    let world = World::new();
    world.set("alice", "A", "one");
    let (project, theirs) = (world.document().project, Key::generate().unwrap());
    let ours = world.text();
    world.put(&forge(&world, &project, 5, &theirs).render());
    assert!(matches!(error(&world, "alice"), SecretsError::OtherSigner { .. }));
    // A succession that the known signer has not signed.
    let mut forged = forge(&world, &project, 5, &theirs);
    forged.succeed(&theirs, &theirs);
    forged.sign(&theirs);
    world.put(&forged.render());
    assert!(matches!(error(&world, "alice"), SecretsError::OtherSigner { .. }));
    world.put(&forge(&world, &"0".repeat(32), 5, &theirs).render());
    assert!(matches!(error(&world, "alice"), SecretsError::Replaced(_)));
    // Under our name, with their signature.
    let mut named = forge(&world, &project, 5, &theirs);
    named.signer = Document::parse(Path::new("f"), &ours).unwrap().signer;
    world.put(&named.render());
    assert!(matches!(error(&world, "alice"), SecretsError::Forged(_)));
    world.put(&ours);
    assert_eq!(world.get("alice", "A").unwrap(), "one");
    // Who sees theirs first believes it: that is said, and what `accept` is for.
    world.put(&forge(&world, &project, 5, &theirs).render());
    assert_eq!(world.open("carol").unwrap().sight, Sight::First);
    assert_eq!(world.open("carol").unwrap().sight, Sight::Known);
}

#[test]
fn a_payload_of_another_file_is_refused() {
    let world = World::new();
    world.set("alice", "A", "one");
    let old = world.document();
    world.set("alice", "A", "two");
    // Whoever has the signing key could sign this; it is still not of this revision.
    let vault = world.open("alice").unwrap();
    let mut mixed = vault;
    mixed.document.payload = old.payload;
    assert!(matches!(world.unlock("alice", &mixed), Err(SecretsError::Sealed { .. })));
    mixed.document.payload.truncate(200);
    let Err(e) = world.unlock("alice", &mixed) else { panic!("a cut payload opens") };
    assert!(matches!(e, SecretsError::Sealed { .. }), "{e}");
}

#[test]
fn what_is_older_or_another_is_refused_until_it_is_accepted() {
    let world = World::new();
    world.set("alice", "A", "one");
    let one = world.text();
    world.set("alice", "A", "two");
    let two = world.text();
    world.put(&one);
    let e = error(&world, "alice");
    assert!(matches!(e, SecretsError::RolledBack { found: 1, seen: 2, .. }), "{e}");
    // The same revision again, with another content.
    let (home, place) = (world.home("alice"), place::Place::new(&world.root()));
    let (document, _) = inspect(&place).unwrap().unwrap();
    accept(&home, &place, Some(&document)).unwrap();
    world.set("alice", "A", "other");
    world.put(&two);
    let e = error(&world, "alice");
    assert!(matches!(e, SecretsError::Forked { revision: 2, .. }), "{e}");
    std::fs::remove_file(world.file()).unwrap();
    let e = Vault::open(&home, place::Place::new(&world.root())).err().unwrap();
    assert!(matches!(e, SecretsError::Gone { revision: 2, .. }), "{e}");
    accept(&home, &place, None).unwrap();
    assert!(Vault::open(&home, place::Place::new(&world.root())).unwrap().is_none());
}

#[test]
fn a_new_signer_is_followed_where_the_old_one_vouches_for_it() {
    let world = World::new();
    world.set("alice", "A", "one");
    let both = vec![world.recipient("alice"), world.recipient("bob")];
    world.change("alice", &Change { recipients: Some(both), ..Change::default() });
    assert_eq!(world.get("bob", "A").unwrap(), "one");
    let bobs = world.open("bob").unwrap();
    let old = world.unlock("bob", &bobs).unwrap().signing_key();
    let before = world.document();
    for _ in 0..2 {
        let alone = vec![world.recipient("alice")];
        world
            .change("alice", &Change { recipients: Some(alone), rekey: true, ..Change::default() });
    }
    let after = world.document();
    assert!(after.descends(&before.signer) && before.signer != after.signer);
    assert_eq!(world.get("alice", "A").unwrap(), "one");
    // Bob follows, and can open it no more.
    let e = error(&world, "bob");
    assert!(matches!(e, SecretsError::NoKey(_)), "{e}");
    // With the key that he knows he makes nothing that is believed where the new one was seen.
    let mut forged = before;
    forged.revision = 9;
    forged.sign(&old);
    world.put(&forged.render());
    let e = error(&world, "alice");
    assert!(matches!(e, SecretsError::OtherSigner { .. }), "{e}");
}

#[test]
fn two_who_write_at_once_do_not_lose_anything() {
    let world = World::new();
    world.set("alice", "A", "one");
    std::thread::scope(|scope| {
        for i in 0..6 {
            let world = &world;
            scope.spawn(move || world.set("alice", &format!("B{i}"), "x"));
        }
    });
    let document = world.document();
    assert_eq!((document.revision, document.policies.len()), (7, 7));
    // Somebody with another home, between reading and writing.
    let home = world.home("alice");
    let mut vault = world.open("alice").unwrap();
    let values = world.unlock("alice", &vault).unwrap();
    world.set("alice", "C", "x");
    let receipt = receipt(&home, &vault.document.project, &[]);
    let turn = turn(&home).unwrap();
    let change = Change::default();
    let lost = vault.commit(&turn, &values, &change, &receipt, (&no_plugins(), &NoCallbacks));
    assert!(matches!(lost, Err(SecretsError::Raced(_))));
    assert!(world.document().policies.contains_key("C"));
}

#[test]
fn nothing_is_read_or_written_outside_of_the_tree() {
    use std::os::unix::fs::symlink;
    let world = World::new();
    world.set("alice", "A", "one");
    let outside = world.dir.path().join("outside");
    std::fs::rename(world.root().join(".zagi"), &outside).unwrap();
    symlink("../outside", world.root().join(".zagi")).unwrap();
    let odd = |reason: &str| {
        let e = Vault::open(&world.home("alice"), place::Place::new(&world.root()))
            .err()
            .unwrap()
            .to_string();
        assert!(e.contains(reason), "{e}");
    };
    odd("leads out of the tree");
    std::fs::remove_file(world.root().join(".zagi")).unwrap();
    std::fs::create_dir(world.root().join(".zagi")).unwrap();
    symlink(outside.join("secrets.enc"), world.file()).unwrap();
    odd("it is a symbolic link");
    std::fs::remove_file(world.file()).unwrap();
    nix::unistd::mkfifo(&world.file(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    odd("it is no ordinary file");
    // A link that stays inside is the tree's own business.
    std::fs::remove_dir_all(world.root().join(".zagi")).unwrap();
    std::fs::rename(&outside, world.root().join("inner")).unwrap();
    symlink("inner", world.root().join(".zagi")).unwrap();
    world.set("alice", "A", "two");
    assert_eq!(world.get("alice", "A").unwrap(), "two");
}

#[test]
fn its_mode_stays() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    world.set("alice", "A", "one");
    std::fs::set_permissions(world.file(), PermissionsExt::from_mode(0o640)).unwrap();
    world.set("alice", "A", "two");
    assert_eq!(world.file().metadata().unwrap().permissions().mode() & 0o777, 0o640);
    let left: Vec<_> = std::fs::read_dir(world.root().join(".zagi")).unwrap().collect();
    assert_eq!(left.len(), 1, "a half-made file is left");
}

#[test]
fn an_identity_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::new();
    let home = world.home("alice");
    let (first, made) = identity::own(&home).unwrap();
    assert!(made && !identity::own(&home).unwrap().1);
    assert_eq!(identity::known(&home).unwrap(), Some(identity::own_recipient(&first)));
    let file = home.join("secrets/identity");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let e = identity::own(&home).err().unwrap().to_string();
    assert!(e.contains("chmod 600"), "{e}");
}

#[test]
fn fields_that_are_not_known_are_named_with_the_nearest() {
    let world = World::new();
    world.set("alice", "A", "one");
    let text = world.text();
    for (from, to, field, nearest) in [
        ("[policy.A]\n", "[policy.A]\nhots = \"x\"\n", "policy.A.hots", "host"),
        ("\nrevision = ", "\nrevisoin = 2\nrevision = ", "revisoin", "revision"),
        ("[sealed]\n", "[sealed]\npayloda = \"x\"\n", "sealed.payloda", "payload"),
        ("[[recipients]]\n", "[[recipients]]\nkeys = \"x\"\n", "recipients.keys", "key"),
    ] {
        world.put(&text.replacen(from, to, 1));
        let e = error(&world, "alice").to_string();
        assert!(e.contains(&format!("unknown field `{field}`; there is {nearest}")), "{e}");
    }
    world.put(&text.replacen("[sealed]\n", "\"\\u001b[2J\" = 1\n[sealed]\n", 1));
    assert!(!error(&world, "alice").to_string().contains('\u{1b}'));
    world.put(&text.replacen("key = \"age1", "key = \"\\u001bage1", 1));
    assert!(matches!(error(&world, "alice"), SecretsError::Malformed { .. }));
    world.put(&text.replacen("version = 1", "version = 2", 1));
    assert!(matches!(error(&world, "alice"), SecretsError::Newer { found: 2, .. }));
}

#[test]
fn recipients_have_one_form() {
    let ed25519 =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN";
    let (key, comment) = identity::parse_recipient(&format!(" {ed25519} alice@host\n")).unwrap();
    assert_eq!((key.as_str(), comment.as_deref()), (ed25519, Some("alice@host")));
    let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let e = identity::parse_recipient(secret).unwrap_err().to_string();
    assert!(e.contains("private key") && !e.contains("GFPYY"), "{e}");
    for wrong in ["", "alice", "age1", "ssh-dss AAAA", "ssh-ed25519 AAAA"] {
        assert!(identity::parse_recipient(wrong).is_err(), "{wrong}");
    }
}
