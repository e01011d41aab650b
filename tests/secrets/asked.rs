//! What `.zagi/env.toml` asks for: shown, and used only after somebody's yes.

use super::*;

const ASKED: &str = "[secrets]\nSTRIPE_KEY = { host = \"api.example.com\", header = \"Authorization\", format = \"Bearer {}\" }\nRAW = { raw = true }\nNAME = {}\n";

fn asking(text: &str) -> Place {
    let place = Place::new();
    std::fs::create_dir(place.web().join(".zagi")).expect("new");
    std::fs::write(place.web().join(".zagi/env.toml"), text).expect("new");
    place
}

#[test]
fn what_is_missing_is_said_with_the_command() {
    let place = asking(ASKED);
    let said = place.done("alice", &["list"], b"");
    for line in [
        "STRIPE_KEY is asked for in .zagi/env.toml and not set: `zagi secrets set STRIPE_KEY --host api.example.com --header Authorization --format 'Bearer {}'`",
        "RAW is asked for in .zagi/env.toml and not set: `zagi secrets set RAW --raw`",
        "NAME is asked for in .zagi/env.toml and not set: `zagi secrets set NAME`",
    ] {
        assert!(said.err.contains(line), "{}", said.err);
    }
    // Without a terminal nothing is taken of it.
    let said = place.done("alice", &["set", "STRIPE_KEY"], CANARY.as_bytes());
    assert!(said.err.contains("asks for it by `--keep --host api.example.com"), "{}", said.err);
    assert!(!place.text().contains("api.example.com"), "{}", place.text());
    place.done("alice", &["set", "RAW", "--raw"], CANARY.as_bytes());
    assert!(!place.done("alice", &["list"], b"").err.contains("RAW"));
}

#[test]
fn at_a_terminal_it_is_asked_about() {
    for (answer, taken) in [("n\r", false), ("y\r", true)] {
        let place = asking(ASKED);
        let mut terminal = Terminal::start(&place.command("alice", &["set", "STRIPE_KEY"]));
        terminal.expect("--format 'Bearer {}'. Use it just so? [y/N]");
        terminal.enter(answer);
        terminal.expect("value of STRIPE_KEY");
        terminal.enter(&format!("{CANARY}\r"));
        let (ok, shown) = terminal.end();
        assert!(ok && !shown.contains(CANARY), "{shown}");
        assert_eq!(place.text().contains("host = \"api.example.com\""), taken, "{}", place.text());
        // Once somebody has said how, the tree has no say.
        let other = ASKED.replace("api.example.com", "evil.example.com");
        std::fs::write(place.web().join(".zagi/env.toml"), other).expect("ours");
        place.done("alice", &["set", "STRIPE_KEY"], b"again");
        assert!(!place.text().contains("evil"), "{}", place.text());
    }
}

#[test]
fn what_it_may_not_ask_for_is_refused() {
    for (text, said) in [
        ("[secrets]\nA = { raw = true, agent = \"x\" }\n", "env.toml:2: unknown key `agent`"),
        ("[secrets]\nA = \"the value itself\"\n", "`secrets.A` must be a table"),
        ("[secrets]\nA = { raw = false }\n", "`secrets.A.raw` must be `true`"),
        ("[secrets]\nA = { host = \"a.b\" }\n", "secrets.A: a brokered secret needs `header`"),
        ("[secrets]\nA = { file = \"../x\" }\n", "without a directory"),
        ("[secrets]\n\"A B\" = {}\n", "cannot be the name of a secret"),
    ] {
        let place = asking(text);
        let e = place.refused("alice", &["list"]);
        assert!(e.contains(said), "{text}: {e}");
    }
}
