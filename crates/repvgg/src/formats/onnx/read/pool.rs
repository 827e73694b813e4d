//! Pools, over windows and over whole maps.

use super::convolution::{Padding, Window, add};
use super::value::{Axis, Binding, Data, NCHW};
use super::{ReadResult, Reader, proto};
use crate::Op;
use crate::error::expected;
use crate::graph::Pool;

impl<'m> Reader<'m> {
    /// `MaxPool`
    pub(super) fn max_pool(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let (pool, _) = self.window(node, &data)?;
        let draft = self.drafts.add(node.title(), Op::MaxPool(pool), &[data.draft])?;
        Ok(Data::new(draft, NCHW))
    }

    /// `AveragePool`
    pub(super) fn average_pool(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let Binding::Data(mut data) = self.input_value(node, 0)? else {
            return Err(expected("a value that depends on the input").found("a constant").into());
        };
        let counts_padding = node.int("count_include_pad", 0) != 0;
        let (mut pool, stated) = self.window(node, &data)?;
        // Zeros from an earlier `Pad` count in the mean, so the pool absorbs them only if all its padding counts.
        if data.padding != [[0; 2]; 2] {
            let all = add(pool.padding, data.padding);
            let span = |axis: usize| (pool.kernel[axis] - 1) * pool.dilation[axis] + 1;
            let fits = (0..2).all(|axis| all[axis].iter().all(|&pad| pad < span(axis)));
            let own_count = counts_padding && stated == pool.padding || pool.padding == [[0; 2]; 2];
            if fits && own_count {
                pool.padding = all;
                let draft = self.drafts.add(node.title(), Op::AvgPool(pool), &[data.draft])?;
                return Ok(Data::new(draft, NCHW));
            }
            data = self.apply_padding(data)?;
        }
        let op = if pool.padding == [[0; 2]; 2] {
            Op::AvgPool(pool)
        } else if !counts_padding || stated == [[0; 2]; 2] {
            // Pixels added by rounding the size up never count.
            Op::AvgPoolInside(pool)
        } else if stated == pool.padding {
            Op::AvgPool(pool)
        } else {
            let problem = expected("a mean over padding without ceil_mode").found("ceil_mode");
            return Err(problem.to_owned().into());
        };
        let draft = self.drafts.add(node.title(), op, &[data.draft])?;
        Ok(Data::new(draft, NCHW))
    }

    /// The window of a pool, and the padding that the node states, which is smaller if the output size is rounded up.
    fn window(&self, node: &proto::Node, data: &Data) -> ReadResult<(Pool, Padding)> {
        if !data.is_nchw() {
            return Err(expected("maps [N, C, H, W]").found(format_args!("axes {:?}", data.axes)).into());
        }
        let kernel = node.ints("kernel_shape").ok_or_else(|| expected("kernel_shape").found("none"))?;
        let axes = kernel.len();
        if axes != 2 {
            return Err(expected("a pool of two axes").found(format_args!("one of {axes}")).into());
        }
        let window = Window::new(node, node.pair("kernel_shape", 1)?)?;
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let size = [0, 1].map(|axis| Some([height, width][axis]? + data.padding[axis].iter().sum::<usize>()));
        let stated = window.padding(node, size)?;
        let mut padding = stated;
        if node.int("ceil_mode", 0) != 0 {
            for axis in 0..2 {
                padding[axis][1] = rounded_up(&window, axis, stated[axis], size[axis]);
            }
        }
        let Window { kernel, stride, dilation } = window;
        Ok((Pool { kernel, stride, dilation, padding }, stated))
    }

    /// `GlobalAveragePool`
    pub(super) fn global_average_pool(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        if !data.is_nchw() {
            return Err(expected("maps [N, C, H, W]").found(format_args!("axes {:?}", data.axes)).into());
        }
        let draft = self.drafts.add(node.title(), Op::GlobalAvgPool, &[data.draft])?;
        Ok(Data::new(draft, [Axis::Batch, Axis::Channel, Axis::One, Axis::One]))
    }

    /// `GlobalMaxPool`, of maps whose size is known.
    pub(super) fn global_max_pool(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let [_, Some(height), Some(width)] = self.drafts.get(data.draft).extents else {
            return Err(expected("an input of fixed size").found("a variable size").into());
        };
        if !data.is_nchw() {
            return Err(expected("maps [N, C, H, W]").found(format_args!("axes {:?}", data.axes)).into());
        }
        let pool = whole([height, width]);
        let draft = self.drafts.add(node.title(), Op::MaxPool(pool), &[data.draft])?;
        Ok(Data::new(draft, [Axis::Batch, Axis::Channel, Axis::One, Axis::One]))
    }
}

/// The window of a whole map.
pub(super) fn whole(size: [usize; 2]) -> Pool {
    Pool { kernel: size, stride: [1; 2], dilation: [1; 2], padding: [[0; 2]; 2] }
}

/// The end padding with which rounding the size down gives the windows that rounding up gives without it. `begin` and `end`
/// are the stated padding. A window never starts beyond the input.
fn rounded_up(window: &Window, axis: usize, [begin, end]: [usize; 2], extent: Option<usize>) -> usize {
    let (kernel, stride) = ((window.kernel[axis] - 1) * window.dilation[axis] + 1, window.stride[axis]);
    let most = (end + stride - 1).min((kernel - 1).max(end));
    let Some(padded) = extent.map(|extent| begin + extent) else { return most };
    // If the size is known, pad only what the last window needs.
    let windows = (padded + most).checked_sub(kernel).map_or(0, |room| room / stride);
    (windows * stride + kernel).saturating_sub(padded).max(end)
}
