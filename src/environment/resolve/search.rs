//! The search for one tool: which source, which version.

use super::error::{ResolveError, said_in};
use crate::environment::catalog::{self, Catalog, CatalogError, Source};
use crate::environment::detect::Requirement;
use crate::environment::lock::{Adopted, Part};
use crate::environment::provider::{self, Offer, ProviderError, World};
use crate::environment::version::{Constraint, Version};
use crate::event::Event;

/// How many versions an error names as the nearest.
const NEAREST: usize = 4;

/// The files of a decision, and what it adopts from this machine.
pub(super) type Parts = (Vec<Part>, Vec<Adopted>);

/// The version of the C library that comes with what a source has.
pub(super) fn libc_of(catalog: &Catalog, source: &Source) -> Result<Option<Version>, CatalogError> {
    let Some(pool) = &source.pool else { return Ok(None) };
    let libc = catalog.pool(pool)?.libc.as_deref();
    Ok(libc.and_then(|text| Version::parse(text).ok()))
}

/// The search for one tool.
pub(super) struct Search<'a> {
    world: &'a World<'a>,
    requirement: &'a Requirement,
    tool: &'a catalog::Tool,
    date: i64,
    /// Sources that are for this machine, in the catalogue's order.
    sources: Vec<&'a Source>,
    /// What each said, once asked; nothing where it was passed over.
    said: Vec<Option<Vec<Offer>>>,
    reasons: Vec<ProviderError>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        world: &'a World<'a>,
        requirement: &'a Requirement,
        tool: &'a catalog::Tool,
        date: i64,
        libc: Option<&Version>,
    ) -> Search<'a> {
        let platform = world.ctx.platform.to_string();
        let fits = |source: &&Source| {
            let here = source.platforms.is_empty() || source.platforms.contains(&platform);
            let own = libc_of(world.catalog, source).ok().flatten();
            here && own.zip(libc).is_none_or(|(own, limit)| own <= *limit)
        };
        let sources: Vec<&Source> = tool.source.iter().filter(fits).collect();
        let said = vec![None; sources.len()];
        Search { world, requirement, tool, date, sources, said, reasons: Vec::new() }
    }

    pub(super) fn run(&mut self) -> Result<(&'a Source, Offer, Parts), ResolveError> {
        if self.sources.is_empty() {
            let platform = self.world.ctx.platform.to_string();
            return Err(ResolveError::Platform { tool: self.requirement.tool.clone(), platform });
        }
        loop {
            let (n, offer) = self.decide()?;
            match provider::parts(self.world, self.sources[n], &offer) {
                Ok(parts) => return Ok((self.sources[n], offer, parts)),
                Err(e) => self.pass_over(n, e)?,
            }
        }
    }

    fn decide(&mut self) -> Result<(usize, Offer), ResolveError> {
        let requirement = self.requirement;
        if let Some(found) = self.best(&requirement.constraint)? {
            return Ok(found);
        }
        let asked = format!("`{}`{}", requirement.constraint, said_in(&requirement.evidence));
        if requirement.firm != requirement.constraint
            && let Some(found) = self.best(&requirement.firm)?
        {
            self.warn(format!(
                "no {} matches {asked}; {} is what must hold, and {} is taken",
                requirement.tool, requirement.firm, found.1.version
            ));
            return Ok(found);
        }
        let all = self.all()?;
        let newest =
            all.iter().max_by(|(a, x), (b, y)| x.version.cmp(&y.version).then_with(|| b.cmp(a)));
        if let Some((n, offer)) = newest
            && self.tool.tolerant
            && requirement.firm.lowest().is_some_and(|minimum| *minimum > offer.version)
        {
            self.warn(format!(
                "no {} matches {asked}; {} is the newest that can be had, and is tried",
                requirement.tool, offer.version
            ));
            return Ok((*n, offer.clone()));
        }
        let tool = requirement.tool.clone();
        if all.is_empty() && !self.reasons.is_empty() {
            return Err(ResolveError::Unreachable {
                tool,
                reasons: std::mem::take(&mut self.reasons),
            });
        }
        let mut versions: Vec<Version> = all.into_iter().map(|(_, o)| o.version).collect();
        versions.sort();
        versions.dedup();
        Err(ResolveError::NoVersion {
            tool,
            nearest: nearest(versions, requirement.constraint.lowest()),
            constraint: requirement.constraint.clone(),
            evidence: requirement.evidence.clone(),
        })
    }

    /// The best offer of the first tier that has one.
    fn best(&mut self, wanted: &Constraint) -> Result<Option<(usize, Offer)>, ResolveError> {
        let mut tiers: Vec<u32> = self.sources.iter().map(|s| s.tier).collect();
        tiers.sort_unstable();
        tiers.dedup();
        for tier in tiers {
            // Of what has a calendar, what was current is rather taken a little too new.
            let rather_new = self.tool.calendar.is_some();
            for late in [rather_new, !rather_new] {
                let found = self.fitting(tier, wanted, late)?;
                let line = |offer: &Offer| {
                    let numbers = offer.version.numbers();
                    numbers[..self.tool.line.unwrap_or(1).min(numbers.len())].to_vec()
                };
                let oldest = found.iter().map(|(_, offer)| line(offer)).min();
                let near = found.into_iter().filter(|(_, o)| !late || Some(line(o)) == oldest);
                // Newest; of equals the source that is preferred, and of that the latest
                // packaging.
                let best = near.max_by(|(a, x), (b, y)| {
                    (x.version.cmp(&y.version))
                        .then_with(|| b.cmp(a))
                        .then_with(|| x.published.cmp(&y.published))
                });
                if best.is_some() {
                    return Ok(best);
                }
            }
        }
        Ok(None)
    }

    /// What a tier has that was released by the date, or `late`, after it. Where a source's
    /// line of versions is known, it is asked only if that could matter.
    fn fitting(
        &mut self,
        tier: u32,
        wanted: &Constraint,
        late: bool,
    ) -> Result<Vec<(usize, Offer)>, ResolveError> {
        let mut order: Vec<usize> =
            (0..self.sources.len()).filter(|n| self.sources[*n].tier == tier).collect();
        // Known lines last, the newest of them first.
        order.sort_by(|a, b| {
            let line = |n: &usize| self.sources[*n].version.clone();
            (line(a).is_some().cmp(&line(b).is_some())).then_with(|| line(b).cmp(&line(a)))
        });
        if late {
            order.reverse();
        }
        let mut found: Vec<(usize, Offer)> = Vec::new();
        for n in order {
            let source = self.sources[n];
            if let Some(line) = &source.version {
                let possible = !Constraint::prefix(line).intersect(wanted).is_none();
                let released = source.since.map(|day| day.0).or_else(|| self.by_rule(line));
                let in_time = released.is_none_or(|when| when <= self.until());
                let enough = !found.is_empty()
                    && (late || found.iter().any(|(_, offer)| offer.version > *line));
                if !possible || enough || (self.dated() && in_time == late) {
                    continue;
                }
            }
            for offer in self.offers(n)? {
                if wanted.matches(&offer.version) && self.in_time(&offer) != late {
                    found.push((n, offer));
                }
            }
        }
        Ok(found)
    }

    fn dated(&self) -> bool {
        self.tool.dated != Some(false)
    }

    /// What was released by then is older than what was current at the date, where that is
    /// known; else, what was there at the date.
    fn until(&self) -> i64 {
        match &self.tool.calendar {
            Some(calendar) => self.date.saturating_sub(calendar.days.saturating_mul(86_400)),
            None => self.date,
        }
    }

    fn by_rule(&self, version: &Version) -> Option<i64> {
        Some(self.tool.calendar.as_ref()?.date_of(version))
    }

    fn in_time(&self, offer: &Offer) -> bool {
        let published = offer.published.or_else(|| self.by_rule(&offer.version));
        !self.dated() || published.is_none_or(|when| when <= self.until())
    }

    /// Every version of every source.
    fn all(&mut self) -> Result<Vec<(usize, Offer)>, ResolveError> {
        let mut all = Vec::new();
        for n in 0..self.sources.len() {
            all.extend(self.offers(n)?.into_iter().map(|offer| (n, offer)));
        }
        Ok(all.into_iter().filter(|(_, o)| !o.version.is_prerelease()).collect())
    }

    fn offers(&mut self, n: usize) -> Result<Vec<Offer>, ResolveError> {
        if let Some(said) = &self.said[n] {
            return Ok(said.clone());
        }
        match provider::offers(self.world, self.sources[n]) {
            Ok(offers) => {
                self.said[n] = Some(offers.clone());
                Ok(offers)
            }
            Err(e) => {
                self.pass_over(n, e)?;
                Ok(Vec::new())
            }
        }
    }

    fn pass_over(&mut self, n: usize, error: ProviderError) -> Result<(), ResolveError> {
        let tool = self.requirement.tool.clone();
        if !error.may_pass_over() {
            return Err(ResolveError::Refused { tool, source: Box::new(error) });
        }
        let provider = self.sources[n].provider.name();
        self.warn(format!("{tool} from {provider} is passed over: {error}"));
        self.said[n] = Some(Vec::new());
        self.reasons.push(error);
        Ok(())
    }

    fn warn(&self, text: String) {
        self.world.ctx.events.emit(Event::Warning(text));
    }
}

/// Some versions on both sides of `wanted`; the newest where nothing is known about it.
fn nearest(versions: Vec<Version>, wanted: Option<&Version>) -> Vec<Version> {
    let at = match wanted {
        Some(wanted) => versions.partition_point(|v| v < wanted),
        None => versions.len(),
    };
    let above = (versions.len() - at).min(NEAREST / 2);
    let from = at.saturating_sub(NEAREST - above);
    versions.into_iter().skip(from).take(NEAREST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(texts: &[&str]) -> Vec<Version> {
        texts.iter().map(|t| Version::parse(t).unwrap()).collect()
    }

    #[test]
    fn the_nearest_stand_on_both_sides() {
        let all = versions(&["1", "2", "3", "5", "6", "7"]);
        let near = |wanted: Option<&str>| {
            let wanted = wanted.map(|w| Version::parse(w).unwrap());
            nearest(all.clone(), wanted.as_ref())
        };
        assert_eq!(near(Some("4")), versions(&["2", "3", "5", "6"]));
        assert_eq!(near(Some("9")), versions(&["3", "5", "6", "7"]));
        assert_eq!(near(Some("0")), versions(&["1", "2", "3", "5"]));
        assert_eq!(near(None), versions(&["3", "5", "6", "7"]));
    }
}
