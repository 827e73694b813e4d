//! The graph under construction: nodes may still change, and those that no output needs are dropped at the end.

use std::collections::HashMap;

use super::ReadResult;
use crate::error::expected;
use crate::graph::Shape;
use crate::{Graph, NodeId, Op, Tensor, Weights};

/// The most elements of one value; a larger one means a malformed file.
const MOST_ELEMENTS: usize = 1 << 40;

/// The extents `[C, H, W]` of a value, as far as they are known.
pub(super) type Extents = [Option<usize>; 3];

/// The name of a node, by its source.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name<'a> {
    /// `P`, if its parameters are called `P.weight`.
    Module(&'a str),
    /// The name of the file's node, or one derived from it.
    Other(&'a str),
}

/// A node of the future graph.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its preferred name.
    pub(super) name: String,
    /// Whether the name comes from its parameters.
    pub(super) is_named_by_parameters: bool,
    pub(super) op: Op,
    pub(super) inputs: Vec<usize>,
    /// By suffix, as [`Op::parameters`] lists them.
    pub(super) parameters: Vec<(&'static str, Tensor)>,
    pub(super) extents: Extents,
}

/// All nodes, the input first.
#[derive(Debug, Default)]
pub(super) struct Drafts(Vec<Draft>);

impl Drafts {
    /// Adds the network's input.
    pub(super) fn input(&mut self, name: String, channels: usize, size: [Option<usize>; 2]) {
        self.0.push(Draft {
            name,
            is_named_by_parameters: false,
            op: Op::Input { channels },
            inputs: Vec::new(),
            parameters: Vec::new(),
            extents: [Some(channels), size[0], size[1]],
        });
    }

    /// Adds a node without parameters.
    pub(super) fn add(&mut self, name: &str, op: Op, inputs: &[usize]) -> ReadResult<usize> {
        self.add_with(Name::Other(name), op, inputs, Vec::new())
    }

    /// Adds a node with its parameters.
    pub(super) fn add_with(
        &mut self,
        name: Name<'_>,
        op: Op,
        inputs: &[usize],
        parameters: Vec<(&'static str, Tensor)>,
    ) -> ReadResult<usize> {
        let extents = self.extents_of(&op, inputs)?;
        if extents
            .iter()
            .flatten()
            .try_fold(1_usize, |product, &extent| product.checked_mul(extent))
            .is_none_or(|product| product > MOST_ELEMENTS)
        {
            return Err(expected(format_args!("values of at most {MOST_ELEMENTS} elements"))
                .found(format_args!("{extents:?}"))
                .into());
        }
        let (name, is_named_by_parameters) = match name {
            Name::Module(name) => (name.to_owned(), true),
            Name::Other(name) => (name.to_owned(), false),
        };
        let inputs = inputs.to_vec();
        self.0.push(Draft { name, is_named_by_parameters, op, inputs, parameters, extents });
        Ok(self.0.len() - 1)
    }

    pub(super) fn get(&self, index: usize) -> &Draft {
        &self.0[index]
    }

    pub(super) fn get_mut(&mut self, index: usize) -> &mut Draft {
        &mut self.0[index]
    }

    /// The extents of an operation's value, as far as they are known.
    fn extents_of(&self, op: &Op, inputs: &[usize]) -> ReadResult<Extents> {
        let inputs: Vec<Extents> = inputs.iter().map(|&input| self.0[input].extents).collect();
        let known = |extents: &Extents| -> Option<Shape> { Some([extents[0]?, extents[1]?, extents[2]?]) };
        if let Some(shapes) = inputs.iter().map(known).collect::<Option<Vec<Shape>>>() {
            return Ok(op.shape([0; 2], &shapes)?.map(Some));
        }
        let [channels, height, width] = inputs[0];
        let required = match op {
            Op::Conv2d(conv) => Some(conv.geometry.in_channels),
            Op::BatchNorm(norm) => Some(norm.channels),
            Op::Scale { channels, .. } => Some(*channels),
            _ => None,
        };
        if let (Some(required), Some(found)) = (required, channels)
            && required != found
        {
            return Err(expected(format_args!("{required} input channels")).found(found).into());
        }
        Ok(match op {
            Op::Conv2d(conv) => {
                conv.geometry.validate().map_err(|error| error.to_string())?;
                [Some(conv.geometry.out_channels), None, None]
            }
            Op::MaxPool(_) | Op::AvgPool(_) | Op::AvgPoolInside(_) | Op::Pad { .. } => [channels, None, None],
            Op::Slice { channels, .. } => [Some(*channels), height, width],
            Op::GlobalAvgPool => [channels, Some(1), Some(1)],
            Op::Flatten => [None, Some(1), Some(1)],
            Op::Linear(linear) => [Some(linear.out_features), Some(1), Some(1)],
            Op::Concat => {
                let sum = |sum: usize, input: &Extents| sum.checked_add(input[0]?);
                [inputs.iter().try_fold(0, sum), height, width]
            }
            _ => [required.or(channels), height, width],
        })
    }

    /// Builds the graph and its parameters, without nodes that no output needs. `outputs` pairs names with drafts, the main
    /// one first.
    pub(super) fn finish(self, outputs: Vec<(String, usize)>) -> (Graph, Weights) {
        let mut is_needed = vec![false; self.0.len()];
        is_needed[0] = true;
        outputs.iter().for_each(|(_, index)| is_needed[*index] = true);
        for (index, draft) in self.0.iter().enumerate().rev() {
            if is_needed[index] {
                draft.inputs.iter().for_each(|&input| is_needed[input] = true);
            }
        }
        let (mut graph, mut weights) = (Graph::new(), Weights::new());
        let mut names = Names::default();
        let mut ids: Vec<Option<NodeId>> = vec![None; self.0.len()];
        for (index, draft) in self.0.into_iter().enumerate().filter(|(index, _)| is_needed[*index]) {
            let name = names.unique(draft.name);
            let inputs: Vec<NodeId> =
                draft.inputs.iter().map(|&input| ids[input].expect("inputs come first")).collect();
            for (suffix, tensor) in draft.parameters {
                weights.insert(format!("{name}.{suffix}"), tensor);
            }
            ids[index] = Some(graph.add(name, draft.op, &inputs));
        }
        for (name, index) in outputs {
            graph.output(name, ids[index].expect("outputs are needed"));
        }
        (graph, weights)
    }
}

/// The names in use, each with the number of its latest repetition.
#[derive(Default)]
struct Names(HashMap<String, usize>);

impl Names {
    fn unique(&mut self, preferred: String) -> String {
        let preferred = if preferred.is_empty() { "node".to_owned() } else { preferred };
        let mut name = preferred.clone();
        while self.0.contains_key(&name) {
            let number = self.0.get_mut(&preferred).expect("the name is in use");
            *number += 1;
            name = format!("{preferred}_{number}");
        }
        self.0.insert(name.clone(), 0);
        name
    }
}
