//! Scatter plots of accuracy against speed, as self-contained SVG.
//!
//! The SVG is written by hand: no plotting crate keeps the labels of neighbouring points from overlapping.

use std::fmt::Write as _;

use repvgg_train::curves::{Axis, Escaped, document};

/// A point of the chart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlottedNetwork {
    /// The label next to the point.
    pub(crate) label: String,
    /// Images per second, positive.
    pub(crate) speed: f64,
    /// The lowest and the highest speed.
    pub(crate) range: [f64; 2],
    /// ImageNet top-1 in percent.
    pub(crate) top1: f64,
    /// Whether the network is drawn in the highlight colour.
    pub(crate) is_highlighted: bool,
}

/// A scatter plot.
#[derive(Debug, Clone)]
pub(crate) struct Chart {
    /// The heading.
    pub(crate) title: String,
    /// The label of the speed axis.
    pub(crate) speed: String,
    /// The networks.
    pub(crate) points: Vec<PlottedNetwork>,
}

const SIZE: [f64; 2] = [860.0, 540.0];
/// The edges of the plot.
const LEFT: f64 = 66.0;
const RIGHT: f64 = 836.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 476.0;
/// The approximate width of a letter in regular and in bold type, and the height of a line.
const LETTER: [f64; 2] = [6.5, 8.0];
const LINE: f64 = 13.0;
/// The radius of a point.
const RADIUS: f64 = 4.5;

// Okabe and Ito's palette, with vermilion darkened until its text is readable on white.
const HIGHLIGHTED: &str = "#c24f00";
const OTHER: &str = "#0072b2";

/// Draws the chart.
///
/// # Panics
/// When there are no points, or a speed is not positive.
pub(crate) fn svg(chart: &Chart) -> String {
    let speeds = chart.points.iter().flat_map(|point| point.range.into_iter().chain([point.speed]));
    let speeds = Axis::of_ratios(speeds, [LEFT, RIGHT]);
    let accuracies = Axis::of_values(chart.points.iter().map(|point| point.top1), [BOTTOM, TOP], 8.0);
    let places: Vec<[f64; 2]> =
        chart.points.iter().map(|point| [speeds.at(point.speed), accuracies.at(point.top1)]).collect();
    let mut grid = String::new();
    for (x, text) in speeds.ticks() {
        let below = BOTTOM + 18.0;
        let _ = writeln!(
            grid,
            r##"<path d="M{x:.1} {TOP}V{BOTTOM}" stroke="#eee"/><text x="{x:.1}" y="{below}" text-anchor="middle">{text}</text>"##
        );
    }
    for (y, text) in accuracies.ticks() {
        let (end, middle) = (LEFT - 8.0, y + 4.0);
        let _ = writeln!(
            grid,
            r##"<path d="M{LEFT} {y:.1}H{RIGHT}" stroke="#ddd"/><text x="{end}" y="{middle:.1}" text-anchor="end">{text}</text>"##
        );
    }
    // The area of the line from the lowest to the highest speed.
    let spread = |(point, [_, y]): (&PlottedNetwork, &[f64; 2])| {
        let [from, to] = point.range.map(|speed| speeds.at(speed));
        [from, y - 2.0, to, y + 2.0]
    };
    let spreads: Vec<Area> = chart.points.iter().zip(&places).map(spread).collect();
    let placed = || chart.points.iter().zip(&places);
    let marks: String = placed().zip(&spreads).map(|((point, place), spread)| mark(point, *place, spread)).collect();
    let labels: String = labels(placed().collect(), spreads);
    let (title, speed) = (Escaped(&chart.title), Escaped(&chart.speed));
    let (legend, middle) = (legend(&chart.points), (LEFT + RIGHT) / 2.0);
    let (below, centre) = (BOTTOM + 42.0, (TOP + BOTTOM) / 2.0);
    let content = format!(
        r##"<text x="{LEFT}" y="30" font-size="16" font-weight="600" fill="#111">{title}</text>
{legend}
{grid}<path d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}" fill="none" stroke="#888"/>
<text x="{middle}" y="{below}" text-anchor="middle">{speed}</text>
<text transform="translate(18 {centre}) rotate(-90)" text-anchor="middle">ImageNet top-1 (%), the paper's</text>
{marks}{labels}"##
    );
    document(&chart.title, SIZE, &content)
}

fn colour(point: &PlottedNetwork) -> &'static str {
    if point.is_highlighted { HIGHLIGHTED } else { OTHER }
}

/// A point with a tooltip, and a line over the spread of its speeds.
fn mark(point: &PlottedNetwork, [x, y]: [f64; 2], [from, _, to, _]: &Area) -> String {
    let PlottedNetwork { label, speed, top1, .. } = point;
    let (colour, label) = (colour(point), Escaped(label));
    format!(
        r#"<g fill="{colour}"><title>{label}: {top1} %, {speed:.2} images/s</title><path d="M{from:.1} {y:.1}H{to:.1}" stroke="{colour}" stroke-width="2"/><circle cx="{x:.1}" cy="{y:.1}" r="{RADIUS}"/></g>
"#
    )
}

/// A rectangle: left, top, right, bottom.
type Area = [f64; 4];

/// The width of a point's label.
fn width(point: &PlottedNetwork) -> f64 {
    point.label.chars().count() as f64 * LETTER[usize::from(point.is_highlighted)]
}

/// Places each label next to its point, where it overlaps points, spreads and earlier labels the least.
fn labels(points: Vec<(&PlottedNetwork, &[f64; 2])>, spreads: Vec<Area>) -> String {
    let room = RADIUS + 1.0;
    let mut taken = spreads;
    taken.extend(points.iter().map(|(_, [x, y])| [x - room, y - room, x + room, y + room]));
    let mut text = String::new();
    for (point, place) in points {
        let covered = |area: &Area| taken.iter().map(|other| overlap(area, other)).sum::<f64>() + outside(area);
        let areas = around(*place, width(point)).into_iter();
        let best = areas.min_by(|a, b| covered(a).total_cmp(&covered(b))).expect("there are candidate places");
        let ([left, _, _, bottom], weight) = (best, if point.is_highlighted { 600 } else { 400 });
        let (y, label, colour) = (bottom - 3.0, Escaped(&point.label), colour(point));
        let _ = writeln!(
            text,
            r#"<text x="{left:.1}" y="{y:.1}" fill="{colour}" font-size="11" font-weight="{weight}">{label}</text>"#
        );
        taken.push(best);
    }
    text
}

/// The candidate places of a label, the preferred one first.
fn around([x, y]: [f64; 2], width: f64) -> Vec<Area> {
    let gap = RADIUS + 2.0;
    let beside = [x + gap, x - gap - width];
    let above_below = [x - width / 2.0, x - width + gap, x - gap];
    let mut areas: Vec<Area> =
        beside.iter().map(|&left| [left, y - LINE / 2.0, left + width, y + LINE / 2.0]).collect();
    for distance in [gap, gap + LINE, gap + 2.0 * LINE] {
        for left in above_below.into_iter().chain(beside) {
            areas.push([left, y - distance - LINE, left + width, y - distance]);
            areas.push([left, y + distance, left + width, y + distance + LINE]);
        }
    }
    areas
}

fn overlap(a: &Area, b: &Area) -> f64 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    side(0, 2) * side(1, 3)
}

/// The part of an area that is outside the plot.
fn outside(area: &Area) -> f64 {
    let total = (area[2] - area[0]) * (area[3] - area[1]);
    total - overlap(area, &[LEFT, TOP - LINE, SIZE[0], BOTTOM])
}

/// The legend of the colours in the chart.
fn legend(points: &[PlottedNetwork]) -> String {
    let colours = [(true, HIGHLIGHTED, "RepVGG"), (false, OTHER, "baselines")];
    let present = colours
        .iter()
        .filter(|(is_highlighted, ..)| points.iter().any(|point| point.is_highlighted == *is_highlighted));
    let entry = |(index, (_, colour, name)): (usize, &(bool, &str, &str))| {
        let x = LEFT + 5.0 + 85.0 * index as f64;
        let text = x + 12.0;
        format!(r#"<circle cx="{x}" cy="54" r="{RADIUS}" fill="{colour}"/><text x="{text}" y="58">{name}</text>"#)
    };
    present.enumerate().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(label: &str, speed: f64, top1: f64) -> PlottedNetwork {
        PlottedNetwork {
            label: label.to_owned(),
            speed,
            range: [speed * 0.9, speed * 1.1],
            top1,
            is_highlighted: label.contains("Rep"),
        }
    }

    fn chart(points: Vec<PlottedNetwork>) -> Chart {
        Chart { title: "a < b".to_owned(), speed: "images & seconds".to_owned(), points }
    }

    /// The `(x, y)` of each point's circle.
    fn circles(picture: &str) -> Vec<(f64, f64)> {
        let number = |text: &str, name: &str| -> f64 {
            let rest = text.split_once(&format!("{name}=\"")).unwrap().1;
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let lines = picture.lines().filter(|line| line.starts_with("<g "));
        lines
            .map(|line| line.split_once("<circle ").unwrap().1)
            .map(|circle| (number(circle, "cx"), number(circle, "cy")))
            .collect()
    }

    #[test]
    fn points_are_placed_by_speed_and_accuracy() {
        let picture = svg(&chart(vec![
            point("RepVGG-A0", 3256.0, 72.41),
            point("ResNet-18", 2442.0, 71.16),
            point("B", 100.0, 75.0),
        ]));
        let places = circles(&picture);
        assert_eq!(places.len(), 3);
        assert!(places[0].0 > places[1].0 && places[1].0 > places[2].0, "faster is to the right: {places:?}");
        assert!(places[2].1 < places[0].1 && places[0].1 < places[1].1, "better is higher: {places:?}");
        assert!(places.iter().all(|(x, y)| (LEFT..=RIGHT).contains(x) && (TOP..=BOTTOM).contains(y)), "{places:?}");
        let ratio = (places[0].0 - places[1].0) / (places[1].0 - places[2].0);
        assert!(
            (ratio / ((3256f64 / 2442.0).ln() / 24.42f64.ln()) - 1.0).abs() < 0.01,
            "equal ratios have equal lengths"
        );
        assert!(picture.contains("RepVGG-A0: 72.41 %, 3256.00 images/s") && picture.matches(HIGHLIGHTED).count() > 3);
    }

    #[test]
    fn texts_are_escaped() {
        let picture = svg(&chart(vec![point("<x>", 10.0, 70.0)]));
        assert!(
            picture.contains("a &lt; b") && picture.contains("images &amp; seconds") && picture.contains("&lt;x&gt;")
        );
        assert!(!picture.contains("<x>"));
    }

    #[test]
    fn labels_do_not_overlap_labels_points_and_spreads() {
        let points: Vec<PlottedNetwork> =
            (0..8).map(f64::from).map(|n| point("RepVGG-B1g4", 100.0 + 30.0 * n, 76.0 + 0.3 * n)).collect();
        let picture = svg(&chart(points.clone()));
        let at = |line: &str, name: &str| -> f64 {
            let rest = line.split_once(&format!(" {name}=\"")).unwrap().1;
            rest.split_once('"').unwrap().0.parse().unwrap()
        };
        let area = |line: &str| {
            let [left, bottom] = [at(line, "x"), at(line, "y") + 3.0];
            [left, bottom - LINE, left + width(&points[0]), bottom]
        };
        let names: Vec<Area> = picture.lines().filter(|line| line.ends_with(">RepVGG-B1g4</text>")).map(area).collect();
        let circles = circles(&picture);
        assert_eq!((names.len(), circles.len()), (8, 8));
        for (index, name) in names.iter().enumerate() {
            assert!(names[..index].iter().all(|other| overlap(name, other) < 1.0), "{names:?}");
            let dot = |(x, y): &(f64, f64)| [x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS];
            assert!(circles.iter().all(|circle| overlap(name, &dot(circle)) < 1.0), "{names:?} {circles:?}");
        }
    }

    #[test]
    fn the_legend_lists_only_colours_in_the_chart() {
        let picture = svg(&chart(vec![point("RepVGG-A0", 10.0, 70.0)]));
        assert!(picture.contains(">RepVGG<") && !picture.contains(">baselines<"));
    }
}
