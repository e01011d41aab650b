//! `zagi agent --pushes`, `--approve`, `--reject`: what agents want to push, and their user's word.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use super::error::CommandError;
use super::output::{confirmed, print, print_json, printable};
use crate::context::Context;
use crate::source::outbox::Lines;
use crate::workspace::agent::push::{self, Shown, Waiting};
use crate::workspace::session;

pub(super) fn list(ctx: &Context, dir: &Path, json: bool) -> Result<ExitCode, CommandError> {
    let all = push::waiting(ctx, dir)?;
    if json {
        print_json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        eprintln!("no push waits for you");
    }
    let mut out = String::new();
    for waiting in &all {
        let Waiting { number, agent, remote, .. } = waiting;
        let what = match &waiting.new {
            Some(new) => short(new),
            None => "deleted",
        };
        let time = jiff::Timestamp::from_second(waiting.time).map(|t| t.to_string());
        let time = time.unwrap_or_default();
        let reference = &waiting.reference;
        out.push_str(&printable(&format!(
            "{number:>3}  {time}  {agent:<10} {reference} to {remote}: {what}\n"
        )));
    }
    print(&out)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn approve(ctx: &Context, dir: &Path, number: u64) -> Result<ExitCode, CommandError> {
    let waiting = find(ctx, dir, number)?;
    let refused =
        |what: &str| CommandError::failed(format!("{} is not pushed: {what}", waiting.reference));
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(refused("there is no terminal to ask at").hint("run it at a terminal"));
    }
    let shown = push::show(ctx, dir, &waiting)?;
    let difference = &shown.difference;
    for (title, lines) in [
        ("", &difference.diff),
        ("commits:", &difference.commits),
        ("files:", &difference.files),
        ("commits that are lost there:", &difference.lost),
    ] {
        if lines.text.is_empty() {
            continue;
        }
        eprintln!("{title}\n{}", printable(&lines.text));
        if lines.more > 0 || lines.cut {
            let more = counted(lines.more, lines);
            eprintln!("… and {more} lines more, which are NOT SHOWN");
        }
    }
    if let Some(command) = difference.command.as_ref().filter(|_| hides(&difference.diff)) {
        eprintln!("\nAll of it: {command}");
    }
    eprintln!("\n{}", printable(&sentence(&waiting, &shown)));
    if !confirmed("push just this?")? {
        return Err(
            refused("you said no").hint(format!("`zagi agent --reject {number}` forgets it"))
        );
    }
    for line in push::approve(ctx, dir, &waiting)? {
        eprintln!("{}", printable(&line));
    }
    if let Some(line) = push::allowing(&waiting) {
        eprintln!("hint: {line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there is more to read than is shown.
fn hides(diff: &Lines) -> bool {
    // What git says of a file that it does not compare, as one that is too large.
    let uncompared = |line: &str| line.starts_with("Binary files ");
    diff.more > 0 || diff.cut || diff.text.lines().any(uncompared)
}

/// A number of lines.
fn counted(number: u64, lines: &Lines) -> String {
    format!("{}{number}", if lines.cut { "more than " } else { "" })
}

/// What is asked for, in a sentence.
fn sentence(waiting: &Waiting, shown: &Shown) -> String {
    let Waiting { agent, reference, remote, old, new, .. } = waiting;
    let (lost, address) = (&shown.difference.lost, &shown.address);
    let number = lost.text.lines().count() as u64 + lost.more;
    let there = format!("{reference} at {remote} ({address})");
    match (old, new) {
        (Some(old), None) => format!("{agent} wants to DELETE {there}, which is at {}", short(old)),
        (None, None) => format!("{agent} wants to DELETE {there}"),
        (None, Some(new)) => format!("{agent} wants to make {there}, at {}", short(new)),
        (Some(_), Some(new)) if number > 0 => {
            let (new, lost) = (short(new), counted(number, lost));
            format!("{agent} wants to FORCE {there} to {new}: what is lost there is {lost} commits")
        }
        (Some(old), Some(new)) => {
            format!("{agent} wants to push {} to {there}, which is at {}", short(new), short(old))
        }
    }
}

pub(super) fn reject(ctx: &Context, dir: &Path, number: u64) -> Result<ExitCode, CommandError> {
    push::reject(ctx, dir, &find(ctx, dir, number)?)?;
    Ok(ExitCode::SUCCESS)
}

fn find(ctx: &Context, dir: &Path, number: u64) -> Result<Waiting, CommandError> {
    if session::is_inside() {
        let error = CommandError::failed("an agent's pushes are approved by its user");
        return Err(error.hint("outside of the agent, at a terminal"));
    }
    let found = push::waiting(ctx, dir)?.into_iter().find(|waiting| waiting.number == number);
    found.ok_or_else(|| {
        CommandError::failed(format!("no push {number} waits"))
            .hint("`zagi agent --pushes` shows those that do")
    })
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
