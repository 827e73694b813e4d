//! `If` with a condition that shapes decide, as exporters write around `Squeeze`: the branch taken becomes part of the graph.

use super::constant::Extent;
use super::order::order;
use super::value::Binding;
use super::{Failure, ReadResult, Reader, proto, short};
use crate::error::{Problem, expected};

impl<'m> Reader<'m> {
    /// `If`: the outputs of the branch taken.
    pub(super) fn branch(&mut self, node: &'m proto::Node) -> ReadResult<Vec<Binding<'m>>> {
        let Binding::Constant(condition) = self.input_value(node, 0)? else {
            return Err(undecided("the image").into());
        };
        let name = match condition.extents()? {
            [Extent::Known(0)] => "else_branch",
            [Extent::Known(_)] => "then_branch",
            [_] => return Err(undecided("the batch or the image's size, which the file does not fix").into()),
            more => return Err(expected("one condition").found(more.len()).into()),
        };
        let graph = node.graph(name).ok_or_else(|| expected(name).found("none"))?;
        let computed = graph.node.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty());
        let constants = graph.initializer.iter().map(|tensor| &tensor.name);
        if let Some(name) = computed.chain(constants).find(|name| self.values.contains_key(name.as_str())) {
            let what = expected("a branch with names of its own").found(format_args!("{:?} again", short(name)));
            return Err(what.into());
        }
        self.bind_initializers(graph).map_err(Failure::Node)?;
        for inner in order(graph).map_err(Failure::Node)? {
            self.read_node(inner);
        }
        let output = |output: &proto::ValueInfo| match self.values.get(output.name.as_str()) {
            Some(value) => Ok(value.clone()),
            None => Err(expected(format_args!("an output {:?}", short(&output.name))).found("none").into()),
        };
        graph.output.iter().map(output).collect()
    }
}

fn undecided(by: &str) -> Problem {
    expected("a condition that the shapes of the file decide").found(format_args!("one that depends on {by}"))
}
