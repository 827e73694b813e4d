//! Plots of live activation memory over the nodes of a network, as text bars and as SVG.
//!
//! The SVG is written by hand, with the axes of `repvgg_train::curves`, for the reasons given there.

use repvgg_train::curves::{Axis, Escaped, document};

/// Live bytes over the nodes, a step function.
#[derive(Debug, Clone)]
pub(crate) struct MemoryCurve {
    /// The entry in the legend.
    pub(crate) caption: String,
    /// The end of each step, counted in nodes from the start, and its bytes.
    pub(crate) steps: Vec<(usize, u64)>,
}

/// A plot of curves over the same nodes.
#[derive(Debug, Clone)]
pub(crate) struct MemoryPlot {
    /// The title above the plot.
    pub(crate) title: String,
    /// The label of the node axis.
    pub(crate) nodes: &'static str,
    /// The curves, from back to front.
    pub(crate) curves: Vec<MemoryCurve>,
}

impl MemoryCurve {
    /// The most live bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.steps.iter().map(|&(_, bytes)| bytes).max().unwrap_or(0)
    }

    /// The number of nodes.
    fn end(&self) -> usize {
        self.steps.last().map_or(0, |&(end, _)| end)
    }
}

/// The maximum width of a line of bars, in characters.
const COLUMNS: usize = 72;

/// Draws the curve as a line of bars, each as high as the highest of its nodes. A full bar is `full` bytes.
pub(crate) fn bars(curve: &MemoryCurve, full: u64) -> String {
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
    let bar = |bytes: u64| BARS[(bytes as f64 / full.max(1) as f64 * 8.0).ceil().clamp(0.0, 8.0) as usize];
    highest.into_iter().map(bar).collect()
}

const WIDTH: f64 = 720.0;
/// The left and right edges of the plots.
const PLOT: [f64; 2] = [62.0, 700.0];
/// The height of a plot.
const HEIGHT: f64 = 190.0;
/// The height of a line of text.
const LINE: f64 = 18.0;
/// Space below a plot, for the node axis.
const BOTTOM: f64 = 64.0;

// Vermilion and blue of Okabe and Ito's palette are distinguishable with every kind of colour blindness, and in grey.
const COLOURS: [&str; 2] = ["#c24f00", "#0072b2"];

/// Draws the plots below each other, as one self-contained SVG.
pub(crate) fn svg(plots: &[MemoryPlot]) -> String {
    let mut top = 0.0;
    let mut content = String::new();
    for plot in plots {
        content += &plot.draw(top);
        top += plot.height();
    }
    document("Live activation memory", [WIDTH, top], &content)
}

impl MemoryPlot {
    /// The height of the title, the captions and the unit above the plot.
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
        let caption_at = |index: usize| top + 36.0 + LINE * (index + 1) as f64;
        let captions = self.curves.iter().zip(COLOURS).enumerate();
        let captions: String =
            captions.map(|(index, (curve, colour))| caption(caption_at(index), &curve.caption, colour)).collect();
        let rows = bytes.rows(PLOT);
        let steps: String =
            self.curves.iter().zip(COLOURS).map(|(curve, colour)| curve.draw(colour, &nodes, &bytes)).collect();
        let numbers: String = nodes.ticks().map(|(x, text)| centred(x, floor + LINE, &text)).collect();
        let (title, title_at, unit_at) = (Escaped(&self.title), top + 32.0, ceiling - 10.0);
        let axis_name = centred((left + right) / 2.0, floor + 2.0 * LINE, self.nodes);
        format!(
            r##"<text x="{left}" y="{title_at}" font-size="17" font-weight="600" fill="#111">{title}</text>
{captions}<text x="{left}" y="{unit_at}">live MiB</text>
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

fn caption(y: f64, text: &str, colour: &str) -> String {
    let (swatch, x) = (PLOT[0], PLOT[0] + 26.0);
    let (middle, text) = (y - 4.0, Escaped(text));
    format!(
        r#"<path d="M{swatch} {middle}h18" stroke="{colour}" stroke-width="3" stroke-linecap="round"/><text x="{x}" y="{y}">{text}</text>
"#
    )
}

fn centred(x: f64, y: f64, text: &str) -> String {
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
    fn the_svg_has_each_network_in_both_forms() {
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
    fn a_network_without_nodes_can_be_plotted() {
        let picture = svg(&[MemoryPlot { title: String::new(), nodes: "node", curves: vec![curve(&[])] }]);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    }
}
