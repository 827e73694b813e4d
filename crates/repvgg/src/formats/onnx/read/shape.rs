//! Operators that change the shape of an array, not its elements.

use super::attributes::axis;
use super::constant::{Extent, MOST_AXES};
use super::value::{Axis, Binding, Data};
use super::{ReadResult, Reader, proto};
use crate::Op;
use crate::error::expected;

impl<'m> Reader<'m> {
    /// The extent of an axis, if known.
    fn extent(&self, data: &Data, axis: Axis) -> Option<usize> {
        let [channels, height, width] = self.drafts.get(data.draft).extents;
        match axis {
            Axis::Batch => self.batch,
            Axis::Channel => channels,
            Axis::Height => height,
            Axis::Width => width,
            Axis::Pixels => height?.checked_mul(width?),
            Axis::Interleaved(shape) => Some(shape.iter().product()),
            Axis::Group(groups) => Some(groups),
            Axis::WithinGroup(groups) => channels?.checked_div(groups),
            Axis::One => Some(1),
        }
    }

    /// The shape of a value, as `Shape` gives it.
    pub(super) fn shape_of(&self, data: &Data) -> Vec<Extent> {
        let extent = |&axis: &Axis| match (self.extent(data, axis), axis) {
            (Some(extent), _) => Extent::Known(extent as i64),
            (None, Axis::Batch) => Extent::Batch,
            (None, _) => Extent::Unknown,
        };
        data.axes.iter().map(extent).collect()
    }

    /// `Flatten`
    pub(super) fn flatten(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        match axis(node.int("axis", 1), data.axes.len().max(2))? {
            1 => self.flatten_features(node, data),
            other => Err(expected("a flattening from axis 1").found(format_args!("axis {other}")).into()),
        }
    }

    /// Flattens all axes but the first.
    fn flatten_features(&mut self, node: &'m proto::Node, data: Data) -> ReadResult<Data> {
        let long = data.axes.iter().copied().filter(|axis| *axis != Axis::One).collect::<Vec<Axis>>();
        let data = self.merge_channel_groups(node, data.with_axes(long))?;
        let [channels, height, width] = self.drafts.get(data.draft).extents;
        let long: Vec<Axis> = data.axes.iter().skip(1).copied().filter(|axis| *axis != Axis::One).collect();
        let row = |last: Axis| [Axis::Batch, last];
        if data.axes.first() != Some(&Axis::Batch) {
            return Err(expected("the batch as the first axis").found(format_args!("axes {:?}", data.axes)).into());
        }
        if (height, width) == (Some(1), Some(1)) {
            let last = long.iter().copied().find(|axis| matches!(axis, Axis::Interleaved(_))).unwrap_or(Axis::Channel);
            return Ok(data.with_axes(row(last)));
        }
        let last = match (long.as_slice(), channels, height, width) {
            ([Axis::Height, Axis::Width, Axis::Channel] | [Axis::Pixels, Axis::Channel], Some(c), Some(h), Some(w)) => {
                Axis::Interleaved([c, h, w])
            }
            // In the order of [C, H, W]; an axis of extent 1 may be missing.
            (axes, ..)
                if axes.is_sorted_by_key(|&axis| position(axis)) && axes.iter().all(|&axis| position(axis) < 3) =>
            {
                Axis::Channel
            }
            (axes, ..) => {
                return Err(expected("axes in the order of [N, C, H, W]").found(format_args!("{axes:?}")).into());
            }
        };
        let draft = self.drafts.add(node.title(), Op::Flatten, &[data.draft])?;
        Ok(Data::new(draft, row(last)))
    }

    /// `Reshape` to rows, or to the same extents with added or removed extents of 1.
    pub(super) fn reshape(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let target = match node.ints("shape") {
            Some(ints) => ints.iter().copied().map(Extent::Known).collect::<Vec<Extent>>(),
            None => self.constant(node, 1)?.extents()?.to_vec(),
        };
        if target.len() > MOST_AXES {
            return Err(expected(format_args!("at most {MOST_AXES} axes")).found(target.len()).into());
        }
        let source = self.shape_of(&data);
        let refused =
            || expected("to flatten or to add or remove extents of 1").found(format_args!("{source:?} to {target:?}"));
        if node.int("allowzero", 0) != 0 && target.contains(&Extent::Known(0)) {
            return Err(refused().into());
        }
        let copied = |(index, extent): (usize, &Extent)| match extent {
            Extent::Known(0) => source.get(index).copied(),
            other => Some(*other),
        };
        let wanted: Option<Vec<Extent>> = target.iter().enumerate().map(copied).collect();
        let wanted = wanted.ok_or_else(refused)?;
        let Some((&first, rest)) = wanted.split_first() else { return Err(refused().into()) };
        let keeps_batch = first == Extent::Batch || first == Extent::Known(-1) || Some(&first) == source.first();
        if !keeps_batch || data.axes.first() != Some(&Axis::Batch) {
            return Err(refused().into());
        }
        let features = source[1..].iter().try_fold(1_i64, |product, extent| match extent {
            Extent::Known(extent) => product.checked_mul(*extent),
            _ => None,
        });
        if let &[only] = rest {
            // If both are unknown, −1 must stand for the batch when the features match.
            let fits = match (only, features) {
                (Extent::Known(-1), _) => first != Extent::Known(-1),
                (Extent::Known(found), Some(expected)) => found == expected,
                (Extent::Known(found), None) => found > 0,
                (_, _) => true,
            };
            return if fits { self.flatten_features(node, data) } else { Err(refused().into()) };
        }
        if let Some(axes) = self.split_channels(&data, rest) {
            return Ok(data.with_axes(axes));
        }
        if let Some(merged) = self.merge_channels(node, &data, rest)? {
            return Ok(merged);
        }
        let axes = self.relabel(&data, rest).ok_or_else(refused)?;
        Ok(data.with_axes(axes))
    }

    /// The axes of the value for the extents `wanted` after the batch: its own axes in order, and axes of extent 1.
    fn relabel(&self, data: &Data, wanted: &[Extent]) -> Option<Vec<Axis>> {
        let mut left = data.axes.iter().skip(1).copied().filter(|&axis| self.extent(data, axis) != Some(1)).peekable();
        let mut axes = vec![Axis::Batch];
        for (index, &extent) in wanted.iter().enumerate() {
            if extent == Extent::Known(1) {
                axes.push(Axis::One);
                continue;
            }
            let Some(next) = left.next() else {
                // −1 can only be an extent of 1.
                if matches!(extent, Extent::Known(-1)) {
                    axes.push(Axis::One);
                    continue;
                }
                return None;
            };
            let length = self.extent(data, next);
            let rest_is_one = wanted[index + 1..].iter().all(|&extent| extent == Extent::Known(1));
            let both = || {
                let pixels = length?.checked_mul(self.extent(data, Axis::Width)?)?;
                Some(Extent::Known(i64::try_from(pixels).ok()?))
            };
            let is_pixels = next == Axis::Height
                && left.peek() == Some(&Axis::Width)
                && rest_is_one
                && (extent == Extent::Known(-1) || both() == Some(extent));
            if is_pixels {
                left.next();
                axes.push(Axis::Pixels);
                continue;
            }
            let same = match (extent, length) {
                (Extent::Known(-1), _) => true,
                (Extent::Known(extent), Some(length)) => usize::try_from(extent).ok() == Some(length),
                (Extent::Unknown, None) => true,
                _ => false,
            };
            if !same {
                return None;
            }
            axes.push(next);
        }
        left.next().is_none().then_some(axes)
    }

    /// `Squeeze`
    pub(super) fn squeeze(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let removed: Vec<usize> = match self.integers(node, "axes", 1)? {
            Some(axes) => axes.into_iter().map(|index| axis(index, data.axes.len())).collect::<ReadResult<_>>()?,
            None => (1..data.axes.len()).filter(|&index| self.extent(&data, data.axes[index]) == Some(1)).collect(),
        };
        for &index in &removed {
            let axis = data.axes[index];
            let extent = self.extent(&data, axis);
            match (axis, extent) {
                (Axis::Batch, _) => return Err("the batch axis cannot be squeezed".into()),
                (_, Some(1)) => {}
                // The node asserts that the extent is 1.
                (Axis::Height, None) => self.drafts.get_mut(data.draft).extents[1] = Some(1),
                (Axis::Width, None) => self.drafts.get_mut(data.draft).extents[2] = Some(1),
                (axis, found) => {
                    let found = found.map_or("unknown".to_owned(), |found| found.to_string());
                    return Err(expected("an extent of 1 to squeeze")
                        .found(format_args!("{found} along {axis:?}"))
                        .into());
                }
            }
        }
        let remaining: Vec<Axis> =
            data.axes.iter().enumerate().filter(|(index, _)| !removed.contains(index)).map(|(_, &axis)| axis).collect();
        Ok(data.with_axes(remaining))
    }

    /// `Unsqueeze`
    pub(super) fn unsqueeze(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let added = self.integers(node, "axes", 1)?.ok_or("missing axes")?;
        let rank = data.axes.len() + added.len();
        if rank > MOST_AXES {
            return Err(expected(format_args!("at most {MOST_AXES} axes")).found(rank).into());
        }
        let added: Vec<usize> = added.into_iter().map(|index| axis(index, rank)).collect::<ReadResult<_>>()?;
        let mut old = data.axes.iter().copied();
        let axes = (0..rank).map(|index| if added.contains(&index) { Some(Axis::One) } else { old.next() });
        let axes: Option<Vec<Axis>> = axes.collect();
        let axes = axes.ok_or_else(|| expected("different axes").found(format_args!("{added:?}")))?;
        Ok(data.with_axes(axes))
    }

    /// `Transpose`
    pub(super) fn transpose(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let Binding::Data(data) = self.input_value(node, 0)? else { unreachable!("constants are folded") };
        let rank = data.axes.len();
        let perm: Vec<usize> = match node.ints("perm") {
            Some(perm) => perm.iter().map(|&index| axis(index, rank)).collect::<ReadResult<_>>()?,
            None => (0..rank).rev().collect(),
        };
        let is_permutation = perm.len() == rank && (0..rank).all(|axis| perm.contains(&axis));
        if !is_permutation {
            return Err(expected(format_args!("an order of {rank} axes")).found(format_args!("{perm:?}")).into());
        }
        let axes: Vec<Axis> = perm.iter().map(|&index| data.axes[index]).collect();
        Ok(data.with_axes(axes))
    }
}

/// The position of an axis in `[C, H, W]`.
fn position(axis: Axis) -> usize {
    match axis {
        Axis::Channel | Axis::Interleaved(_) => 0,
        Axis::Height | Axis::Pixels => 1,
        Axis::Width => 2,
        Axis::Batch | Axis::One | Axis::Group(_) | Axis::WithinGroup(_) => 3,
    }
}
