//! Statements about versions, and what they come to.

use std::collections::{BTreeMap, BTreeSet};

use super::types::{Evidence, Note, Requirement, Strength};
use crate::environment::version::Constraint;

/// Everything that was said about tools.
#[derive(Debug, Default)]
pub(super) struct Claims {
    needed: BTreeSet<String>,
    undated: BTreeSet<String>,
    claims: BTreeMap<String, Vec<Claim>>,
}

#[derive(Debug, Clone)]
struct Claim {
    constraint: Constraint,
    /// Parts of `constraint`, the one that is preferred first; may be empty.
    preferences: Vec<Constraint>,
    evidence: Evidence,
}

impl Claims {
    /// The repository cannot do without `tool`.
    pub fn need(&mut self, tool: &str, evidence: Evidence) {
        self.needed.insert(tool.to_owned());
        self.claim(tool, Constraint::any(), Evidence { strength: Strength::Default, ..evidence });
    }

    /// As [`Claims::need`], where the newest will always do: the tool (an installer, a
    /// compiler driver) need not be as old as the commit.
    pub fn need_undated(&mut self, tool: &str, evidence: Evidence) {
        self.undated.insert(tool.to_owned());
        self.need(tool, evidence);
    }

    /// If `tool` is needed, these versions will do. A pin is a need of its own.
    pub fn claim(&mut self, tool: &str, constraint: Constraint, evidence: Evidence) {
        if evidence.strength >= Strength::Pin {
            self.needed.insert(tool.to_owned());
        }
        self.push(tool, Claim { constraint, preferences: Vec::new(), evidence });
    }

    /// What is usual, the best first: the first of `preferences` that leaves something of all
    /// that is said elsewhere is taken.
    pub fn prefer(&mut self, tool: &str, preferences: Vec<Constraint>, evidence: Evidence) {
        let none = Constraint::none();
        let constraint = preferences.iter().fold(none, |all, one| all.union(one));
        let evidence = Evidence { strength: Strength::Default, ..evidence };
        self.push(tool, Claim { constraint, preferences, evidence });
    }

    fn push(&mut self, tool: &str, claim: Claim) {
        let claims = self.claims.entry(tool.to_owned()).or_default();
        let known = |c: &Claim| c.evidence == claim.evidence && c.constraint == claim.constraint;
        if !claims.iter().any(known) {
            claims.push(claim);
        }
    }

    /// What is known about `tool` so far, intersected; nobody is told of conflicts.
    pub fn so_far(&self, tool: &str) -> Constraint {
        let claims = self.claims.get(tool).cloned().unwrap_or_default();
        settle(tool, claims, false, &mut Vec::new()).constraint
    }

    /// One requirement a tool, and a note for each statement that could not be honoured.
    pub fn settle(self, notes: &mut Vec<Note>) -> Vec<Requirement> {
        let Claims { needed, undated, mut claims } = self;
        let of = |tool: String| {
            let stated = claims.remove(&tool).unwrap_or_default();
            settle(&tool, stated, undated.contains(&tool), notes)
        };
        needed.into_iter().map(of).collect()
    }
}

fn settle(tool: &str, mut claims: Vec<Claim>, undated: bool, notes: &mut Vec<Note>) -> Requirement {
    // Stable: of equal strength, the first that was read comes first.
    claims.sort_by_key(|claim| std::cmp::Reverse(claim.evidence.strength));
    let mut agreed = Agreed { accepted: Vec::new(), constraint: Constraint::any() };
    let spec = claims.iter().any(|claim| claim.evidence.strength == Strength::Spec);
    let firm = claims.iter().filter(|claim| claim.evidence.strength >= Strength::Lock);
    for claim in firm {
        if spec && claim.evidence.strength < Strength::Spec {
            agreed.compare(tool, claim, notes);
        } else {
            agreed.add(tool, claim, notes);
        }
    }
    let firm = agreed.constraint.clone();
    if !spec {
        agreed.narrow_to_tested(&claims);
        agreed.narrow_to_usual(&claims);
    }
    let evidence: Vec<Evidence> = claims.into_iter().map(|claim| claim.evidence).collect();
    let pinned = undated
        || evidence
            .iter()
            .any(|e| matches!(e.strength, Strength::Spec | Strength::Pin | Strength::Lock));
    Requirement { tool: tool.to_owned(), constraint: agreed.constraint, firm, pinned, evidence }
}

struct Agreed {
    accepted: Vec<Claim>,
    constraint: Constraint,
}

impl Agreed {
    fn add(&mut self, tool: &str, claim: &Claim, notes: &mut Vec<Note>) {
        if self.compare(tool, claim, notes) {
            self.constraint = self.constraint.intersect(&claim.constraint);
            self.accepted.push(claim.clone());
        }
    }

    /// Whether `claim` leaves something; if not, a note names it and what it contradicts.
    fn compare(&self, tool: &str, claim: &Claim, notes: &mut Vec<Note>) -> bool {
        if !self.constraint.intersect(&claim.constraint).is_none() {
            return true;
        }
        let disjoint = |other: &&Claim| other.constraint.intersect(&claim.constraint).is_none();
        let stronger: Vec<&Claim> = match self.accepted.iter().find(disjoint) {
            Some(other) => vec![other],
            None => self.accepted.iter().collect(),
        };
        let kept = stronger
            .iter()
            .map(|other| format!("`{}` ({})", other.evidence.text, other.evidence.file))
            .collect::<Vec<_>>()
            .join(" and ");
        let text = format!(
            "no version of {tool} is both {kept} and `{}` ({}); the former is kept",
            claim.evidence.text, claim.evidence.file
        );
        let mut evidence: Vec<Evidence> = stronger.iter().map(|o| o.evidence.clone()).collect();
        evidence.push(claim.evidence.clone());
        notes.push(Note { text, evidence });
        false
    }

    /// What is merely tested is united first, since no statement of that kind excludes
    /// another, and counts only where it leaves something.
    fn narrow_to_tested(&mut self, claims: &[Claim]) {
        let tested = claims.iter().filter(|claim| claim.evidence.strength == Strength::Tested);
        let tested = tested.map(|claim| claim.constraint.clone()).reduce(|a, b| a.union(&b));
        self.narrow(tested.iter());
    }

    fn narrow_to_usual(&mut self, claims: &[Claim]) {
        for claim in claims.iter().filter(|claim| claim.evidence.strength == Strength::Default) {
            self.narrow(claim.preferences.iter());
        }
    }

    /// Takes the first of `preferences` that leaves something.
    fn narrow<'c>(&mut self, preferences: impl Iterator<Item = &'c Constraint>) {
        let mut left = preferences.map(|preference| self.constraint.intersect(preference));
        if let Some(narrower) = left.find(|both| !both.is_none()) {
            self.constraint = narrower;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(statements: &[(&str, Strength)]) -> (Requirement, Vec<String>) {
        let mut claims = Claims::default();
        for (i, (text, strength)) in statements.iter().enumerate() {
            let file = format!("file{i}");
            let evidence = Evidence { file, line: 1, text: (*text).into(), strength: *strength };
            claims.needed.insert("node".into());
            claims.claim("node", Constraint::parse(text).expect("well formed"), evidence);
        }
        let mut notes = Vec::new();
        let requirement = claims.settle(&mut notes).remove(0);
        (requirement, notes.into_iter().map(|note| note.text).collect())
    }

    #[test]
    fn everything_is_intersected() {
        let (node, notes) = settled(&[
            (">=18", Strength::Manifest),
            ("18 || 20", Strength::Tested),
            ("22", Strength::Tested),
        ]);
        assert_eq!(node.constraint.to_string(), "18 || 20 || 22");
        assert_eq!(node.firm.to_string(), ">=18");
        assert!(!node.pinned && notes.is_empty());
    }

    #[test]
    fn a_contradiction_keeps_the_stronger_and_names_both() {
        let (node, notes) = settled(&[
            (">=22", Strength::Manifest),
            ("20", Strength::Pin),
            ("18", Strength::Tested),
        ]);
        assert_eq!(node.constraint.to_string(), "20");
        assert!(node.pinned);
        insta::assert_snapshot!(notes.join("\n"), @"no version of node is both `20` (file1) and `>=22` (file0); the former is kept");
    }

    #[test]
    fn the_best_of_what_is_usual_that_leaves_something() {
        let evidence =
            Evidence { file: "f".into(), line: 1, text: "t".into(), strength: Strength::Manifest };
        let read = |text| Constraint::parse(text).expect("well formed");
        let mut claims = Claims::default();
        claims.need("node", evidence.clone());
        claims.claim("node", read(">=18.2 <24"), evidence.clone());
        claims.prefer("node", ["24", "22", "20"].map(read).into(), evidence);
        let node = claims.settle(&mut Vec::new()).remove(0);
        assert_eq!(node.constraint, read("22"));
        assert_eq!(node.firm, read(">=18.2 <24"));
    }

    #[test]
    fn env_toml_decides_alone() {
        let (node, notes) = settled(&[
            ("22", Strength::Spec),
            ("22.1.0", Strength::Pin),
            ("<20", Strength::Manifest),
            ("24", Strength::Default),
        ]);
        assert_eq!(node.constraint.to_string(), "22");
        assert_eq!(notes.len(), 1);
    }
}
