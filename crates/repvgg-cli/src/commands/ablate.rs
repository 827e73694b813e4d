//! `repvgg ablate`: the paper's Tables 6 and 7 on the user's own images.

use std::path::PathBuf;
use std::process::ExitCode;

use repvgg::check::CheckedFusion;
use repvgg::engine::BatchShape;
use repvgg::file::write_atomically;
use repvgg::fuse::Fusion;
use repvgg::measure::Speed;
use repvgg::zoo::{BlockKind, RepVgg, paper};
use repvgg::{Error, Model, Result, Specification, cost};
use repvgg_train::ablation::{Ablation, Accuracies, Trial};
use repvgg_train::data::{self, Data};
use repvgg_train::recipe::{Preset, Recipe};
use repvgg_train::run::{Outcome, Run};
use serde_json::json;

use super::CommandResult;
use super::fuse::fuse_checked;
use super::train::train;
use crate::engine::EngineOptions;
use crate::listed;
use crate::measure::{Candidate, ProtocolOptions};
use crate::output::{self, thousands};
use crate::report::Forms;
use crate::sheet::{Cell, Column, Format, Sheet};

/// Train one network with each kind of block, as in the paper's Tables 6 and 7, and print the tables for your images
///
/// All rows use the same recipe. Each row is trained once per seed, as a run in FOLDER/BLOCK/seed-N. Running the same command again
/// skips finished runs and resumes runs that Ctrl-C or a crash interrupted.
///
/// The table shows the validation accuracy after the last epoch, evaluated fused (mean and standard deviation over seeds), the speed of
/// both forms, and the paper's figures. It is also written to FOLDER/table.md and FOLDER/ablation.json.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  repvgg ablate shapes --quick -o quick                   # all rows on the built-in images, in a quarter of an hour
  repvgg ablate cifar-10-batches-bin/ -o ablation         # a meaningful comparison; hours on a CPU
  repvgg ablate photos/ -o ablation --blocks full,3x3 --seeds 5
  repvgg ablate photos/ -o ablation --model net.toml --epochs 30")]
pub(crate) struct Arguments {
    /// Data set: a folder as for `repvgg train`, or `shapes` for the built-in images
    data: PathBuf,
    /// Folder of all runs, to create or continue
    #[arg(short, long, value_name = "FOLDER")]
    output: PathBuf,
    /// Train a small network for few epochs (the preset ablation-quick)
    #[arg(long, conflicts_with = "preset")]
    quick: bool,
    /// Train only the rows of one table, 6 or 7 [default: both]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(6..=7), conflicts_with = "blocks")]
    table: Option<u8>,
    /// Kinds of block, separated by commas; `repvgg models` describes them [default: those of the tables]
    #[arg(long, value_delimiter = ',', value_name = "BLOCK,…", value_parser = listed::block())]
    blocks: Vec<BlockKind>,
    /// Number of seeds, starting at 0 [default: 3, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: Option<u32>,
    /// Network to build from each kind of block: the name of a RepVGG or a specification file [default: the preset's]
    #[arg(long, value_name = "NAME|SPEC.toml")]
    model: Option<String>,
    /// Recipe of all rows: a preset of `repvgg train`
    #[arg(long, value_name = "NAME", default_value = "ablation", value_parser = listed::preset())]
    preset: String,
    /// Passes over the training images [default: the preset's]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Device to train on: cpu; vulkan:0, wgpu:0, metal, cuda:0 or rocm:0 if the program was built with that feature
    #[arg(long, default_value = "cpu")]
    device: String,
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    engine: EngineOptions,
}

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let ablation = ablation(arguments)?;
    let data = (0..ablation.seeds).map(|seed| data::open(&ablation.data, seed)).collect::<Result<Vec<_>, _>>()?;
    check(arguments, &ablation, &data[0])?;
    data[0].beside.sentences().for_each(|sentence| output::note(&sentence));
    let mut rows: Vec<BlockResults> = ablation.blocks.iter().map(|&block| BlockResults::new(block)).collect();
    let trials: Vec<Trial> = ablation.trials().collect();
    for (index, &trial) in trials.iter().enumerate() {
        let mut run = ablation.open(trial, &data[trial.seed as usize])?;
        eprint!("{}/{}  ", index + 1, trials.len());
        announce(&run, trial);
        if train(&mut run, |line| eprintln!("{}", output::line(line)))? == Outcome::Stopped {
            eprintln!("stopped and saved; run the same command again to continue");
            return Ok(ExitCode::from(130));
        }
        let row = rows.iter_mut().find(|row| row.block == trial.block).expect("every block has a row");
        row.accuracies.add(&run);
    }
    measure(arguments, &ablation, &mut rows, [ablation.image_size(&data[0]); 2])?;
    let report = AblationReport { ablation: &ablation, data: &data[0], rows: &rows };
    let (json, sheet) = (report.json(), report.sheet());
    for (file, text) in [("ablation.json", format!("{json}\n")), ("table.md", sheet.markdown())] {
        write_atomically(&ablation.folder.join(file), |file| file.write_all(text.as_bytes()))?;
    }
    arguments.format.print(&json, &sheet)?;
    Ok(ExitCode::SUCCESS)
}

/// The ablation described by the arguments.
fn ablation(arguments: &Arguments) -> anyhow::Result<Ablation> {
    let preset = Preset::named(if arguments.quick { "ablation-quick" } else { &arguments.preset })?;
    let recipe = match arguments.epochs {
        Some(epochs) => preset.recipe.with_epochs(epochs),
        None => preset.recipe,
    };
    let network = match &arguments.model {
        Some(name) => Specification::open(name)?,
        None => preset.model,
    };
    let Some(network) = network.repvgg().cloned() else {
        let problem = format!("expected a RepVGG, whose blocks can be exchanged, found {}", network.name());
        return Err(Error::spec("model", problem).into());
    };
    Ok(Ablation {
        folder: arguments.output.clone(),
        data: arguments.data.clone(),
        network,
        blocks: blocks(arguments),
        seeds: u64::from(arguments.seeds.unwrap_or(if arguments.quick { 2 } else { 3 })),
        recipe,
        threads: arguments.engine.threads,
        device: arguments.device.parse()?,
    })
}

/// The requested blocks without duplicates. The default is those of the paper's tables, in their order.
fn blocks(arguments: &Arguments) -> Vec<BlockKind> {
    let tables = arguments.table.map_or(6..=7, |table| table..=table);
    let of_tables = tables.flat_map(paper::networks).filter_map(paper::Published::block);
    let requested: Vec<BlockKind> =
        if arguments.blocks.is_empty() { of_tables.collect() } else { arguments.blocks.clone() };
    let mut blocks: Vec<BlockKind> = Vec::new();
    for block in requested {
        if !blocks.contains(&block) {
            blocks.push(block);
        }
    }
    blocks
}

/// Checks all settings, before the first row is trained.
fn check(arguments: &Arguments, ablation: &Ablation, data: &Data) -> Result<()> {
    arguments.engine.engine()?;
    BatchShape { batch: BATCH as usize, size: [ablation.image_size(data); 2] }.check()?;
    ablation.check(data)
}

fn announce(run: &Run, trial: Trial) {
    let Trial { block, seed } = trial;
    let (epoch, epochs) = (run.position().epoch, run.config().recipe.epochs);
    let state = match (epoch, run.position().is_start()) {
        (epoch, _) if epoch >= epochs => "already finished".to_owned(),
        (_, true) => format!("{epochs} epochs"),
        (epoch, false) => format!("resumed after epoch {epoch} of {epochs}"),
    };
    eprintln!("{}, seed {seed}: {state}", block.block().name);
}

/// The results of one kind of block.
struct BlockResults {
    block: BlockKind,
    accuracies: Accuracies,
    parameters: Forms<u64>,
    speed: Option<Forms<Speed>>,
    /// The largest difference of logits between the two forms, divided by the largest logit.
    fusion_error: Option<f64>,
    /// The reason why the block does not fuse, if it does not.
    blocked: Option<String>,
}

impl BlockResults {
    fn new(block: BlockKind) -> Self {
        let parameters = Forms { training: 0, fused: 0 };
        Self { block, accuracies: Accuracies::default(), parameters, speed: None, fusion_error: None, blocked: None }
    }
}

/// Fuses and checks the network of each row, then times both forms of all rows in turn.
fn measure(arguments: &Arguments, ablation: &Ablation, rows: &mut [BlockResults], size: [usize; 2]) -> Result<()> {
    let mut candidates = Vec::new();
    for row in &mut *rows {
        let path = ablation.path(Trial { block: row.block, seed: 0 }).join("last.safetensors");
        let model = Model::load(&path)?;
        let CheckedFusion { fusion, model: plain, report } = fuse_checked(&model, size)?;
        report.accept().map_err(|error| error.within(row.block.block().name))?;
        row.fusion_error = Some(report.network_error);
        row.blocked = fusion.obstacles().first().map(|blocked| format!("{}: {}", blocked.by, blocked.why));
        row.parameters =
            Forms { training: cost::parameters(fusion.original()), fused: cost::parameters(Fusion::graph(&fusion)) };
        for model in [model, plain] {
            candidates.push(Candidate { graph: model.graph().inference(), weights: model.weights, size });
        }
    }
    let protocol =
        ProtocolOptions { batch: BATCH, size: None, device: "cpu".to_owned(), warmup: 3, iterations: 20, rounds: 5 };
    let names: Vec<&str> = rows.iter().flat_map(|row| [row.block.block().name; 2]).collect();
    let measured = protocol.measure(&arguments.engine, &names, |index| Ok(candidates[index].clone()))?;
    for (row, speeds) in rows.iter_mut().zip(measured.speeds.chunks_exact(2)) {
        row.speed = Some(Forms { training: speeds[0], fused: speeds[1] });
    }
    Ok(())
}

struct AblationReport<'a> {
    ablation: &'a Ablation,
    data: &'a Data,
    rows: &'a [BlockResults],
}

impl AblationReport<'_> {
    fn json(&self) -> serde_json::Value {
        self.rows.iter().map(|row| self.row_json(row)).collect()
    }

    fn row_json(&self, row: &BlockResults) -> serde_json::Value {
        let paper = paper::of_block(row.block).map(|paper| {
            json!({
                "source": paper.source, "name": paper.name, "top1": paper.top1,
                "training_images_per_second": paper.training_speed,
            })
        });
        json!({
            "name": self.ablation.architecture(row.block, self.data.labels.len()).name(),
            "block": row.block.block().name,
            "paper": paper,
            "top1": row.accuracies.top1,
            "top1_mean": row.accuracies.mean(),
            "top1_standard_deviation": row.accuracies.standard_deviation(),
            "training_parameters": row.parameters.training,
            "parameters": row.parameters.fused,
            "not_fused": row.blocked,
            "fusion_error": row.fusion_error,
            "training_images_per_second": row.speed.map(|speed| speed.training.images_per_second),
            "images_per_second": row.speed.map(|speed| speed.fused.images_per_second),
        })
    }

    /// The table in the paper's layout, with remarks.
    fn sheet(&self) -> Sheet {
        let ablation = self.ablation;
        let RepVgg { depths, width, strides, .. } = ablation.network;
        let Recipe { epochs, batch, learning_rate, weight_decay, .. } = ablation.recipe;
        let network = format!(
            "{}: depths {depths:?}, width {width:?}, strides {strides:?}. {} training and {} validation images of {} classes. {epochs} \
             epochs, batch {batch}, learning rate {learning_rate}, weight decay {weight_decay}, {} seeds. Accuracy is measured after the \
             last epoch, on the fused network.",
            ablation.network.name,
            thousands(self.data.train.len() as u64),
            thousands(self.data.validation.len() as u64),
            self.data.labels.len(),
            ablation.seeds,
        );
        let speeds = format!(
            "Speeds here: this engine, batch {BATCH}, {} threads, medians of interleaved runs. The paper's accuracy is that of RepVGG-B0 on \
             ImageNet after 120 epochs, and its speed that of the training form on a GTX 1080Ti.",
            ablation.threads,
        );
        Sheet {
            title: format!("Tables 6 and 7 on {}", ablation.data.display()),
            columns: COLUMNS.map(|(key, heading)| Column { key, heading: Some(heading) }).to_vec(),
            rows: self.rows.iter().map(Self::cells).collect(),
            remarks: vec![network, CAUTION.to_owned(), speeds],
        }
    }

    fn cells(row: &BlockResults) -> Vec<Cell> {
        let percent = |share: &f64| format!("{:.2}", 100.0 * share);
        let paper = paper::of_block(row.block);
        let why = row.blocked.as_ref().map(|why| format!("Not fused into one convolution: {why}."));
        let speed = |form: fn(Forms<Speed>) -> Speed| {
            Cell::or_none(row.speed.map(|speed| form(speed).images_per_second), |speed| format!("{speed:.0}"))
        };
        vec![
            Cell::same(row.block.block().name),
            Cell::same(row.block.block().about),
            Cell::or_none(paper.map(|paper| paper.top1), |top1| format!("{top1:.2}")),
            Cell::new(percent(&row.accuracies.mean()), row.accuracies.mean()),
            Cell::or_none(row.accuracies.standard_deviation(), percent),
            Cell::or_none(paper.and_then(|paper| paper.training_speed), |speed| format!("{speed:.0}")),
            speed(|speed| speed.training),
            speed(|speed| speed.fused).noted(why),
            Cell::new(thousands(row.parameters.training), row.parameters.training),
            Cell::new(thousands(row.parameters.fused), row.parameters.fused),
        ]
    }
}

/// The CSV name and the heading of each column.
const COLUMNS: [(&str, &str); 10] = [
    ("block", "block"),
    ("training_form", "training form"),
    ("paper_top1", "paper %"),
    ("top1_mean", "top-1 %"),
    ("top1_standard_deviation", "± seeds"),
    ("paper_training_images_per_second", "paper images/s"),
    ("training_images_per_second", "training form images/s"),
    ("images_per_second", "fused images/s"),
    ("training_parameters", "training parameters"),
    ("parameters", "fused parameters"),
];

/// The limits of a table from few seeds.
const CAUTION: &str = "Differences within the spread over seeds are not significant. A small network, few epochs and easy images may rank \
    blocks differently from ImageNet.";

/// Images per run in the timing of both forms.
const BATCH: u32 = 64;
