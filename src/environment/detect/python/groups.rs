//! Dependency groups (PEP 735).

use toml_edit::{Item, Value};

use super::super::survey::Toml;

/// Includes of groups go no deeper.
const DEEPEST_INCLUDE: usize = 8;

/// The requirements of a group and of those that it includes.
pub(super) fn group_requirements(toml: &Toml, group: &str, depth: usize) -> Vec<String> {
    let keys = ["dependency-groups", group];
    let Some(array) = toml.get(&keys).and_then(Item::as_array) else { return Vec::new() };
    let mut listed = Vec::new();
    for value in array {
        match value {
            Value::String(requirement) => listed.push(requirement.value().clone()),
            Value::InlineTable(table) if depth < DEEPEST_INCLUDE => {
                if let Some(included) = table.get("include-group").and_then(Value::as_str) {
                    listed.extend(group_requirements(toml, included, depth + 1));
                }
            }
            _ => {}
        }
    }
    listed
}
