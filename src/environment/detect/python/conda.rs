//! The Python packages of conda's `environment.yml`, where no other manifest names any: its
//! `pip` section, and what PyPI has under the same name.

use super::super::survey::Survey;
use super::super::system;
use super::super::types::Strength;
use super::Python;
use super::wanted::{Tier, What, is_requirement};

/// Reads it.
pub(super) fn survey(survey: &mut Survey<'_>, python: &mut Python<'_>) {
    let names = ["environment.yml", "environment.yaml"];
    let Some(name) = names.into_iter().find(|name| python.place.has(name)) else { return };
    let other = ["pyproject.toml", "setup.py", "requirements.txt", "Pipfile"];
    if other.iter().any(|name| python.place.has(name)) {
        return;
    }
    let path = python.place.path(name);
    let Some((text, yaml)) = survey.yaml(&path) else { return };
    let mut requirements = Vec::new();
    for item in yaml.get("dependencies").map_or(&[][..], |all| all.items()) {
        match (item.str(), item.get("pip")) {
            (Some(said), _) => requirements.extend(requirement(said)),
            (None, Some(pip)) => {
                let named = pip.items().iter().filter_map(|item| item.str());
                requirements.extend(named.filter(|r| is_requirement(r)).map(str::to_owned));
            }
            (None, None) => {}
        }
    }
    python.inputs.insert(path);
    if !requirements.is_empty() {
        let evidence = text.evidence(1, name, Strength::Manifest);
        python.wanted.add(Tier::Test, What::Packages, requirements, evidence);
    }
}

/// `conda-forge::numpy=1.26`, `pandas >=2,<3`, as PEP 508 has it; nothing for what PyPI may
/// not have under that name.
fn requirement(said: &str) -> Option<String> {
    let said = said.rsplit("::").next().unwrap_or(said).trim();
    let end = said.find([' ', '=', '<', '>', '!', '~', '[']).unwrap_or(said.len());
    let (name, wanted) = said.split_at(end);
    let name = system::python_of_conda(name)?;
    let wanted = wanted.trim();
    let compared = wanted.starts_with(['<', '>', '!', '~']) || wanted.starts_with("==");
    Some(match wanted.trim_start_matches('=').split('=').next() {
        _ if compared => format!("{name}{}", wanted.replace(' ', "")),
        Some(number) if !number.is_empty() => {
            format!("{name}=={}.*", number.trim_end_matches(".*"))
        }
        _ => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_of_conda() {
        for (said, expected) in [
            ("conda-forge::numpy=1.26", Some("numpy==1.26.*")),
            ("pandas >=2,<3", Some("pandas>=2,<3")),
            ("scipy=1.11.*=py_0", Some("scipy==1.11.*")),
            ("pytorch", Some("torch")),
            ("libgdal", None),
            ("python=3.11", None),
        ] {
            assert_eq!(requirement(said).as_deref(), expected, "{said}");
        }
    }
}
