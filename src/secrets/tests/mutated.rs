//! What is read of secrets, changed by chance: it is never a reason to panic, what is accepted says when it
//! is written again what it said, and what was signed or chained is accepted as it was alone.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::audit::{Log, Row, Use};
use super::super::document::{Document, Recipient};
use super::super::payload::Payload;
use super::super::pins::Pins;
use super::super::place::Place;
use super::super::policy::Policy;
use super::super::sign::Key;
use super::super::{Pages, dotenv};
use crate::chance::changes;

/// Signed files of one key and of its successor.
fn documents() -> Vec<Document> {
    let (old, new) = (Key::generate().unwrap(), Key::generate().unwrap());
    let text = |revision: u64, signer: &Key, more: &str| {
        format!(
            "version = 1\nproject = \"00112233445566778899aabbccddeeff\"\nrevision = {revision}\n\
             signer = \"{}\"\n[[recipients]]\nname = \"alice\"\nkey = \"age1xyz\"\n{more}\
             [sealed]\nsignature = \"{}\"\npayload = \"\"\"\n-----BEGIN AGE\n\"\"\"\n",
            signer.signer(),
            "0".repeat(128)
        )
    };
    let policies = "[[recipients]]\nname = \"bob\"\nkey = \"ssh-ed25519 AAAA\"\n\
        [policy.KEY]\nhost = \"api.example.com\"\nheader = \"Authorization\"\nformat = \"Bearer {}\"\n\
        method = [\"GET\"]\npath = \"/v1/*\"\n[policy.RAW]\nraw = true\n[policy.FILE]\nfile = \"x.json\"\n";
    let parse = |text: &str| Document::parse(Path::new("f"), text);
    let mut all = vec![parse(&text(1, &old, "")).unwrap()];
    all.push(parse(&text(2, &old, policies)).unwrap());
    let mut later = parse(&text(3, &new, "")).unwrap();
    later.succeed(&old, &new);
    let mut policies = BTreeMap::new();
    let mut brokered = Policy::default();
    for (field, value) in [("host", "api.example.com"), ("header", "X-Key"), ("format", "{}")] {
        brokered.set(field, vec![value.into()]);
    }
    policies.insert("KEY".to_owned(), brokered);
    later.policies = policies;
    later.recipients.push(Recipient { name: "c".into(), key: "age1c".into() });
    all.push(later);
    for document in &mut all {
        document.sign(if document.revision == 3 { &new } else { &old });
    }
    all
}

#[test]
fn a_changed_secrets_file_is_refused_or_says_the_same() {
    let sound = documents();
    let file = Path::new("f");
    let texts: Vec<String> = sound.iter().map(Document::render).collect();
    let corpus: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let (mut read, mut believed) = (0, 0);
    changes(1500, &corpus, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Ok(document) = Document::parse(file, text) else { return };
        read += 1;
        let again = Document::parse(file, &document.render()).unwrap();
        assert_eq!(again, document);
        if document.verify(file).is_ok() {
            believed += 1;
            assert!(sound.contains(&document));
        }
    });
    // Comments and spaces are nobody's, and some changes are to those.
    assert!(read > 50 && believed >= sound.len(), "{read} {believed}");
}

#[test]
fn a_changed_payload_is_refused_or_says_the_same() {
    let key = Key::generate().unwrap();
    let values: [BTreeMap<&str, &[u8]>; 3] = [
        BTreeMap::new(),
        [("A", &b"value"[..]), ("B_2", b""), ("C", b"two\nlines 3\n")].into(),
        [("KEY", &[0, 255, 10, 10, 32][..])].into(),
    ];
    let sound: Vec<Pages> =
        values.iter().map(|values| Payload::build("p", 7, &key, values).unwrap()).collect();
    let corpus: Vec<&[u8]> = sound.iter().map(Pages::bytes).collect();
    let mut read = 0;
    changes(1000, &corpus, |bytes| {
        let Ok(payload) = Payload::parse(Pages::of(bytes).unwrap()) else { return };
        read += 1;
        let Some(key) = payload.key() else { return };
        let values = payload.names().map(|name| (name, payload.get(name).unwrap())).collect();
        let written = Payload::build(&payload.project, payload.revision, &key, &values).unwrap();
        let again = Payload::parse(written).unwrap();
        assert!(again.project == payload.project && again.revision == payload.revision);
        assert!(again.names().eq(payload.names()) && again.key().is_some());
        assert!(payload.names().all(|name| again.get(name) == payload.get(name)));
    });
    assert!(read > 50, "{read}");
}

#[test]
fn a_changed_list_of_variables_is_refused_or_says_the_same() {
    let corpus: [&[u8]; 3] = [
        b"A=1\nexport B = 'two words' # c\nC=\"x\\n\\\"$\\$\"\n\n# D\nE=\n",
        b"KEY='a\nb'\nURL=https://x/?a=b#c\n",
        b"\xef\xbb\xbfA=\"\"\r\nB=2\r\n",
    ];
    let mut read = 0;
    changes(3000, &corpus, |bytes| {
        let Ok(values) = dotenv::parse(bytes) else { return };
        read += 1;
        let mut text = Pages::new(64).unwrap();
        for (name, value) in &values {
            dotenv::write(&mut text, name, value.bytes()).unwrap();
        }
        let again = dotenv::parse(text.bytes()).unwrap();
        assert!(again.keys().eq(values.keys()));
        assert!(again.iter().all(|(name, value)| value.bytes() == values[name].bytes()));
    });
    assert!(read > 100, "{read}");
}

#[test]
fn a_changed_record_is_refused_or_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::new(dir.path());
    for name in ["A", "B", "C", "D"] {
        let of = Use {
            action: "get".into(),
            names: vec![name.into()],
            to: "x".into(),
            file: "/w/f".into(),
            project: "p".into(),
            revision: 1,
            uid: 0,
            pid: 1,
            by: "sh".into(),
        };
        log.append(0, of).unwrap();
    }
    let text = |rows: &[Row]| serde_json::to_string(rows).unwrap();
    let sound = std::fs::read(&log.path).unwrap();
    let expected = text(&log.rows().unwrap().0);
    let mut believed = 0;
    changes(3000, &[&sound], |bytes| {
        std::fs::write(&log.path, bytes).unwrap();
        let Ok((rows, _)) = log.rows() else { return };
        believed += 1;
        assert_eq!(text(&rows), expected);
    });
    assert!(believed > 0);
    // Its head likewise.
    std::fs::write(&log.path, &sound).unwrap();
    let head = log.path.with_file_name("secrets.head");
    let sound = std::fs::read(&head).unwrap();
    changes(500, &[&sound], |bytes| {
        std::fs::write(&head, bytes).unwrap();
        if let Ok((rows, _)) = log.rows() {
            assert_eq!(text(&rows), expected);
        }
    });
}

#[test]
fn a_changed_memory_lets_nothing_older_in() {
    let dir = tempfile::tempdir().unwrap();
    let (pins, place) = (Pins::new(dir.path()), Place::new(&dir.path().join("tree")));
    let all = documents();
    let newest = all.last().unwrap();
    pins.admit(&place, newest).unwrap();
    let seen = dir.path().join("secrets/seen");
    let below = |dir: &Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let all_below = below(&seen).into_iter().flat_map(|path| [below(&path), vec![path]].concat());
    let is_pin =
        |path: &std::path::PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.len() > 0);
    let files: Vec<std::path::PathBuf> = all_below.filter(is_pin).collect();
    assert_eq!(files.len(), 2, "a pin, and its place: {files:?}");
    for path in files {
        let sound = std::fs::read(&path).unwrap();
        changes(200, &[&sound], |bytes| {
            std::fs::write(&path, bytes).unwrap();
            // Whatever it says now: no panic, and the one that is not its own stays out.
            let _ = pins.admit(&place, newest);
        });
        std::fs::write(&path, &sound).unwrap();
        assert!(pins.admit(&place, &all[0]).is_err());
    }
}
