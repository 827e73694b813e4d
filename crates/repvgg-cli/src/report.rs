//! A demonstration's results as one self-contained web page: no script, no font, no picture from elsewhere.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use repvgg::check::{FusionReport, RegionReport};
use repvgg_train::curves::Escaped;

use crate::output::thousands;

const STYLE: &str = include_str!("report/style.css");
const DIAGRAM: &str = include_str!("report/diagram.svg");
/// More class names than this are not listed.
const LISTED_CLASSES: usize = 40;

/// What the page tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report<'a> {
    /// The heading.
    pub(crate) title: &'a str,
    /// Processor, threads, version and the like, a line each.
    pub(crate) environment: &'a [String],
    /// What was learnt from.
    pub(crate) data: Data<'a>,
    /// The network in words, a line each.
    pub(crate) architecture: &'a [String],
    /// How the training went.
    pub(crate) training: Training<'a>,
    /// The fusion, checked.
    pub(crate) fusion: &'a FusionReport,
    /// Top-1 on the validation images, 0 to 1.
    pub(crate) top1: Forms<f64>,
    /// Inference speed in images per second.
    pub(crate) images_per_second: Forms<f64>,
    /// Images to a batch when that speed was measured.
    pub(crate) batch: usize,
    /// Parameters.
    pub(crate) parameters: Forms<u64>,
    /// Pictures with their predictions, as a PNG file; empty when there are none.
    pub(crate) contact_sheet_png: &'a [u8],
    /// What the reader may try next.
    pub(crate) commands: &'a [Command<'a>],
}

/// A quantity of both forms of the network.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forms<T> {
    /// With all branches.
    pub(crate) training: T,
    /// With one convolution a block.
    pub(crate) fused: T,
}

/// The images.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data<'a> {
    /// Names of the classes.
    pub(crate) classes: &'a [String],
    /// How many images the network was trained on.
    pub(crate) training_images: usize,
    /// How many images it was judged by.
    pub(crate) validation_images: usize,
}

/// The training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Training<'a> {
    /// Passes over the training images.
    pub(crate) epochs: usize,
    /// Seconds from the first step to the last validation.
    pub(crate) seconds: f64,
    /// Training images per second.
    pub(crate) images_per_second: f64,
    /// The curves as an SVG element of our own making: it enters the page as it is.
    pub(crate) curves_svg: &'a str,
}

/// A command line with its purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command<'a> {
    /// What it is good for.
    pub(crate) purpose: &'a str,
    /// What to type.
    pub(crate) line: &'a str,
}

/// The page as an HTML document.
pub(crate) fn html(report: &Report<'_>) -> String {
    let title = Escaped(report.title);
    let sections = [
        story(report),
        training(report),
        comparison(report),
        fusion(report.fusion),
        predictions(report.contact_sheet_png),
        commands(report.commands),
        environment(report.environment),
    ];
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="lead">A network trained with many branches, folded into a plain chain of 3×3 convolutions, and compared with itself.</p>
{figures}{sections}</main>
</body>
</html>
"#,
        figures = figures(report),
        sections = sections.concat(),
    )
}

/// The four numbers to remember.
fn figures(report: &Report<'_>) -> String {
    let Report { top1, images_per_second: speed, parameters, fusion, .. } = report;
    let (before, after) = (percent(top1.training), percent(top1.fused));
    let accuracy = if before == after {
        "top-1 accuracy, the same before and after fusion".to_owned()
    } else {
        format!("top-1 accuracy after fusion, {before} before")
    };
    let figures = [
        (after, accuracy),
        (format!("{} ×", decimal(speed.fused / speed.training)), "the training form’s speed at inference".to_owned()),
        (scientific(fusion.network_error), "largest relative difference of an output after fusion".to_owned()),
        (thousands(parameters.fused), format!("parameters, {} before fusion", thousands(parameters.training))),
    ];
    let figure = |(number, meaning): &(String, String)| {
        format!("<div class=\"figure\"><b>{number}</b><span>{meaning}</span></div>\n")
    };
    format!("<div class=\"figures\">\n{}</div>\n", figures.iter().map(figure).collect::<String>())
}

fn story(report: &Report<'_>) -> String {
    let (blocks, batch) = (report.fusion.regions.len(), report.batch);
    section(
        "What was done",
        &format!(
            r#"<ol>
<li><strong>Train.</strong> Each block adds up a 3×3 convolution, a 1×1 convolution and, where the shapes agree, its own input, each with a batch norm. The branches make the network easier to train.</li>
<li><strong>Fuse.</strong> All of this is linear up to the ReLU: the batch norms scale the kernels, the 1×1 kernel and the identity are 3×3 kernels with only a centre, and kernels on the same input add up. {blocks} blocks became one convolution each.</li>
<li><strong>Check.</strong> Every fused convolution ran on random inputs beside the branches it replaces, in double precision, and so did the whole network.</li>
<li><strong>Compare.</strong> Both forms classified the validation images, and both were timed on {batch} images at a time.</li>
</ol>
<div class="scroll">
{DIAGRAM}</div>
"#
        ),
    )
}

fn training(report: &Report<'_>) -> String {
    let Report { data, training, .. } = report;
    let listed: Vec<&str> = data.classes.iter().take(LISTED_CLASSES).map(String::as_str).collect();
    let more = match data.classes.len() - listed.len() {
        0 => String::new(),
        unlisted => format!(" and {unlisted} more"),
    };
    let facts = [
        ("Classes", format!("{}: {}{more}", data.classes.len(), Escaped(&listed.join(", ")))),
        (
            "Images",
            format!(
                "{} to train on, {} to validate with",
                thousands(data.training_images as u64),
                thousands(data.validation_images as u64)
            ),
        ),
        ("Network", lines(report.architecture)),
        ("Epochs", training.epochs.to_string()),
        ("Time", duration(training.seconds)),
        ("Speed", format!("{} images/s", rate(training.images_per_second))),
    ];
    let facts: String = facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>\n")).collect();
    let curves = match training.curves_svg {
        "" => String::new(),
        svg => format!("<figure><div class=\"paper\">\n{svg}</div></figure>\n"),
    };
    section("Training", &format!("<dl>\n{facts}</dl>\n{curves}"))
}

fn comparison(report: &Report<'_>) -> String {
    let Report { top1, images_per_second: speed, parameters, batch, .. } = report;
    let images = |speed: f64| format!("{} images/s", rate(speed));
    let bars = [
        bars("Top-1 accuracy", *top1, Forms { training: percent(top1.training), fused: percent(top1.fused) }),
        bars(
            &format!("Inference, {batch} images at a time"),
            *speed,
            Forms { training: images(speed.training), fused: images(speed.fused) },
        ),
        bars(
            "Parameters",
            Forms { training: parameters.training as f64, fused: parameters.fused as f64 },
            Forms { training: thousands(parameters.training), fused: thousands(parameters.fused) },
        ),
    ];
    section("Before and after fusion", &bars.concat())
}

/// Two bars on one scale, the longer of them full.
fn bars(name: &str, values: Forms<f64>, texts: Forms<String>) -> String {
    let full = values.training.max(values.fused);
    let share = |value: f64| if value > 0.0 && full.is_finite() { 100.0 * value / full } else { 0.0 };
    format!(
        r#"<div class="bars"><strong>{name}</strong>
<span>training form</span><i><b style="width:{before:.1}%"></b></i><em>{training}</em>
<span>fused</span><i class="fused"><b style="width:{after:.1}%"></b></i><em>{fused}</em></div>
"#,
        before = share(values.training),
        after = share(values.fused),
        training = texts.training,
        fused = texts.fused,
    )
}

fn fusion(report: &FusionReport) -> String {
    let verdict = match report.accept() {
        Ok(()) => "Every block computes what its branches did, to one rounding of its weights".to_owned(),
        Err(error) => format!("<span class=\"over\">Not accepted: {}</span>", Escaped(&error.to_string())),
    };
    let rows: String = report.regions.iter().map(row).collect();
    section(
        "The fusion, block by block",
        &format!(
            r#"<p>{verdict}. An error of 1 is the bound: as much as rounding the fused weights to single precision can change. On whole images, the outputs of the two forms differ by at most {network} of the largest output.</p>
<div class="scroll"><table>
<thead><tr><th>block</th><th>error ÷ bound</th><th>largest error</th><th>largest weight</th><th>largest γ/σ</th></tr></thead>
<tbody>
{rows}</tbody>
</table></div>
"#,
            network = scientific(report.network_error),
        ),
    )
}

fn row(region: &RegionReport) -> String {
    let class = if region.error <= 1.0 { "" } else { " class=\"over\"" };
    format!(
        "<tr><td>{}</td><td{class}>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        Escaped(&region.name),
        decimal(region.error),
        scientific(region.absolute_error),
        decimal(region.largest_weight),
        decimal(region.largest_gain),
    )
}

fn predictions(png: &[u8]) -> String {
    if png.is_empty() {
        return String::new();
    }
    let data = STANDARD.encode(png);
    section(
        "What the fused network sees",
        &format!(
            r#"<figure><div class="paper"><img alt="Validation images with the fused network’s predictions" src="data:image/png;base64,{data}"></div>
<figcaption>Validation images with the class predicted and its probability. Green: right. Red: wrong.</figcaption></figure>
"#
        ),
    )
}

fn commands(commands: &[Command<'_>]) -> String {
    if commands.is_empty() {
        return String::new();
    }
    let command = |command: &Command<'_>| {
        let (purpose, line) = (Escaped(command.purpose), Escaped(command.line));
        format!("<p class=\"command\">{purpose}</p>\n<pre><code>{line}</code></pre>\n")
    };
    section("Try next", &commands.iter().map(command).collect::<String>())
}

fn environment(environment: &[String]) -> String {
    section("Measured on", &format!("<p>{}</p>\n", lines(environment)))
}

fn section(heading: &str, content: &str) -> String {
    format!("<section>\n<h2>{heading}</h2>\n{content}</section>\n")
}

fn lines(lines: &[String]) -> String {
    let lines: Vec<String> = lines.iter().map(|line| Escaped(line).to_string()).collect();
    lines.join("<br>\n")
}

/// What stands for a number that is not finite.
const NONE: &str = "–";

fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.2} %", 100.0 * share) } else { NONE.to_owned() }
}

/// Three significant digits between a thousandth and a thousand, a power of ten beyond.
fn decimal(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        0.001..0.995 => format!("{value:.3}"),
        0.995..9.995 => format!("{value:.2}"),
        9.995..1000.0 => format!("{value:.1}"),
        _ => scientific(value),
    }
}

fn scientific(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{value:.1e}");
    match text.split_once('e') {
        Some((digits, power)) if value != 0.0 => format!("{digits} × 10<sup>{}</sup>", power.replace('-', "−")),
        _ => "0".to_owned(),
    }
}

fn rate(images_per_second: f64) -> String {
    match images_per_second {
        0.0..100.0 => format!("{images_per_second:.1}"),
        100.0.. if images_per_second.is_finite() => thousands(images_per_second.round() as u64),
        _ => NONE.to_owned(),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        0.0..10.0 => format!("{seconds:.1} s"),
        10.0.. if seconds.is_finite() => match seconds.round() as u64 {
            seconds @ ..60 => format!("{seconds} s"),
            seconds @ ..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
            seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        },
        _ => NONE.to_owned(),
    }
}

#[cfg(test)]
mod tests;
