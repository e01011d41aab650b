//! What the tests need besides the project itself: collected from wherever it is declared,
//! then chosen.
//!
//! What is named for tests is taken. Only where nothing is, what is named for development
//! is: that usually holds the test tools too, among linters and documentation.

use crate::environment::detect::types::Evidence;

/// What a set of requirements is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// Named for tests, or used by what runs them.
    Test,
    /// Named for development.
    Development,
}

impl Tier {
    /// What a group, an extra or a file of that name is for, if for either.
    pub fn of(name: &str) -> Option<Tier> {
        let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
        match name.as_str() {
            "test" | "tests" | "testing" | "unittest" | "unittests" | "unit" | "pytest"
            | "unit-test" | "unit-tests" | "hatch-test" | "test-base" | "tests-base" => {
                Some(Tier::Test)
            }
            "dev" | "develop" | "devel" | "development" => Some(Tier::Development),
            _ => None,
        }
    }
}

/// How a set of requirements is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// An optional dependency of the project.
    Extra(String),
    /// A dependency group.
    Group(String),
    /// A requirements file, by its path in the repository.
    File(String),
    /// The requirements themselves.
    Packages,
}

/// One declared set.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub tier: Tier,
    pub what: What,
    /// As PEP 508 has them.
    pub requirements: Vec<String>,
    pub evidence: Evidence,
}

/// Everything that was declared.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub candidates: Vec<Candidate>,
}

impl Wanted {
    pub fn add(&mut self, tier: Tier, what: What, requirements: Vec<String>, evidence: Evidence) {
        let same = |c: &Candidate| c.what == what && what != What::Packages;
        if let Some(known) = self.candidates.iter_mut().find(|c| same(c)) {
            // What runs the tests says that they need it, whatever its name is.
            if tier == Tier::Test {
                known.tier = Tier::Test;
            }
            known.requirements.extend(requirements);
            return;
        }
        self.candidates.push(Candidate { tier, what, requirements, evidence });
    }

    /// The sets to install.
    pub fn chosen(&self) -> Vec<&Candidate> {
        let of = |tier| self.candidates.iter().filter(move |c| c.tier == tier);
        let tests: Vec<&Candidate> = of(Tier::Test).collect();
        if tests.is_empty() { of(Tier::Development).collect() } else { tests }
    }
}

/// The normalised name (PEP 503) at the start of a requirement.
pub(super) fn package_name(requirement: &str) -> String {
    let end = requirement
        .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .unwrap_or(requirement.len());
    let mut name = String::new();
    for c in requirement[..end].to_ascii_lowercase().chars() {
        let c = if matches!(c, '_' | '.') { '-' } else { c };
        if c != '-' || !name.ends_with('-') {
            name.push(c);
        }
    }
    name
}

/// Whether a text can be given to an installer as a requirement: it begins as a name does
/// and holds nothing left to be substituted.
pub(super) fn is_requirement(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.contains(['{', '}', '\n', '$'])
        && text.len() < 512
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::detect::Strength;

    #[test]
    fn tests_before_development() {
        let evidence =
            Evidence { file: "f".into(), line: 1, text: "t".into(), strength: Strength::Manifest };
        let mut wanted = Wanted::default();
        let dev = What::Group("dev".into());
        wanted.add(Tier::Development, dev.clone(), vec!["ruff".into()], evidence.clone());
        assert_eq!(wanted.chosen().len(), 1);
        let tests = What::Group("tests".into());
        wanted.add(Tier::Test, tests.clone(), vec!["pytest".into()], evidence.clone());
        assert_eq!(wanted.chosen().iter().map(|c| &c.what).collect::<Vec<_>>(), [&tests]);
        wanted.add(Tier::Test, dev, Vec::new(), evidence);
        assert_eq!(wanted.chosen().len(), 2);
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(package_name("Zope.Interface>=5"), "zope-interface");
        assert_eq!(package_name("pytest-cov[x] ; python_version>'3'"), "pytest-cov");
        assert!(!is_requirement("-r x") && !is_requirement("{[base]deps}"));
    }
}
