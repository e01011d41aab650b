//! Progress on standard error: a line a finished step; a bar for what takes over a second,
//! only on a terminal.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::printable;
use crate::event::{Event, Events, Silent};

/// A bar appears only after this long.
const PATIENCE: Duration = Duration::from_millis(800);

/// Draws on standard error, or nowhere.
pub fn events(quiet: bool, verbose: bool) -> Arc<dyn Events> {
    if quiet {
        return Arc::new(Silent);
    }
    let terminal = std::io::stderr().is_terminal();
    Arc::new(Report { bar: Mutex::default(), terminal, verbose })
}

struct Report {
    bar: Mutex<Option<Bar>>,
    terminal: bool,
    verbose: bool,
}

struct Bar {
    step: &'static str,
    since: Instant,
    bar: Option<ProgressBar>,
    /// What was named last, where everything is named.
    named: String,
}

impl Events for Report {
    fn emit(&self, event: Event) {
        let mut current = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Begin { step } => {
                *current =
                    Some(Bar { step, since: Instant::now(), bar: None, named: String::new() });
            }
            Event::Progress { what, done, total } => {
                let Some(bar) = current.as_mut() else { return };
                if self.verbose && bar.named != what {
                    eprintln!("    {}", printable(&what));
                    bar.named.clone_from(&what);
                }
                if self.terminal {
                    bar.draw(&what, done, total);
                }
            }
            Event::End { step, detail, note, took } => {
                clear(current.take());
                let (detail, note) = (printable(&detail), printable(&note));
                eprintln!("  {step:<13} {detail:<46} {note:<18} {:>7}", seconds(took));
            }
            Event::Warning(text) => {
                let text = printable(&text);
                if let Some(Bar { bar: Some(bar), .. }) = &*current {
                    bar.suspend(|| eprintln!("warning: {text}"));
                } else {
                    eprintln!("warning: {text}");
                }
            }
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        clear(self.bar.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn clear(bar: Option<Bar>) {
    if let Some(Bar { bar: Some(bar), .. }) = bar {
        bar.finish_and_clear();
    }
}

impl Bar {
    fn draw(&mut self, what: &str, done: u64, total: Option<u64>) {
        if self.since.elapsed() < PATIENCE {
            return;
        }
        let step = self.step;
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(
                ProgressStyle::with_template("  {prefix:<13} {bar:20} {msg}")
                    .expect("the template is constant")
                    .progress_chars("=> "),
            );
            bar.set_prefix(step);
            bar
        });
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(done);
        bar.set_message(printable(what));
    }
}

/// A duration as the step lines have it.
pub fn seconds(took: Duration) -> String {
    match took.as_millis() {
        0..100 => format!("{:.3} s", took.as_secs_f64()),
        100..10_000 => format!("{:.1} s", took.as_secs_f64()),
        _ => format!("{:.0} s", took.as_secs_f64()),
    }
}
