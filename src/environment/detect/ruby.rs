//! Ruby: `Gemfile`, its lock file, a gemspec, the pin file.

use super::commands::Purpose;
use super::services;
use super::survey::{Place, Survey, Text};
use super::system::{self, Packages};
use super::types::{Ecosystem, Evidence, Project, Strength};
use super::{names, written};

/// Gems that are published compiled for Linux, and what they need where they are not.
const COMPILED: [(&str, &[&str]); 3] =
    [("nokogiri", &["libxml2", "libxslt"]), ("sqlite3", &["sqlite"]), ("ffi", &["libffi"])];

/// Reads the Ruby project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    pin(survey, place);
    let gemspec = place.files.iter().find(|name| name.ends_with(".gemspec")).cloned();
    let alone = ["config.ru", "Rakefile"].into_iter().find(|name| place.has(name));
    // A Rakefile among the files of something else is only a list of tasks.
    let alone = alone.filter(|_| survey.projects.iter().all(|project| project.root != place.root));
    let manifest = place.has("Gemfile").then(|| "Gemfile".to_owned());
    let Some(name) = manifest.or(gemspec.clone()).or(alone.map(str::to_owned)) else {
        return false;
    };
    let Some(text) = survey.text(&place.path(&name)) else { return false };
    let found = text.evidence(1, "a Ruby project", Strength::Default);
    survey.claims.need("ruby", found.clone());
    for tool in ["cc", "make"] {
        let evidence = Evidence { text: "gems are compiled with it".into(), ..found.clone() };
        survey.claims.need_undated(tool, evidence);
    }
    required(survey, &text);
    let mut gems = gems(survey, &text);
    if let Some(text) = gemspec.and_then(|name| survey.text(&place.path(&name))) {
        required(survey, &text);
        gems.extend(self::gems(survey, &text));
    }
    let mut project = Project::new(Ecosystem::Ruby, &place.root, survey.date);
    project.manifests = place.present(&["Gemfile", "Gemfile.lock", ".ruby-version"]);
    project.lock = place.present(&["Gemfile.lock"]).pop();
    if let Some(text) = project.lock.clone().and_then(|path| survey.text(&path)) {
        gems.extend(locked(survey, &text));
    }
    project.builds_native = true;
    if gems.iter().any(|gem| gem == "execjs") {
        survey.claims.need("node", text.evidence(1, "execjs runs JavaScript", Strength::Default));
    }
    commands(survey, place, &text, &gems);
    survey.projects.push(project);
    true
}

fn pin(survey: &mut Survey<'_>, place: &Place) {
    if let Some(text) =
        place.has(".ruby-version").then(|| survey.text(&place.path(".ruby-version"))).flatten()
    {
        let said = text.text.trim().to_owned();
        let evidence = text.evidence(1, said.clone(), Strength::Pin);
        match said.starts_with(|c: char| c.is_ascii_digit()) || said.starts_with("ruby-") {
            true => names::line(survey, "ruby", &said, evidence),
            false => survey.constrain("ruby", Err(()), evidence),
        }
    }
}

/// `ruby "3.2.2"` of a Gemfile, `required_ruby_version = ">= 2.7"` of a gemspec.
fn required(survey: &mut Survey<'_>, text: &Text) {
    for (line, said) in text.lines() {
        let said = said.trim();
        let exact = said.strip_prefix("ruby ").or(said.strip_prefix("ruby("));
        let ranged = said.split_once(".required_ruby_version").map(|(_, rest)| rest);
        let Some(rest) = exact.or(ranged) else { continue };
        // A file's name stands in some: it is read where it is.
        let strings: Vec<&str> = rest.split(['"', '\'']).skip(1).step_by(2).collect();
        let strings: Vec<&str> = strings
            .into_iter()
            .filter(|s| s.contains(|c: char| c.is_ascii_digit()) && !s.contains('/'))
            .collect();
        if strings.is_empty() || rest.contains("file:") {
            continue;
        }
        let evidence = text.evidence(line, said, Strength::Manifest);
        match strings.as_slice() {
            [one] if one.starts_with(|c: char| c.is_ascii_digit()) && exact.is_some() => {
                let pinned = Evidence { strength: Strength::Pin, ..evidence };
                names::line(survey, "ruby", one, pinned);
            }
            many => {
                let read = written::pessimistic(&many.join(", "));
                survey.constrain("ruby", read.ok_or(()), evidence);
            }
        }
    }
}

/// The names after `gem` and `add_dependency`; what they are built against is taken.
fn gems(survey: &mut Survey<'_>, text: &Text) -> Vec<String> {
    let mut found = Vec::new();
    for (line, said) in text.lines() {
        let said = said.trim();
        let named =
            said.starts_with("gem ") || said.starts_with("gem(") || said.contains("dependency");
        if !named || said.starts_with('#') {
            continue;
        }
        let Some(name) = said.split(['"', '\'']).nth(1) else { continue };
        let evidence = text.evidence(line, name, Strength::Manifest);
        system::package(survey, Packages::Ruby, name, &evidence);
        services::client(survey, name, &evidence);
        found.push(name.to_owned());
    }
    found
}

/// The gems of a lock file: `    pg (1.5.4)`, four spaces in.
fn locked(survey: &mut Survey<'_>, text: &Text) -> Vec<String> {
    let mut found = Vec::new();
    let mut ruby = false;
    for (line, said) in text.lines() {
        if ruby {
            let evidence = text.evidence(line, said.trim(), Strength::Lock);
            names::line(survey, "ruby", said.split('p').next().unwrap_or(said), evidence);
        }
        ruby = said.trim() == "RUBY VERSION";
        let Some(rest) = said.strip_prefix("    ").filter(|rest| !rest.starts_with(' ')) else {
            continue;
        };
        let Some((name, version)) = rest.split_once(" (") else { continue };
        let evidence = text.evidence(line, name, Strength::Lock);
        system::package(survey, Packages::Ruby, name, &evidence);
        if let Some((_, needs)) = COMPILED.iter().find(|(gem, _)| *gem == name) {
            let compiled = format!("    {name} (");
            let for_linux = |line: &str| line.starts_with(&compiled) && line.contains("-linux");
            if !version.contains("-linux") && !text.text.lines().any(for_linux) {
                needs.iter().for_each(|need| system::add(survey, need, evidence.clone()));
            }
        }
        found.push(name.to_owned());
    }
    found
}

fn commands(survey: &mut Survey<'_>, place: &Place, text: &Text, gems: &[String]) {
    let has = |gem: &str| gems.iter().any(|name| name == gem);
    let bundled = place.has("Gemfile");
    let run = |command: &str| match bundled {
        true => format!("bundle exec {command}"),
        false => command.to_owned(),
    };
    let evidence = text.evidence(1, "", Strength::Manifest);
    let rails = has("rails")
        || (place.directories.contains("bin") && survey.exists(&place.path("bin/rails")));
    let rspec = has("rspec") || has("rspec-rails") || place.has(".rspec");
    let test = match (rspec && place.directories.contains("spec"), rails) {
        (true, _) => Some(run("rspec")),
        (_, true) if place.directories.contains("test") => Some("bin/rails test".to_owned()),
        _ if place.has("Rakefile") && place.directories.contains("test") => Some(run("rake test")),
        _ if place.has("Rakefile") && place.directories.contains("spec") => Some(run("rake spec")),
        _ => None,
    };
    if let Some(test) = test {
        survey.commands.add(Purpose::Test, place, &test, evidence.clone());
    }
    let program = ["app.rb", "main.rb", "server.rb"].into_iter().find(|name| place.has(name));
    let start = match (rails, place.has("config.ru"), program) {
        (true, ..) => Some("bin/rails server".to_owned()),
        (_, true, _) => Some(run("rackup")),
        (_, _, Some(program)) => Some(run(&format!("ruby {program}"))),
        _ => None,
    };
    if let Some(start) = start {
        survey.commands.add(Purpose::Start, place, &start, evidence);
    }
}
