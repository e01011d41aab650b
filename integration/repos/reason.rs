//! The line of a log that tells why something failed.

use std::path::Path;

/// Stands for the run's own directory, which is another one every time.
const OWN: &str = "RUN";

/// Words of a line that tells, in small letters. Those of an earlier row count for more.
const TELLING: [&[&str]; 4] = [
    &[
        "modulenotfounderror",
        "no module named",
        "cannot find module",
        "command not found",
        "no such file or directory",
        "fatal error:",
        "undefined reference",
        "error[e",
        "importerror",
    ],
    &["error:", "fatal:", "panicked at", "not found", "cannot ", "could not"],
    &["error ", "--- fail", "not ok"],
    &["failed", "fail", "error", "failing"],
];

/// How long a reason may be.
const LONGEST: usize = 160;

/// The last line that sums up, if there is one, and the first that tells most; the directory
/// `own` is [`OWN`] in them.
pub fn of(log: &str, own: &Path) -> String {
    let log = log.replace(&*own.to_string_lossy(), OWN);
    let lines: Vec<String> = log.lines().map(plain).filter(|line| tells(line)).collect();
    let telling = TELLING.iter().find_map(|words| {
        lines.iter().find(|line| {
            let line = line.to_lowercase();
            words.iter().any(|word| line.contains(word))
        })
    });
    let last = lines.last();
    match (telling, last) {
        (Some(telling), Some(last)) if telling != last => {
            format!("{} … {}", short(telling), short(last))
        }
        (Some(only), _) | (None, Some(only)) => short(only),
        (None, None) => "it said nothing".to_owned(),
    }
}

/// What only says where more is to be read tells nothing.
fn tells(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("hint:") && !line.contains("complete log of this run")
}

fn short(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// Without what colours it, and without what frames it.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        text.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    text.trim_matches(|c: char| c.is_whitespace() || c == '=' || c == '-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runs_own_directory_is_a_word() {
        let long = format!("/own/run/{}", "d/".repeat(75));
        let log = format!(
            "collected 5 items\n\u{1b}[31mImportError: '/own/run/cold/t.py'\u{1b}[0m\n\
             hint: see /own/run/log\nerror: {long}\n"
        );
        let short = format!("error: RUN/{}", "d/".repeat(75));
        assert_eq!(
            of(&log, Path::new("/own/run")),
            format!("ImportError: 'RUN/cold/t.py' … {}…", &short[..LONGEST])
        );
    }

    #[test]
    fn what_tells_most_comes_first() {
        let of = |log| of(log, Path::new("/own/run"));
        assert_eq!(of(""), "it said nothing");
        assert_eq!(of("== 1 failed ==\n"), "1 failed");
        assert_eq!(of("error: b\nfatal error: a.h\nlast\nhint: x\n"), "fatal error: a.h … last");
    }
}
