//! How it is tested, built and started: what each ecosystem says, made one command each.

use std::collections::BTreeMap;

use super::survey::{Place, Survey, Text};
use super::{Evidence, Strength};
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

impl Commands {
    pub fn add(&mut self, purpose: Purpose, place: &Place, text: &str, evidence: Evidence) {
        let evidence = Evidence { text: text.to_owned(), ..evidence };
        let root = place.root.clone();
        self.found.push(Command { purpose, root, text: text.to_owned(), evidence });
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
fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Targets of make and just, and a Procfile, for what no ecosystem has a command for.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    let makefile = ["GNUmakefile", "Makefile", "makefile"].into_iter().find(|name| root.has(name));
    if let Some(text) = makefile.and_then(|name| survey.text(name)) {
        for (purpose, targets) in [
            (Purpose::Test, &["test", "check", "tests"][..]),
            (Purpose::Build, &["build", "all"][..]),
            (Purpose::Start, &["run", "start", "serve"][..]),
        ] {
            if survey.commands.has(purpose) {
                continue;
            }
            if let Some((target, line)) = targets.iter().find_map(|t| Some((t, target(&text, t)?)))
            {
                let evidence = text.evidence(line, format!("{target}:"), Strength::Manifest);
                survey.claims.need_undated("make", evidence.clone());
                survey.commands.add(purpose, root, &format!("make {target}"), evidence);
            }
        }
    }
    if let Some(text) = root.has("Procfile").then(|| survey.text("Procfile")).flatten()
        && let Some((line, command)) = text
            .lines()
            .find_map(|(n, line)| Some((n, line.strip_prefix("web:")?.trim().to_owned())))
    {
        let evidence = text.evidence(line, "web", Strength::Manifest);
        survey.commands.add(Purpose::Start, root, &command, evidence);
        // It was written for just that; the others are conventions.
        survey.commands.found.rotate_right(1);
    }
    let justfile = ["justfile", "Justfile", ".justfile"].into_iter().find(|name| root.has(name));
    if let Some(text) = justfile.and_then(|name| survey.text(name))
        && !survey.commands.has(Purpose::Test)
        && let Some(line) = target(&text, "test")
    {
        let evidence = text.evidence(line, "test:", Strength::Manifest);
        survey.note(
            "the justfile has a recipe `test`, and `just` is not provided yet",
            vec![evidence],
        );
    }
}

/// The line of a rule for `name`: at the margin, before a colon that assigns nothing.
fn target(text: &Text, name: &str) -> Option<u32> {
    text.lines().find_map(|(number, line)| {
        let (targets, after) = line.split_once(':')?;
        let rule = !line.starts_with([' ', '\t', '#', '.']) && !after.starts_with('=');
        (rule && targets.split_whitespace().any(|target| target == name)).then_some(number)
    })
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn targets_of_make() {
        let text = "CC := cc\n.PHONY: test\n# test: no\nall check: x\n\ttest: y\ntest::\n";
        let text = Text { path: "Makefile".into(), text: text.into() };
        assert_eq!(target(&text, "test"), Some(6));
        assert_eq!(target(&text, "check"), Some(4));
        assert_eq!(target(&text, "CC"), None);
    }
}
