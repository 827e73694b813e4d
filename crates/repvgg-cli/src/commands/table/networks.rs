//! Tables 4 to 7: networks with the paper's figures, exact counts, and measured speeds.

use repvgg::Form;
use repvgg::cost::{Cost, cost};
use repvgg::fuse::{self, Fusion, Obstacle};
use repvgg::measure::Speed;
use repvgg::zoo::paper::{self, Figure, Published};
use repvgg::{Result, Specification, Weights};
use serde_json::{Value, json};

use super::Page;
use super::order::{Order, Racer, ranks};
use crate::engine::EngineOptions;
use crate::measure::{Candidate, Measurement, ProtocolOptions};
use crate::output::thousands;
use crate::scatter::{Chart, PlottedNetwork};
use crate::sheet::{Cell, Column, Sheet};

/// A row: the paper's figures of a network, and the counts of both forms.
struct TableRow {
    paper: &'static Published,
    training: Cost,
    plain: Cost,
    /// The additions that remain after fusion, with the reasons.
    blocked: Vec<Obstacle>,
}

/// The measured speed of a row.
struct Timed {
    /// Multiply-adds for an image of the timed size.
    macs: f64,
    speed: Speed,
    /// Height and width of the images.
    size: [usize; 2],
    /// The rank by speed among the table's networks, here and in the paper.
    rank: usize,
    paper_rank: Option<usize>,
    /// The speed relative to a perfect direct convolution of the same form.
    direct: Option<f64>,
}

/// All measured speeds of a table, and how they were measured.
struct Timing<'a> {
    protocol: &'a ProtocolOptions,
    engine: &'a EngineOptions,
    measurement: Measurement,
    rows: Vec<Timed>,
}

/// Builds one of Tables 4 to 7. With `measuring`, it measures speeds by these options.
pub(super) fn of_networks(table: u8, measuring: Option<(&ProtocolOptions, &EngineOptions)>) -> Result<Page> {
    let rows = paper::networks(table).map(TableRow::count).collect::<Result<Vec<_>>>()?;
    let timing = measuring.map(|(protocol, engine)| Timing::of(&rows, protocol, engine)).transpose()?;
    let timed = |index: usize| timing.as_ref().map(|timing| &timing.rows[index]);
    let (columns, cells): (Vec<Column>, Vec<ReadCell>) = columns(table, timing.as_ref()).into_iter().unzip();
    let entries =
        rows.iter().enumerate().map(|(index, row)| Entry { row, timed: timed(index), timing: timing.as_ref() });
    let entries: Vec<Entry<'_>> = entries.collect();
    Ok(Page {
        values: entries.iter().map(Entry::json).collect(),
        chart: chart(table, &entries),
        sheet: Sheet {
            title: title(table),
            columns,
            rows: entries.iter().map(|entry| cells.iter().map(|read| read(entry)).collect()).collect(),
            remarks: remarks(table, &rows, timing.as_ref()),
        },
    })
}

fn title(table: u8) -> String {
    let what = match table {
        4 => "ImageNet top-1 after 120 epochs with simple augmentation",
        5 => "ImageNet top-1 after 200 epochs with AutoAugment, mixup and label smoothing",
        6 => "RepVGG-B0 with and without its branches, 120 epochs",
        _ => "variants of RepVGG-B0 and baselines of its shape, 120 epochs",
    };
    format!("Table {table}: {what}")
}

impl TableRow {
    fn count(paper: &'static Published) -> Result<Self> {
        let training = Specification::open(&paper.name)?.training_graph()?.inference();
        let fusion = Fusion::new(&training);
        Ok(Self {
            paper,
            training: cost(&training, paper.size)?,
            plain: cost(fusion.graph(), paper.size)?,
            blocked: fusion.obstacles().to_vec(),
        })
    }

    fn form(&self) -> Form {
        self.paper.speed().0
    }

    /// The footnote on a figure. Without one in the paper's data, a figure that differs gets a footnote with both numbers.
    fn note(&self, figure: Figure) -> Option<String> {
        let both = || {
            let count = figure.count(&self.plain);
            let printed = self.paper.figure(figure).unwrap_or_default();
            let (title, name) = (&self.paper.title, figure.name());
            format!(
                "{title}: the paper prints {printed} for its {name}. The count here is {}, which the paper would print as {}.",
                thousands(count),
                figure.printed(count)
            )
        };
        let note = self.paper.note(figure).map(str::to_owned);
        note.or_else(|| self.paper.differs(figure, &self.plain).then(both))
    }

    /// Whether the network fuses completely, with a footnote on the first sum that remains.
    fn fusion(&self) -> Cell {
        let [first, ..] = self.blocked.as_slice() else { return Cell::same("yes") };
        let Obstacle { sum, by, why } = first;
        let count = match self.blocked.len() {
            1 => "one sum remains".to_owned(),
            more => format!("{more} sums remain, first"),
        };
        Cell::same("no").noted(Some(format!("{}: {count} {sum} because of {by}: {why}.", self.paper.title)))
    }
}

impl<'a> Timing<'a> {
    fn of(rows: &[TableRow], protocol: &'a ProtocolOptions, engine: &'a EngineOptions) -> Result<Self> {
        let names: Vec<&str> = rows.iter().map(|row| row.paper.name.as_str()).collect();
        let measurement = protocol.measure(engine, &names, |index| {
            let TableRow { paper, .. } = &rows[index];
            initialised(&Specification::open(&paper.name)?, paper.speed().0, paper.size)
        })?;
        let speeds = &measurement.speeds;
        let here = ranks(&speeds.iter().map(|speed| speed.images_per_second).collect::<Vec<_>>());
        let printed: Option<Vec<f64>> = rows.iter().map(|row| row.paper.speed().1).collect();
        let in_paper = printed.map(|printed| ranks(&printed));
        let timed = |index: usize| {
            let (speed, size) = (speeds[index], measurement.sizes[index]);
            let macs = macs(&rows[index], size)? as f64;
            let peak = measurement.peak.map(|peak| peak * engine.threads as f64);
            Ok(Timed {
                speed,
                size,
                macs,
                rank: here[index],
                paper_rank: in_paper.as_ref().map(|ranks| ranks[index]),
                direct: peak.map(|peak| macs * speed.images_per_second / peak),
            })
        };
        let rows = (0..rows.len()).map(timed).collect::<Result<Vec<_>>>()?;
        Ok(Self { protocol, engine, measurement, rows })
    }

    fn order<'b>(&self, rows: &'b [TableRow]) -> Order<'b> {
        let racer = |(row, timed): (&'b TableRow, &Timed)| {
            let (form, speed) = row.paper.speed();
            let cost = if form == Form::Training { &row.training } else { &row.plain };
            let macs = [timed.macs, cost.macs as f64];
            Some(Racer { name: &row.paper.name, macs, paper: speed?, here: timed.speed })
        };
        Order::of(&rows.iter().zip(&self.rows).filter_map(racer).collect::<Vec<_>>())
    }
}

/// An architecture in the given form, with initial weights.
fn initialised(architecture: &Specification, form: Form, size: [usize; 2]) -> Result<Candidate> {
    let graph = architecture.training_graph()?.inference();
    let weights = Weights::initialise(&graph, 0);
    Ok(match form {
        Form::Training => Candidate { graph, weights, size },
        Form::Plain => {
            let fuse::Fused { graph, weights } = fuse::fuse(&graph, &weights)?;
            Candidate { graph, weights, size }
        }
    })
}

/// The multiply-adds of the timed form, for one image of `size`.
fn macs(row: &TableRow, size: [usize; 2]) -> Result<u64> {
    let training = Specification::open(&row.paper.name)?.training_graph()?.inference();
    Ok(match row.form() {
        Form::Training => cost(&training, size)?.macs,
        Form::Plain => cost(Fusion::new(&training).graph(), size)?.macs,
    })
}

/// A row with its measured speed.
struct Entry<'a> {
    row: &'a TableRow,
    timed: Option<&'a Timed>,
    timing: Option<&'a Timing<'a>>,
}

type ReadCell = fn(&Entry<'_>) -> Cell;

/// The columns of a table, with functions that read their cells.
fn columns(table: u8, timing: Option<&Timing<'_>>) -> Vec<(Column, ReadCell)> {
    let shown = |key, heading| Column { key, heading: Some(heading) };
    let hidden = |key| Column { key, heading: None };
    let mut columns: Vec<(Column, ReadCell)> = vec![
        (shown("name", "name"), |s| Cell::same(&s.row.paper.name)),
        (Column { key: "title", heading: (table > 5).then_some("in the paper") }, |s| Cell::same(&s.row.paper.title)),
        (hidden("size"), |s| Cell::same(size(s.row.paper.size))),
        (shown("paper_top1", "paper: top-1 %"), |s| Cell::new(format!("{:.2}", s.row.paper.top1), s.row.paper.top1)),
    ];
    if table < 7 {
        columns.push((shown("paper_images_per_second", "images/s"), |s| {
            Cell::or_none(s.row.paper.speed().1, f64::to_string)
        }));
    }
    if table < 6 {
        columns.extend::<[(Column, ReadCell); 3]>([
            (shown("paper_parameters_millions", "M params"), |s| printed(s, Figure::Parameters)),
            (shown("paper_flops_billions", "G FLOPs"), |s| printed(s, Figure::Flops)),
            (shown("paper_winograd_multiplies_billions", "G MULs"), |s| printed(s, Figure::WinogradMultiplies)),
        ]);
    }
    let training = |key, heading| Column { key, heading: (table > 5).then_some(heading) };
    columns.extend::<[(Column, ReadCell); 5]>([
        (shown("parameters", "here: parameters"), |s| counted(s, Figure::Parameters)),
        (training("training_parameters", "in training"), |s| {
            Cell::new(thousands(s.row.training.parameters), s.row.training.parameters)
        }),
        (shown("macs", "GMACs"), |s| counted(s, Figure::Flops)),
        (training("training_macs", "in training"), |s| Cell::new(billions(s.row.training.macs), s.row.training.macs)),
        (shown("winograd_multiplies", "Winograd G"), |s| counted(s, Figure::WinogradMultiplies)),
    ]);
    if timing.is_some() {
        columns.extend(timed_columns(table));
    }
    if table == 7 {
        columns.push((shown("fuses", "fuses"), |s| s.row.fusion()));
    }
    columns
}

/// The columns of measured speeds.
fn timed_columns(table: u8) -> Vec<(Column, ReadCell)> {
    let shown = |key, heading| Column { key, heading: Some(heading) };
    let hidden = |key| Column { key, heading: None };
    let in_paper = (table < 7).then_some("paper's");
    vec![
        (shown("images_per_second", "images/s here"), |s| {
            let speed = s.timed.map(|timed| timed.speed.images_per_second);
            Cell::or_none(speed, |speed| format!("{speed:.2}")).noted(s.row.paper.note_on_measured())
        }),
        (shown("slowest_round", "slowest"), |s| {
            Cell::or_none(s.timed.map(|timed| timed.speed.slowest_round), |speed| format!("{speed:.2}"))
        }),
        (shown("fastest_round", "fastest"), |s| {
            Cell::or_none(s.timed.map(|timed| timed.speed.fastest_round), |speed| format!("{speed:.2}"))
        }),
        (shown("times_direct", "x direct"), |s| {
            Cell::or_none(s.timed.and_then(|timed| timed.direct), |times| format!("{times:.2}"))
        }),
        (shown("rank", "rank"), |s| Cell::or_none(s.timed.map(|timed| timed.rank), usize::to_string)),
        (Column { key: "paper_rank", heading: in_paper }, |s| {
            Cell::or_none(s.timed.and_then(|timed| timed.paper_rank), usize::to_string)
        }),
        (hidden("measured_form"), |s| Cell::same(s.row.form())),
        (hidden("measured_size"), |s| Cell::or_none(s.timed.map(|timed| size(timed.size)), String::clone)),
        (hidden("batch"), |s| Cell::or_none(s.timing.map(|timing| timing.protocol.batch), u32::to_string)),
        (hidden("threads"), |s| Cell::or_none(s.timing.and_then(Timing::threads), usize::to_string)),
        (hidden("device"), |s| Cell::or_none(s.timing.map(|timing| timing.measurement.device), ToString::to_string)),
    ]
}

fn printed(entry: &Entry<'_>, figure: Figure) -> Cell {
    let decimals = if figure == Figure::Parameters { 2 } else { 1 };
    Cell::or_none(entry.row.paper.figure(figure), |value| format!("{value:.decimals$}"))
}

fn counted(entry: &Entry<'_>, figure: Figure) -> Cell {
    let count = figure.count(&entry.row.plain);
    let text = if figure == Figure::Parameters { thousands(count) } else { billions(count) };
    Cell::new(text, count).noted(entry.row.note(figure))
}

fn billions(count: u64) -> String {
    format!("{:.3}", count as f64 / 1e9)
}

fn size([height, width]: [usize; 2]) -> String {
    format!("{height}x{width}")
}

impl Timing<'_> {
    /// The threads of the engine; none for the training framework, which has its own.
    fn threads(&self) -> Option<usize> {
        self.measurement.peak.map(|_| self.engine.threads)
    }

    /// The remark on how speeds were measured.
    fn remark(&self, rows: &[TableRow]) -> String {
        let ProtocolOptions { batch, warmup, iterations, rounds, .. } = self.protocol;
        let sizes = unique(self.rows.iter().map(|timed| size(timed.size)));
        let forms = unique(rows.iter().map(|row| row.form().to_string()));
        let options = self.engine.options();
        let accuracy = format!("{:?}", options.accuracy).to_lowercase();
        let device = match self.measurement.peak {
            Some(peak) => format!(
                "{} threads of the CPU with {} (peak {:.1} GMAC/s per thread), accuracy {accuracy}",
                self.engine.threads,
                options.level.name(),
                peak / 1e9
            ),
            None => format!("{} with the training framework, including transfers", self.measurement.device),
        };
        format!(
            "Speeds here: {forms}, batch {batch}, images of {sizes}, on {device}. Networks take turns in {rounds} rounds of {iterations} \
             runs each, after {warmup} warm-up runs. A speed is that of the median run; slowest and fastest are those of the rounds' \
             medians. x direct: speed relative to a perfect direct convolution, with all multiply-adds at the processor's peak rate."
        )
    }

    fn json(&self, row: &TableRow, timed: &Timed) -> Value {
        let ProtocolOptions { batch, warmup, iterations, rounds, .. } = self.protocol;
        let is_cpu = self.measurement.peak.is_some();
        json!({
            "form": row.form(),
            "images_per_second": timed.speed.images_per_second,
            "slowest_round": timed.speed.slowest_round,
            "fastest_round": timed.speed.fastest_round,
            "rank": timed.rank,
            "paper_rank": timed.paper_rank,
            "times_direct": timed.direct,
            "size": timed.size,
            "batch": batch,
            "warmup": warmup,
            "iterations": iterations,
            "rounds": rounds,
            "device": self.measurement.device.to_string(),
            "threads": self.threads(),
            "simd": is_cpu.then(|| self.engine.options().level.name()),
            "fma_peak_macs_per_second": self.measurement.peak,
        })
    }
}

impl Entry<'_> {
    fn json(&self) -> Value {
        let TableRow { paper, training, plain, blocked } = self.row;
        let notes = Figure::ALL.into_iter().filter_map(|figure| Some((figure.name(), self.row.note(figure)?)));
        let on_speed = paper.note_on_measured().filter(|_| self.timed.is_some());
        let notes = notes.chain(on_speed.map(|note| ("images per second", note.to_owned())));
        let notes: Vec<Value> = notes.map(|(figure, text)| json!({"figure": figure, "text": text})).collect();
        let blocked: Vec<Value> =
            blocked.iter().map(|blocked| json!({"sum": blocked.sum, "by": blocked.by, "why": blocked.why})).collect();
        json!({
            "name": paper.name,
            "paper": {
                "source": paper.source,
                "title": paper.title,
                "top1": paper.top1,
                "parameters_millions": paper.parameters,
                "flops_billions": paper.flops,
                "winograd_multiplies_billions": paper.winograd_multiplies,
                "images_per_second_1080ti": paper.speed().1,
                "form": paper.speed().0,
            },
            "size": paper.size,
            "parameters": plain.parameters,
            "macs": plain.macs,
            "winograd_multiplies": plain.winograd_multiplies,
            "training_parameters": training.parameters,
            "training_macs": training.macs,
            "blocked": blocked,
            "images_per_second": self.timed.map(|timed| timed.speed.images_per_second),
            "measured": self.timing.zip(self.timed).map(|(timing, timed)| timing.json(self.row, timed)),
            "notes": notes,
        })
    }

    /// The network's point in the chart, with the measured speed if there is one, else the paper's.
    fn point(&self) -> Option<PlottedNetwork> {
        let Published { title, name, top1, .. } = self.row.paper;
        let here = self.timed.map(|timed| timed.speed);
        let (speed, range) = match here {
            Some(Speed { images_per_second, slowest_round, fastest_round }) => {
                (images_per_second, [slowest_round, fastest_round])
            }
            None => self.row.paper.speed().1.map(|speed| (speed, [speed; 2]))?,
        };
        Some(PlottedNetwork {
            label: title.clone(),
            speed,
            range,
            top1: *top1,
            is_highlighted: name.starts_with("repvgg"),
        })
    }
}

/// The chart of accuracy against speed, if the table has speeds.
fn chart(table: u8, entries: &[Entry<'_>]) -> Option<Chart> {
    let points: Vec<PlottedNetwork> = entries.iter().filter_map(Entry::point).collect();
    let [entry, ..] = entries else { return None };
    let form = entry.row.form();
    let speed = match entry.timing {
        None => format!("images per second in {form}, the paper's: GTX 1080Ti, fp32, batch 128 (logarithmic scale)"),
        Some(timing) => {
            let threads = timing.threads().map_or(String::new(), |threads| format!(", {threads} threads"));
            let (device, batch) = (timing.measurement.device, timing.protocol.batch);
            format!("images per second in {form}, measured here: {device}{threads}, batch {batch} (logarithmic scale)")
        }
    };
    (!points.is_empty()).then(|| Chart { title: title(table), speed, points })
}

/// The remarks below a table.
fn remarks(table: u8, rows: &[TableRow], timing: Option<&Timing<'_>>) -> Vec<String> {
    let sizes = unique(rows.iter().map(|row| size(row.paper.size)));
    let mut remarks = vec![format!(
        "Counted here: the plain (fused) form{}, for one image of {sizes}. GMACs (the paper's FLOPs) and Winograd multiplies (its MULs) are \
         in 10^9.",
        if table < 6 { "" } else { " unless the column says training" }
    )];
    let paper = match table {
        4 | 5 => Some(
            "The paper truncates millions of parameters to two decimals and rounds other figures to one. Its speeds are those of the fused networks",
        ),
        6 => Some("The paper's speeds are those of the training form"),
        _ => None,
    };
    remarks.extend(paper.map(|paper| format!("{paper} on a GTX 1080Ti, fp32, batch 128.")));
    if let Some(timing) = timing {
        remarks.push(timing.remark(rows));
        let order = timing.order(rows);
        remarks.extend((order.pairs > 0).then(|| order.remark()));
    }
    remarks
}

/// The distinct texts in order: `224x224, 300x300`.
fn unique(texts: impl Iterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for text in texts {
        if !distinct.contains(&text) {
            distinct.push(text);
        }
    }
    distinct.join(", ")
}
