//! Pools, over windows and over whole maps.

use super::attributes::{axis, count};
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
            let fits = (0..2).all(|axis| all[axis].iter().all(|&pad| pad < pool.kernel[axis]));
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
        if window.dilation != [1, 1] {
            return Err(expected("a pool without dilation").found(format_args!("{:?}", window.dilation)).into());
        }
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let size = [0, 1].map(|axis| Some([height, width][axis]? + data.padding[axis].iter().sum::<usize>()));
        let stated = window.padding(node, size)?;
        let mut padding = stated;
        if node.int("ceil_mode", 0) != 0 {
            for axis in 0..2 {
                padding[axis][1] = rounded_up(&window, axis, stated[axis], size[axis]);
            }
        }
        let Window { kernel, stride, .. } = window;
        Ok((Pool { kernel, stride, padding }, stated))
    }

    /// `Slice` of every n-th row and column of maps: an average pool with windows of one pixel.
    pub(super) fn strided_slice(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let none = |what: &str| expected(what).found("none");
        let starts = self.integers(node, "starts", 1)?.ok_or_else(|| none("starts"))?;
        let ends = self.integers(node, "ends", 2)?.ok_or_else(|| none("ends"))?;
        let axes = self.integers(node, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.integers(node, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(expected("equal numbers of starts, ends, axes and steps").found("different numbers").into());
        }
        let [channels, height, width] = self.drafts.get(data.draft).extents;
        let mut stride = [1; 2];
        let mut selected = None;
        for (((start, end), index), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let along = data.axes[axis(index, data.axes.len())?];
            if let (Axis::Channel, Some(channels), 1) = (along, channels, step) {
                let place = |place: i64| if place < 0 { place.saturating_add(channels as i64) } else { place };
                let [start, end] = [start, end].map(|end| place(end).clamp(0, channels as i64) as usize);
                if start >= end {
                    return Err(expected(format_args!("some of {channels} channels"))
                        .found(format_args!("{start} to {end}"))
                        .into());
                }
                selected = Some(start..end);
                continue;
            }
            let (along, extent) = match along {
                Axis::Height => (Some(0), height),
                Axis::Width => (Some(1), width),
                _ => (None, None),
            };
            let is_whole =
                start == 0 && (end >= i64::from(i32::MAX) || extent.is_some_and(|extent| end >= extent as i64));
            match along {
                Some(axis) if is_whole && step > 0 => stride[axis] = count("steps", step)?,
                _ if is_whole && step == 1 => {}
                _ => {
                    let what = expected("every n-th row and column").found(format_args!("{start} to {end} by {step}"));
                    return Err(what.into());
                }
            }
        }
        let data = match selected {
            Some(channels) => self.slice_channels(node, &data, channels)?,
            None => data,
        };
        if stride == [1, 1] {
            return Ok(data);
        }
        let pool = Pool { kernel: [1; 2], stride, padding: [[0; 2]; 2] };
        let draft = self.drafts.add(node.title(), Op::AvgPool(pool), &[data.draft])?;
        Ok(Data::new(draft, NCHW))
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
        let pool = Pool { kernel: [height, width], stride: [1; 2], padding: [[0; 2]; 2] };
        let draft = self.drafts.add(node.title(), Op::MaxPool(pool), &[data.draft])?;
        Ok(Data::new(draft, [Axis::Batch, Axis::Channel, Axis::One, Axis::One]))
    }

    /// `ReduceMean` over height and width.
    pub(super) fn reduce_mean(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let axes = self.integers(node, "axes", 1)?.filter(|axes| !axes.is_empty());
        let axes = axes.ok_or_else(|| expected("a mean over height and width").found("one over all axes"))?;
        let axes: Vec<usize> = axes.into_iter().map(|index| axis(index, data.axes.len())).collect::<ReadResult<_>>()?;
        let is_reduced = |wanted: Axis| axes.iter().any(|&index| data.axes[index] == wanted);
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let covers =
            |wanted: Axis, extent: Option<usize>| is_reduced(wanted) || is_reduced(Axis::Pixels) || extent == Some(1);
        let only_pixels =
            axes.iter().all(|&index| matches!(data.axes[index], Axis::Height | Axis::Width | Axis::Pixels | Axis::One));
        if !only_pixels || !covers(Axis::Height, height) || !covers(Axis::Width, width) {
            let named: Vec<Axis> = axes.iter().map(|&index| data.axes[index]).collect();
            return Err(expected("a mean over height and width").found(format_args!("one over {named:?}")).into());
        }
        let keeps = node.int("keepdims", 1) != 0;
        let remaining = data.axes.iter().enumerate().filter_map(|(index, &axis)| match axes.contains(&index) {
            true => keeps.then_some(Axis::One),
            false => Some(axis),
        });
        let remaining: Vec<Axis> = remaining.collect();
        if (height, width) == (Some(1), Some(1)) {
            return Ok(data.with_axes(remaining));
        }
        let draft = self.drafts.add(node.title(), Op::GlobalAvgPool, &[data.draft])?;
        Ok(Data::new(draft, remaining))
    }
}

/// The end padding with which rounding the size down gives the windows that rounding up gives without it. `begin` and `end`
/// are the stated padding. A window never starts beyond the input.
fn rounded_up(window: &Window, axis: usize, [begin, end]: [usize; 2], extent: Option<usize>) -> usize {
    let (kernel, stride) = (window.kernel[axis], window.stride[axis]);
    let most = (end + stride - 1).min((kernel - 1).max(end));
    let Some(padded) = extent.map(|extent| begin + extent) else { return most };
    // If the size is known, pad only what the last window needs.
    let windows = (padded + most).checked_sub(kernel).map_or(0, |room| room / stride);
    (windows * stride + kernel).saturating_sub(padded).max(end)
}
