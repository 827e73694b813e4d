//! Convolutions, and padding of every kind.

use repvgg_kernels::Geometry;

use super::attributes::count;
use super::constant::Constant;
use super::draft::Name;
use super::value::{Axis, Binding, Data, NCHW};
use super::{ReadResult, Reader, proto};
use crate::error::expected;
use crate::graph::Conv2d;
use crate::{Op, Tensor};

/// Zeros above and below, then left and right.
pub(super) type Padding = [[usize; 2]; 2];

/// The geometry of a sliding window.
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
}

impl Window {
    /// Reads the attributes of a node; `kernel` is the size of its window.
    pub(super) fn new(node: &proto::Node, kernel: [usize; 2]) -> ReadResult<Self> {
        let (stride, dilation) = (node.pair("strides", 1)?, node.pair("dilations", 1)?);
        let window = Self { kernel, stride, dilation };
        let positive = [("kernel_shape", window.kernel), ("strides", window.stride), ("dilations", window.dilation)];
        match positive.into_iter().find(|(_, pair)| pair.contains(&0)) {
            None => Ok(window),
            Some((name, pair)) => {
                Err(expected(format_args!("{name} of at least 1")).found(format_args!("{pair:?}")).into())
            }
        }
    }

    /// A node's padding; `size` is the size of its input, if known.
    pub(super) fn padding(&self, node: &proto::Node, size: [Option<usize>; 2]) -> ReadResult<Padding> {
        let mode = node.text("auto_pad", "NOTSET")?;
        match mode {
            "VALID" => Ok([[0; 2]; 2]),
            "NOTSET" | "" => match node.ints("pads") {
                None => Ok([[0; 2]; 2]),
                Some(&[top, left, bottom, right]) => {
                    let [top, left, bottom, right] = [top, left, bottom, right].map(|pad| count("pads", pad));
                    Ok([[top?, bottom?], [left?, right?]])
                }
                Some(other) => Err(expected("pads of two axes").found(format_args!("{} numbers", other.len())).into()),
            },
            "SAME_UPPER" | "SAME_LOWER" => {
                let mut padding = [[0; 2]; 2];
                for axis in 0..2 {
                    let total = self.same_padding(axis, size[axis])?;
                    let (less, more) = (total / 2, total - total / 2);
                    padding[axis] = if mode == "SAME_UPPER" { [less, more] } else { [more, less] };
                }
                Ok(padding)
            }
            other => Err(expected("auto_pad as ONNX defines it").found(format_args!("{other:?}")).into()),
        }
    }

    /// The zeros along an axis that give `⌈extent / stride⌉` windows.
    fn same_padding(&self, axis: usize, extent: Option<usize>) -> ReadResult<usize> {
        let span = self.span(axis)?;
        let Some(extent) = extent else {
            if self.stride[axis] == 1 {
                return Ok(span - 1);
            }
            return Err(expected("an input of fixed size for automatic padding")
                .found("a variable size")
                .to_owned()
                .into());
        };
        let windows = extent.div_ceil(self.stride[axis]);
        Ok((windows.saturating_sub(1) * self.stride[axis] + span).saturating_sub(extent))
    }

    /// The number of input pixels that a window spans along an axis.
    fn span(&self, axis: usize) -> ReadResult<usize> {
        let span = (self.kernel[axis] - 1).checked_mul(self.dilation[axis]).and_then(|gaps| gaps.checked_add(1));
        span.ok_or_else(|| "the kernel exceeds the address space".into())
    }
}

impl<'m> Reader<'m> {
    /// `Conv`
    pub(super) fn convolution(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let Binding::Data(data) = self.input_value(node, 0)? else {
            return Err(expected("a value that depends on the input").found("a constant").into());
        };
        let (weights, bias) = (self.constant(node, 1)?, self.optional_constant(node, 2)?);
        let &[out_channels, per_group, rows, columns] = weights.shape.as_slice() else {
            let axes = weights.shape.len().saturating_sub(2);
            return Err(expected("a convolution of two axes").found(format_args!("one of {axes}")).into());
        };
        if !data.is_nchw() {
            return Err(expected("maps [N, C, H, W]").found(format_args!("axes {:?}", data.axes)).into());
        }
        let groups = count("group", node.int("group", 1))?;
        if node.ints("kernel_shape").is_some() && node.pair("kernel_shape", 1)? != [rows, columns] {
            let stated = node.pair("kernel_shape", 1)?;
            return Err(expected(format_args!("kernel_shape {:?} as the weights have", [rows, columns]))
                .found(format_args!("{stated:?}"))
                .into());
        }
        let window = Window::new(node, [rows, columns])?;
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let size =
            [0, 1].map(|axis| [height, width][axis].map(|extent| extent + data.padding[axis].iter().sum::<usize>()));
        let own = window.padding(node, size)?;
        let in_channels = per_group.checked_mul(groups).ok_or("the number of channels overflows")?;
        let mut geometry = Geometry {
            in_channels,
            out_channels,
            kernel: window.kernel,
            stride: window.stride,
            padding: [0; 2],
            dilation: window.dilation,
            groups,
        };
        geometry.validate().map_err(|error| error.to_string())?;
        let total = add(data.padding, own);
        let (source, padding) = if is_expressible(total, window.dilation) {
            (Data { padding: [[0; 2]; 2], ..data }, total)
        } else {
            (self.apply_padding(Data { padding: total, ..data })?, [[0; 2]; 2])
        };
        let kernel = self.padded_kernel(&mut geometry, &weights, padding)?;
        let mut parameters = vec![("weight", kernel)];
        if let Some(bias) = &bias {
            if bias.floats()?.len() != out_channels {
                return Err(expected(format_args!("a bias of {out_channels}")).found(bias.floats()?.len()).into());
            }
            parameters.push(("bias", bias.tensor([out_channels])?));
        }
        let (bias, name) = (bias.is_some(), module_name(node, &weights));
        let draft = self.drafts.add_with(name, Op::Conv2d(Conv2d { geometry, bias }), &[source.draft], parameters)?;
        Ok(Data::new(draft, NCHW))
    }

    /// The weights for symmetric padding. If the sides differ, the kernel and `geometry` grow by zeros on the side with less
    /// padding.
    fn padded_kernel(&mut self, geometry: &mut Geometry, weights: &Constant, padding: Padding) -> ReadResult<Tensor> {
        let (old, mut before) = (geometry.kernel, [0; 2]);
        for axis in 0..2 {
            let [begin, end] = padding[axis];
            let taps = begin.abs_diff(end) / geometry.dilation[axis];
            geometry.padding[axis] = begin.max(end);
            geometry.kernel[axis] = old[axis].checked_add(taps).ok_or("the padding overflows")?;
            before[axis] = if begin < end { taps } else { 0 };
        }
        geometry.validate().map_err(|error| error.to_string())?;
        let shape =
            [geometry.out_channels, geometry.in_channels / geometry.groups, geometry.kernel[0], geometry.kernel[1]];
        if geometry.kernel == old {
            return weights.tensor(shape);
        }
        self.budget.take(geometry.weight_len())?;
        let mut kernel = Tensor::full(shape, 0.0);
        let filters = kernel.data_mut().chunks_exact_mut(shape[2] * shape[3]);
        for (filter, weights) in filters.zip(weights.floats()?.chunks_exact(old[0] * old[1])) {
            let rows = filter[before[0] * shape[3]..].chunks_exact_mut(shape[3]);
            for (row, weights) in rows.zip(weights.chunks_exact(old[1])) {
                row[before[1]..][..old[1]].copy_from_slice(weights);
            }
        }
        Ok(kernel)
    }

    /// `Pad` with zeros: around maps, which the convolution or pool that reads them absorbs, or as channels.
    pub(super) fn pad(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let Binding::Data(data) = self.input_value(node, 0)? else {
            return Err(expected("a value that depends on the input").found("a constant").into());
        };
        let mode = node.text("mode", "constant")?;
        let value = match self.optional_constant(node, 2)? {
            Some(value) => value.scalar()?,
            None => node.float("value", 0.0)?,
        };
        if mode != "constant" || value != 0.0 {
            return Err(expected("padding by zeros").found(format_args!("{mode} {value}")).into());
        }
        let pads = self.integers(node, "pads", 1)?.ok_or("missing pads")?;
        let axes: Vec<usize> = match self.optional_constant(node, 3)? {
            None => (0..data.axes.len()).collect(),
            Some(axes) => {
                let axes = axes.known()?;
                axes.into_iter()
                    .map(|axis| super::attributes::axis(axis, data.axes.len()))
                    .collect::<ReadResult<_>>()?
            }
        };
        if pads.len() != 2 * axes.len() {
            return Err(expected(format_args!("{} pads", 2 * axes.len())).found(pads.len()).into());
        }
        if pads.iter().any(|pad| *pad < 0) {
            return self.crop(node, data, &axes, &pads);
        }
        let mut padding = data.padding;
        let mut channels = [0; 2];
        for (index, &axis) in axes.iter().enumerate() {
            let [begin, end] = [pads[index], pads[index + axes.len()]].map(|pad| count("pads", pad));
            let sides = [begin?, end?];
            match data.axes[axis] {
                _ if sides == [0, 0] => {}
                Axis::Height => padding[0] = [padding[0][0] + sides[0], padding[0][1] + sides[1]],
                Axis::Width => padding[1] = [padding[1][0] + sides[0], padding[1][1] + sides[1]],
                Axis::Channel => channels = sides,
                other => return Err(expected("padding of maps").found(format_args!("padding of {other:?}")).into()),
            }
        }
        if padding.iter().flatten().any(|&pad| pad > 1 << 16) {
            return Err(expected("padding of at most 65536").found(format_args!("{padding:?}")).into());
        }
        let data = Data { padding, ..data };
        if channels == [0, 0] { Ok(data) } else { self.pad_channels(node, data, channels) }
    }

    /// `Pad` with negative numbers, which crops rows and columns.
    fn crop(&mut self, node: &'m proto::Node, data: Data, axes: &[usize], pads: &[i64]) -> ReadResult<Data> {
        let data = self.apply_padding(data)?;
        let mut padding = [[0; 2]; 2];
        for (index, &axis) in axes.iter().enumerate() {
            let sides = [pads[index], pads[index + axes.len()]];
            let place = match data.axes[axis] {
                _ if sides == [0, 0] => continue,
                Axis::Height => 0,
                Axis::Width => 1,
                other => return Err(expected("cropped maps").found(format_args!("{other:?} cut")).into()),
            };
            let side = |side: i64| isize::try_from(side).map_err(|_| expected("smaller pads").found(side));
            padding[place] = [side(sides[0])?, side(sides[1])?];
        }
        let op = Op::Pad { padding };
        op.check()?;
        let draft = self.drafts.add(node.title(), op, &[data.draft])?;
        Ok(Data::new(draft, data.axes))
    }

    /// Adds channels of zeros before and after those of a value, by a 1×1 convolution of zeros and ones.
    fn pad_channels(&mut self, node: &'m proto::Node, data: Data, [before, after]: [usize; 2]) -> ReadResult<Data> {
        if !data.is_nchw() {
            return Err(expected("maps [N, C, H, W]").found(format_args!("axes {:?}", data.axes)).into());
        }
        let data = self.apply_padding(data)?;
        let channels = self.channels(&data)?;
        let total = before.checked_add(after).and_then(|sum| sum.checked_add(channels));
        let total = total.ok_or("the number of channels overflows")?;
        let conv = Conv2d::square(channels, total, 1);
        conv.geometry.validate().map_err(|error| error.to_string())?;
        self.budget.take(conv.geometry.weight_len())?;
        let is_own = |index: usize| index / channels == before + index % channels;
        let kernel = Tensor::from_fn([total, channels, 1, 1], |index| f32::from(u8::from(is_own(index))));
        let op = Op::Conv2d(conv);
        let draft = self.drafts.add_with(Name::Other(node.title()), op, &[data.draft], vec![("weight", kernel)])?;
        Ok(Data::new(draft, NCHW))
    }

    /// Applies the pending padding of a value, if any, as a node of its own.
    pub(super) fn apply_padding(&mut self, data: Data) -> ReadResult<Data> {
        if data.padding == [[0; 2]; 2] {
            return Ok(data);
        }
        let padding = data.padding.map(|ends| ends.map(|end| end as isize));
        let name = format!("{}.pad", self.drafts.get(data.draft).name);
        let draft = self.drafts.add(&name, Op::Pad { padding }, &[data.draft])?;
        Ok(Data::new(draft, data.axes))
    }

    /// The number of channels of a value.
    pub(super) fn channels(&self, data: &Data) -> ReadResult<usize> {
        let channels = self.drafts.get(data.draft).extents[0];
        channels.ok_or_else(|| "the number of channels depends on the image's size".into())
    }
}

/// Whether a convolution can express the padding: if the sides differ, its kernel grows by multiples of the dilation.
fn is_expressible(padding: Padding, dilation: [usize; 2]) -> bool {
    (0..2).all(|axis| padding[axis][0].abs_diff(padding[axis][1]).is_multiple_of(dilation[axis]))
}

/// The sum of two paddings.
pub(super) fn add(a: Padding, b: Padding) -> Padding {
    [0, 1].map(|axis| [0, 1].map(|side| a[axis][side] + b[axis][side]))
}

/// The name of a node with parameters: `P` if its parameter is `P.weight`, otherwise its own.
pub(super) fn module_name<'a>(node: &'a proto::Node, parameter: &'a Constant) -> Name<'a> {
    let module = ["weight", "bias"].iter().find_map(|suffix| parameter.name.strip_suffix(suffix)?.strip_suffix('.'));
    match module {
        Some(module) if !module.is_empty() => Name::Module(module),
        _ => Name::Other(node.title()),
    }
}
