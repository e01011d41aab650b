//! From what a repository asks for to exactly what it gets.
//!
//! For each tool the sources of the catalogue are asked, tier by tier; of the first tier
//! that has something that will do, the newest version is taken that had been released by
//! the commit's date. Where none had, the date yields to what was asked for: the newest of
//! the oldest line that will do is the nearest. A source that does not answer is passed over, aloud.

use std::collections::BTreeMap;
use std::fmt;

use super::catalog::{self, BinEntry, Catalog, CatalogError, Provider, Source};
use super::detect::{Detected, Evidence, Requirement};
use super::lock::{Bin, Fixups, Lock, Tool};
use super::provider::{self, Offer, ProviderError, World};
use super::version::{Constraint, Version};
use crate::context::Context;
use crate::event::Event;
use crate::registry::http::Client;

/// How many versions an error names as the nearest.
const NEAREST: usize = 4;

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The catalogue cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Nobody knows such a tool.
    #[error("no tool is called `{tool}`{}{}", said_in(.evidence), perhaps(.nearest))]
    UnknownTool {
        /// The name.
        tool: String,
        /// Where it was asked for.
        evidence: Vec<Evidence>,
        /// Names like it.
        nearest: Vec<String>,
    },
    /// The tool exists, and not in any such version.
    #[error("no {tool} matches `{constraint}`{}{}", said_in(.evidence), nearest_are(.nearest))]
    NoVersion {
        /// The tool.
        tool: String,
        /// What was asked for.
        constraint: Constraint,
        /// Where.
        evidence: Vec<Evidence>,
        /// The versions nearest to it, ascending.
        nearest: Vec<Version>,
    },
    /// No source of the tool answered.
    #[error("{tool} cannot be had: {}", Reasons(.reasons))]
    Unreachable {
        /// The tool.
        tool: String,
        /// What each source said.
        reasons: Vec<ProviderError>,
    },
    /// The catalogue has no source of it for this machine.
    #[error("{tool} cannot be had for {platform}")]
    Platform {
        /// The tool.
        tool: String,
        /// The machine.
        platform: String,
    },
    /// A source said something that must not be passed over.
    #[error("{tool}: {source}")]
    Refused {
        /// The tool.
        tool: String,
        /// What is wrong.
        source: Box<ProviderError>,
    },
}

impl ResolveError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ResolveError::NoVersion { tool, nearest, constraint, .. } => {
                let above = |v: &&Version| constraint.lowest().is_some_and(|low| *v >= low);
                let version = nearest.iter().find(above).or(nearest.last())?;
                Some(format!("ask for {tool} {version} in .zagi/env.toml"))
            }
            ResolveError::UnknownTool { .. } => {
                Some("$ZAGI_HOME/catalog.toml may say where a tool comes from".into())
            }
            _ => None,
        }
    }
}

fn said_in(evidence: &[Evidence]) -> String {
    match evidence.first() {
        Some(first) => format!(" ({}:{})", first.file, first.line),
        None => String::new(),
    }
}

fn perhaps(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there is {}", names.join(", ")),
    }
}

fn nearest_are(versions: &[Version]) -> String {
    let all: Vec<String> = versions.iter().map(Version::to_string).collect();
    match all.len() {
        0 => String::new(),
        1 => format!("; the nearest is {}", all[0]),
        _ => format!("; the nearest are {}", all.join(", ")),
    }
}

struct Reasons<'a>(&'a [ProviderError]);

impl fmt::Display for Reasons<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, reason) in self.0.iter().enumerate() {
            write!(f, "{}{reason}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Decides every tool of `detected`, and the tools that those need, for this machine.
/// `date` is the commit's, in seconds since the epoch.
pub fn resolve(
    ctx: &Context,
    client: &Client,
    detected: &Detected,
    date: i64,
) -> Result<Lock, ResolveError> {
    let catalog = Catalog::load(&ctx.home.root().join("catalog.toml"))?;
    let world = World::new(ctx, client, &catalog);
    let mut done: Vec<(Tool, Version, Option<Version>)> = Vec::new();
    for mut requirement in wanted(&catalog, detected)? {
        let tool = &catalog.tool[&requirement.tool];
        if requirement.constraint.is_any() {
            for suits in &tool.suits {
                let other = done.iter().find(|(t, _, _)| t.name == suits.tool);
                if other.is_some_and(|(_, version, _)| suits.when.matches(version)) {
                    requirement.constraint = suits.take.clone();
                }
            }
        }
        let oldest = done.iter().filter_map(|(_, _, libc)| libc.as_ref()).min();
        let libc = oldest.filter(|_| tool.oldest_libc && requirement.constraint.is_any());
        let mut search = Search::new(&world, &requirement, tool, date, libc);
        let (source, offer, parts) = search.run()?;
        let libc = libc_of(&catalog, source)?;
        let version = offer.version.clone();
        done.push((build(&world, &requirement.tool, source, &offer, parts)?, version, libc));
    }
    Ok(Lock::new(done.into_iter().map(|(tool, _, _)| tool).collect()))
}

/// The requirements and what they need, each after those that its choice depends on.
fn wanted(catalog: &Catalog, detected: &Detected) -> Result<Vec<Requirement>, ResolveError> {
    let mut all: BTreeMap<String, Requirement> =
        detected.tools.iter().map(|r| (r.tool.clone(), r.clone())).collect();
    let mut queue: Vec<String> = all.keys().cloned().collect();
    while let Some(name) = queue.pop() {
        let Some(tool) = catalog.tool.get(&name) else {
            let evidence = all.remove(&name).map(|r| r.evidence).unwrap_or_default();
            let nearest = catalog.nearest(&name);
            return Err(ResolveError::UnknownTool { tool: name, evidence, nearest });
        };
        for need in &tool.needs {
            if !all.contains_key(need) {
                all.insert(need.clone(), unasked(need));
                queue.push(need.clone());
            }
        }
    }
    let mut ordered: Vec<Requirement> = all.into_values().collect();
    ordered.sort_by_key(|r| {
        let tool = &catalog.tool[&r.tool];
        (tool.oldest_libc, !tool.suits.is_empty(), r.tool.clone())
    });
    Ok(ordered)
}

fn unasked(tool: &str) -> Requirement {
    Requirement {
        tool: tool.to_owned(),
        constraint: Constraint::any(),
        firm: Constraint::any(),
        pinned: false,
        evidence: Vec::new(),
    }
}

fn libc_of(catalog: &Catalog, source: &Source) -> Result<Option<Version>, CatalogError> {
    let Some(pool) = &source.pool else { return Ok(None) };
    let libc = catalog.pool(pool)?.libc.as_deref();
    Ok(libc.and_then(|text| Version::parse(text).ok()))
}

type Parts = (Vec<super::lock::Part>, Vec<super::lock::Adopted>);

/// The lock's entry for one decision.
fn build(
    world: &World<'_>,
    name: &str,
    source: &Source,
    offer: &Offer,
    (parts, adopted): Parts,
) -> Result<Tool, ResolveError> {
    // A path in a package may hold the registry's version, which counts repackagings.
    let published = match parts.as_slice() {
        [only] => only.version.clone(),
        _ => offer.version.to_string(),
    };
    let words = world.words_for(source).with("version", &published);
    let mut fixups = match &source.pool {
        Some(pool) => world.catalog.pool(pool)?.fixups.clone(),
        None => Fixups::default(),
    };
    fixups.extend(source.fixups.clone());
    if let (Some(elf), Some(libc)) = (&mut fixups.elf, libc_of(world.catalog, source)?) {
        elf.libc = Some(libc.to_string());
    }
    let bin = |entry: &BinEntry| match entry {
        BinEntry::Path(path) => {
            Bin { path: words.expand(path), with: None, shim: false, prefer: None }
        }
        BinEntry::Full(bin) => Bin { path: words.expand(&bin.path), ..bin.clone() },
    };
    let host = source.provider == Provider::Host;
    if host {
        let from: Vec<String> = adopted.iter().map(|a| a.path.display().to_string()).collect();
        world.ctx.events.emit(Event::Warning(format!(
            "{name} {} is this machine's own ({}): its hash is recorded, and the lock holds \
             here only",
            offer.version,
            from.join(", "),
        )));
    }
    let bins = source.bins.iter().filter(|_| !host);
    Ok(Tool {
        name: name.to_owned(),
        version: offer.version.to_string(),
        platform: world.ctx.platform.to_string(),
        provider: source.provider.name().to_owned(),
        bins: bins.map(|(name, entry)| (words.expand(name), bin(entry))).collect(),
        env: words.expand_map(&source.env),
        fixups: words.expand_fixups(&fixups),
        adopted,
        parts,
    })
}

/// The search for one tool.
struct Search<'a> {
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
    fn new(
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
            here && !own.zip(libc).is_some_and(|(own, limit)| own > *limit)
        };
        let sources: Vec<&Source> = tool.source.iter().filter(fits).collect();
        let said = vec![None; sources.len()];
        Search { world, requirement, tool, date, sources, said, reasons: Vec::new() }
    }

    fn run(&mut self) -> Result<(&'a Source, Offer, Parts), ResolveError> {
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
            for late in [false, true] {
                let found = self.fitting(tier, wanted, late)?;
                let best = match late {
                    // Newest; of equals the source that is preferred, and of that the
                    // latest packaging.
                    false => found.into_iter().max_by(|(a, x), (b, y)| {
                        (x.version.cmp(&y.version))
                            .then_with(|| b.cmp(a))
                            .then_with(|| x.published.cmp(&y.published))
                    }),
                    true => found
                        .into_iter()
                        .min_by(|(a, x), (b, y)| x.version.cmp(&y.version).then_with(|| a.cmp(b))),
                };
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
                let in_time = released.is_none_or(|when| when <= self.date);
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

    fn by_rule(&self, version: &Version) -> Option<i64> {
        Some(self.tool.calendar.as_ref()?.date_of(version))
    }

    fn in_time(&self, offer: &Offer) -> bool {
        let published = offer.published.or_else(|| self.by_rule(&offer.version));
        !self.dated() || published.is_none_or(|when| when <= self.date)
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

    #[test]
    fn a_calendar_knows_releases_to_come() {
        let day = |text: &str| catalog::Day::try_from(text.to_owned()).unwrap();
        let calendar = catalog::Calendar {
            version: Version::parse("1.85").unwrap(),
            date: day("2025-02-20"),
            days: 42,
        };
        let date = |v: &str| calendar.date_of(&Version::parse(v).unwrap());
        assert_eq!(date("1.85.1"), day("2025-02-20").0);
        assert_eq!(date("1.96.1"), day("2026-05-28").0);
        assert_eq!(date("1.63.0"), day("2022-08-11").0);
    }
}
