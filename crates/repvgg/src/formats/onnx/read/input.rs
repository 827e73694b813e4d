//! The network's input: the graph's only input that is not a constant.

use super::attributes::count;
use super::value::{Axis, Binding, Data, NCHW};
use super::{Reader, proto};
use crate::error::{Problem, expected};
use crate::formats::onnx::proto::data_type;
use crate::{Error, Result};

/// The most rows or columns of an image.
const MOST_PIXELS: usize = 1 << 16;

impl<'m> Reader<'m> {
    /// Adds the input as the first draft.
    pub(super) fn read_input(&mut self, graph: &'m proto::Graph) -> Result<()> {
        let mut inputs = graph.input.iter().filter(|input| !self.values.contains_key(input.name.as_str()));
        let (Some(input), more) = (inputs.next(), inputs.count()) else {
            return Err(Error::format("onnx", expected("an input").found("none")));
        };
        if more > 0 {
            return Err(Error::format("onnx", expected("one input").found(more + 1)));
        }
        let refuse = |problem: Problem| Error::format(format_args!("input {}", input.name), problem);
        let kind = input.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
        let element = kind.map_or(data_type::FLOAT, |kind| kind.elem_type);
        let is_float =
            matches!(element, data_type::FLOAT | data_type::FLOAT16 | data_type::DOUBLE | data_type::BFLOAT16);
        if !is_float && element != data_type::UINT8 {
            let what =
                expected("elements of floating-point numbers or bytes").found(format_args!("element type {element}"));
            return Err(refuse(what));
        }
        let shape = kind.and_then(|kind| kind.shape.as_ref());
        let shape = shape.ok_or_else(|| refuse(expected("a shape").found("none")))?;
        let extents = shape.dim.iter().map(|dimension| match dimension.value {
            // Some exporters write −1 for a variable extent.
            None | Some(-1) => Ok(None),
            Some(extent) if extent > 0 => count("an extent", extent).map(Some).map_err(|_| extent),
            Some(extent) => Err(extent),
        });
        let extents = extents.collect::<Result<Vec<Option<usize>>, i64>>();
        let extents = extents.map_err(|found| refuse(expected("positive extents").found(found)))?;
        let (batch, axes, [channels, height, width]) = match *extents.as_slice() {
            [n, h, w, c] if is_transposed(graph, &input.name) || !is_float && is_interleaved([h, c]) => {
                (n, vec![Axis::Batch, Axis::Height, Axis::Width, Axis::Channel], [c, h, w])
            }
            [n, c, h, w] => (n, NCHW.to_vec(), [c, h, w]),
            [n, features] => (n, vec![Axis::Batch, Axis::Channel], [features, Some(1), Some(1)]),
            _ => return Err(refuse(expected("images [N, C, H, W] or rows [N, C]").found(format_args!("{extents:?}")))),
        };
        let channels = channels.or_else(|| channels_by_reader(graph, &input.name));
        let channels = channels.ok_or_else(|| refuse(expected("a number of channels").found("none")))?;
        if [height, width].iter().flatten().any(|&extent| extent > MOST_PIXELS) {
            let what =
                expected(format_args!("at most {MOST_PIXELS} rows and columns")).found(format_args!("{extents:?}"));
            return Err(refuse(what));
        }
        self.batch = batch;
        self.size = height.zip(width).map(|(height, width)| [height, width]);
        self.drafts.input(input.name.clone(), channels, [height, width]);
        self.values.insert(&input.name, Binding::Data(Data::new(0, axes)));
        Ok(())
    }
}

/// Whether every reader of the input transposes it from `[N, H, W, C]` to `[N, C, H, W]`.
fn is_transposed(graph: &proto::Graph, name: &str) -> bool {
    let mut readers = graph.node.iter().filter(|node| node.input.iter().any(|input| input == name)).peekable();
    readers.peek().is_some()
        && readers.all(|node| node.op_type == "Transpose" && node.ints("perm") == Some(&[0, 3, 1, 2]))
}

/// Whether the last axis, rather than the second, has the extent of the channels of a picture.
fn is_interleaved([second, last]: [Option<usize>; 2]) -> bool {
    let is_picture = |extent: Option<usize>| matches!(extent, Some(1 | 3));
    is_picture(last) && !is_picture(second)
}

/// The number of channels that a convolution on the input reads.
fn channels_by_reader(graph: &proto::Graph, name: &str) -> Option<usize> {
    let reads = |node: &&proto::Node| node.op_type == "Conv" && node.input.first().is_some_and(|input| input == name);
    let node = graph.node.iter().find(reads)?;
    let weights = node.input.get(1)?;
    let tensor = graph.initializer.iter().find(|tensor| tensor.name == *weights)?;
    count("channels", tensor.dims.get(1)?.checked_mul(node.int("group", 1))?).ok()
}
