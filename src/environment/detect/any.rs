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
}
