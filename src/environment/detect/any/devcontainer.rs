//! `devcontainer.json`: the image, the features. JSON with comments.

use super::super::names;
use super::super::survey::{Place, Survey};
use super::super::types::Strength;
use super::{apt, docker};

/// Reads it.
pub(super) fn survey(survey: &mut Survey<'_>, root: &Place) {
    let path = match root.has(".devcontainer.json") {
        true => ".devcontainer.json",
        false if root.directories.contains(".devcontainer") => ".devcontainer/devcontainer.json",
        false => return,
    };
    let Some((text, json)) = survey.json_with_comments(path) else { return };
    if let Some(image) = json["image"].as_str() {
        let line = text.line_of_key(&["image"]);
        docker::image(
            survey,
            image,
            text.evidence(line, format!("image {image}"), Strength::Tested),
        );
    }
    let features = json["features"].as_object();
    for (feature, options) in features.into_iter().flatten() {
        let line = text.line_of_key(&["features", feature]);
        let name = feature.rsplit('/').next().unwrap_or(feature);
        let name = name.split(':').next().unwrap_or(name);
        if name == "apt-packages" {
            for package in options["packages"].as_str().unwrap_or_default().split([',', ' ']) {
                let evidence = text.evidence(line, format!("feature {package}"), Strength::Tested);
                apt::package(survey, package, evidence);
            }
            continue;
        }
        let said = options["version"].as_str().or(options.as_str()).unwrap_or_default();
        let said = said.trim();
        if let Some(tool) = names::tool(survey, name)
            && let Some(constraint) = names::constraint(survey.date, &tool, said)
            && !constraint.is_any()
        {
            let line = line.max(text.line_of_key(&["features", feature, "version"]));
            let evidence = text.evidence(line, format!("feature {tool} {said}"), Strength::Tested);
            survey.claims.claim(&tool, constraint, evidence);
        }
    }
}
