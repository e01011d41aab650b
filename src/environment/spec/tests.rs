//! `env.toml` read, refused and written.

use super::*;

const WHOLE: &str = r#"version = 1
[tools]
node = "22"                      # package.json engines: ">=22 <23"
pnpm = "10.15.1"
[system]
packages = ["libpq", "vips"]
[dependencies]
python = ["pytest-mock", "numpy>=2"]
[services]
postgres = "16"
redis = { version = "7", port = 6380 }
[env]
LOG_LEVEL = "debug"
[run]
test = "pnpm test"
start = "pnpm start"
[secrets]
API_KEY = { host = "api.example.com", header = "X-Key", method = ["GET", "PUT"] }
SESSION_KEY = { raw = true }
"#;

fn refused(text: &str) -> String {
    Spec::parse(".zagi/env.toml", text).expect_err("it is wrong").to_string()
}

#[test]
fn reads_every_key() {
    let spec = Spec::parse(PATH, WHOLE).expect("it is right");
    assert_eq!(spec.tools["node"].to_string(), "22");
    assert_eq!(spec.system, ["libpq", "vips"]);
    assert_eq!(spec.dependencies.python, ["pytest-mock", "numpy>=2"]);
    assert_eq!(spec.services["postgres"].version.to_string(), "16");
    assert_eq!(spec.services["redis"].port, Some(6380));
    assert_eq!(spec.env["LOG_LEVEL"], "debug");
    assert_eq!(spec.secrets["API_KEY"]["method"], ["GET", "PUT"]);
    assert_eq!(spec.secrets["SESSION_KEY"]["raw"], ["true"]);
    assert_eq!(
        spec.run.commands().collect::<Vec<_>>(),
        [("test", "pnpm test"), ("start", "pnpm start")]
    );
    assert_eq!(Spec::lines(WHOLE)["tools.pnpm"], 4);
    assert_eq!(Spec::lines(WHOLE)["run.test"], 15);
    assert_eq!(Spec::parse(PATH, "").expect("empty is right"), Spec::default());
}

#[test]
fn renders_with_comments_and_reads_back() {
    let mut spec = Spec::parse(PATH, WHOLE).expect("it is right");
    spec.env.insert("QUOTED".into(), "a \"b\"\n\\c é".into());
    spec.run.build = Some("make CFLAGS='-O2' # all".into());
    let comments = BTreeMap::from([
        ("tools.node".to_owned(), "package.json:7 engines: \">=22 <23\"\nx = 1".to_owned()),
        ("run.test".to_owned(), "package.json:3".to_owned()),
    ]);
    let text = spec.render(&comments);
    insta::assert_snapshot!(text, @r#"
    [tools]
    node = "22"                      # package.json:7 engines: ">=22 <23" x = 1
    pnpm = "10.15.1"
    [system]
    packages = ["libpq", "vips"]
    [dependencies]
    python = ["pytest-mock", "numpy>=2"]
    [services]
    postgres = "16"
    redis = { version = "7", port = 6380 }
    [env]
    LOG_LEVEL = "debug"
    QUOTED = '''
    a "b"
    \c é'''
    [secrets]
    API_KEY = { header = "X-Key", host = "api.example.com", method = ["GET", "PUT"] }
    SESSION_KEY = { raw = true }
    [run]
    test = "pnpm test"               # package.json:3
    build = "make CFLAGS='-O2' # all"
    start = "pnpm start"
    "#);
    assert_eq!(Spec::parse(PATH, &text).expect("what is written is right"), spec);
    assert_eq!(Spec::default().render(&BTreeMap::new()), "");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let all: Vec<String> = [
        "[tools]\nnode = 22\n",
        "[tools]\n\nnode = \"lts\"\n",
        "[tools]\n\"a b\" = \"1\"\n",
        "[services]\npostgres = 16\n",
        "[services]\npostgres = { verison = \"16\" }\n",
        "[services]\npostgres = { port = 70000 }\n",
        "[service]\npostgres = \"16\"\n",
        "version = 2\n",
        "[run]\ntset = \"x\"\n",
        "[system]\npackages = [\"a\",\n 3]\n",
        "[system]\npkgs = []\n",
        "[env]\n\"A-B\" = \"x\"\n",
        "tools = 3\n",
        "[tools\n",
        "[tools]\na = \"1\"\na = \"2\"\n",
    ]
    .into_iter()
    .map(refused)
    .collect();
    insta::assert_snapshot!(all.join("\n"), @"
    .zagi/env.toml:2: `tools.node` must be a string
    .zagi/env.toml:3: `tools.node`: `lts` is not a version constraint: `lts` is not a version; write it as `22`, `>=20 <23`, `^18 || >=20`, `=1.2.3` or `*`
    .zagi/env.toml:2: `a b` cannot be the name of a tool
    .zagi/env.toml:2: `services.postgres` must be a string
    .zagi/env.toml:2: unknown key `verison` in a service; allowed here: version, port
    .zagi/env.toml:2: `services.postgres.port` must be a number from 1 to 65535
    .zagi/env.toml:1: unknown key `service` in the file; allowed here: version, [tools], [system], [dependencies], [services], [env], [secrets], [run]
    .zagi/env.toml:1: version 2 is not known; this program reads version 1
    .zagi/env.toml:2: unknown key `tset` in [run]; allowed here: test, build, start
    .zagi/env.toml:3: `system.packages` must be an array of package names
    .zagi/env.toml:2: unknown key `pkgs` in [system]; allowed here: packages
    .zagi/env.toml:2: `A-B` cannot be the name of a variable
    .zagi/env.toml:1: `tools` must be a table
    .zagi/env.toml:1: unclosed table, expected `]`
    .zagi/env.toml:3: duplicate key
    ");
}

#[test]
fn nesting_without_end_is_an_error() {
    refused(&format!("a = {}", "[".repeat(100_000)));
    refused(&format!("{}a = 1", "a.".repeat(100_000)));
}
