//! Operators that select or reorder channels.

use std::ops::Range;

use super::attributes::axis;
use super::constant::Extent;
use super::value::{Axis, Data};
use super::{ReadResult, Reader, proto};
use crate::Op;
use crate::error::expected;

impl<'m> Reader<'m> {
    /// `Gather` of channels: consecutive ones, or those of interleaved groups.
    pub(super) fn gather(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let data = self.data(node, 0)?;
        let along = data.axes[axis(node.int("axis", 0), data.axes.len())?];
        let indices = self.constant(node, 1)?;
        if indices.shape.len() != 1 {
            return Err(expected("a list of channels")
                .found(format_args!("indices of shape {:?}", indices.shape))
                .into());
        }
        let indices = indices.known()?;
        if along != Axis::Channel || indices.is_empty() {
            return Err(expected("a gather of channels").found(format_args!("{} of {along:?}", indices.len())).into());
        }
        let channels = self.channels(&data)?;
        let place = |index: i64| {
            let index = if index < 0 { index.checked_add_unsigned(channels as u64)? } else { index };
            usize::try_from(index).ok().filter(|index| *index < channels)
        };
        let places: Option<Vec<usize>> = indices.iter().map(|&index| place(index)).collect();
        let places = places.ok_or_else(|| expected(format_args!("indices of {channels} channels")).found("others"))?;
        if places.windows(2).all(|pair| pair[1] == pair[0] + 1) {
            return self.slice_channels(node, &data, places[0]..places[0] + places.len());
        }
        // In a shuffle, the second channel is the first of the second group.
        let group = places.get(1).copied().unwrap_or_default();
        let is_shuffle = places.len() == channels && group > 0 && channels.is_multiple_of(group) && {
            let groups = channels / group;
            places.iter().enumerate().all(|(k, &place)| place == k % groups * group + k / groups)
        };
        if !is_shuffle {
            let problem = expected("consecutive channels or those of interleaved groups").found("another selection");
            return Err(problem.into());
        }
        self.shuffle(node, &data, channels / group)
    }

    /// `Split` along the channels: one value per output.
    pub(super) fn split(&mut self, node: &'m proto::Node) -> ReadResult<Vec<Data>> {
        let data = self.data(node, 0)?;
        let along = data.axes[axis(node.int("axis", 0), data.axes.len())?];
        if along != Axis::Channel {
            return Err(expected("a split of channels").found(format_args!("a split of {along:?}")).into());
        }
        let (channels, parts) = (self.channels(&data)?, node.output.len());
        let lengths: Vec<usize> = match self.integers(node, "split", 1)? {
            Some(lengths) => {
                let length = |length: i64| super::attributes::count("split", length);
                lengths.into_iter().map(length).collect::<ReadResult<_>>()?
            }
            // All equal but the last, which may be smaller.
            None => {
                let each = channels.div_ceil(parts);
                (0..parts).map(|part| each.min(channels.saturating_sub(part * each))).collect()
            }
        };
        let total = lengths.iter().try_fold(0_usize, |sum, &length| sum.checked_add(length));
        if lengths.len() != parts || total != Some(channels) || lengths.contains(&0) {
            return Err(expected(format_args!("{parts} parts of {channels} channels"))
                .found(format_args!("{lengths:?}"))
                .into());
        }
        let mut start = 0;
        let mut slices = Vec::with_capacity(parts);
        for length in lengths {
            slices.push(self.slice_channels(node, &data, start..start + length)?);
            start += length;
        }
        Ok(slices)
    }

    /// Consecutive channels of a value.
    pub(super) fn slice_channels(
        &mut self,
        node: &'m proto::Node,
        data: &Data,
        range: Range<usize>,
    ) -> ReadResult<Data> {
        let (start, channels) = (range.start, range.len());
        if (start, Some(channels)) == (0, self.drafts.get(data.draft).extents[0]) {
            return Ok(data.clone());
        }
        let draft = self.drafts.add(node.title(), Op::Slice { start, channels }, &[data.draft])?;
        Ok(Data::new(draft, data.axes.clone()))
    }

    fn shuffle(&mut self, node: &'m proto::Node, data: &Data, groups: usize) -> ReadResult<Data> {
        let draft = self.drafts.add(node.title(), Op::Shuffle { groups }, &[data.draft])?;
        Ok(Data::new(draft, data.axes.clone()))
    }

    /// The axes after a reshape that divides the channels of maps into groups. `wanted` are its extents after the batch; `None`
    /// if they describe no such reshape.
    pub(super) fn split_channels(&self, data: &Data, wanted: &[Extent]) -> Option<Vec<Axis>> {
        let [_, channels, _, _] = data.axes.as_slice() else { return None };
        let &[Extent::Known(groups), Extent::Known(within), ref rest @ ..] = wanted else { return None };
        if *channels != Axis::Channel || !data.is_nchw() || rest.len() != 2 {
            return None;
        }
        let (groups, total) = (usize::try_from(groups).ok()?, self.drafts.get(data.draft).extents[0]?);
        let each = total.checked_div(groups).filter(|each| each * groups == total && *each > 1 && groups > 1)?;
        let fits = within == -1 || usize::try_from(within).ok() == Some(each);
        let source = self.shape_of(data);
        let matches_source = |(wanted, found): (&Extent, &Extent)| wanted == found || *wanted == Extent::Known(-1);
        (fits && rest.iter().zip(&source[2..]).all(matches_source))
            .then(|| vec![Axis::Batch, Axis::Group(groups), Axis::WithinGroup(groups), data.axes[2], data.axes[3]])
    }

    /// Reshapes a value whose channels are divided into groups, in order or interleaved, back to maps. `wanted` are the extents
    /// after the batch; `None` if they describe no such reshape.
    pub(super) fn merge_channels(
        &mut self,
        node: &'m proto::Node,
        data: &Data,
        wanted: &[Extent],
    ) -> ReadResult<Option<Data>> {
        let [Axis::Batch, _, _, height, width] = *data.axes.as_slice() else { return Ok(None) };
        let source = self.shape_of(data);
        let total = self.channels(data)?;
        let is_total = wanted.first().is_some_and(|&extent| {
            extent == Extent::Known(-1) || extent == Extent::Known(i64::try_from(total).unwrap_or(-1))
        });
        let matches_source = |(wanted, found): (&Extent, &Extent)| wanted == found || *wanted == Extent::Known(-1);
        if wanted.len() != 3 || !is_total || !wanted[1..].iter().zip(&source[3..]).all(matches_source) {
            return Ok(None);
        }
        match [height, width] {
            [Axis::Height | Axis::One, Axis::Width | Axis::One] => {
                let merged = self.merge_channel_groups(node, data.clone())?;
                Ok(merged.is_nchw().then_some(merged))
            }
            _ => Ok(None),
        }
    }

    /// Merges the axes of channels that are divided into groups, in order or interleaved, into one axis.
    pub(super) fn merge_channel_groups(&mut self, node: &'m proto::Node, data: Data) -> ReadResult<Data> {
        let place = data.axes.windows(2).position(|pair| {
            matches!(pair, [Axis::Group(_), Axis::WithinGroup(_)] | [Axis::WithinGroup(_), Axis::Group(_)])
        });
        let Some(place) = place else {
            return match data.axes.iter().any(|axis| matches!(axis, Axis::Group(_) | Axis::WithinGroup(_))) {
                false => Ok(data),
                true => {
                    Err(expected("groups next to their channels").found(format_args!("axes {:?}", data.axes)).into())
                }
            };
        };
        let mut axes = data.axes.clone();
        let first = axes[place];
        axes.splice(place..place + 2, [Axis::Channel]);
        let merged = Data { axes, ..data };
        match first {
            Axis::WithinGroup(groups) => self.shuffle(node, &merged, groups),
            _ => Ok(merged),
        }
    }
}
