//! `Resize` and `Upsample`.

use super::constant::Extent;
use super::value::{Axis, Data};
use super::{ReadResult, Reader, proto};
use crate::Op;
use crate::error::expected;
use crate::graph::{Coordinates, Resize, ResizeTarget, Rounding, Sampling};

/// The first opsets in which the operators changed.
const SCALES_ARE_INPUTS: i64 = 9;
const COORDINATES: i64 = 11;

const ANTIALIASED: &str =
    "one that shrinks with it; export the network without its preprocessing, which `repvgg` does outside it";

impl<'m> Reader<'m> {
    /// `Resize`, `Upsample`
    pub(super) fn resize(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let target = match self.resize_scales(node)? {
            Some(scales) => self.target_of_scales(node, &data, &scales)?,
            None => self.target_of_sizes(node, &data)?,
        };
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let keeps = match target {
            ResizeTarget::Scale(factors) => factors == [1.0; 2],
            ResizeTarget::Size(size) => size.map(Some) == [height, width],
        };
        if keeps {
            return Ok(data);
        }
        let shrinks = match target {
            ResizeTarget::Scale(factors) => factors.iter().any(|factor| *factor < 1.0),
            ResizeTarget::Size(size) => {
                [height, width].iter().zip(size).any(|(old, new)| old.is_none_or(|old| new < old))
            }
        };
        if node.int("antialias", 0) != 0 && shrinks {
            return Err(expected("a resize without antialias").found(ANTIALIASED).into());
        }
        let (sampling, coordinates) = self.sampling(node, shrinks)?;
        let op = Op::Resize(Resize { target, sampling, coordinates });
        op.check()?;
        let draft = self.drafts.add(node.title(), op, &[data.draft])?;
        Ok(Data::new(draft, data.axes))
    }

    /// The factors that a node states, if it does not state sizes.
    fn resize_scales(&mut self, node: &'m proto::Node) -> ReadResult<Option<Vec<f32>>> {
        if self.opset < SCALES_ARE_INPUTS {
            if let Some(scales) = node.floats("scales") {
                return Ok(Some(scales.to_vec()));
            }
            let [height, width] = ["height_scale", "width_scale"].map(|name| node.float(name, 1.0));
            return Ok(Some(vec![1.0, 1.0, height?, width?]));
        }
        let index = if node.op_type == "Upsample" || self.opset < COORDINATES { 1 } else { 2 };
        let scales = self.optional_constant(node, index)?.map(|scales| scales.floats().map(<[f32]>::to_vec));
        Ok(scales.transpose()?.filter(|scales| !scales.is_empty()))
    }

    /// The axes of the value that the entries of scales and sizes are for.
    fn resized_axes(&mut self, node: &'m proto::Node, data: &Data, entries: usize) -> ReadResult<Vec<Axis>> {
        let axes: Vec<Axis> = match node.ints("axes") {
            Some(axes) => {
                let axis = |&index: &i64| Ok(data.axes[super::attributes::axis(index, data.axes.len())?]);
                axes.iter().map(axis).collect::<ReadResult<_>>()?
            }
            None => data.axes.clone(),
        };
        match axes.len() == entries {
            true => Ok(axes),
            false => Err(expected(format_args!("{} scales or sizes", axes.len())).found(entries).into()),
        }
    }

    fn target_of_scales(&mut self, node: &'m proto::Node, data: &Data, scales: &[f32]) -> ReadResult<ResizeTarget> {
        let mut factors = [1.0; 2];
        for (axis, &scale) in self.resized_axes(node, data, scales.len())?.into_iter().zip(scales) {
            match axis {
                Axis::Height => factors[0] = scale,
                Axis::Width => factors[1] = scale,
                _ if scale == 1.0 => {}
                other => {
                    let what = expected("a resize of height and width").found(format_args!("{scale} times {other:?}"));
                    return Err(what.into());
                }
            }
        }
        Ok(ResizeTarget::Scale(factors))
    }

    fn target_of_sizes(&mut self, node: &'m proto::Node, data: &Data) -> ReadResult<ResizeTarget> {
        let policy = node.text("keep_aspect_ratio_policy", "stretch")?;
        if policy != "stretch" {
            return Err(expected("the policy stretch").found(format_args!("{policy:?}")).into());
        }
        let sizes = self.optional_constant(node, 3)?.ok_or_else(|| expected("scales or sizes").found("neither"))?;
        let sizes = sizes.extents()?.to_vec();
        let source = self.shape_of(data);
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let mut size = [height, width];
        for (axis, &extent) in self.resized_axes(node, data, sizes.len())?.iter().zip(&sizes) {
            let own = data.axes.iter().position(|own| own == axis).map(|index| source[index]);
            match (axis, extent) {
                (Axis::Height, Extent::Known(extent)) => size[0] = Some(super::attributes::count("sizes", extent)?),
                (Axis::Width, Extent::Known(extent)) => size[1] = Some(super::attributes::count("sizes", extent)?),
                (Axis::Height | Axis::Width, _) => size = [None; 2],
                (_, extent) if Some(extent) == own => {}
                (other, _) => {
                    let what = expected("a resize of height and width").found(format_args!("one of {other:?}"));
                    return Err(what.into());
                }
            }
        }
        match size {
            [Some(height), Some(width)] => Ok(ResizeTarget::Size([height, width])),
            _ => {
                let what = expected("a size that the file fixes, or factors");
                Err(what.found("one that depends on the image's size; export the file for one size").into())
            }
        }
    }

    /// The values between pixels, and where the result's pixels lie.
    fn sampling(&self, node: &'m proto::Node, shrinks: bool) -> ReadResult<(Sampling, Coordinates)> {
        let has_coordinates = node.op_type == "Resize" && self.opset >= COORDINATES;
        let coordinates = match node.text("coordinate_transformation_mode", "half_pixel")? {
            _ if !has_coordinates => Coordinates::Asymmetric,
            "half_pixel" => Coordinates::HalfPixel,
            "pytorch_half_pixel" => Coordinates::HalfPixelOrOrigin,
            "align_corners" => Coordinates::AlignCorners,
            "asymmetric" => Coordinates::Asymmetric,
            other => {
                let known = expected("half_pixel, pytorch_half_pixel, align_corners or asymmetric coordinates");
                return Err(known.found(format_args!("{other:?}")).into());
            }
        };
        let sampling = match node.text("mode", "nearest")? {
            "linear" | "bilinear" => Sampling::Linear,
            // Early opsets do not say which pixel is the nearest one of a smaller map.
            "nearest" if !has_coordinates && shrinks => {
                return Err(expected("nearest neighbours of a larger map before opset 11")
                    .found("a smaller one")
                    .into());
            }
            "nearest" if !has_coordinates => Sampling::Nearest(Rounding::Floor),
            "nearest" => Sampling::Nearest(match node.text("nearest_mode", "round_prefer_floor")? {
                "round_prefer_floor" => Rounding::HalfDown,
                "round_prefer_ceil" => Rounding::HalfUp,
                "floor" => Rounding::Floor,
                "ceil" => Rounding::Ceil,
                other => {
                    return Err(expected("nearest_mode as ONNX defines it").found(format_args!("{other:?}")).into());
                }
            }),
            other => return Err(expected("nearest or linear resizing").found(format_args!("{other:?}")).into()),
        };
        Ok((sampling, coordinates))
    }
}
