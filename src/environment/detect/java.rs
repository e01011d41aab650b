//! Java and its like: `pom.xml`, `build.gradle`, their wrappers, `build.sbt`, the pin files.
//!
//! A project that is compiled for release N is compiled by every later JDK, as far as its
//! build tool runs on that; N itself is preferred, then what was long-term at the time.

use super::commands::Purpose;
use super::survey::{Place, Survey, Text};
use super::types::{Ecosystem, Evidence, Project, Strength};
use super::{names, written};
use crate::environment::version::{Constraint, Version};

/// Manifests, and the program that reads each.
const MANIFESTS: [(&str, &str); 5] = [
    ("pom.xml", "maven"),
    ("build.gradle", "gradle"),
    ("build.gradle.kts", "gradle"),
    ("settings.gradle.kts", "gradle"),
    ("build.sbt", "sbt"),
];

/// When each long-term release came out, seconds since the epoch.
const LONG_TERM: [(u64, i64); 5] = [
    (8, 1_395_100_800),
    (11, 1_537_833_600),
    (17, 1_631_577_600),
    (21, 1_695_081_600),
    (25, 1_757_980_800),
];

/// The last Java that each Gradle runs on (docs.gradle.org, compatibility).
const GRADLE: [(&[u64], u64); 15] = [
    (&[9, 1], 25),
    (&[8, 14], 24),
    (&[8, 10], 23),
    (&[8, 8], 22),
    (&[8, 5], 21),
    (&[8, 3], 20),
    (&[7, 6], 19),
    (&[7, 5], 18),
    (&[7, 3], 17),
    (&[7, 0], 16),
    (&[6, 7], 15),
    (&[6, 3], 14),
    (&[5, 4], 12),
    (&[5, 0], 11),
    (&[2, 0], 8),
];

/// Keys of a pom.xml that name the release compiled for, the one in force first.
const RELEASES: [&str; 6] = [
    "maven.compiler.release",
    "java.version",
    "maven.compiler.target",
    "maven.compiler.source",
    "release",
    "source",
];

/// Reads the Java project in `place`, if there is one.
pub(super) fn survey(survey: &mut Survey<'_>, place: &Place) -> bool {
    pins(survey, place);
    let Some((name, tool)) = MANIFESTS.iter().find(|(name, _)| place.has(name)) else {
        return false;
    };
    let Some(text) = survey.text(&place.path(name)) else { return false };
    let found = text.evidence(1, "a Java project", Strength::Default);
    survey.claims.need("java", found.clone());
    let wrapper = match *tool {
        "maven" => "mvnw",
        "gradle" => "gradlew",
        _ => "",
    };
    let wrapped = place.has(wrapper);
    if !wrapped {
        survey.claims.need_undated(tool, found.clone());
    }
    match *tool {
        "maven" => maven(survey, &text),
        "gradle" => gradle(survey, place, &text),
        _ => {}
    }
    let lines = LONG_TERM.iter().rev().filter(|(_, since)| *since <= survey.date);
    let lines: Vec<Constraint> = lines.map(|(number, _)| major(*number)).collect();
    let usual = Evidence {
        text: "the newest long-term release that will do, as of the commit".into(),
        ..found
    };
    survey.claims.prefer("java", lines, usual);
    let mut project = Project::new(Ecosystem::Java, &place.root, survey.date);
    project.manifests = place.present(&MANIFESTS.map(|(name, _)| name));
    commands(survey, place, &text, tool, wrapped);
    survey.projects.push(project);
    true
}

fn major(number: u64) -> Constraint {
    Constraint::prefix(&Version::from_numbers(&[number]))
}

/// `.java-version` (jenv), `.sdkmanrc`, `system.properties` (Heroku).
fn pins(survey: &mut Survey<'_>, place: &Place) {
    for (name, key) in [
        (".java-version", ""),
        (".sdkmanrc", "java="),
        ("system.properties", "java.runtime.version="),
    ] {
        let Some(text) = place.has(name).then(|| survey.text(&place.path(name))).flatten() else {
            continue;
        };
        let said = text.lines().find_map(|(line, said)| {
            let said = said.split('#').next()?.trim();
            let value = said.strip_prefix(key)?.trim();
            (!value.is_empty()).then(|| (line, value.to_owned()))
        });
        if let Some((line, said)) = said {
            names::line(survey, "java", &said, text.evidence(line, said.clone(), Strength::Pin));
        }
    }
}

/// `17`, `1.8`, `JavaVersion.VERSION_17`, `VERSION_1_8`: the release.
fn release(said: &str) -> Option<u64> {
    let said = said.trim().trim_matches(['"', '\'', '(', ')']);
    let said = said.rsplit("VERSION_").next()?.replace('_', ".");
    let version = written::release(&said)?;
    let number = match (version.number(0), version.number(1)) {
        (1, second) if second > 0 => second,
        (first, _) => first,
    };
    (1..100).contains(&number).then_some(number)
}

/// Compiled for `said`: by that release or a later one.
fn compiled_for(survey: &mut Survey<'_>, said: &str, evidence: Evidence) {
    if let Some(number) = release(said) {
        let version = Version::from_numbers(&[number]);
        survey.claims.claim("java", Constraint::at_least(&version), evidence.clone());
        let text = format!("the release that is compiled for is {number}");
        survey.claims.prefer("java", vec![major(number)], Evidence { text, ..evidence });
    }
}

fn maven(survey: &mut Survey<'_>, text: &Text) {
    for key in RELEASES {
        let open = format!("<{key}>");
        let Some(at) = text.text.find(&open) else { continue };
        let rest = &text.text[at + open.len()..];
        let said = rest.split('<').next().unwrap_or("").trim();
        if said.starts_with(|c: char| c.is_ascii_digit()) {
            let evidence =
                text.evidence(text.line_at(at), format!("{key} {said}"), Strength::Manifest);
            compiled_for(survey, said, evidence);
            return;
        }
    }
}

fn gradle(survey: &mut Survey<'_>, place: &Place, text: &Text) {
    for (line, said) in text.lines() {
        let said = said.trim();
        if said.starts_with("//") {
            continue;
        }
        let after = |key: &str| said.split_once(key).map(|(_, rest)| rest);
        // A toolchain is asked for as it stands; what is compiled for is a minimum.
        let exact = after("JavaLanguageVersion.of(").or(after("jvmToolchain("));
        let least = after("sourceCompatibility").or(after("jvmTarget"));
        let evidence = text.evidence(line, said, Strength::Manifest);
        if let Some(number) = exact.and_then(release) {
            survey.claims.claim("java", major(number), evidence);
        } else if let Some(rest) = least {
            compiled_for(
                survey,
                rest.trim_start_matches([' ', '=', '.', 's', 'e', 't', '(']),
                evidence,
            );
        }
    }
    let path = "gradle/wrapper/gradle-wrapper.properties";
    let Some(text) =
        place.directories.contains("gradle").then(|| survey.text(&place.path(path))).flatten()
    else {
        return;
    };
    let found = text.lines().find_map(|(line, said)| {
        let name = said.strip_prefix("distributionUrl")?.rsplit("/gradle-").next()?;
        Some((line, written::release(name)?))
    });
    let Some((line, gradle)) = found else { return };
    let known = GRADLE.iter().find(|(least, _)| gradle >= Version::from_numbers(least));
    if let Some((_, last)) = known {
        let evidence = text.evidence(
            line,
            format!("Gradle {gradle} runs on Java {last} at most"),
            Strength::Manifest,
        );
        let below = Constraint::below(&Version::from_numbers(&[last + 1]));
        survey.claims.claim("java", below, evidence);
    }
}

fn commands(survey: &mut Survey<'_>, place: &Place, text: &Text, tool: &str, wrapped: bool) {
    let program = match (tool, wrapped) {
        ("maven", true) => "./mvnw -B",
        ("maven", false) => "mvn -B",
        ("gradle", true) => "./gradlew",
        ("gradle", false) => "gradle",
        _ => "sbt",
    };
    let build = match tool {
        "maven" => "package -DskipTests",
        "gradle" => "assemble",
        _ => "compile",
    };
    let has = |part: &str| text.text.contains(part);
    let start = match tool {
        "maven" if has("spring-boot-maven-plugin") => Some("spring-boot:run"),
        "maven" if has("quarkus-maven-plugin") => Some("quarkus:dev"),
        "gradle" if has("org.springframework.boot") => Some("bootRun"),
        "gradle" if has("application") && (has("mainClass") || has("mainClassName")) => Some("run"),
        "sbt" => Some("run"),
        _ => None,
    };
    let evidence = text.evidence(1, "", Strength::Manifest);
    survey.commands.add(Purpose::Test, place, &format!("{program} test"), evidence.clone());
    survey.commands.add(Purpose::Build, place, &format!("{program} {build}"), evidence.clone());
    if let Some(start) = start {
        survey.commands.add(Purpose::Start, place, &format!("{program} {start}"), evidence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for (said, expected) in [
            ("17", Some(17)),
            ("'1.8'", Some(8)),
            ("JavaVersion.VERSION_21", Some(21)),
            ("JavaVersion.VERSION_1_8", Some(8)),
            ("${java}", None),
        ] {
            assert_eq!(release(said), expected, "{said}");
        }
    }
}
