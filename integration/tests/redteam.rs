//! The red team's matrix; see `redteam/`. With `ZAGI_REDTEAM_RESULTS` set, its table is written.

use std::process::Command;

use zagi_integration::machine::{Machine, Said, Who};
use zagi_integration::redteam::{self, Mode, table};

#[test]
fn every_vector_is_in_the_table_once() {
    let vectors = table::vectors();
    let numbers: Vec<u8> = vectors.iter().map(|vector| vector.number).collect();
    assert_eq!(numbers, (1..=58).collect::<Vec<u8>>());
    for vector in vectors {
        let said = !vector.shown.is_empty() || !vector.open.is_empty();
        assert_ne!(said, !vector.later.is_empty(), "{}: shown, or what it waits for", vector.name);
        assert_eq!(vector.open.is_empty(), vector.why.is_empty(), "{}", vector.name);
        assert!(vector.depends.iter().all(|id| vector.shown.contains(id)), "{}", vector.name);
    }
}

#[test]
fn what_the_table_says_is_so() {
    // Much of it is waiting.
    let all = std::thread::scope(|scope| {
        let modes = [Mode::Root, Mode::User, Mode::System];
        let begun = modes.map(|mode| scope.spawn(move || redteam::measure(mode)));
        begun.map(|mode| mode.join().expect("it was measured"))
    });
    let modes = all.iter().zip([Mode::Root, Mode::User, Mode::System]);
    let wrong = modes.flat_map(|(shown, mode)| {
        table::wrong(shown, mode).into_iter().map(move |line| format!("{mode:?}: {line}"))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    if std::env::var_os("ZAGI_REDTEAM_RESULTS").is_some() {
        let said = |program: &str, arguments: &[&str]| {
            Said::of(Command::new(program).args(arguments)).ok().out.trim().to_owned()
        };
        let about = format!(
            "{}; zagi {} at {}; Linux {}.",
            said("date", &["-u", "+%F"]),
            env!("CARGO_PKG_VERSION"),
            said("git", &["rev-parse", "--short", "HEAD"]),
            said("uname", &["-r"])
        );
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/redteam/RESULTS.md");
        std::fs::write(path, table::render(all.each_ref().map(Vec::as_slice), &about))
            .expect("it can be written");
    }
}

/// The same attacks as `zagi doctor --attack` makes them, without a workspace.
#[test]
fn doctor_attacks() {
    for who in [Who::Me, Who::Ordinary] {
        let machine = Machine::new(who);
        let rows = machine.zagi(&["doctor", "--attack", "--json"]).ok().json();
        let rows = rows.as_array().expect("rows").clone();
        let of = |verdict: &str| rows.iter().filter(|row| row["verdict"] == verdict).count();
        assert!(of("held") > 35 && of("failed") == 0, "{rows:?}");
        let said = machine.zagi(&["doctor", "--attack"]).ok().out;
        assert_eq!(said.lines().count(), rows.len() + 2, "{said}");
        assert!(said.contains("memory of another process"), "{said}");
    }
}
