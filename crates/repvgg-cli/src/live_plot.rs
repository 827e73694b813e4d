//! Live memory over the nodes of a network, as bars of text and as a picture.
//!
//! The SVG is written by hand, on the axes of `repvgg_train::curves`, for the reasons given there.

use repvgg_train::curves::{Axis, Escaped, document};

/// Bytes alive over the nodes: steps, one after another.
#[derive(Debug, Clone)]
pub(crate) struct MemoryCurve {
    /// What it is a curve of, and what there is to say about it.
    pub(crate) caption: String,
    /// Where each step ends, counted in nodes from the start, and its bytes.
    pub(crate) steps: Vec<(usize, u64)>,
}

/// Curves over the same nodes.
#[derive(Debug, Clone)]
pub(crate) struct MemoryPlot {
    /// What stands above.
    pub(crate) title: String,
    /// What stands below: what nodes are.
    pub(crate) nodes: &'static str,
    /// The curves, those behind first.
    pub(crate) curves: Vec<MemoryCurve>,
}

impl MemoryCurve {
    /// The most bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.steps.iter().map(|&(_, bytes)| bytes).max().unwrap_or(0)
    }

    /// The nodes that it spans.
    fn end(&self) -> usize {
        self.steps.last().map_or(0, |&(end, _)| end)
    }
}

/// The most columns of a line of bars.
const COLUMNS: usize = 72;

/// The curve as a line of bars, each as high as the highest of its nodes; a full bar is `top` bytes.
pub(crate) fn bars(curve: &MemoryCurve, top: u64) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let nodes = curve.end();
    let columns = nodes.min(COLUMNS);
    let mut highest = vec![0; columns];
    let mut start = 0;
    for &(end, bytes) in &curve.steps {
        let covered = start * columns / nodes..(end * columns).div_ceil(nodes);
        highest[covered].iter_mut().for_each(|highest| *highest = bytes.max(*highest));
        start = end;
    }
    let bar = |bytes: u64| BARS[(bytes as f64 / top.max(1) as f64 * 8.0).ceil().clamp(0.0, 8.0) as usize];
    highest.into_iter().map(bar).collect()
}

const WIDTH: f64 = 720.0;
/// The plots' left and right ends.
const PLOT: [f64; 2] = [62.0, 700.0];
/// A plot's height.
const HEIGHT: f64 = 190.0;
/// A line of text.
const LINE: f64 = 18.0;
/// Below a plot: room for the numbers of the nodes.
const BOTTOM: f64 = 64.0;

// Vermilion and blue of Okabe and Ito's palette: apart for every kind of colour blindness, and in grey.
const COLOURS: [&str; 2] = ["#c24f00", "#0072b2"];

/// The plots_of_networks below each other, as one self-contained SVG.
pub(crate) fn svg(plots_of_networks: &[MemoryPlot]) -> String {
    let mut top = 0.0;
    let mut plots = String::new();
    for plot in plots_of_networks {
        plots += &plot.draw(top);
        top += plot.height();
    }
    document("Live activation memory", [WIDTH, top], &plots)
}

impl MemoryPlot {
    /// Title, a caption for each curve and the unit above the plot.
    fn head(&self) -> f64 {
        48.0 + LINE * (self.curves.len() + 1) as f64
    }

    fn height(&self) -> f64 {
        self.head() + HEIGHT + BOTTOM
    }

    fn draw(&self, top: f64) -> String {
        let [left, right] = PLOT;
        let (ceiling, floor) = (top + self.head(), top + self.head() + HEIGHT);
        let peak = self.curves.iter().map(|curve| mebibytes(curve.peak())).fold(0.0, f64::max);
        let bytes = Axis::of_values([0.0, peak].into_iter(), [floor, ceiling], 5.0);
        let nodes = self.curves.iter().map(MemoryCurve::end).max().unwrap_or(0);
        let nodes = Axis::of_counts([0, nodes].into_iter(), PLOT);
        let captions: String = self.curves.iter().zip(COLOURS).enumerate().map(|entry| caption(top, entry)).collect();
        let rows = bytes.rows(PLOT);
        let steps: String =
            self.curves.iter().zip(COLOURS).map(|(curve, colour)| curve.draw(colour, &nodes, &bytes)).collect();
        let numbers: String = nodes.ticks().map(|(x, text)| middle(x, floor + LINE, &text)).collect();
        let (title, title_at, unit_at) = (Escaped(&self.title), top + 32.0, ceiling - 10.0);
        let axis_name = middle((left + right) / 2.0, floor + 2.0 * LINE, self.nodes);
        format!(
            r##"<text x="{left}" y="{title_at}" font-size="17" font-weight="600" fill="#111">{title}</text>
{captions}<text x="{left}" y="{unit_at}">MiB alive</text>
{rows}{steps}<path d="M{left} {ceiling}V{floor}H{right}" fill="none" stroke="#888"/>
{numbers}
{axis_name}
"##
        )
    }
}

impl MemoryCurve {
    fn draw(&self, colour: &str, nodes: &Axis, bytes: &Axis) -> String {
        let step = |&(end, height): &(usize, u64)| {
            let (x, y) = (nodes.at(end as f64), bytes.at(mebibytes(height)));
            format!("V{y:.1}H{x:.1}")
        };
        let (start, floor): (f64, f64) = (nodes.at(0.0), bytes.at(0.0));
        let line: String = self.steps.iter().map(step).collect();
        format!(
            r#"<path d="M{start:.1} {floor:.1}{line}V{floor:.1}Z" fill="{colour}" fill-opacity="0.25" stroke="{colour}" stroke-width="1.2" stroke-linejoin="round"/>
"#
        )
    }
}

fn caption(top: f64, (index, (curve, colour)): (usize, (&MemoryCurve, &str))) -> String {
    let (swatch, x) = (PLOT[0], PLOT[0] + 26.0);
    let y = top + 36.0 + LINE * (index + 1) as f64;
    let (middle, text) = (y - 4.0, Escaped(&curve.caption));
    format!(
        r#"<path d="M{swatch} {middle}h18" stroke="{colour}" stroke-width="3" stroke-linecap="round"/><text x="{x}" y="{y}">{text}</text>
"#
    )
}

fn middle(x: f64, y: f64, text: &str) -> String {
    format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="middle">{text}</text>"#)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(steps: &[(usize, u64)]) -> MemoryCurve {
        MemoryCurve { caption: "training".to_owned(), steps: steps.to_vec() }
    }

    #[test]
    fn bars_are_as_high_as_their_highest_node() {
        assert_eq!(bars(&curve(&[(1, 1), (2, 4), (3, 8), (4, 0)]), 8), "▁▄█ ");
        assert_eq!(bars(&curve(&[(2, 2), (4, 8)]), 8), "▂▂██");
        let spike: Vec<(usize, u64)> = (1..=720).map(|node| (node, if node == 365 { 80 } else { 10 })).collect();
        let line: Vec<char> = bars(&curve(&spike), 80).chars().collect();
        assert_eq!(line.len(), COLUMNS);
        assert!(line.iter().enumerate().all(|(column, &bar)| bar == if column == 36 { '█' } else { '▁' }));
        assert_eq!(bars(&curve(&[]), 8), "");
    }

    #[test]
    fn a_picture_has_each_network_and_both_forms() {
        let plot = |title: &str| MemoryPlot {
            title: title.to_owned(),
            nodes: "node",
            curves: vec![curve(&[(1, 1 << 20), (2, 2 << 20), (3, 0)]), curve(&[(3, 1 << 20)])],
        };
        let picture = svg(&[plot("a & b"), plot("<c>")]);
        assert!(picture.contains("a &amp; b") && picture.contains("&lt;c&gt;"), "{picture}");
        assert!(!picture.contains("NaN"), "{picture}");
        for colour in COLOURS {
            assert_eq!(picture.matches(&format!("fill=\"{colour}\"")).count(), 2, "{picture}");
        }
        // Up from the floor to half the height, on to the top, back to the floor: 190 pixels for 2 MiB.
        assert!(picture.contains("M62.0 292.0V197.0H274.7V102.0H487.3V292.0H700.0V292.0Z"), "{picture}");
    }

    #[test]
    fn a_network_of_nothing_makes_a_picture() {
        let picture = svg(&[MemoryPlot { title: String::new(), nodes: "node", curves: vec![curve(&[])] }]);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}
