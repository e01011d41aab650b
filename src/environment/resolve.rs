//! From what a repository asks for to exactly what it gets.
//!
//! For each tool the sources of the catalogue are asked, tier by tier; of the first tier
//! that has something that will do, the newest version is taken that had been released by
//! the commit's date. Where none had, the date yields to what was asked for: the newest of
//! the oldest line that will do is the nearest. A source that does not answer is passed over, aloud.

mod error;
mod search;
mod services;

use std::collections::BTreeMap;

use self::search::{Parts, Search, libc_of};
use self::services::Services;
use super::catalog::{BinEntry, Catalog, Provider, Source};
use super::detect::{Detected, Requirement, Strength};
use super::flake;
use super::lock::{Bin, Fixups, Lock, Tool};
use super::provider::{self, Offer, World};
use super::system::{self, SystemError};
use super::version::Version;
use crate::context::Context;
use crate::event::Event;
use crate::registry::http::Client;

pub use self::error::ResolveError;
pub use self::services::{all_requirements, requirements};

/// A tool with its version, and the version of the C library that it comes with.
type Decided = (Tool, Version, Option<Version>);

/// Decides every tool of `detected`, and the tools that those need, for this machine.
/// `date` is the commit's, in seconds since the epoch. What `kept` has stays as it is there, where
/// it will do: nobody is asked for it.
pub fn resolve(
    ctx: &Context,
    client: &Client,
    detected: &Detected,
    date: i64,
    kept: &Lock,
) -> Result<Lock, ResolveError> {
    let catalog = Catalog::load(&ctx.home.root().join("catalog.toml"))?;
    let world = World::new(ctx, client, &catalog);
    let mut done: Vec<Decided> = Vec::new();
    let kept = kept.platform(&ctx.platform);
    let flake = detected.flake.as_ref().and_then(|flake| flake::locked(&kept, flake));
    let services = Services::of(ctx, &catalog, detected)?;
    for mut requirement in wanted(&catalog, detected, &services, flake)? {
        if let Some(found) = kept_for(&kept, &requirement) {
            done.push(found);
            continue;
        }
        let tool = &catalog.tool[&requirement.tool];
        for suits in &tool.suits {
            let other = done.iter().find(|(t, _, _)| t.name == suits.tool);
            let suited = requirement.constraint.intersect(&suits.take);
            // As far as what the project asks for leaves a choice.
            if other.is_some_and(|(_, version, _)| suits.when.matches(version)) && !suited.is_none()
            {
                requirement.constraint = suited;
            }
        }
        let oldest = done.iter().filter_map(|(_, _, libc)| libc.as_ref()).min();
        let libc = oldest.filter(|_| tool.oldest_libc && requirement.constraint.is_any());
        let mut search = Search::new(&world, &requirement, tool, date, libc);
        let (source, offer, parts) = match search.run() {
            // Nobody has written it down as a need: the rest works without.
            Err(e) if services.is_guessed(&requirement.tool) => {
                let text = format!("{e}; `[services]` of .zagi/env.toml may say what will do");
                ctx.events.emit(Event::Warning(text));
                continue;
            }
            found => found?,
        };
        let libc = libc_of(&catalog, source)?;
        let version = offer.version.clone();
        done.push((build(&world, &requirement.tool, source, &offer, parts)?, version, libc));
    }
    let system = system(&world, detected, &kept, &done, flake.is_some())?;
    let tools = done.into_iter().map(|(tool, _, _)| tool);
    Ok(Lock::new(tools.chain(system).chain(flake.cloned()).collect()))
}

/// Whether a flake brings what is asked for. What `env.toml` names is decided all the same.
pub fn is_answered(flake: &Tool, requirement: &Requirement) -> bool {
    let written = requirement.evidence.iter().any(|e| e.strength == Strength::Spec);
    !written && flake.answers.contains(&requirement.tool)
}

/// The tree of the system packages, beside the tools that are `done`. One that only looks
/// needed and cannot be had is left out, aloud; where there is a flake, so are all of those.
fn system(
    world: &World<'_>,
    detected: &Detected,
    kept: &[&Tool],
    done: &[Decided],
    has_flake: bool,
) -> Result<Option<Tool>, ResolveError> {
    let mut names = system::settled(&detected.spec.system);
    names.retain(|name| !has_flake || !detected.is_guessed(name));
    let will_do = |tool: &&&Tool| {
        tool.name == system::NAME
            && tool.asked.iter().all(|name| names.contains(name))
            && names.iter().all(|name| tool.asked.contains(name) || detected.is_guessed(name))
    };
    if let Some(found) = kept.iter().find(will_do).filter(|_| !names.is_empty()) {
        return Ok(Some(Tool::clone(found)));
    }
    let libc = done.iter().filter_map(|(_, _, libc)| libc.as_ref()).min();
    while !names.is_empty() {
        let error = match system::decide(world, &names, libc) {
            Ok(tool) => return Ok(Some(tool)),
            Err(error) => error,
        };
        let unknown = match &error {
            SystemError::Unknown { name, .. } => names.iter().position(|n| n == name),
            _ => None,
        };
        let left_out = match unknown {
            Some(at) if detected.is_guessed(&names[at]) => vec![names.remove(at)],
            None if names.iter().all(|name| detected.is_guessed(name)) => {
                std::mem::take(&mut names)
            }
            _ => return Err(error.into()),
        };
        let text = format!("{error}; done without {}", left_out.join(", "));
        world.ctx.events.emit(Event::Warning(text));
    }
    Ok(None)
}

/// What was decided before and will still do, with its version and its C library's.
fn kept_for(kept: &[&Tool], requirement: &Requirement) -> Option<Decided> {
    let tool = *kept.iter().find(|tool| tool.name == requirement.tool)?;
    let version = Version::parse(&tool.version).ok()?;
    let libc = tool.fixups.elf.as_ref().and_then(|elf| elf.libc.as_ref());
    let libc = libc.and_then(|libc| Version::parse(libc).ok());
    requirement.constraint.matches(&version).then(|| (tool.clone(), version, libc))
}

/// The requirements and what they need, each after those that its choice depends on; without
/// what the flake brings.
fn wanted(
    catalog: &Catalog,
    detected: &Detected,
    services: &Services,
    flake: Option<&Tool>,
) -> Result<Vec<Requirement>, ResolveError> {
    let is_wanted = |r: &Requirement| !flake.is_some_and(|flake| is_answered(flake, r));
    let asked = services.asked.iter().filter(|r| is_wanted(r));
    let mut all: BTreeMap<String, Requirement> =
        asked.map(|r| (r.tool.clone(), r.clone())).collect();
    let mut system = detected.spec.system.iter();
    if system.any(|name| flake.is_none() || !detected.is_guessed(name)) {
        for need in catalog.system.needs.iter().map(|need| Requirement::any(need)) {
            if is_wanted(&need) {
                all.entry(need.tool.clone()).or_insert(need);
            }
        }
    }
    let mut queue: Vec<String> = all.keys().cloned().collect();
    while let Some(name) = queue.pop() {
        let Some(tool) = catalog.tool.get(&name) else {
            let evidence = all.remove(&name).map(|r| r.evidence).unwrap_or_default();
            let nearest = catalog.nearest(&name);
            return Err(ResolveError::UnknownTool { tool: name, evidence, nearest });
        };
        for need in &tool.needs {
            let need = Requirement::any(need);
            if !all.contains_key(&need.tool) && is_wanted(&need) {
                queue.push(need.tool.clone());
                all.insert(need.tool.clone(), need);
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
    let mut words = world.words_for(source).with("version", &published);
    if let (Provider::Nix, Some(own)) = (source.provider, parts.first()) {
        words = words.with("out", &format!("nix/store/{}", own.name));
    }
    if source.version.is_none() {
        let numbers = offer.version.numbers();
        let line = world.catalog.tool[name].line.unwrap_or(1).min(numbers.len());
        words = words.with("line", &Version::from_numbers(&numbers[..line]).to_string());
    }
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
        channel: provider::release(world, source),
        bins: bins.map(|(name, entry)| (words.expand(name), bin(entry))).collect(),
        env: words.expand_map(&source.env),
        fixups: words.expand_fixups(&fixups),
        asked: Vec::new(),
        path: Vec::new(),
        answers: Vec::new(),
        programs: BTreeMap::new(),
        adopted,
        parts,
    })
}
