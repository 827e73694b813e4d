//! Reductions over height and width, over groups of channels, and of constants.

use super::attributes::axis;
use super::constant::{Constant, ConstantData, Extent, StridedIndices};
use super::operator::KEPT;
use super::pool::whole;
use super::value::{Axis, Data};
use super::{ReadResult, Reader, proto};
use crate::error::expected;
use crate::{Op, Tensor, element_count};

/// Whether an operator reduces along axes.
pub(super) fn is_reduction(op_type: &str) -> bool {
    matches!(op_type, "ReduceMax" | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum")
}

impl<'m> Reader<'m> {
    /// The axes that a node reduces, of `rank`, in ascending order: all of them unless it states some.
    fn reduced_axes(&mut self, node: &'m proto::Node, rank: usize) -> ReadResult<Vec<usize>> {
        let stated = self.integers(node, "axes", 1)?.filter(|axes| !axes.is_empty());
        let Some(stated) = stated else {
            return Ok(if node.int("noop_with_empty_axes", 0) != 0 { Vec::new() } else { (0..rank).collect() });
        };
        let mut axes: Vec<usize> = stated.into_iter().map(|index| axis(index, rank)).collect::<ReadResult<_>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    /// `ReduceMean`, `ReduceSum` and `ReduceMax` over pixels; `ReduceSum` over groups of channels as well.
    pub(super) fn reduce(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let axes = self.reduced_axes(node, data.axes.len())?;
        if let ([only], "ReduceSum") = (axes.as_slice(), node.op_type.as_str())
            && let Axis::Group(groups) = data.axes[*only]
        {
            return self.sum_of_groups(node, data, groups);
        }
        let [_, height, width] = self.drafts.get(data.draft).extents;
        let is_reduced = |wanted: Axis| axes.iter().any(|&index| data.axes[index] == wanted);
        let reduces = [(Axis::Height, height), (Axis::Width, width)]
            .map(|(wanted, extent)| is_reduced(wanted) || is_reduced(Axis::Pixels) || extent == Some(1));
        let only_pixels =
            axes.iter().all(|&index| matches!(data.axes[index], Axis::Height | Axis::Width | Axis::Pixels | Axis::One));
        if !only_pixels {
            let named: Vec<Axis> = axes.iter().map(|&index| data.axes[index]).collect();
            let what = expected("a reduction over height and width");
            return Err(what.found(format_args!("one over {named:?}; {KEPT}")).into());
        }
        let keeps = node.int("keepdims", 1) != 0;
        let remaining = data.axes.iter().enumerate().filter_map(|(index, &axis)| match axes.contains(&index) {
            true => keeps.then_some(Axis::One),
            false => Some(axis),
        });
        let remaining: Vec<Axis> = remaining.collect();
        if (height, width) == (Some(1), Some(1)) || axes.is_empty() {
            return Ok(data.with_axes(remaining));
        }
        // One axis alone, or a maximum or a sum, needs the number of its pixels.
        let size = || height.zip(width).ok_or_else(|| expected("an input of fixed size").found("a variable size"));
        let window = |[height, width]: [usize; 2]| {
            whole([if reduces[0] { height } else { 1 }, if reduces[1] { width } else { 1 }])
        };
        let op = match node.op_type.as_str() {
            "ReduceMax" => Op::MaxPool(window(size().map(<[usize; 2]>::from)?)),
            _ if reduces == [true; 2] => Op::GlobalAvgPool,
            _ => Op::AvgPool(window(size().map(<[usize; 2]>::from)?)),
        };
        let count = match (node.op_type.as_str(), &op) {
            ("ReduceSum", Op::AvgPool(pool)) => pool.kernel.iter().product(),
            ("ReduceSum", _) => size().map(|(height, width)| height * width)?,
            _ => 1,
        };
        let mut draft = self.drafts.add(node.title(), op, &[data.draft])?;
        if count != 1 {
            let channels = self.channels(&data)?;
            self.budget.take(channels)?;
            let factors = vec![("weight", Tensor::full([channels], count as f32))];
            let name = format!("{}.count", node.title());
            draft = self.drafts.add_with(super::draft::Name::Other(&name), Op::scale(channels), &[draft], factors)?;
        }
        Ok(Data::new(draft, remaining))
    }

    /// The sum of the groups of channels of a value `[N, groups, C / groups, …]`.
    fn sum_of_groups(&mut self, node: &'m proto::Node, data: Data, groups: usize) -> ReadResult<Data> {
        let place = data.axes.windows(2).position(|pair| matches!(pair, [Axis::Group(_), Axis::WithinGroup(_)]));
        let place = place
            .ok_or_else(|| expected("groups before their channels").found(format_args!("axes {:?}", data.axes)))?;
        let each = self.channels(&data)? / groups;
        let mut axes = data.axes.clone();
        axes[place + 1] = Axis::Channel;
        match node.int("keepdims", 1) {
            0 => drop(axes.remove(place)),
            _ => axes[place] = Axis::One,
        }
        let parts = (0..groups).map(|group| {
            let part = Op::Slice { start: group * each, channels: each };
            self.drafts.add(&format!("{}.group{group}", node.title()), part, &[data.draft])
        });
        let parts = parts.collect::<ReadResult<Vec<usize>>>()?;
        let draft = self.drafts.add(node.title(), Op::Add, &parts)?;
        Ok(Data::new(draft, axes))
    }

    /// A reduction of a constant.
    pub(super) fn reduce_constant(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let constant = self.constant(node, 0)?;
        let rank = constant.shape.len();
        let axes = self.reduced_axes(node, rank)?;
        let mut strides = vec![1; rank];
        for axis in (1..rank).rev() {
            strides[axis - 1] = strides[axis] * constant.shape[axis];
        }
        let parts = |reduced: bool| -> [Vec<usize>; 2] {
            let chosen = || (0..rank).filter(|axis| axes.contains(axis) == reduced);
            [chosen().map(|axis| constant.shape[axis]).collect(), chosen().map(|axis| strides[axis]).collect()]
        };
        let ([outer, outer_strides], [inner, inner_strides]) = (parts(false), parts(true));
        self.budget.take(element_count(&constant.shape).unwrap_or(usize::MAX))?;
        let offsets: Vec<usize> = StridedIndices::new(&inner, &inner_strides).collect();
        if offsets.is_empty() {
            return Err(expected("elements to reduce").found("none").into());
        }
        let starts = StridedIndices::new(&outer, &outer_strides);
        let values = match &constant.values {
            ConstantData::Floats(values) => {
                let of =
                    |start: usize| reduce_floats(&node.op_type, offsets.iter().map(|offset| values[start + offset]));
                ConstantData::Floats(starts.map(of).collect())
            }
            ConstantData::Integers(values) => {
                let of =
                    |start: usize| reduce_integers(&node.op_type, offsets.iter().map(|offset| values[start + offset]));
                ConstantData::Integers(starts.map(of).collect())
            }
        };
        let keeps = node.int("keepdims", 1) != 0;
        let kept = (0..rank).filter_map(|axis| match axes.contains(&axis) {
            true => keeps.then_some(1),
            false => Some(constant.shape[axis]),
        });
        Ok(Constant { name: String::new(), shape: kept.collect(), values })
    }
}

fn reduce_floats(op_type: &str, values: impl Iterator<Item = f32> + Clone) -> f32 {
    let count = values.clone().count() as f64;
    let wide = values.clone().map(f64::from);
    match op_type {
        "ReduceMax" => values.fold(f32::NEG_INFINITY, f32::max),
        "ReduceMin" => values.fold(f32::INFINITY, f32::min),
        "ReduceProd" => wide.product::<f64>() as f32,
        "ReduceMean" => (wide.sum::<f64>() / count) as f32,
        _ => wide.sum::<f64>() as f32,
    }
}

/// Unknown if an element is, or the result is out of range.
fn reduce_integers(op_type: &str, values: impl Iterator<Item = Extent> + Clone) -> Extent {
    let known = |value: Extent| if let Extent::Known(value) = value { Some(value) } else { None };
    let folded = |combine: fn(i64, i64) -> Option<i64>| {
        let mut values = values.clone().map(known);
        let first = values.next().flatten()?;
        values.try_fold(first, |sum, value| combine(sum, value?))
    };
    let result = match op_type {
        "ReduceMax" => folded(|a, b| Some(a.max(b))),
        "ReduceMin" => folded(|a, b| Some(a.min(b))),
        "ReduceProd" => folded(i64::checked_mul),
        "ReduceSum" => folded(i64::checked_add),
        _ => folded(i64::checked_add).map(|sum| sum / values.clone().count() as i64),
    };
    result.map_or(Extent::Unknown, Extent::Known)
}
