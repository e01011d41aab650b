//! Services as what they are made of: requirements of tools.

use std::collections::BTreeSet;

use super::error::ResolveError;
use crate::context::Context;
use crate::environment::catalog::Catalog;
use crate::environment::detect::{Detected, Requirement, Strength};
use crate::event::Event;

/// The tools behind the services that are asked for.
pub(super) struct Services {
    /// Tools and these, each once.
    pub(super) asked: Vec<Requirement>,
    /// Tools of services that no `env.toml` names: something only shows that they are used.
    guessed: BTreeSet<String>,
}

impl Services {
    /// One that nobody knows is an error if it was written down, else it is said and no more.
    pub(super) fn of(
        ctx: &Context,
        catalog: &Catalog,
        detected: &Detected,
    ) -> Result<Services, ResolveError> {
        for service in detected.services.iter().filter(|s| !catalog.service.contains_key(&s.tool)) {
            let error = ResolveError::UnknownService {
                service: service.tool.clone(),
                evidence: service.evidence.clone(),
                nearest: catalog.nearest(&service.tool),
            };
            if is_written(service) {
                return Err(error);
            }
            ctx.events.emit(Event::Warning(format!("{error}; it is not brought")));
        }
        let tools = tools(catalog, detected);
        let asked = |tool: &str| detected.tools.iter().any(|r| r.tool == tool);
        let guessed = tools.iter().filter(|r| !is_written(r) && !asked(&r.tool));
        let guessed = guessed.map(|r| r.tool.clone()).collect();
        Ok(Services { asked: together(detected.tools.clone(), tools), guessed })
    }

    /// Whether nothing else than a guess asks for `tool`.
    pub(super) fn is_guessed(&self, tool: &str) -> bool {
        self.guessed.contains(tool)
    }
}

/// Every tool that a lock must have for what is detected: those that are asked for, and those
/// of the services that are written down. What is only guessed need not be had.
pub fn requirements(catalog: &Catalog, detected: &Detected) -> Vec<Requirement> {
    let written = tools(catalog, detected).into_iter().filter(is_written);
    together(detected.tools.clone(), written.collect())
}

/// As [`requirements`], with what is guessed.
pub fn all_requirements(catalog: &Catalog, detected: &Detected) -> Vec<Requirement> {
    together(detected.tools.clone(), tools(catalog, detected))
}

fn is_written(service: &Requirement) -> bool {
    service.evidence.iter().any(|e| e.strength >= Strength::Pin)
}

fn tools(catalog: &Catalog, detected: &Detected) -> Vec<Requirement> {
    let tool = |service: &Requirement| {
        let tool = catalog.service.get(&service.tool)?.tool.clone();
        Some(Requirement { tool, ..service.clone() })
    };
    detected.services.iter().filter_map(tool).collect()
}

/// One requirement a tool: where two name it, both hold.
fn together(mut all: Vec<Requirement>, more: Vec<Requirement>) -> Vec<Requirement> {
    for other in more {
        match all.iter_mut().find(|r| r.tool == other.tool) {
            None => all.push(other),
            Some(one) => {
                one.constraint = one.constraint.intersect(&other.constraint);
                one.firm = one.firm.intersect(&other.firm);
                one.pinned |= other.pinned;
                one.evidence.extend(other.evidence);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::environment::detect::Evidence;
    use crate::environment::version::Constraint;

    fn asked(tool: &str, constraint: &str, strength: Strength) -> Requirement {
        let constraint = Constraint::parse(constraint).unwrap();
        let evidence = vec![Evidence { file: "f".into(), line: 1, text: String::new(), strength }];
        let tool = tool.to_owned();
        Requirement { tool, firm: constraint.clone(), constraint, pinned: false, evidence }
    }

    #[test]
    fn a_service_is_its_tool() {
        let catalog = Catalog::load(Path::new("/nonexistent")).unwrap();
        let detected = Detected {
            tools: vec![asked("postgres", ">=15", Strength::Spec)],
            services: vec![
                asked("postgres", "<17", Strength::Spec),
                asked("redis", "7", Strength::Tested),
                asked("no-such-service", "1", Strength::Tested),
            ],
            ..Detected::default()
        };
        let shown = |all: Vec<Requirement>| {
            let all: Vec<String> =
                all.iter().map(|r| format!("{} {}", r.tool, r.constraint)).collect();
            all.join(", ")
        };
        assert_eq!(shown(requirements(&catalog, &detected)), "postgres >=15 <17");
        let all = shown(all_requirements(&catalog, &detected));
        assert_eq!(all, "postgres >=15 <17, redis 7");
    }
}
