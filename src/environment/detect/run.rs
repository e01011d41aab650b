//! Targets of make and just, and a Procfile, for what no ecosystem has a command for.

use super::commands::Purpose;
use super::survey::{Place, Survey, Text};
use super::types::Strength;

/// Reads the root's.
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
        // It was written for just that; the others are conventions.
        survey.commands.add_first(Purpose::Start, root, &command, evidence);
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

    #[test]
    fn targets_of_make() {
        let text = "CC := cc\n.PHONY: test\n# test: no\nall check: x\n\ttest: y\ntest::\n";
        let text = Text { path: "Makefile".into(), text: text.into() };
        assert_eq!(target(&text, "test"), Some(6));
        assert_eq!(target(&text, "check"), Some(4));
        assert_eq!(target(&text, "CC"), None);
    }
}
