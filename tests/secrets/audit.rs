//! The record of each use: before it, or it does not happen.

use nix::mount::{MsFlags, mount, umount};

use super::{CANARY, Place};

fn rows(place: &Place) -> Vec<serde_json::Value> {
    let json = place.done("alice", &["log", "--json"], b"").out;
    serde_json::from_str(&json).expect("it is JSON")
}

#[test]
fn every_use_is_a_row_without_a_value() {
    let place = Place::new();
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    place.get("alice", "A");
    place.done("alice", &["rekey"], b"");
    let log = rows(&place);
    let of: Vec<_> =
        log.iter().map(|row| (row["action"].as_str(), row["revision"].as_u64())).collect();
    assert_eq!(of, [(Some("set"), Some(0)), (Some("get"), Some(1)), (Some("rekey"), Some(1))]);
    assert_eq!(log[1]["names"], serde_json::json!(["A"]));
    let shown = place.done("alice", &["log"], b"").out;
    assert!(shown.lines().nth(1).is_some_and(|line| line.contains("get     A  /")), "{shown}");
    let verified = place.done("alice", &["log", "--verify"], b"").out;
    assert_eq!(verified, "3 rows, each follows from the one before\n");
    assert!(
        !std::fs::read_to_string(place.home("alice").join("audit/secrets.log"))
            .expect("there is one")
            .contains(CANARY)
    );
}

#[test]
fn a_log_that_was_changed_or_cut_releases_nothing() {
    let place = Place::new();
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    place.get("alice", "A");
    let log = place.home("alice").join("audit/secrets.log");
    let text = std::fs::read_to_string(&log).expect("there is one");
    let cut = format!("{}\n", text.lines().next().expect("a row"));
    for (broken, why) in [
        (text.replace("\"get\"", "\"put\""), "row 2 is another than was written"),
        (text.replace("\"set\"", "\"put\""), "row 2 does not follow from the one before it"),
        (cut, "it has 1 rows, and had 2: it was cut"),
    ] {
        std::fs::write(&log, &broken).expect("written");
        let e = place.refused("alice", &["get", "A", "--reveal"]);
        assert!(e.contains("no secret is released") && e.contains(why), "{e}");
        let said = place.zagi_with("alice", &["set", "B"], b"x");
        assert!(!said.ok && said.err.contains(why), "{}", said.err);
        assert!(place.refused("alice", &["log", "--verify"]).contains(why));
    }
    std::fs::write(&log, &text).expect("written");
    assert_eq!(place.get("alice", "A"), CANARY);
}

/// A disk of a few pages, unmounted at the end.
struct Small<'a>(&'a std::path::Path);

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = umount(self.0);
    }
}

#[test]
fn a_full_disk_releases_nothing() {
    let place = Place::new();
    let audit = place.home("alice").join("audit");
    std::fs::create_dir_all(&audit).expect("made");
    mount(Some("none"), &audit, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
        .expect("tests are run as root");
    let _small = Small(&audit);
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    assert_eq!(place.get("alice", "A"), CANARY);
    let filler = audit.join("filler");
    let log = audit.join("secrets.log");
    // Full where the row goes, and full only where the head goes: its page is another.
    let full = std::fs::write(&filler, vec![0; 1 << 20]).expect_err("it is full");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    for _ in 0..3 {
        let e = place.refused("alice", &["get", "A", "--reveal"]);
        assert!(e.contains("no secret is released") && e.contains("No space left"), "{e}");
        let before = place.text();
        let said = place.zagi_with("alice", &["set", "A"], b"other");
        assert!(!said.ok && said.err.contains("No space left"), "{}", said.err);
        assert_eq!(place.text(), before, "what is not recorded is not written");
    }
    assert_eq!(std::fs::read_to_string(&log).expect("there").lines().count(), 2);
    std::fs::remove_file(&filler).expect("removed");
    // So long a log that the next row needs a page.
    while std::fs::metadata(&log).expect("there").len() < 4096 - 200 {
        place.get("alice", "A");
    }
    let _ = std::fs::write(&filler, vec![0; 1 << 20]);
    let e = place.refused("alice", &["get", "A", "--reveal"]);
    assert!(e.contains("No space left"), "{e}");
    std::fs::remove_file(&filler).expect("removed");
    assert_eq!(place.get("alice", "A"), CANARY);
    place.done("alice", &["log", "--verify"], b"");
}
