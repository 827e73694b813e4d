//! `repvgg winograd`: the matrices of minimal filtering for any size: derivation, proof and measurement.

use std::process::ExitCode;

use repvgg::random::Normal;
use repvgg::{Error, ErrorKind, Result};
use repvgg_kernels::winograd::{
    Derivation, DerivationError, Deviation, Matrix, Operations, Rounding, parse_points, to_f64,
};
use serde_json::{Value, json};

use super::CommandResult;
use crate::notation::{self, Notation};
use crate::output::{print, print_json, table, thousands};

/// Derive the matrices of Winograd's algorithm F(MxM, RxR), prove them exactly, and measure their rounding error
///
/// Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A computes MxM outputs of an RxR filter with (M + R - 1)² multiplications, where direct convolution needs
/// M²R². M + R - 1 is at most 32. The matrices are derived from interpolation points and proved in exact rationals.
///
/// The rounding error depends on the points. It is measured on a convolution over --channels channels of random normal values, with the
/// matrices applied entry by entry, next to direct convolution in f32. Both are compared with f64.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Outputs per tile along each axis
    #[arg(value_name = "M")]
    outputs: usize,
    /// Taps of the filter along each axis
    #[arg(value_name = "R")]
    taps: usize,
    /// Interpolation points, separated by commas, or `engine` for those of this program's convolutions [default:
    /// 0,1,-1,2,-2,1/2,-1/2,3,-3,1/3,-1/3,…]
    ///
    /// F(MxM, RxR) needs M + R - 2 finite points: integers, fractions or decimals. The last point is always infinity and is not listed.
    #[arg(long, value_name = "POINTS", allow_hyphen_values = true)]
    points: Option<String>,
    /// Output format of the matrices; formats other than text print only the matrices
    #[arg(long, value_enum, default_value = "text")]
    format: Notation,
    /// Channels of the measured convolution
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    channels: u32,
    /// Seed of the random values
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  repvgg winograd 2 3                                 # the textbook case: 16 multiplications instead of 36
  repvgg winograd 4 3 --points engine                 # the matrices that this program computes with
  repvgg winograd 4 3 --points 0,1,-1,1/2,-2          # your own points
  repvgg winograd 6 3 --format numpy > winograd.py    # or latex, rust";

/// The minimum number of measured outputs, in at least 16 tiles.
const MEASURED: usize = 4096;

pub(crate) fn run(arguments: &Arguments) -> CommandResult {
    let derivation = derive(arguments).map_err(|error| Error::new(ErrorKind::Spec, error.to_string()))?;
    let coefficients = derivation.prove()?;
    if arguments.format != Notation::Text {
        print(&notation::write(&derivation, arguments.format))?;
        return Ok(ExitCode::SUCCESS);
    }
    let tiles = (MEASURED / derivation.outputs().pow(2)).max(16);
    let mut noise = Normal::new(arguments.seed);
    let rounding = derivation.rounding(arguments.channels as usize, tiles, || noise.sample());
    let report = DerivationReport { arguments, derivation, coefficients, tiles, rounding };
    if arguments.json {
        print_json(&report.json())?;
    } else {
        print(&report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn derive(arguments: &Arguments) -> Result<Derivation, DerivationError> {
    let Arguments { outputs, taps, .. } = *arguments;
    match arguments.points.as_deref() {
        None => Derivation::standard(outputs, taps),
        Some("engine") => Derivation::engine(outputs, taps),
        Some(list) => Derivation::new(outputs, taps, parse_points(list)?),
    }
}

struct DerivationReport<'a> {
    arguments: &'a Arguments,
    derivation: Derivation,
    /// The number of coefficients that the proof compares.
    coefficients: usize,
    /// The number of measured tiles.
    tiles: usize,
    rounding: Rounding,
}

impl DerivationReport<'_> {
    fn json(&self) -> Value {
        let derivation = &self.derivation;
        let matrix = |matrix: &Matrix| {
            let exact: Vec<Vec<String>> =
                matrix.iter().map(|row| row.iter().map(ToString::to_string).collect()).collect();
            json!({"exact": exact, "values": to_f64(matrix)})
        };
        let [input, filter, output] = derivation.transforms().map(
            |Operations { additions, multiplications }| json!({"additions": additions, "multiplications": multiplications}),
        );
        let deviation = |Deviation { max, rms }| json!({"max": max, "rms": rms});
        json!({
            "outputs": derivation.outputs(),
            "taps": derivation.taps(),
            "points": notation::points(derivation),
            "AT": matrix(derivation.output()),
            "G": matrix(derivation.filter()),
            "BT": matrix(derivation.input()),
            "coefficients_proved": self.coefficients,
            "multiplications": derivation.multiplications(),
            "direct_multiplications": derivation.direct_multiplications(),
            "transforms": {"input": input, "filter": filter, "output": output},
            "f32_error": {
                "channels": self.arguments.channels,
                "tiles": self.tiles,
                "seed": self.arguments.seed,
                "winograd": deviation(self.rounding.winograd),
                "direct": deviation(self.rounding.direct),
            },
        })
    }

    fn text(&self) -> String {
        let derivation = &self.derivation;
        let (m, r, products) = (derivation.outputs(), derivation.taps(), derivation.products());
        let [few, many] = [derivation.multiplications(), derivation.direct_multiplications()];
        let transforms = ["input, Bᵀ d B", "filter, G g Gᵀ", "output, Aᵀ[…]A"].iter().zip(derivation.transforms());
        let transforms = transforms.map(|(name, Operations { additions, multiplications })| {
            vec![(*name).to_owned(), additions.to_string(), multiplications.to_string()]
        });
        let errors = [("Winograd", self.rounding.winograd), ("direct", self.rounding.direct)];
        let errors = errors
            .map(|(name, Deviation { max, rms })| vec![name.to_owned(), format!("{max:.1e}"), format!("{rms:.1e}")]);
        format!(
            "{}\n\
             y = Aᵀ[(G g) ⊙ (Bᵀ d)] along one axis; nested, Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A for {m}x{m} outputs of {r}x{r} taps\n\n\
             proved: all {} coefficients equal, {m} outputs x {r} taps x {products} inputs, in exact rationals; along both axes by nesting\n\
             multiplications: {} for {m}x{m} outputs, direct {}, {:.2} times as many\n\n\
             {}\n{}\
             relative to the result: largest error over largest value, rms error over rms; {} tiles, {} channels, random normal values \
             of seed {}\n",
            notation::write(derivation, Notation::Text),
            thousands(self.coefficients as u64),
            thousands(few as u64),
            thousands(many as u64),
            many as f64 / few as f64,
            table(
                &["transform of a tile", "additions", "multiplications by constants"],
                &transforms.collect::<Vec<_>>()
            ),
            table(&["error in f32", "largest", "rms"], &errors),
            self.tiles,
            self.arguments.channels,
            self.arguments.seed,
        )
    }
}
