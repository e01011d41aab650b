//! Somebody edits a file that is hard-linked with the farm, in place, as root.

use std::fs;

use zagi_integration::machine::{Machine, Who};

use super::{describe, snapshot, str};

#[test]
fn an_edit_through_a_hard_link_is_found_and_every_place_is_named() {
    let machine = Machine::new(Who::Me);
    let w = machine.work().join("w");
    fs::create_dir_all(w.join("lib")).unwrap();
    fs::write(w.join("lib/a.js"), "module.exports = 1;\n").unwrap();
    fs::write(w.join("b.js"), "require('./lib/a.js');\n").unwrap();
    let tree = snapshot(&machine, &w);
    let restore = |name: &str| {
        let to = machine.work().join(name);
        let said = machine.zagi(&["restore", "--require-link", &tree, str(&to)]).ok();
        (to, said)
    };
    let [(one, said), (two, _)] = ["one", "two"].map(restore);
    assert!(said.err.contains("link") || said.out.contains("link"), "{}{}", said.out, said.err);

    // In place, so that every name of the inode shows it.
    machine.sh(&one, "chmod u+w lib/a.js; echo '/* edited */' >> lib/a.js").ok();
    assert!(fs::read_to_string(two.join("lib/a.js")).unwrap().contains("edited"));

    // Found by whoever looks at every byte,
    let said = machine.zagi(&["store", "verify"]).fails(1, "");
    let text = said.out + &said.err;
    for place in [&one, &two] {
        let place = place.join("lib/a.js");
        assert!(text.contains(str(&place)), "{} is not named:\n{text}", place.display());
    }
    // and before it spreads.
    let (three, said) = restore("three");
    assert_eq!(describe(&three), describe(&w));
    for place in [&one, &two] {
        let place = place.join("lib/a.js");
        assert!(said.err.contains(str(&place)), "{} is not named:\n{}", place.display(), said.err);
    }
    assert_eq!(snapshot(&machine, &three), tree);
    // What was edited is somebody's work, and stays theirs.
    assert!(fs::read_to_string(one.join("lib/a.js")).unwrap().contains("edited"));
    machine.zagi(&["restore", &tree, str(&two)]).ok();
    assert_eq!(describe(&two), describe(&w));
}
