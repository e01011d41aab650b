//! What names tools of any ecosystem (mise.toml, .tool-versions, devbox.json, environment.yml),
//! and what a project is tested with: Dockerfiles, devcontainer, compose files, CI workflows.

mod apt;
mod ci;
mod conda;
pub(super) mod devbox;
mod devcontainer;
pub(super) mod docker;
pub(super) mod mise;

use super::survey::{Place, Survey};
use super::types::{Evidence, Strength};

/// Specifications of other programs that are not read.
const FOREIGN: [&str; 1] = ["flake.nix"];

/// Reads all of it, in the repository's root.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    mise::mise(survey, root);
    mise::tool_versions(survey, root);
    devbox::survey(survey, root);
    conda::survey(survey, root);
    docker::survey(survey, root);
    devcontainer::survey(survey, root);
    ci::survey(survey, root);
    apt::survey(survey, root);
    for name in FOREIGN {
        if root.has(name) {
            let evidence = Evidence {
                file: name.to_owned(),
                line: 1,
                text: name.to_owned(),
                strength: Strength::Pin,
            };
            survey.note(format!("`{name}` is not read yet"), vec![evidence]);
        }
    }
}
