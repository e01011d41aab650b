//! Go and Zig: downloads only, and only where there are dependencies.

use super::{Draft, Step, join};
use crate::environment::detect::Project;
use crate::environment::files::Files;

/// `GOMODCACHE`, relative to the workspace.
const GO_MODULES: &str = ".zagi/go/mod";
/// Zig's global cache, relative to the workspace; its packages are in `p`.
const ZIG_CACHE: &str = ".zagi/zig";

pub(super) fn go(project: &Project, source: &dyn Files) -> Option<Draft> {
    let text = source.read(&join(&project.root, "go.mod"))?;
    let requires = String::from_utf8_lossy(&text).lines().any(|line| {
        line.trim_start().strip_prefix("require").is_some_and(|r| r.starts_with([' ', '(', '\t']))
    });
    let vendored = source.exists(&join(&project.root, "vendor/modules.txt"));
    if !requires || vendored {
        return None;
    }
    let mut draft = Draft { directories: vec![GO_MODULES.into()], ..Draft::default() };
    draft
        .inputs
        .extend(["go.mod", "go.sum", "go.work", "go.work.sum"].map(|n| join(&project.root, n)));
    draft.place("GOMODCACHE", GO_MODULES);
    draft.env("GOTOOLCHAIN", "local");
    // What is captured must be removable again.
    draft.env("GOFLAGS", "-modcacherw");
    draft.steps.push(Step::new(["go", "mod", "download"]));
    Some(draft)
}

pub(super) fn zig(project: &Project, source: &dyn Files) -> Option<Draft> {
    let manifest = join(&project.root, "build.zig.zon");
    let text = source.read(&manifest)?;
    if !zon_has_dependencies(&String::from_utf8_lossy(&text)) {
        return None;
    }
    let mut draft = Draft { directories: vec![join(ZIG_CACHE, "p")], ..Draft::default() };
    draft.inputs.extend([manifest, join(&project.root, "build.zig")]);
    draft.place("ZIG_GLOBAL_CACHE_DIR", ZIG_CACHE);
    draft.steps.push(Step::new(["zig", "build", "--fetch"]));
    Some(draft)
}

/// Whether the struct `.dependencies` of a `build.zig.zon` has a field.
fn zon_has_dependencies(text: &str) -> bool {
    let plain: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
        .collect();
    match plain.split_once(".dependencies=.{") {
        Some((_, rest)) => !rest.starts_with('}'),
        None => false,
    }
}
