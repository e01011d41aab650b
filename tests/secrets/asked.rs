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
        terminal.expect("--format 'Bearer {}'\r\n");
        terminal.expect("\nlet STRIPE_KEY go to api.example.com, in Authorization? [y/N] ");
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
fn the_question_says_what_matters_last() {
    let place = asking("[secrets]\nRAW = { raw = true }\nSA = { file = \"sa.json\" }\n");
    for (name, way) in [("RAW", "--raw"), ("SA", "--file sa.json")] {
        let mut terminal = Terminal::start(&place.command("alice", &["set", name]));
        terminal.expect(&format!(".zagi/env.toml asks for it so: {way}\r\n"));
        terminal.expect(&format!("\nlet the app have the value of {name}? [y/N] "));
        terminal.enter("y\r");
        terminal.expect(&format!("value of {name}: "));
        terminal.enter(&format!("{CANARY}\r"));
        let (ok, shown) = terminal.end();
        assert!(ok, "{shown}");
    }
}

/// Where the question would be seen by nobody.
#[test]
fn it_is_not_asked_about_where_standard_error_is_a_file() {
    let place = asking(ASKED);
    let command = place.command("alice", &["set", "RAW"]);
    let mut into_file = Command::new("/bin/sh");
    into_file.args(["-c", "exec \"$@\" 2>said", "sh"]).arg(command.get_program());
    into_file.args(command.get_args()).current_dir(command.get_current_dir().expect("set"));
    into_file.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut terminal = Terminal::start(&into_file);
    terminal.expect("value of RAW: ");
    terminal.enter(&format!("{CANARY}\r"));
    let (ok, shown) = terminal.end();
    assert!(ok, "{shown}");
    let said = std::fs::read_to_string(place.web().join("said")).expect("written");
    assert!(said.contains("no app gets RAW yet") && !said.contains("[y/N]"), "{said}");
}

#[test]
fn what_it_may_not_ask_for_is_said_and_not_heeded() {
    let spaces = format!(
        "[secrets]\nA = {{ host = \"a.b\", header = \"X\", format = \"{{}}{}x\" }}\n",
        " ".repeat(100)
    );
    let long = format!("[secrets]\nA = {{ host = \"{}.b\", header = \"X\" }}\n", "a".repeat(300));
    for (text, said) in [
        ("[secrets]\nA = { raw = true, agent = \"x\" }\n", "env.toml:2: unknown key `agent`"),
        ("[secrets]\nA = \"the value itself\"\n", "`secrets.A` must be a table"),
        ("[secrets]\nA = { raw = false }\n", "`secrets.A.raw` must be `true`"),
        ("[secrets]\nA = { host = \"a.b\" }\n", "secrets.A: a brokered secret needs `header`"),
        ("[secrets]\nA = { file = \"../x\" }\n", "without a directory"),
        ("[secrets]\n\"A B\" = {}\n", "cannot be the name of a secret"),
        ("= \u{1b}[2J\u{202e}\n", "env.toml"),
        (&spaces, "one space between words"),
        (&long, "it is too long"),
    ] {
        let place = asking(text);
        for argv in [&["list"][..], &["set", "A"]] {
            let e = place.done("alice", argv, CANARY.as_bytes()).err;
            let warning = e.lines().find(|line| line.contains("warning: ")).unwrap_or_default();
            assert!(warning.contains("is not heeded") && e.contains(said), "{text}: {argv:?}: {e}");
            assert_eq!(e.matches("is not heeded").count(), 1, "{e}");
            assert!(!e.contains(['\u{1b}', '\u{202e}']), "{e:?}");
        }
        assert_eq!(place.get("alice", "A"), CANARY);
    }
    // And the others are.
    let place = asking("[secrets]\nA = { host = \"a.b\" }\nB = { raw = true }\n");
    let said = place.done("alice", &["list"], b"").err;
    assert!(
        said.contains("secrets.A: a brokered") && said.contains("secrets set B --raw"),
        "{said}"
    );
}
