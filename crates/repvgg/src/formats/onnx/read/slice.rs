//! `Slice`, of values and of constants.

use super::attributes::{axis, count};
use super::constant::Constant;
use super::fold::select;
use super::value::{Axis, Data};
use super::{ReadResult, Reader, proto};
use crate::Op;
use crate::error::expected;
use crate::graph::Pool;

/// A slice of one axis: `start, start + step, …` up to `end`, as the file states it.
struct Cut {
    axis: usize,
    start: i64,
    end: i64,
    step: i64,
}

/// The elements that a cut takes from an axis.
struct Taken {
    start: usize,
    count: usize,
    /// Negative for elements in reverse.
    step: i64,
}

impl Cut {
    /// The elements that it takes from `extent`.
    fn of(&self, extent: usize) -> ReadResult<Taken> {
        let length = extent as i64;
        let from_start = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
        let (start, count) = if self.step > 0 {
            let (start, end) = (from_start(self.start).clamp(0, length), from_start(self.end).clamp(0, length));
            (start, (end - start).max(0).unsigned_abs().div_ceil(self.step.unsigned_abs()))
        } else {
            let (start, end) =
                (from_start(self.start).clamp(-1, length - 1), from_start(self.end).clamp(-1, length - 1));
            (start, (start - end).max(0).unsigned_abs().div_ceil(self.step.unsigned_abs()))
        };
        match (usize::try_from(start), usize::try_from(count)) {
            (Ok(start), Ok(count)) if count > 0 => Ok(Taken { start, count, step: self.step }),
            _ => Err(expected(format_args!("some of {extent} elements")).found(self.to_string()).into()),
        }
    }

    /// What it cuts off the beginning and the end of an axis whose extent may be unknown.
    fn margins(&self, extent: Option<usize>) -> ReadResult<[usize; 2]> {
        let Some(extent) = extent else {
            let end =
                if self.end >= i64::from(i32::MAX) { Some(0) } else { self.end.checked_neg().filter(|end| *end > 0) };
            return match (count("starts", self.start), end) {
                (Ok(start), Some(end)) => Ok([start, count("ends", end)?]),
                _ => Err(expected("an input of fixed size for this slice").found("a variable size").into()),
            };
        };
        let Taken { start, count, step } = self.of(extent)?;
        let last = start + (count - 1) * step.unsigned_abs() as usize;
        Ok([start, extent - 1 - last])
    }
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {} by {}", self.start, self.end, self.step)
    }
}

impl<'m> Reader<'m> {
    /// The cuts that a node states, for a value of `rank` axes.
    fn cuts(&mut self, node: &'m proto::Node, rank: usize) -> ReadResult<Vec<Cut>> {
        let none = |what: &str| expected(what).found("none");
        let starts = self.integers(node, "starts", 1)?.ok_or_else(|| none("starts"))?;
        let ends = self.integers(node, "ends", 2)?.ok_or_else(|| none("ends"))?;
        let axes = self.integers(node, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.integers(node, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(expected("equal numbers of starts, ends, axes and steps").found("different numbers").into());
        }
        if steps.contains(&0) {
            return Err(expected("steps other than 0").found(0).into());
        }
        let bounds = starts.into_iter().zip(ends).zip(axes).zip(steps);
        bounds.map(|(((start, end), index), step)| Ok(Cut { axis: axis(index, rank)?, start, end, step })).collect()
    }

    /// `Slice` of maps: of channels in any way, of rows and columns as a crop and an average pool with windows of one pixel.
    pub(super) fn slice(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let mut data = self.data(node, 0)?;
        let (mut padding, mut stride) = ([[0; 2]; 2], [1; 2]);
        for cut in self.cuts(node, data.axes.len())? {
            let along = data.axes[cut.axis];
            let place = match along {
                Axis::Channel => {
                    let Taken { start, count, step } = cut.of(self.channels(&data)?)?;
                    let place = |index: usize| (start as i64 + index as i64 * step) as usize;
                    let places: Vec<usize> = (0..count).map(place).collect();
                    data = self.select_channels(node, &data, &places)?;
                    continue;
                }
                Axis::Height => 0,
                Axis::Width => 1,
                _ if cut.start == 0 && cut.end >= i64::from(i32::MAX) && cut.step == 1 => continue,
                other => {
                    return Err(expected("a slice of channels, rows or columns")
                        .found(format_args!("{other:?}"))
                        .into());
                }
            };
            if cut.step < 0 {
                return Err(expected("rows and columns in order").found(format_args!("{cut}, in reverse")).into());
            }
            let extent = self.drafts.get(data.draft).extents[place + 1];
            let margins = cut.margins(extent)?;
            padding[place] = margins.map(|margin| -(margin as isize));
            stride[place] = count("steps", cut.step)?;
        }
        if padding != [[0; 2]; 2] {
            let op = Op::Pad { padding };
            op.check()?;
            data = Data::new(self.drafts.add(&format!("{}.crop", node.title()), op, &[data.draft])?, data.axes);
        }
        if stride != [1; 2] {
            let pool = Pool { kernel: [1; 2], stride, dilation: [1; 2], padding: [[0; 2]; 2] };
            data = Data::new(self.drafts.add(node.title(), Op::AvgPool(pool), &[data.draft])?, data.axes);
        }
        Ok(data)
    }

    /// `Slice` of a constant.
    pub(super) fn slice_constant(&mut self, node: &'m proto::Node, constant: &Constant) -> ReadResult<Constant> {
        let mut sliced = constant.clone();
        for cut in self.cuts(node, constant.shape.len())? {
            let extent = sliced.shape[cut.axis];
            // An empty slice is a valid constant.
            let Taken { start, count, step } = cut.of(extent).unwrap_or(Taken { start: 0, count: 0, step: 1 });
            let inner: usize = sliced.shape[cut.axis + 1..].iter().product();
            let outer: usize = sliced.shape[..cut.axis].iter().product();
            let mut shape = sliced.shape.clone();
            shape[cut.axis] = count;
            self.budget.take(outer.saturating_mul(count).saturating_mul(inner))?;
            let place = |index: usize| (start as i64 + index as i64 * step) as usize;
            let rows = (0..outer).flat_map(|block| (0..count).map(move |index| block * extent + place(index)));
            let indices = rows.flat_map(|row| row * inner..(row + 1) * inner);
            sliced = select(&sliced, shape, indices);
        }
        Ok(sliced)
    }
}
