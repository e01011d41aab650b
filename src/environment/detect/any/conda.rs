//! `environment.yml` of conda: the version of Python, and what else of it is a tool or a
//! library here. (Its Python packages: `python`.)

use super::super::survey::{Place, Survey};
use super::super::types::Strength;
use super::super::{names, system};
use crate::environment::version::Constraint;

/// Names of the file.
const NAMES: [&str; 2] = ["environment.yml", "environment.yaml"];

/// Reads it.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    let Some(name) = NAMES.iter().find(|name| root.has(name)) else { return };
    let Some((text, yaml)) = survey.yaml(name) else { return };
    let Some(dependencies) = yaml.get("dependencies") else { return };
    for item in dependencies.items() {
        let Some(said) = item.str() else { continue };
        let (name, wanted) = split(said);
        let evidence = text.evidence(item.line, said, Strength::Manifest);
        if let Some(tool) = names::tool(survey, name) {
            survey.claims.need(&tool, evidence.clone());
            let read = constraint(wanted);
            survey.constrain(&tool, read.ok_or(()), evidence);
        } else if system::known(name) {
            system::add(survey, name, evidence);
        }
    }
}

/// `conda-forge::numpy=1.2=py_0`, `numpy >=1.2,<2`: the name, and what is said of it.
fn split(said: &str) -> (&str, &str) {
    let said = said.rsplit("::").next().unwrap_or(said).trim();
    let end = said.find([' ', '=', '<', '>', '!', '~', '[']).unwrap_or(said.len());
    (&said[..end], said[end..].trim())
}

/// `=3.11`, `==3.11.2`, `>=3.9,<3.12`, `3.11.*`, `=3.11=h1`.
fn constraint(said: &str) -> Option<Constraint> {
    let said = said.trim();
    if said.is_empty() || said == "*" {
        return Some(Constraint::any());
    }
    if said.starts_with(['<', '>', '!', '~']) || said.starts_with("==") {
        return Constraint::from_pep440(said).ok();
    }
    let number = said.trim_start_matches('=').split('=').next()?;
    let plain = number.trim_end_matches(".*").trim();
    Constraint::from_pep440(&format!("=={plain}.*")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_conda_says() {
        for (said, name, expected) in [
            ("python=3.11", "python", "3.11"),
            ("python >=3.9,<3.12", "python", ">=3.9 <3.12"),
            ("conda-forge::python=3.10.2=h1_0", "python", "3.10.2"),
            ("nodejs", "nodejs", "*"),
            ("python==3.8.1", "python", "3.8.1"),
        ] {
            let (found, wanted) = split(said);
            assert_eq!(found, name);
            let read = Constraint::parse(expected).unwrap();
            let shown = constraint(wanted).unwrap();
            assert!(shown == read || shown.to_string() == format!("={expected}"), "{shown}");
        }
    }
}
