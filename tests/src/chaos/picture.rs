//! A picture (SVG 1.1) of a scenario: a line for each held stream, time from left to right. Pure.
//!
//! An answer that took long is drawn from its request on, the longer the redder; a stream that broke has a black
//! mark. Below are the UDP echoes that were lost, of each family. Faults are red lines from top to bottom, returns
//! green ones, all else grey.

use std::fmt::Write as _;
use std::time::Duration;

use super::figures::name_of;
use super::stage::Observed;
use super::timeline::Mark;
use crate::streams::record::{Of, Step};

/// Shorter waits are not drawn.
const DRAWN: Duration = Duration::from_millis(50);
/// The picture's width, of which the left margin is a part, in pixels.
const WIDTH: f64 = 1600.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 60.0;
/// What all streams have together.
const HEIGHT: f64 = 800.0;
/// A family's UDP echo, and the space above.
const ECHO: f64 = 16.0;
const SPACE: f64 = 8.0;
/// About so many times are written below.
const TICKS: f64 = 12.0;

/// Colours of waits, from the length on that they stand for.
const COLOURS: [(Duration, &str, &str); 4] = [
    (Duration::from_millis(1000), "#a50026", "over 1 s"),
    (Duration::from_millis(450), "#f46d43", "over 450 ms"),
    (Duration::from_millis(200), "#74add1", "over 200 ms"),
    (DRAWN, "#c7dcef", "over 50 ms"),
];

/// Draws what was observed.
pub fn svg(title: &str, streams: usize, observed: &Observed) -> String {
    let end = observed.end.as_secs_f64().max(0.001);
    let x = |at: Duration| LEFT + at.as_secs_f64() / end * (WIDTH - LEFT - 10.0);
    let row = HEIGHT / streams.max(1) as f64;
    let y = |place: u32| TOP + f64::from(place) * row;
    let bottom = TOP + HEIGHT + observed.echoes.len() as f64 * (ECHO + SPACE);
    let height = bottom + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"15\">{title}</text>\n"
    );
    legend(&mut svg);
    for event in &observed.events {
        let colour = match event.mark {
            Mark::Fault => "#d73027",
            Mark::Return => "#1a9850",
            Mark::Note => "#bbbbbb",
        };
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"{colour}\" stroke-width=\"0.6\"><title>{:.2} s: {}</title></path>",
            event.at.as_secs_f64(),
            event.what,
            x = x(event.at)
        );
    }
    for (nth, &(least, colour, _)) in COLOURS.iter().enumerate() {
        let below = nth.checked_sub(1).map(|longer| COLOURS[longer].0);
        let mut path = String::new();
        for timed in &observed.entries.timed {
            let fits = timed.took >= least && below.is_none_or(|below| timed.took < below);
            if let Of::Held(place) = timed.of
                && timed.step == Step::Exchange
                && fits
            {
                let _ = write!(
                    path,
                    "M{:.1} {:.1}H{:.1}",
                    x(timed.at),
                    y(place) + row / 2.0,
                    x(timed.at + timed.took)
                );
            }
        }
        stroke(&mut svg, &path, colour, row.max(0.8));
    }
    let mut path = String::new();
    for broken in &observed.entries.broken {
        if let Of::Held(place) = broken.of {
            let (x, y) = (x(broken.at), y(place) + row / 2.0);
            let _ = write!(path, "M{:.1} {y:.1}h4", x - 2.0);
        }
    }
    stroke(&mut svg, &path, "black", row.max(2.0));
    for (nth, (family, echoes)) in observed.echoes.iter().enumerate() {
        let top = TOP + HEIGHT + SPACE + nth as f64 * (ECHO + SPACE);
        let middle = top + ECHO / 2.0;
        let _ = writeln!(
            svg,
            "<text x=\"4\" y=\"{:.1}\">UDP {}</text><path d=\"M{LEFT} {middle}H{}\" stroke=\"#dddddd\"/>",
            middle + 4.0,
            name_of(*family),
            WIDTH - 10.0
        );
        let mut path = String::new();
        for gap in echoes.gaps() {
            let (from, to) = (x(gap.from), x(gap.from + gap.length));
            let _ = write!(path, "M{from:.1} {middle:.1}H{:.1}", to.max(from + 0.5));
        }
        stroke(&mut svg, &path, "black", ECHO);
    }
    let _ = writeln!(svg, "<text x=\"4\" y=\"{}\">streams</text>", TOP + 12.0);
    times(&mut svg, end, bottom, x);
    svg + "</svg>\n"
}

fn stroke(svg: &mut String, path: &str, colour: &str, width: f64) {
    if !path.is_empty() {
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"{width:.1}\" fill=\"none\"/>"
        );
    }
}

fn legend(svg: &mut String) {
    let mut x = LEFT;
    let entries = COLOURS.iter().rev().map(|&(_, colour, what)| (colour, what));
    for (colour, what) in entries.chain([
        ("black", "broken, or lost"),
        ("#d73027", "a fault"),
        ("#1a9850", "a return"),
    ]) {
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"42\">{what}</text>",
            x + 16.0
        );
        x += 120.0;
    }
}

/// Seconds, below.
fn times(svg: &mut String, end: f64, bottom: f64, x: impl Fn(Duration) -> f64) {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0]
        .into_iter()
        .find(|step| end / step <= TICKS)
        .unwrap_or(3600.0);
    let mut at = 0.0;
    while at <= end {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{at:.0} s</text>",
            x(Duration::from_secs_f64(at)),
            bottom + 20.0
        );
        at += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::record::{Broken, Entries, Timed};
    use crate::streams::report::Cause;

    #[test]
    fn a_long_wait_and_a_break_are_drawn_and_a_short_wait_is_not() {
        let exchange = |took| Timed {
            of: Of::Held(3),
            step: Step::Exchange,
            at: Duration::from_secs(1),
            took: Duration::from_millis(took),
        };
        let observed = |timed: Vec<Timed>, broken| Observed {
            entries: Entries { timed, broken },
            echoes: Vec::new(),
            visits: Vec::new(),
            deaths: Vec::new(),
            events: Vec::new(),
            end: Duration::from_secs(10),
            reports: Vec::new(),
            corrupt_at_servers: 0,
            held: 10,
            retransmitted: 0,
        };
        let paths = |observed: &Observed| svg("a title", 10, observed).matches("<path").count();
        assert_eq!(paths(&observed(vec![exchange(10)], Vec::new())), 0);
        assert_eq!(
            paths(&observed(vec![exchange(300), exchange(1500)], Vec::new())),
            2
        );
        let broken = Broken {
            of: Of::Held(3),
            at: Duration::from_secs(2),
            cause: Cause::Reset,
            backend: None,
            local: None,
        };
        assert_eq!(paths(&observed(Vec::new(), vec![broken])), 1);
    }
}
