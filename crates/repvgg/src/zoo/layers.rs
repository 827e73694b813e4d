//! Small groups of layers that many networks share.

use crate::Graph;
use crate::graph::{ActivationKind, BatchNorm, Conv2d, Linear, NodeId, Op};

/// The multiple of `divisor` nearest to `value`, halves rounded up, never more than a tenth below `value` (MobileNet's rule).
pub(super) fn divisible(value: f64, divisor: usize) -> usize {
    let divisor = divisor as f64;
    let rounded = ((value + divisor / 2.0) / divisor).floor().max(1.0) * divisor;
    (if rounded < 0.9 * value { rounded + divisor } else { rounded }) as usize
}

/// A graph under construction, to which layers are appended.
pub(super) struct Chain {
    pub(super) graph: Graph,
    /// The value that the next layer reads.
    pub(super) end: NodeId,
    /// The ε of its batch norms.
    pub(super) eps: f64,
}

impl Chain {
    /// The input alone; batch norms will have PyTorch's ε of 1e-5.
    pub(super) fn new(input_channels: usize) -> Self {
        let mut graph = Graph::new();
        let end = graph.add("input", Op::Input { channels: input_channels }, &[]);
        Self { graph, end, eps: 1e-5 }
    }

    /// Appends a layer.
    pub(super) fn then(&mut self, name: impl Into<String>, op: Op) -> NodeId {
        self.end = self.graph.add(name, op, &[self.end]);
        self.end
    }

    /// A batch norm with this network's ε.
    pub(super) fn norm(&mut self, name: impl Into<String>, channels: usize) -> NodeId {
        let eps = self.eps;
        self.then(name, Op::BatchNorm(BatchNorm { channels, eps }))
    }

    /// A convolution and its batch norm.
    pub(super) fn conv_bn(&mut self, [conv_name, norm_name]: [String; 2], conv: Conv2d) -> NodeId {
        self.then(conv_name, Op::Conv2d(conv));
        self.norm(norm_name, conv.geometry.out_channels)
    }

    /// A rectified linear unit.
    pub(super) fn relu(&mut self, name: impl Into<String>) -> NodeId {
        self.then(name, Op::relu())
    }

    /// The sum of the end and another value.
    pub(super) fn plus(&mut self, name: impl Into<String>, other: NodeId) -> NodeId {
        self.end = self.graph.add(name, Op::Add, &[self.end, other]);
        self.end
    }

    /// The concatenation of values.
    pub(super) fn concat(&mut self, name: impl Into<String>, values: &[NodeId]) -> NodeId {
        self.end = self.graph.add(name, Op::Concat, values);
        self.end
    }

    /// Squeeze-and-excitation (Hu et al., 1709.01507) of the end: `x · gate(up(act(down(mean(x)))))`; the names are those
    /// of the two convolutions, which have biases.
    pub(super) fn squeeze_excite(&mut self, excite: &SqueezeExcite<'_>) -> NodeId {
        let SqueezeExcite { name, parts: [down, up], channels, reduced, activation } = *excite;
        let x = self.end;
        self.then(format!("{name}.pool"), Op::GlobalAvgPool);
        self.then(format!("{name}.{down}"), Op::Conv2d(Conv2d::square(channels, reduced, 1).with_bias()));
        self.then(format!("{name}.activation"), Op::Activation(activation));
        self.then(format!("{name}.{up}"), Op::Conv2d(Conv2d::square(reduced, channels, 1).with_bias()));
        let gate = self.then(format!("{name}.sigmoid"), Op::Activation(ActivationKind::Sigmoid));
        self.end = self.graph.add(format!("{name}.mul"), Op::Mul, &[x, gate]);
        self.end
    }

    /// Global pooling and the classifier called `name`: the main output.
    pub(super) fn classify(mut self, name: &str, features: usize, classes: usize) -> Graph {
        self.then("avgpool", Op::GlobalAvgPool);
        self.linear(name, features, classes);
        self.finish()
    }

    /// A fully connected layer with a bias.
    pub(super) fn linear(&mut self, name: impl Into<String>, in_features: usize, out_features: usize) -> NodeId {
        self.then(name, Op::Linear(Linear { in_features, out_features, bias: true }))
    }

    /// The graph, with its end as the main output.
    pub(super) fn finish(mut self) -> Graph {
        self.graph.output("main", self.end);
        self.graph
    }
}

/// The parts of a squeeze-and-excitation.
pub(super) struct SqueezeExcite<'a> {
    /// The prefix of its names.
    pub(super) name: &'a str,
    /// The names of its two convolutions.
    pub(super) parts: [&'a str; 2],
    pub(super) channels: usize,
    pub(super) reduced: usize,
    /// The activation between the two.
    pub(super) activation: ActivationKind,
}
