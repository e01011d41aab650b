//! PHP: `composer.json`, or an `index.php` alone.

use serde_json::Value as Json;

use super::commands::Purpose;
use super::names;
use super::survey::{Place, Survey};
use super::types::{Ecosystem, Project, Strength};
use crate::environment::version::Constraint;

/// Reads the PHP project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    let alone = survey.projects.iter().all(|project| project.root != place.root);
    let name = ["composer.json", "index.php"].into_iter().find(|name| place.has(name));
    let name = name.filter(|name| alone || *name == "composer.json");
    let Some(text) = name.and_then(|name| survey.head(&place.path(name))) else { return false };
    survey.claims.need("php", text.evidence(1, "a PHP project", Strength::Default));
    let mut project = Project::new(Ecosystem::Php, &place.root, survey.date);
    project.manifests = place.present(&["composer.json", "composer.lock"]);
    project.lock = place.present(&["composer.lock"]).pop();
    survey.projects.push(project);
    let evidence = text.evidence(1, "", Strength::Manifest);
    let start = match (place.has("artisan"), place.directories.contains("public")) {
        (true, _) => "php artisan serve",
        (_, true) => "php -S 127.0.0.1:8000 -t public",
        _ => "php -S 127.0.0.1:8000",
    };
    if place.has("artisan") || place.has("index.php") || place.directories.contains("public") {
        survey.commands.add(Purpose::Start, place, start, evidence);
    }
    if place.has("composer.json") {
        composer(survey, place);
    }
    true
}

fn composer(survey: &mut Survey<'_>, place: &Place) {
    let Some((text, json)) = survey.json(&place.path("composer.json")) else { return };
    let found = text.evidence(1, "a PHP project", Strength::Default);
    survey.claims.need_undated("composer", found);
    if let Some(said) = json["require"]["php"].as_str() {
        let line = text.line_of_key(&["require", "php"]);
        let evidence = text.evidence(line, format!("require.php {said:?}"), Strength::Manifest);
        survey.constrain("php", constraint(said).ok_or(()), evidence);
    }
    if let Some(said) = json.pointer("/config/platform/php").and_then(Json::as_str) {
        let line = text.line_of_key(&["platform", "php"]);
        let evidence = text.evidence(line, format!("config.platform.php {said:?}"), Strength::Pin);
        names::line(survey, "php", said, evidence);
    }
    let line = text.line_of_key(&["scripts", "test"]);
    let evidence = text.evidence(line, "", Strength::Manifest);
    let configured = ["phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml"];
    if !json["scripts"]["test"].is_null() {
        survey.commands.add(Purpose::Test, place, "composer test", evidence);
    } else if place.has("artisan") {
        survey.commands.add(Purpose::Test, place, "php artisan test", evidence);
    } else if configured.iter().any(|name| place.has(name)) {
        survey.commands.add(Purpose::Test, place, "vendor/bin/phpunit", evidence);
    }
}

/// `^8.1`, `>=7.4 <8.3`, `^7.4|^8.0`, `~8.1`, `8.1.*`, `>=7.2,<9`: as npm's, but that one bar
/// is as two, a comma is a space, and `~8.1` goes up to the next major version.
fn constraint(said: &str) -> Option<Constraint> {
    let alternatives = said.replace("||", "|");
    let mut any = Constraint::none();
    for alternative in alternatives.split('|') {
        let parts = alternative.replace(',', " ");
        let parts: Vec<String> = parts
            .split_whitespace()
            .map(|part| match part.strip_prefix('~') {
                Some(number) if number.split('.').count() == 2 => format!("^{number}"),
                _ => part.to_owned(),
            })
            .collect();
        any = any.union(&Constraint::from_npm(&parts.join(" ")).ok()?);
    }
    Some(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_composer_allows() {
        let shown = |said| constraint(said).map(|c| c.to_string());
        for (said, expected) in [
            ("^8.1", Some(">=8.1 <9")),
            ("^7.4|^8.0", Some(">=7.4 <9")),
            ("~8.1", Some(">=8.1 <9")),
            ("~8.1.2", Some(">=8.1.2 <8.2")),
            (">=7.2,<9", Some(">=7.2 <9")),
            ("8.1.*", Some("8.1")),
            ("dev-main", None),
        ] {
            assert_eq!(shown(said).as_deref(), expected, "{said}");
        }
    }
}
