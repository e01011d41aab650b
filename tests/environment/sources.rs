//! Which of several sources a tool is taken from.

use std::time::{Duration, Instant};

use super::{NPM, asked, catalogue, lock_of, x_and_y};
use crate::support::NOW;

#[test]
fn of_a_source_only_the_versions_that_it_is_for() {
    let (_files, _server, _machine, ctx) = x_and_y();
    let sources = r#"[tool.z]
[[tool.z.source]]
provider = "npm"
package = "x"
versions = "<2"
bins = { old = "bin/x" }
[[tool.z.source]]
provider = "npm"
package = "y"
versions = ">=6"
bins = { new = "bin/x" }
"#;
    catalogue(&ctx, &format!("{NPM}{sources}"));
    let taken = |constraint: &str| {
        let lock = lock_of(&ctx, vec![asked("z", constraint)], NOW).expect("there is one");
        let tool = &lock.tools[0];
        (tool.version.clone(), tool.bins.keys().cloned().collect::<Vec<String>>())
    };
    assert_eq!(taken("*"), ("6.0.0".into(), vec!["new".into()]));
    assert_eq!(taken("<6"), ("1.1.1".into(), vec!["old".into()]), "neither x 2.0.0 nor y 5.1.0");
    lock_of(&ctx, vec![asked("z", "2 || 5")], NOW).expect_err("what is there is another thing");
}

#[test]
fn a_source_that_does_not_answer_is_passed_over_in_seconds_and_aloud() {
    let (_files, server, machine, ctx) = x_and_y();
    // Packets to this network go nowhere (RFC 5737).
    let elsewhere = r#"[suite.gone]
address = "http://192.0.2.1/debian"
suite = "gone"
keyring = "ours"
[keyring.ours]
file = "archive.asc"
[pool.gone]
suites = [["gone"]]
[tool.z]
[[tool.z.source]]
provider = "debian"
pool = "gone"
package = "z"
bins = { z = "usr/bin/z" }
[[tool.z.source]]
provider = "npm"
package = "missing"
bins = { z = "bin/z" }
[[tool.z.source]]
provider = "npm"
package = "x"
bins = { z = "bin/x" }
"#;
    catalogue(&ctx, &format!("{NPM}{elsewhere}"));
    let began = Instant::now();
    let lock = lock_of(&ctx, vec![asked("z", "*")], NOW).expect("the third source has it");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(lock.tools[0].provider, "npm");
    assert!(lock.tools[0].parts[0].url.starts_with(&server.base));
    let said = machine.events.warnings();
    for source in ["z from debian is passed over", "z from npm is passed over"] {
        assert!(said.iter().any(|w| w.contains(source)), "{said:?}");
    }
}
