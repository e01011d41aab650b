//! Days, and releases that follow a rule.

use serde::Deserialize;

use crate::environment::version::Version;

/// Minor releases at a fixed distance: 1.85 on a day, each next one so many days later.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// One release.
    pub version: Version,
    /// Its day.
    pub date: Day,
    /// Days from one to the next.
    pub days: i64,
}

impl Calendar {
    /// When `version` was or will be released, in seconds since the epoch.
    pub fn date_of(&self, version: &Version) -> i64 {
        let minor = |v: &Version| i64::try_from(v.number(1)).unwrap_or(0);
        let releases = minor(version).saturating_sub(minor(&self.version));
        self.date.0.saturating_add(releases.saturating_mul(self.days * 86_400))
    }
}

/// A day of the calendar, `2025-02-20`, as seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(pub i64);

impl TryFrom<String> for Day {
    type Error = jiff::Error;
    fn try_from(text: String) -> Result<Day, jiff::Error> {
        let date: jiff::civil::Date = text.parse()?;
        Ok(Day(date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_second()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_knows_releases_to_come() {
        let day = |text: &str| Day::try_from(text.to_owned()).unwrap();
        let calendar = Calendar {
            version: Version::parse("1.85").unwrap(),
            date: day("2025-02-20"),
            days: 42,
        };
        let date = |v: &str| calendar.date_of(&Version::parse(v).unwrap());
        assert_eq!(date("1.85.1"), day("2025-02-20").0);
        assert_eq!(date("1.96.1"), day("2026-05-28").0);
        assert_eq!(date("1.63.0"), day("2022-08-11").0);
        assert!(Day::try_from("yesterday".to_owned()).is_err());
    }
}
