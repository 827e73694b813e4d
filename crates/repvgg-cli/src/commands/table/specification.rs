//! Tables 2 and 3: the paper's specification next to the layers of the zoo's networks.

use repvgg::fuse::Fusion;
use repvgg::zoo::paper::{self, Stage, Variant};
use repvgg::{Graph, Op, Result, Specification};
use serde_json::{Value, json};

use super::Page;
use crate::sheet::{Cell, Column, Sheet};

/// The image size of Table 2.
const SIZE: [usize; 2] = [224; 2];

/// The layers of one stage of a plain network.
#[derive(Debug, Clone, PartialEq)]
struct Layers {
    output_size: [usize; 2],
    /// The channels of each layer.
    channels: Vec<usize>,
}

/// The two series of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Series {
    A,
    B,
}

/// A model of Table 3 and its stages.
struct Built {
    model: &'static Variant,
    stages: Vec<Layers>,
}

impl Built {
    fn all() -> Result<Vec<Self>> {
        let built = |model: &'static Variant| {
            let plain = Fusion::new(&Specification::open(&model.name)?.training_graph()?).into_graph();
            Ok(Self { model, stages: stages(&plain)? })
        };
        paper::models().iter().map(built).collect()
    }

    fn series(&self) -> Series {
        if self.model.title.starts_with("RepVGG-A") { Series::A } else { Series::B }
    }
}

/// The convolutions of a plain network, grouped by output size.
fn stages(plain: &Graph) -> Result<Vec<Layers>> {
    let shapes = plain.shapes(SIZE)?;
    let mut stages: Vec<Layers> = Vec::new();
    for (id, _) in plain.iter().filter(|(_, node)| matches!(node.op, Op::Conv2d(_))) {
        let [channels, height, width] = shapes[id.index()];
        match stages.last_mut() {
            Some(stage) if stage.output_size == [height, width] => stage.channels.push(channels),
            _ => stages.push(Layers { output_size: [height, width], channels: vec![channels] }),
        }
    }
    Ok(stages)
}

/// Builds Table 2.
pub(super) fn of_stages() -> Result<Page> {
    let built = Built::all()?;
    let column = |key, heading| Column { key, heading: Some(heading) };
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (index, stage) in paper::stages().iter().enumerate() {
        let [a, b] = [Series::A, Series::B].map(|series| SeriesStage::of(stage, index, series, &built));
        let [height, width] = stage.output_size;
        rows.push(vec![
            Cell::same(index + 1),
            Cell::same(format!("{height}x{width}")),
            Cell::same(a.printed()),
            a.cell(),
            Cell::same(b.printed()),
            b.cell(),
        ]);
        values.push(json!({
            "name": format!("stage {}", index + 1),
            "paper": {"output_size": stage.output_size, "repvgg_a": a.printed(), "repvgg_b": b.printed()},
            "computed": {"repvgg_a": a.json(), "repvgg_b": b.json()},
            "agrees": a.matches() && b.matches(),
        }));
    }
    let sheet = Sheet {
        title: "Table 2: the layers of each stage, for images of 224x224 (layers x channels)".to_owned(),
        columns: vec![
            column("stage", "stage"),
            column("output_size", "output"),
            column("paper_repvgg_a", "paper: RepVGG-A"),
            column("repvgg_a", "A0, A1, A2 here"),
            column("paper_repvgg_b", "paper: RepVGG-B"),
            column("repvgg_b", "B0, B1, B2, B3 here"),
        ],
        rows,
        remarks: vec![
            "The multipliers a and b are those of Table 3. The columns here count the convolutions of the plain networks."
                .to_owned(),
        ],
    };
    Ok(Page { sheet, values, chart: None })
}

/// A stage in all models of one series.
struct SeriesStage<'a> {
    stage: &'static Stage,
    /// The number of layers that the paper prints.
    layers: usize,
    /// Each model of the series, with its layers of this stage.
    models: Vec<(&'static Variant, Option<&'a Layers>)>,
}

impl<'a> SeriesStage<'a> {
    fn of(stage: &'static Stage, index: usize, series: Series, built: &'a [Built]) -> Self {
        let models = built.iter().filter(|built| built.series() == series);
        Self {
            stage,
            layers: match series {
                Series::A => stage.layers_a,
                Series::B => stage.layers_b,
            },
            models: models.map(|built| (built.model, built.stages.get(index))).collect(),
        }
    }

    fn printed(&self) -> String {
        format!("{} x {}", self.layers, self.stage.formula())
    }

    /// The layers of a model by the paper's formula.
    fn expected(&self, model: &Variant) -> Layers {
        Layers { output_size: self.stage.output_size, channels: vec![self.stage.channels(model); self.layers] }
    }

    /// Whether all models have the layers of the paper.
    fn matches(&self) -> bool {
        self.models.iter().all(|(model, found)| *found == Some(&self.expected(model)))
    }

    fn cell(&self) -> Cell {
        let differing = self.models.iter().filter(|(model, found)| *found != Some(&self.expected(model)));
        let notes = differing.map(|(model, found)| {
            format!(
                "{}: the paper has {}, the network here {}.",
                model.title,
                describe(Some(&self.expected(model))),
                describe(*found)
            )
        });
        let channels =
            self.models.iter().map(|(_, found)| found.map_or_else(|| "none".to_owned(), |found| runs(&found.channels)));
        let mut cell = Cell::same(channels.collect::<Vec<_>>().join(", "));
        cell.notes.extend(notes);
        cell
    }

    fn json(&self) -> Value {
        let value = |(model, found): &(&Variant, Option<&Layers>)| {
            let layers = found.map(|found| json!({"output_size": found.output_size, "channels": found.channels}));
            (model.name.clone(), layers.into())
        };
        Value::Object(self.models.iter().map(value).collect())
    }
}

fn describe(layers: Option<&Layers>) -> String {
    layers.map_or_else(
        || "none".to_owned(),
        |Layers { output_size: [height, width], channels }| format!("{} channels at {height}x{width}", runs(channels)),
    )
}

/// `2x48`: two layers of 48 channels.
fn runs(channels: &[usize]) -> String {
    let run = |run: &[usize]| format!("{}x{}", run.len(), run[0]);
    channels.chunk_by(|a, b| a == b).map(run).collect::<Vec<_>>().join(" + ")
}

/// Builds Table 3.
pub(super) fn of_models() -> Result<Page> {
    let column = |key, heading| Column { key, heading: Some(heading) };
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for Built { model, stages } in Built::all()? {
        let found = Multipliers::of(&stages);
        let printed = Multipliers { layers: model.layers.to_vec(), a: model.a, b: model.b };
        let note = (found != printed).then(|| {
            format!("{}: the paper has {}, the network here {}.", model.title, printed.describe(), found.describe())
        });
        rows.push(vec![
            Cell::same(&model.name),
            Cell::same(printed.layers()),
            Cell::same(printed.a),
            Cell::same(printed.b),
            Cell::same(found.layers()),
            Cell::same(found.a),
            Cell::same(found.b).noted(note),
        ]);
        values.push(json!({
            "name": model.name,
            "paper": {"title": model.title, "layers": printed.layers, "a": printed.a, "b": printed.b},
            "computed": {"layers": found.layers, "a": found.a, "b": found.b},
            "agrees": found == printed,
        }));
    }
    let sheet = Sheet {
        title: "Table 3: models by their layers and the multipliers a and b".to_owned(),
        columns: vec![
            column("name", "name"),
            column("paper_layers", "paper: layers"),
            column("paper_a", "paper: a"),
            column("paper_b", "paper: b"),
            column("layers", "layers here"),
            column("a", "a here"),
            column("b", "b here"),
        ],
        rows,
        remarks: vec![
            "Here, a is the number of channels of stage 2 divided by 64, and b that of stage 5 divided by 512, in the plain networks."
                .to_owned(),
        ],
    };
    Ok(Page { sheet, values, chart: None })
}

/// The row of a model in Table 3.
#[derive(Debug, PartialEq)]
struct Multipliers {
    layers: Vec<usize>,
    a: f64,
    b: f64,
}

impl Multipliers {
    /// The multipliers of a network with the stages of Table 2.
    fn of(stages: &[Layers]) -> Self {
        let ratio =
            |stage: usize, base: f64| stages.get(stage).map_or(f64::NAN, |layers| layers.channels[0] as f64 / base);
        Self {
            layers: stages.iter().map(|stage| stage.channels.len()).collect(),
            a: ratio(1, 64.0),
            b: ratio(4, 512.0),
        }
    }

    fn layers(&self) -> String {
        self.layers.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
    }

    fn describe(&self) -> String {
        format!("layers {}, a = {} and b = {}", self.layers(), self.a, self.b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zoo_has_the_layers_of_both_tables() {
        for page in [of_stages().unwrap(), of_models().unwrap()] {
            assert!(page.values.iter().all(|row| row["agrees"] == true), "{:?}", page.values);
            assert!(page.sheet.rows.iter().flatten().all(|cell| cell.notes.is_empty()));
        }
    }

    #[test]
    fn layers_that_differ_get_a_footnote() {
        let mut built = Built::all().unwrap();
        built[1].stages[3].channels[13] = 250;
        let stage = SeriesStage::of(&paper::stages()[3], 3, Series::A, &built);
        assert!(!stage.matches());
        let cell = stage.cell();
        assert_eq!(cell.text, "14x192, 13x256 + 1x250, 14x384");
        assert_eq!(
            cell.notes,
            ["RepVGG-A1: the paper has 14x256 channels at 14x14, the network here 13x256 + 1x250 channels at 14x14."]
        );
    }
}
