//! A row's figures, as programs and people get them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use super::case::Row;
use super::measure::{Effort, Figures, Invalid};

/// A row and its figures, in nanoseconds a packet. An invalid one has none.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Measured {
    /// The case's name.
    pub case: String,
    /// Flows that took turns.
    pub flows: u64,
    /// VIPs.
    pub vips: u32,
    /// Slots of each VIP.
    pub slots: u32,
    /// Backends of each VIP.
    pub backends: u32,
    /// The fastest round, without the wrapper.
    pub net_ns_min: Option<f64>,
    /// The median round, without the wrapper.
    pub net_ns_median: Option<f64>,
    /// The floor's fastest round, without the wrapper.
    pub floor_ns_min: Option<f64>,
    /// The wrapper's fastest round, as it was subtracted.
    pub wrapper_ns_min: Option<f64>,
    /// Rounds.
    pub rounds: u32,
    /// Why the row doesn't count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

impl Measured {
    /// What became of a row.
    pub fn new(row: &Row, effort: Effort, result: Result<Figures, Invalid>) -> Self {
        let rounded = |ns: f64| (ns * 100.0).round() / 100.0;
        let figure = |of: fn(&Figures) -> f64| result.as_ref().ok().map(|figures| rounded(of(figures)));
        Self {
            case: row.case.name.to_owned(),
            flows: row.flows,
            vips: row.vips,
            slots: row.slots,
            backends: row.backends,
            net_ns_min: figure(|figures| figures.net.min),
            net_ns_median: figure(|figures| figures.net.median),
            floor_ns_min: figure(|figures| figures.floor.min),
            wrapper_ns_min: figure(|figures| figures.wrapper.min),
            rounds: effort.rounds,
            invalid: result.err().map(|Invalid(why)| why),
        }
    }

    /// How many times the floor it is, by the fastest rounds.
    pub fn times_floor(&self) -> Option<f64> {
        Some(self.net_ns_min? / self.floor_ns_min?)
    }

    /// Whether it is the same row of another run.
    pub fn is_row_of(&self, other: &Self) -> bool {
        (&self.case, self.flows, self.vips, self.slots, self.backends)
            == (&other.case, other.flows, other.vips, other.slots, other.backends)
    }
}

/// Reads what an earlier run has saved.
pub fn read(path: &Path) -> Result<Vec<Measured>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not a saved run", path.display()))
}

/// Saves a run.
pub fn write(path: &Path, rows: &[Measured]) -> Result<()> {
    fs::write(path, json(rows)?).with_context(|| format!("cannot write {}", path.display()))
}

/// The rows for programs.
pub fn json(rows: &[Measured]) -> Result<String> {
    Ok(serde_json::to_string_pretty(rows)? + "\n")
}

/// A table whose columns but the first are figures.
pub fn table<const N: usize>(header: [&str; N], lines: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table.add_rows(lines);
    for (place, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if place > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

/// A figure with a decimal, or a dash.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

/// The rows for people.
pub fn rendered(rows: &[Measured]) -> String {
    let mut text = table(
        [
            "case", "flows", "VIPs", "slots", "backends", "ns min", "median", "floor", "x floor", "wrapper",
        ],
        rows.iter().map(|row| {
            [
                row.case.clone(),
                count(row.flows),
                row.vips.to_string(),
                row.slots.to_string(),
                row.backends.to_string(),
                figure(row.net_ns_min),
                figure(row.net_ns_median),
                figure(row.floor_ns_min),
                figure(row.times_floor()),
                figure(row.wrapper_ns_min),
            ]
        }),
    );
    for row in rows {
        if let Some(why) = &row.invalid {
            text += &format!("invalid: {} at {} flows: {why}\n", row.case, count(row.flows));
        }
    }
    text
}

/// Flows as people say them.
pub fn count(flows: u64) -> String {
    match flows {
        65_536 => "64 k".to_owned(),
        _ if flows >= 1_000_000 && flows.is_multiple_of(1_000_000) => format!("{} M", flows / 1_000_000),
        _ => flows.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::{BASE, named};
    use super::super::measure::Summary;
    use super::*;

    fn measured() -> Measured {
        let figures = |min: f64| Summary {
            min,
            median: min + 1.0,
        };
        let row = Row::new(*named(BASE).expect("the base is a case"), 65_536);
        Measured::new(
            &row,
            Effort::FULL,
            Ok(Figures {
                net: figures(12.0),
                floor: figures(8.0),
                wrapper: figures(30.0),
            }),
        )
    }

    #[test]
    fn a_row_survives_being_saved() -> Result<()> {
        let rows = vec![measured()];
        let again: Vec<Measured> = serde_json::from_str(&json(&rows)?)?;
        assert_eq!(again, rows);
        Ok(())
    }

    #[test]
    fn people_see_the_multiple_of_the_floor_and_why_a_row_is_invalid() {
        let row = Row::new(*named(BASE).expect("the base is a case"), 1);
        let invalid = Measured::new(&row, Effort::FULL, Err(Invalid("it was dropped".to_owned())));
        assert_eq!(invalid.net_ns_min, None);
        let text = rendered(&[measured(), invalid]);
        let line = text.lines().nth(1).expect("a row");
        assert!(line.starts_with(BASE) && line.contains("64 k"), "{text}");
        assert!(line.contains(" 12.0") && line.contains(" 1.5"), "{text}");
        assert!(text.ends_with("at 1 flows: it was dropped\n"), "{text}");
    }
}
