//! What is refused, what is said, and how a person takes it all the same.

use crate::support::git::Repository;

use super::{CANARY, Place};

const GET: [&str; 3] = ["get", "A", "--reveal"];

#[test]
fn bad_files_are_refused_with_what_to_do() {
    let place = Place::new();
    place.done("alice", &["set", "A"], format!("{CANARY} one").as_bytes());
    let one = place.text();
    place.done("alice", &["set", "A", "--raw"], format!("{CANARY} two").as_bytes());
    let two = place.text();
    let put = |text: &str| std::fs::write(place.file(), text).expect("written");
    let armor = two.find("-----END").expect("armor");
    for (text, why) in [
        (one.clone(), "was rolled back: it is at revision 1, and 2 was seen before"),
        (two.replace("raw = true", "host = \"evil.example\"\nheader = \"X\""), "forged or damaged"),
        (two.replace("revision = 2", "revision = 3"), "forged or damaged"),
        (two.replace("name = \"alice\"", "name = \"alicf\""), "forged or damaged"),
        (two.replace("raw = true", "raww = true"), "unknown field `policy.A.raww`; there is raw"),
        (two.replace("raw = true", "raw = false"), "the policy of A cannot be"),
        (two.replace("version = 1", "version = 2"), "has version 2, this zagi knows version 1"),
        (two[..armor].to_owned(), "is not a secrets file"),
        (format!("{}\"\"\"\n", &two[..armor]), "forged or damaged"),
        (String::new(), "is gone; it was there at revision 2"),
        ("\u{1}".to_owned(), "is not a secrets file"),
    ] {
        put(&text);
        let e = place.refused("alice", &GET);
        assert!(e.contains(why) && e.contains("\nhint: "), "{why}: {e}");
        assert!(!place.zagi("alice", &["list"]).ok, "{why}");
        let said = place.zagi_with("alice", &["set", "B"], b"x");
        assert!(!said.ok && std::fs::read_to_string(place.file()).expect("there") == text, "{why}");
    }
    put(&two);
    assert_eq!(place.get("alice", "A"), format!("{CANARY} two"));
}

#[test]
fn going_back_is_for_a_person_to_accept() {
    let place = Place::new();
    place.done("alice", &["set", "A"], b"one");
    let one = place.text();
    place.done("alice", &["set", "A"], b"two");
    std::fs::write(place.file(), &one).expect("written");
    let e = place.refused("alice", &["accept"]);
    assert!(e.contains("there is no terminal to ask at") && e.contains("can read   alice"), "{e}");
    let e = place.refused("alice", &["accept", "--signer", &"0".repeat(64)]);
    assert!(e.contains("signed by another key"), "{e}");
    let line = one.lines().find_map(|line| line.strip_prefix("signer = \"")).expect("a signer");
    place.done("alice", &["accept", "--signer", &line[..64]], b"");
    assert_eq!(place.get("alice", "A"), "one");
}

#[test]
fn another_projects_file_in_its_place_is_refused() {
    let place = Place::new();
    place.done("alice", &["set", "A"], CANARY.as_bytes());
    let ours = place.text();
    std::fs::remove_file(place.file()).expect("removed");
    let e = place.refused("alice", &GET);
    assert!(e.contains("is gone; it was there at revision 1") && e.contains("git checkout"), "{e}");
    // Mallory's, for Alice too.
    place.done("mallory", &["set", "A"], b"x");
    let alice = place.done("alice", &["share"], b"").out;
    place.done("mallory", &["share", alice.trim(), "--name", "alice"], b"");
    let e = place.refused("alice", &GET);
    assert!(e.contains("was replaced"), "{e}");
    let said = place.zagi_with("alice", &["set", "B"], CANARY.as_bytes());
    assert!(!said.ok && said.err.contains("was replaced"), "{}", said.err);
    std::fs::write(place.file(), ours).expect("written");
    assert_eq!(place.get("alice", "A"), CANARY);
}

#[test]
fn who_is_left_out_by_a_rekey_reads_no_more() {
    let place = Place::new();
    place.done("alice", &["set", "A"], b"one");
    let bob = place.done("bob", &["share"], b"").out;
    place.done("alice", &["share", bob.trim(), "--name", "bob"], b"");
    let again = place.zagi("alice", &["share", bob.trim(), "--name", "robert"]);
    assert!(!again.ok && again.err.contains("bob can read them already"), "{}", again.err);
    assert_eq!(place.get("bob", "A"), "one");
    let e = place.refused("alice", &["rekey", "--without", "rob"]);
    assert!(e.contains("no recipient is called rob; there are alice, bob"), "{e}");
    let said = place.done("alice", &["rekey", "--without", "bob"], b"");
    assert!(said.err.contains("bob has seen these values; rotate them"), "{}", said.err);
    assert_eq!(place.get("alice", "A"), "one");
    // The old signer vouches for the new one: he follows, and is told that he is out.
    assert!(place.refused("bob", &GET).contains("none of your identities opens"));
    assert!(place.done("bob", &["list"], b"").out.contains("alice"));
}

#[test]
fn a_merge_conflict_is_called_one() {
    let place = Place::new();
    std::fs::remove_dir(place.web().join(".git")).expect("removed");
    let web = Repository::create(&place.web());
    place.done("alice", &["set", "A"], b"one");
    web.git(&["add", "."]);
    web.commit("one");
    web.git(&["checkout", "-q", "-b", "other"]);
    place.done("alice", &["set", "A"], b"two");
    web.git(&["add", "."]);
    web.commit("two");
    web.git(&["checkout", "-q", "main"]);
    let e = place.refused("alice", &GET);
    assert!(e.contains("was rolled back") && e.contains("zagi secrets accept"), "{e}");
    place.done("bob", &["list"], b"");
    let mine = web.git(&["rev-parse", "HEAD"]);
    let line = place.text();
    let signer = line.lines().find_map(|line| line.strip_prefix("signer = \"")).expect("a signer");
    place.done("alice", &["accept", "--signer", &signer[..64]], b"");
    place.done("alice", &["set", "A"], b"three");
    web.git(&["add", "."]);
    assert_ne!(web.commit("three"), mine);
    let merged = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "merge", "-q", "other"])
        .current_dir(place.web())
        .status()
        .expect("git is there");
    assert!(!merged.success(), "it is a conflict");
    let e = place.refused("alice", &GET);
    assert!(e.contains("has the marks of a merge conflict") && e.contains("--ours"), "{e}");
    web.git(&["checkout", "--ours", ".zagi/secrets.enc"]);
    assert_eq!(place.get("alice", "A"), "three");
}

#[test]
fn two_commands_at_once_lose_nothing() {
    let place = Place::new();
    place.done("alice", &["set", "A"], b"one");
    std::thread::scope(|scope| {
        for i in 0..5 {
            let place = &place;
            scope.spawn(move || place.done("alice", &["set", &format!("B{i}")], b"x"));
        }
    });
    let json = place.done("alice", &["list", "--json"], b"").out;
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(
        (json["revision"].as_u64(), json["secrets"].as_array().map(Vec::len)),
        (Some(6), Some(6))
    );
    place.done("alice", &["log", "--verify"], b"");
}
