//! How it is tested, built and started: what each ecosystem says, made one command each.

use std::collections::BTreeMap;

use super::place::Place;
use super::types::Evidence;
use crate::environment::spec::Run;

/// What a command is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Test,
    Build,
    Start,
}

/// Commands as they were found.
#[derive(Debug, Default)]
pub(super) struct Commands {
    found: Vec<Command>,
}

#[derive(Debug)]
struct Command {
    purpose: Purpose,
    root: String,
    text: String,
    evidence: Evidence,
}

impl Command {
    fn new(purpose: Purpose, place: &Place, text: &str, evidence: Evidence) -> Command {
        let evidence = Evidence { text: text.to_owned(), ..evidence };
        Command { purpose, root: place.root.clone(), text: text.to_owned(), evidence }
    }
}

impl Commands {
    pub fn add(&mut self, purpose: Purpose, place: &Place, text: &str, evidence: Evidence) {
        self.found.push(Command::new(purpose, place, text, evidence));
    }

    /// Before everything that was found so far.
    pub fn add_first(&mut self, purpose: Purpose, place: &Place, text: &str, evidence: Evidence) {
        self.found.insert(0, Command::new(purpose, place, text, evidence));
    }

    pub fn has(&self, purpose: Purpose) -> bool {
        self.found.iter().any(|command| command.purpose == purpose)
    }

    /// The commands of the root's projects, one after the other; where the root has none,
    /// those of the directories below it. To start, there is only the first.
    pub fn settle(&self) -> (Run, BTreeMap<String, Vec<Evidence>>) {
        let mut evidence = BTreeMap::new();
        let mut of = |key: &str, purpose| {
            let all: Vec<&Command> = self.found.iter().filter(|c| c.purpose == purpose).collect();
            let at_root = all.iter().any(|c| c.root.is_empty());
            let mut chosen: Vec<&Command> =
                all.into_iter().filter(|c| c.root.is_empty() == at_root).collect();
            if purpose == Purpose::Start {
                chosen.truncate(1);
            }
            if !chosen.is_empty() {
                let read = chosen.iter().map(|c| c.evidence.clone()).collect();
                evidence.insert(key.to_owned(), read);
            }
            joined(&chosen)
        };
        let run = Run {
            test: of("test", Purpose::Test),
            build: of("build", Purpose::Build),
            start: of("start", Purpose::Start),
        };
        (run, evidence)
    }
}

/// One command for a shell at the root: all of them, as long as none fails.
fn joined(commands: &[&Command]) -> Option<String> {
    let texts: Vec<String> = match commands {
        [] => return None,
        [only] if !only.root.is_empty() => {
            vec![format!("cd {} && {}", quoted(&only.root), only.text)]
        }
        many => many
            .iter()
            .map(|c| match c.root.is_empty() {
                true => c.text.clone(),
                false => format!("(cd {} && {})", quoted(&c.root), c.text),
            })
            .collect(),
    };
    Some(texts.join(" && "))
}

/// For a shell.
pub(super) fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::Strength;
    use super::*;

    fn settled(commands: &[(&str, &str)]) -> Option<String> {
        let mut all = Commands::default();
        for (root, text) in commands {
            let place = Place {
                root: (*root).into(),
                files: Default::default(),
                directories: Default::default(),
            };
            let evidence = Evidence {
                file: String::new(),
                line: 1,
                text: String::new(),
                strength: Strength::Manifest,
            };
            all.add(Purpose::Test, &place, text, evidence);
        }
        all.settle().0.test
    }

    #[test]
    fn commands_are_joined() {
        assert_eq!(
            settled(&[("", "pytest"), ("", "npm test")]).as_deref(),
            Some("pytest && npm test")
        );
        assert_eq!(settled(&[("web", "npm test"), ("", "pytest")]).as_deref(), Some("pytest"));
        assert_eq!(settled(&[("my app", "npm test")]).as_deref(), Some("cd 'my app' && npm test"));
        assert_eq!(
            settled(&[("a", "pytest"), ("b", "npm test")]).as_deref(),
            Some("(cd a && pytest) && (cd b && npm test)")
        );
        assert_eq!(settled(&[]), None);
    }
}
