//! Writes the evaluation transform as nodes, from an image of any size to the network's input.

use super::super::proto::data_type;
use super::build::{Builder, float, int, ints, text};
use super::value_info::Extent;
use crate::error::expected;
use crate::image::{Interpolation, Preprocessing};
use crate::{Error, Result};

/// Adds the transform from `image`, uint8 `[batch, height, width, 3]`, to `[batch, channels, S, S]`. Returns the name of the
/// transformed value.
///
/// Like Pillow, it resamples the columns first, then the rows, and rounds and clips the values to a byte after each pass.
///
/// # Errors
/// When the settings are invalid, for an input that is not square, or those of another number of channels.
pub(super) fn preprocess(builder: &mut Builder<'_>, settings: &Preprocessing, channels: usize) -> Result<String> {
    settings.check()?;
    settings.check_channels(channels)?;
    let [size, width] = settings.size;
    if size != width {
        let problem = expected("a square input").found(format_args!("{size}x{width}"));
        return Err(Error::spec("preprocessing", problem));
    }
    let extents = [Extent::Named("batch"), Extent::Named("height"), Extent::Named("width"), Extent::Known(3)];
    let image = builder.input("image", data_type::UINT8, &extents);
    let mut nodes = Nodes { builder };

    // The short side becomes `short`, the long side in proportion, rounded down.
    let shape = nodes.apply("shape", "Shape", &[&image]);
    let sides = [("height", 1), ("width", 2)].map(|(name, axis)| nodes.element(name, &shape, axis));
    let shorter = nodes.apply("shorter", "Min", &[&sides[0], &sides[1]]);
    let short = nodes.builder.integers("preprocess.short", &[settings.covered()[0] as i64]);
    let full = [("full_height", &sides[0]), ("full_width", &sides[1])].map(|(name, side)| {
        let product = nodes.apply(&format!("{name}.product"), "Mul", &[side, &short]);
        nodes.apply(name, "Div", &[&product, &shorter])
    });

    let planes = nodes.builder.node("preprocess.planes", "Transpose", &[&image], vec![ints("perm", [0, 3, 1, 2])]);
    let planes = nodes.builder.cast("preprocess.float", &planes, data_type::FLOAT);
    let narrow = nodes.resize("columns", &planes, 3, &full[1], settings.interpolation);
    let resized = nodes.resize("rows", &narrow, 2, &full[0], settings.interpolation);
    let cropped = nodes.crop(&resized, &full, size as i64);
    let pixels = if settings.channels() == 1 { nodes.luma(&cropped) } else { cropped };
    Ok(nodes.normalise(&pixels, settings))
}

struct Nodes<'b, 'a> {
    builder: &'b mut Builder<'a>,
}

impl Nodes<'_, '_> {
    /// A node without attributes.
    fn apply(&mut self, name: &str, op_type: &str, inputs: &[&str]) -> String {
        self.builder.node(&format!("preprocess.{name}"), op_type, inputs, Vec::new())
    }

    fn number(&mut self, name: &str, value: f32) -> String {
        self.builder.floats(&format!("preprocess.{name}"), &[], vec![value])
    }

    /// One element of a list, as a list of one.
    fn element(&mut self, name: &str, list: &str, index: i64) -> String {
        let index = self.builder.integers(&format!("preprocess.{name}.index"), &[index]);
        self.apply(name, "Gather", &[list, &index])
    }

    /// Resamples along one axis to `extent`, a value, and rounds to whole numbers from 0 to 255.
    fn resize(&mut self, name: &str, value: &str, axis: usize, extent: &str, interpolation: Interpolation) -> String {
        let mut attributes = vec![
            int("antialias", 1),
            ints("axes", [axis]),
            text("coordinate_transformation_mode", "half_pixel"),
            // Pixels outside the image have no weight.
            int("exclude_outside", 1),
        ];
        match interpolation {
            Interpolation::Bilinear => attributes.push(text("mode", "linear")),
            Interpolation::Bicubic => {
                attributes.push(float("cubic_coeff_a", -0.5));
                attributes.push(text("mode", "cubic"));
            }
        }
        let resized = self.builder.node(&format!("preprocess.{name}"), "Resize", &[value, "", "", extent], attributes);
        // Halves are rounded up, where ONNX's `Round` rounds to even.
        let half = self.number(&format!("{name}.half"), 0.5);
        let raised = self.apply(&format!("{name}.raised"), "Add", &[&resized, &half]);
        let rounded = self.apply(&format!("{name}.rounded"), "Floor", &[&raised]);
        let [low, high] = [("low", 0.0), ("high", 255.0)].map(|(bound, x)| self.number(&format!("{name}.{bound}"), x));
        self.apply(&format!("{name}.byte"), "Clip", &[&rounded, &low, &high])
    }

    /// Crops the central square; half a pixel is rounded to even.
    fn crop(&mut self, value: &str, full: &[String; 2], size: i64) -> String {
        let size = self.builder.integers("preprocess.size", &[size]);
        let half = self.number("crop.half", 0.5);
        let mut bounds = [Vec::new(), Vec::new()];
        for (name, full) in ["top", "left"].iter().zip(full) {
            let margin = self.apply(&format!("{name}.margin"), "Sub", &[full, &size]);
            let margin = self.builder.cast(&format!("preprocess.{name}.float"), &margin, data_type::FLOAT);
            let halved = self.apply(&format!("{name}.half"), "Mul", &[&margin, &half]);
            let rounded = self.apply(&format!("{name}.rounded"), "Round", &[&halved]);
            let start = self.builder.cast(&format!("preprocess.{name}"), &rounded, data_type::INT64);
            bounds[1].push(self.apply(&format!("{name}.end"), "Add", &[&start, &size]));
            bounds[0].push(start);
        }
        let [starts, ends] = [("starts", 0), ("ends", 1)].map(|(name, index)| {
            let both: Vec<&str> = bounds[index].iter().map(String::as_str).collect();
            self.builder.node(&format!("preprocess.{name}"), "Concat", &both, vec![int("axis", 0)])
        });
        let axes = self.builder.integers("preprocess.axes", &[2, 3]);
        self.apply("crop", "Slice", &[value, &starts, &ends, &axes])
    }

    /// The Rec. 601 luma in 16-bit fixed point: all numbers are integers below 2²⁴, exact in single precision.
    fn luma(&mut self, value: &str) -> String {
        let factors = self.builder.floats("preprocess.luma.weight", &[1, 3, 1, 1], vec![19595.0, 38470.0, 7471.0]);
        let half = self.builder.floats("preprocess.luma.bias", &[1], vec![32768.0]);
        let sum = self.apply("luma.sum", "Conv", &[value, &factors, &half]);
        let unit = self.number("luma.unit", 65536.0);
        let quotient = self.apply("luma.quotient", "Div", &[&sum, &unit]);
        self.apply("luma", "Floor", &[&quotient])
    }

    /// `(value / 255 − mean) / std`
    fn normalise(&mut self, value: &str, settings: &Preprocessing) -> String {
        let shape = [settings.channels(), 1, 1];
        let white = self.number("white", 255.0);
        let mean = self.builder.floats("preprocess.mean", &shape, settings.mean.clone());
        let std = self.builder.floats("preprocess.std", &shape, settings.std.clone());
        let value = self.apply("unit", "Div", &[value, &white]);
        let value = self.apply("centred", "Sub", &[&value, &mean]);
        self.apply("normalised", "Div", &[&value, &std])
    }
}
