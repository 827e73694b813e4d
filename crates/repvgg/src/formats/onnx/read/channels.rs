//! Operators that select or reorder channels.

use std::ops::Range;

use super::attributes::axis;
use super::constant::Extent;
use super::draft::Name;
use super::value::{Axis, Binding, Data};
use super::{ReadResult, Reader, proto};
use crate::error::expected;
use crate::graph::{ActivationKind, Conv2d};
use crate::{Op, Tensor};

impl<'m> Reader<'m> {
    /// `Gather` of channels.
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
        self.select_channels(node, &data, &places)
    }

    /// The channels at `places`: consecutive ones, those of interleaved groups, or any others, which a 1×1 convolution of zeros
    /// and ones selects.
    pub(super) fn select_channels(&mut self, node: &'m proto::Node, data: &Data, places: &[usize]) -> ReadResult<Data> {
        if places.windows(2).all(|pair| pair[1] == pair[0] + 1) {
            return self.slice_channels(node, data, places[0]..places[0] + places.len());
        }
        let channels = self.channels(data)?;
        // In a shuffle, the second channel is the first of the second group; then come the second channels of all groups.
        let group = places[1].saturating_sub(places[0]);
        let first = places[0].checked_rem(group).unwrap_or_default();
        if group > 0 && channels.is_multiple_of(group) && channels > group {
            let groups = channels / group;
            let shuffled = |k: usize| k % groups * group + k / groups;
            let start = first * groups + places[0] / group;
            if places.iter().enumerate().all(|(k, &place)| start + k < channels && place == shuffled(start + k)) {
                let all = self.shuffle(node, data, groups)?;
                return self.slice_channels(node, &all, start..start + places.len());
            }
        }
        if data.axes.iter().any(|axis| matches!(axis, Axis::Interleaved(_))) {
            return Err(expected("consecutive channels").found("another selection").into());
        }
        let conv = Conv2d::square(channels, places.len(), 1);
        self.budget.take(conv.geometry.weight_len())?;
        let is_selected = |index: usize| places[index / channels] == index % channels;
        let kernel = Tensor::from_fn([places.len(), channels, 1, 1], |index| f32::from(u8::from(is_selected(index))));
        let draft = self.drafts.add_with(
            Name::Other(node.title()),
            Op::Conv2d(conv),
            &[data.draft],
            vec![("weight", kernel)],
        )?;
        Ok(Data::new(draft, data.axes.clone()))
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
        if lengths.len() != parts {
            return Err(expected(format_args!("{parts} parts of {channels} channels"))
                .found(format_args!("{lengths:?}"))
                .into());
        }
        self.split_into(node, &data, &lengths)
    }

    /// Channels in parts of these lengths.
    fn split_into(&mut self, node: &'m proto::Node, data: &Data, lengths: &[usize]) -> ReadResult<Vec<Data>> {
        let (channels, parts) = (self.channels(data)?, lengths.len());
        let total = lengths.iter().try_fold(0_usize, |sum, &length| sum.checked_add(length));
        if total != Some(channels) || lengths.contains(&0) {
            return Err(expected(format_args!("{parts} parts of {channels} channels"))
                .found(format_args!("{lengths:?}"))
                .into());
        }
        let mut start = 0;
        let mut slices = Vec::with_capacity(parts);
        for &length in lengths {
            slices.push(self.slice_channels(node, data, start..start + length)?);
            start += length;
        }
        Ok(slices)
    }

    /// `SplitToSequence` along the channels.
    pub(super) fn split_to_sequence(&mut self, node: &'m proto::Node) -> ReadResult<Vec<Data>> {
        let data = self.data(node, 0)?;
        let along = data.axes[axis(node.int("axis", 0), data.axes.len())?];
        if along != Axis::Channel {
            return Err(expected("a split of channels").found(format_args!("a split of {along:?}")).into());
        }
        let lengths = self.constant(node, 1)?;
        let stated = lengths.known()?.into_iter().map(|length| super::attributes::count("split", length));
        let stated = stated.collect::<ReadResult<Vec<usize>>>()?;
        // One number is the length of every part but the last.
        let lengths = match (lengths.shape.as_slice(), stated.as_slice()) {
            ([], &[each]) if each > 0 => {
                let channels = self.channels(&data)?;
                (0..channels).step_by(each).map(|start| each.min(channels - start)).collect()
            }
            _ => stated,
        };
        self.split_into(node, &data, &lengths)
    }

    /// `SequenceAt`
    pub(super) fn sequence_at(&mut self, node: &'m proto::Node) -> ReadResult<Data> {
        let Binding::Sequence(parts) = self.input_value(node, 0)? else {
            return Err(expected("a sequence").found("a single value").into());
        };
        let index = self.constant(node, 1)?.known()?;
        match index.as_slice() {
            &[index] => Ok(parts[axis(index, parts.len())?].clone()),
            more => Err(expected("one index").found(more.len()).into()),
        }
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

    /// The values in turn as groups of channels: parts `[N, 1, C, …]` joined along the added axis.
    pub(super) fn stack(&mut self, node: &'m proto::Node, parts: &[Data], along: usize) -> ReadResult<Data> {
        let (first, inputs) = (&parts[0], parts.iter().map(|part| part.draft).collect::<Vec<usize>>());
        let mut axes = first.axes.clone();
        if axes.get(along + 1) != Some(&Axis::Channel) {
            return Err(expected("parts stacked before their channels").found(format_args!("axes {axes:?}")).into());
        }
        (axes[along], axes[along + 1]) = (Axis::Group(parts.len()), Axis::WithinGroup(parts.len()));
        let draft = self.drafts.add(node.title(), Op::Concat, &inputs)?;
        Ok(Data::new(draft, axes))
    }

    /// A draft times −1.
    fn negative(&mut self, name: &str, draft: usize, channels: usize) -> ReadResult<usize> {
        let factors = vec![("weight", Tensor::full([channels], -1.0))];
        self.drafts.add_with(Name::Other(name), Op::scale(channels), &[draft], factors)
    }

    /// The softmax over two groups of channels: the sigmoids of their difference and of its negative.
    pub(super) fn softmax_of_two_groups(&mut self, node: &'m proto::Node, data: Data) -> ReadResult<Data> {
        let each = self.channels(&data)? / 2;
        self.budget.take(2 * each)?;
        let name = |part: &str| format!("{}.{part}", node.title());
        let slice = |start: usize| Op::Slice { start, channels: each };
        let first = self.drafts.add(&name("first"), slice(0), &[data.draft])?;
        let second = self.drafts.add(&name("second"), slice(each), &[data.draft])?;
        let minus = self.negative(&name("minus"), second, each)?;
        let difference = self.drafts.add(&name("difference"), Op::Add, &[first, minus])?;
        let opposite = self.negative(&name("opposite"), difference, each)?;
        let sigmoid = || Op::Activation(ActivationKind::Sigmoid);
        let gates = [("gate0", difference), ("gate1", opposite)];
        let gates = gates.map(|(part, value)| self.drafts.add(&name(part), sigmoid(), &[value]));
        let [first, second] = gates;
        let draft = self.drafts.add(node.title(), Op::Concat, &[first?, second?])?;
        Ok(Data::new(draft, data.axes))
    }

    fn shuffle(&mut self, node: &'m proto::Node, data: &Data, groups: usize) -> ReadResult<Data> {
        let draft = self.drafts.add(node.title(), Op::Shuffle { groups }, &[data.draft])?;
        Ok(Data::new(draft, data.axes.clone()))
    }

    /// The axes after a reshape that divides the channels of maps into groups. `wanted` are its extents after the batch: those
    /// of 1, the groups, the channels of each, and height and width, which may be missing for one pixel. `None` if they
    /// describe no such reshape.
    pub(super) fn split_channels(&self, data: &Data, wanted: &[Extent]) -> Option<Vec<Axis>> {
        let is_row = data.axes == [Axis::Batch, Axis::Channel];
        let ones = wanted.iter().take_while(|extent| **extent == Extent::Known(1)).count();
        let &[Extent::Known(groups), Extent::Known(within), ref rest @ ..] = &wanted[ones..] else { return None };
        if data.axes.get(1) != Some(&Axis::Channel) || !(is_row || data.is_nchw()) {
            return None;
        }
        let (groups, total) = (usize::try_from(groups).ok()?, self.drafts.get(data.draft).extents[0]?);
        let each = total.checked_div(groups).filter(|each| each * groups == total && *each > 1 && groups > 1)?;
        let fits = within == -1 || usize::try_from(within).ok() == Some(each);
        let source = self.shape_of(data);
        let matches_source = |(wanted, found): (&Extent, &Extent)| wanted == found || *wanted == Extent::Known(-1);
        let is_pixel = self.drafts.get(data.draft).extents[1..] == [Some(1); 2];
        let pixels = match rest {
            [] if is_pixel => Vec::new(),
            [Extent::Known(1), Extent::Known(1)] if is_pixel => vec![Axis::One; 2],
            [_, _] if !is_row && rest.iter().zip(&source[2..]).all(matches_source) => data.axes[2..].to_vec(),
            _ => return None,
        };
        let before = [vec![Axis::Batch], vec![Axis::One; ones], vec![Axis::Group(groups), Axis::WithinGroup(groups)]];
        fits.then(|| [before.concat(), pixels].concat())
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
