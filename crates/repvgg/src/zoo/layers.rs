//! Small groups of layers that the families share.

use crate::Graph;
use crate::graph::{ActivationKind, BatchNorm, Conv2d, Linear, NodeId, Op};

/// The multiple of `divisor` nearest to `value`, with halves rounded up, but at most a tenth below `value` (MobileNet's rule).
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
    /// Starts with the input. Batch norms get PyTorch's ε of 1e-5.
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

    /// Appends a batch norm.
    pub(super) fn norm(&mut self, name: impl Into<String>, channels: usize) -> NodeId {
        let eps = self.eps;
        self.then(name, Op::BatchNorm(BatchNorm { channels, eps }))
    }

    /// Appends a convolution and its batch norm.
    pub(super) fn conv_bn(&mut self, [conv_name, norm_name]: [String; 2], conv: Conv2d) -> NodeId {
        self.then(conv_name, Op::Conv2d(conv));
        self.norm(norm_name, conv.geometry.out_channels)
    }

    /// Appends a ReLU.
    pub(super) fn relu(&mut self, name: impl Into<String>) -> NodeId {
        self.then(name, Op::relu())
    }

    /// Adds another value to the end.
    pub(super) fn plus(&mut self, name: impl Into<String>, other: NodeId) -> NodeId {
        self.end = self.graph.add(name, Op::Add, &[self.end, other]);
        self.end
    }

    /// Continues with the concatenation of values.
    pub(super) fn concat(&mut self, name: impl Into<String>, values: &[NodeId]) -> NodeId {
        self.end = self.graph.add(name, Op::Concat, values);
        self.end
    }

    /// Appends squeeze-and-excitation (Hu et al., 1709.01507): `x · sigmoid(up(act(down(mean(x)))))`, where `up` and `down`
    /// are convolutions with biases.
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

    /// Appends global pooling and the classifier called `name`, the main output.
    pub(super) fn classify(mut self, name: &str, features: usize, classes: usize) -> Graph {
        self.then("avgpool", Op::GlobalAvgPool);
        self.linear(name, features, classes);
        self.finish()
    }

    /// Appends a fully connected layer with a bias.
    pub(super) fn linear(&mut self, name: impl Into<String>, in_features: usize, out_features: usize) -> NodeId {
        self.then(name, Op::Linear(Linear { in_features, out_features, bias: true }))
    }

    /// The graph, with the end as the main output.
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
    /// The activation between them.
    pub(super) activation: ActivationKind,
}
