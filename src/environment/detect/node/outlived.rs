//! Packages that newer releases of node have outlived, which their own `engines` could not know.

use super::super::Strength;
use super::super::survey::Survey;
use super::Package;
use crate::environment::version::{Constraint, Version};

/// A package, the first version of it that works again (`""`: none does), and the first node on
/// which those before do not. They reach into what is node's own, are compiled against an interface
/// that is gone, or hash by what OpenSSL no longer has.
const OUTLIVED: [(&str, &str, u64); 13] = [
    ("esm", "", 22),
    // It loads tests by the former.
    ("tap", "15", 22),
    ("fibers", "", 16),
    ("grpc", "", 15),
    ("gulp", "4", 12),
    ("webpack", "5.61", 17),
    ("node-sass", "4.14", 14),
    ("node-sass", "5", 15),
    ("node-sass", "6", 16),
    ("node-sass", "7", 17),
    ("node-sass", "8", 19),
    ("node-sass", "9", 20),
    ("node-sass", "", 21),
];

/// Rather has a node on which everything works, where something else leaves the choice.
pub(super) fn survey(survey: &mut Survey<'_>, package: &Package<'_>) {
    for (name, range) in package.dependencies() {
        let Ok(range) = Constraint::from_npm(&range) else { continue };
        let fits = |(outlived, again, _): &&(&str, &str, u64)| {
            let again = Version::parse(again).ok();
            let works = again.map_or(Constraint::none(), |again| Constraint::at_least(&again));
            name == *outlived && range.intersect(&works).is_none()
        };
        let Some((_, _, node)) = OUTLIVED.iter().find(fits) else { continue };
        let kind = ["dependencies", "devDependencies", "optionalDependencies"]
            .into_iter()
            .find(|kind| package.json[kind][&name].is_string())
            .unwrap_or("dependencies");
        let said = format!("{name} does not work on node {node} and later");
        let evidence = package.evidence(&[kind, &name], said, Strength::Default);
        let before = Constraint::below(&Version::from_numbers(&[*node]));
        survey.claims.prefer("node", vec![before], evidence);
    }
}
