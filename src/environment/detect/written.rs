//! How others write versions, what they allow of them, and images.

use crate::environment::version::{Constraint, Version};

/// `temurin-21.0.2+13.0.LTS`, `openjdk8`, `ruby-3.3.0`, `1.7.4-otp-25`, `v5`, `8.x`: the first
/// number in it.
pub(super) fn release(said: &str) -> Option<Version> {
    let at = said.find(|c: char| c.is_ascii_digit())?;
    let number: String =
        said[at..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    Version::parse(number.trim_end_matches('.')).ok()
}

/// What Ruby and Elixir write: `~> 3.2, >= 3.2.1`, `~> 1.14 or ~> 2.0`, `3.2.2`.
pub(super) fn pessimistic(said: &str) -> Option<Constraint> {
    let mut any = Constraint::none();
    for alternative in said.split(" or ") {
        let mut all = Constraint::any();
        for part in alternative.split([',', '&']).flat_map(|part| part.split(" and ")) {
            let part = part.trim().trim_matches(['"', '\'', '[', ']']).trim();
            let at = part.find(|c: char| c.is_ascii_digit())?;
            let (operator, number) = part.split_at(at);
            let version = Version::parse(number.trim()).ok()?;
            all = all.intersect(&match operator.trim() {
                "~>" => within(&version, number.split('.').count()),
                ">=" => Constraint::at_least(&version),
                "<" => Constraint::below(&version),
                ">" | "<=" | "!=" => Constraint::from_pep440(part).ok()?,
                "" | "=" | "==" => Constraint::prefix(&version),
                _ => return None,
            });
        }
        any = any.union(&all);
    }
    Some(any)
}

/// At least `version`, of which all `components` but the last stay.
fn within(version: &Version, components: usize) -> Constraint {
    let mut next: Vec<u64> =
        (0..components.saturating_sub(1).max(1)).map(|i| version.number(i)).collect();
    if let Some(last) = next.last_mut() {
        *last = last.saturating_add(1);
    }
    Constraint::at_least(version).intersect(&Constraint::below(&Version::from_numbers(&next)))
}

/// An image's name without registry and owner, and its tag.
pub(super) fn split(image: &str) -> (&str, &str) {
    let image = image.split('@').next().unwrap_or(image);
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    };
    (name.rsplit('/').next().unwrap_or(name), tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_others_write_them() {
        let shown = |said| release(said).map(|v| v.to_string());
        for (said, expected) in [
            ("temurin-21.0.2+13.0.LTS", Some("21.0.2")),
            ("openjdk8", Some("8")),
            ("ruby-3.3.0", Some("3.3.0")),
            ("1.7.4-otp-25", Some("1.7.4")),
            ("8.x", Some("8")),
            ("head", None),
        ] {
            assert_eq!(shown(said).as_deref(), expected, "{said}");
        }
    }

    #[test]
    fn what_ruby_and_elixir_allow() {
        let shown = |said| pessimistic(said).map(|c| c.to_string());
        for (said, expected) in [
            ("~> 3.2", Some(">=3.2 <4")),
            ("~> 3.2.1", Some(">=3.2.1 <3.3")),
            (">= 2.7, < 4", Some(">=2.7 <4")),
            ("~> 1.14 or ~> 3.0", Some(">=1.14 <2 || 3")),
            ("3.2.2", Some("3.2.2")),
            ("file", None),
        ] {
            assert_eq!(shown(said).as_deref(), expected, "{said}");
        }
    }

    #[test]
    fn names_of_images() {
        assert_eq!(split("localhost:5000/a/postgres"), ("postgres", ""));
        assert_eq!(split("docker.io/library/redis:7-alpine@sha256:00"), ("redis", "7-alpine"));
    }
}
