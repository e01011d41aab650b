//! Markdown.

use super::place::Place;
use super::rows::Row;
use super::side::Side;
use super::speed::{Cell, Cells};

/// What stands above the rows.
pub fn head(place: &Place, sides: &[Side], about: &str) {
    println!("### As {}\n\n{about}; {}.\n", place.user(), machine());
    println!(
        "| | aim |{}",
        sides.iter().map(|side| format!(" {} |", side.name)).collect::<String>()
    );
    println!("|---|---|{}", "---|".repeat(sides.len()));
}

/// A line a phase: native in milliseconds, the others as ratios; zagi's in bold where it
/// misses the aim.
pub fn row(row: &Row, sides: &[Side], cells: &Cells) {
    for (phase, cells) in row.phases.iter().zip(cells) {
        let native = cells[0].median();
        let shown = cells.iter().zip(sides).map(|(cell, side)| {
            let ratio = cell.median().zip(native).map(|(own, native)| own / native);
            match ratio {
                _ if side.is_native() => format!(" {} |", milliseconds(cell)),
                None => " failed |".to_owned(),
                Some(ratio) if side.is_zagi() && phase.aim.is_some_and(|aim| ratio > aim) => {
                    format!(" **{ratio:.2}×** |")
                }
                Some(ratio) => format!(" {ratio:.2}× |"),
            }
        });
        let aim = phase.aim.map_or(String::new(), |aim| format!("≤ {aim}"));
        println!("| {} | {aim} |{}", phase.name, shown.collect::<String>());
    }
}

fn milliseconds(cell: &Cell) -> String {
    cell.median().map_or("failed".to_owned(), |ms| format!("{ms:.0} ms"))
}

/// Kernel and cores, without the machine's name.
pub fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("Linux {}, {cores} cores", kernel.split('-').next().unwrap_or("").trim())
}
