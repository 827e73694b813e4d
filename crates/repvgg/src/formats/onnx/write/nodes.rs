//! Writes the operations of a graph as ONNX nodes.
//!
//! Values of a graph are always `[C, H, W]`. ONNX distinguishes maps `[N, C, H, W]` from rows `[N, C]`, so a value is
//! converted if its reader needs the other rank.

use super::super::proto;
use super::activation::activation;
use super::build::{Builder, float, int, integers, ints, text};
use super::value_info::Extent;
use crate::algebra::normalized;
use crate::error::expected;
use crate::graph::{
    BatchNorm, Conv2d, Coordinates, Linear, Node, Op, Pool, Resize, ResizeTarget, Role, Rounding, Sampling, Softmax,
};
use crate::{Error, Graph, NodeId, Result, Weights};

/// The first opsets in which an operator changed.
const GEMM_WITHOUT_BIAS: i64 = 11;
const PADS_ARE_INPUTS: i64 = 11;
const AXES_ARE_INPUTS: i64 = 13;
const SOFTMAX_OF_ONE_AXIS: i64 = 13;
const RESIZE_WITH_COORDINATES: i64 = 11;
const DILATED_MAX_POOL: i64 = 10;
const DILATED_MEAN_POOL: i64 = 19;

/// The rank of a value: 4 for maps, 2 for rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Map,
    Row,
}

/// A node's value in the file.
#[derive(Debug, Clone, Default)]
struct WrittenValue {
    /// Its name as `[N, C, H, W]`, if written.
    map: Option<String>,
    /// Its name as `[N, C]`, if written.
    row: Option<String>,
    /// Whether the map is one pixel for images of any size.
    is_pixel: bool,
    /// The number of channels, unless it depends on the image's size.
    channels: Option<usize>,
}

impl WrittenValue {
    fn rank(&self) -> Rank {
        if self.row.is_some() && self.map.is_none() { Rank::Row } else { Rank::Map }
    }

    fn name(&self, rank: Rank) -> Option<&String> {
        match rank {
            Rank::Map => self.map.as_ref(),
            Rank::Row => self.row.as_ref(),
        }
    }
}

/// Adds the nodes and the output of `graph`, whose input is the value `input`.
pub(super) fn nodes<'a>(builder: &mut Builder<'a>, graph: &Graph, weights: &'a Weights, input: String) -> Result<()> {
    let mut writer = Writer { builder, weights, values: Vec::with_capacity(graph.nodes().len()) };
    for node in graph.nodes() {
        let value = match node.op {
            Op::Input { channels } => {
                WrittenValue { map: Some(input.clone()), row: None, is_pixel: false, channels: Some(channels) }
            }
            _ => writer.node(node)?,
        };
        writer.values.push(value);
    }
    writer.output(graph);
    Ok(())
}

/// The operator of a node, with its attributes.
pub(super) type Operator = (&'static str, Vec<proto::Attribute>);

struct Writer<'w, 'a> {
    builder: &'w mut Builder<'a>,
    weights: &'a Weights,
    values: Vec<WrittenValue>,
}

impl Writer<'_, '_> {
    /// The name of a value in the rank that its reader needs; converts it if necessary.
    fn read(&mut self, id: NodeId, rank: Rank) -> String {
        let value = &self.values[id.index()];
        if let Some(name) = value.name(rank) {
            return name.clone();
        }
        let (name, is_pixel) = (value.name(value.rank()).expect("a value has a name").clone(), value.is_pixel);
        let converted = match rank {
            Rank::Row if is_pixel => {
                self.builder.node(&format!("{name}.row"), "Flatten", &[&name], vec![int("axis", 1)])
            }
            // One pixel for some image sizes only: `Squeeze` fails for the others, where `Flatten` would silently succeed.
            Rank::Row => self.axes_node(&format!("{name}.row"), "Squeeze", &name),
            Rank::Map => self.axes_node(&format!("{name}.map"), "Unsqueeze", &name),
        };
        let value = &mut self.values[id.index()];
        match rank {
            Rank::Map => value.map = Some(converted.clone()),
            Rank::Row => value.row = Some(converted.clone()),
        }
        converted
    }

    /// Adds a node that adds or removes the axes of height and width.
    fn axes_node(&mut self, name: &str, op_type: &str, value: &str) -> String {
        if self.builder.opset < AXES_ARE_INPUTS {
            return self.builder.node(name, op_type, &[value], vec![ints("axes", [2, 3])]);
        }
        let axes = self.builder.integers(&format!("{name}.axes"), &[2, 3]);
        self.builder.node(name, op_type, &[value, &axes], Vec::new())
    }

    /// Adds a node; returns its value.
    fn node(&mut self, node: &Node) -> Result<WrittenValue> {
        let values = || node.inputs.iter().map(|input| &self.values[input.index()]);
        let first = values().next().expect("only the input reads nothing").clone();
        let rows_only = values().all(|value| value.rank() == Rank::Row);
        let channels = match &node.op {
            Op::Conv2d(conv) | Op::NormalizedConv2d(conv) => Some(conv.geometry.out_channels),
            Op::Slice { channels, .. } => Some(*channels),
            Op::Linear(linear) => Some(linear.out_features),
            Op::Concat => values().map(|value| value.channels).sum(),
            Op::Flatten if !first.is_pixel => None,
            _ => first.channels,
        };
        let is_pixel = match &node.op {
            Op::Conv2d(Conv2d { geometry: g, .. }) | Op::NormalizedConv2d(Conv2d { geometry: g, .. }) => {
                first.is_pixel && g.kernel == [1, 1] && g.padding == [0, 0]
            }
            Op::MaxPool(_) | Op::AvgPool(_) | Op::AvgPoolInside(_) | Op::Pad { .. } | Op::Resize(_) => false,
            Op::GlobalAvgPool | Op::Flatten | Op::Linear(_) => true,
            _ => first.is_pixel,
        };
        let reads = match &node.op {
            Op::Linear(_) => Rank::Row,
            Op::Conv2d(_) | Op::NormalizedConv2d(_) | Op::Pad { .. } | Op::Resize(_) => Rank::Map,
            Op::MaxPool(_) | Op::AvgPool(_) | Op::AvgPoolInside(_) | Op::GlobalAvgPool => Rank::Map,
            _ if rows_only => Rank::Row,
            _ => Rank::Map,
        };
        let mut inputs: Vec<String> = node.inputs.iter().map(|&input| self.read(input, reads)).collect();
        if matches!(node.op, Op::Softmax(_)) && !is_pixel && self.builder.opset < SOFTMAX_OF_ONE_AXIS {
            let what = expected(format_args!("an opset of at least {SOFTMAX_OF_ONE_AXIS} for the softmax of a map"))
                .found(self.builder.opset);
            return Err(Error::spec(&node.name, what));
        }
        let (op_type, attributes) = self.operator(node, reads, &mut inputs)?;
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let name = self.builder.node(&node.name, op_type, &inputs, attributes);
        let result = if node.op == Op::Flatten { Rank::Row } else { reads };
        let (map, row) = if result == Rank::Map { (Some(name), None) } else { (None, Some(name)) };
        Ok(WrittenValue { map, row, is_pixel, channels })
    }

    /// The operator and its attributes; appends its constants to `inputs`.
    fn operator(&mut self, node: &Node, rank: Rank, inputs: &mut Vec<String>) -> Result<Operator> {
        for (name, parameter) in node.parameters() {
            if let (Op::NormalizedConv2d(_), Role::Kernel) = (&node.op, parameter.role) {
                let kernel = normalized(self.weights.require(&name)?).into_iter().map(|x| x as f32).collect();
                inputs.push(self.builder.floats(&format!("{name}.normalized"), &parameter.shape, kernel));
                continue;
            }
            let shape = match (&node.op, rank) {
                (Op::Scale { channels, .. }, Rank::Map) => vec![*channels, 1, 1],
                _ => parameter.shape,
            };
            inputs.push(self.builder.parameter(&name, self.weights.require(&name)?, &shape)?);
        }
        Ok(match &node.op {
            Op::Conv2d(conv) | Op::NormalizedConv2d(conv) => ("Conv", convolution(conv)),
            Op::BatchNorm(BatchNorm { eps, .. }) => ("BatchNormalization", vec![float("epsilon", *eps as f32)]),
            Op::Scale { .. } | Op::Mul => ("Mul", Vec::new()),
            Op::Activation(kind) => activation(self.builder, &node.name, *kind, inputs)?,
            Op::Softmax(Softmax::Probabilities) => ("Softmax", vec![int("axis", 1)]),
            Op::Softmax(Softmax::Logarithms) => ("LogSoftmax", vec![int("axis", 1)]),
            Op::Add => (if inputs.len() == 2 { "Add" } else { "Sum" }, Vec::new()),
            Op::Concat => ("Concat", vec![int("axis", 1)]),
            Op::Shuffle { groups } => {
                let channels = self.values[node.inputs[0].index()].channels;
                let channels = channels
                    .ok_or_else(|| Error::spec(&node.name, "the number of channels depends on the image's size"))?;
                let source = |channel: usize| channel % groups * (channels / groups) + channel / groups;
                self.gather(node, (0..channels).map(source), inputs)
            }
            Op::Slice { start, channels } => self.gather(node, *start..start + channels, inputs),
            Op::Pad { padding } => self.pad(node, *padding, inputs),
            Op::Resize(resize) => self.resize(node, resize, inputs)?,
            Op::MaxPool(pool) => ("MaxPool", window(node, pool, [self.builder.opset, DILATED_MAX_POOL])?),
            Op::AvgPool(pool) => {
                let mut attributes = window(node, pool, [self.builder.opset, DILATED_MEAN_POOL])?;
                attributes.push(int("count_include_pad", 1));
                ("AveragePool", attributes)
            }
            Op::AvgPoolInside(pool) => ("AveragePool", window(node, pool, [self.builder.opset, DILATED_MEAN_POOL])?),
            Op::GlobalAvgPool => ("GlobalAveragePool", Vec::new()),
            Op::Flatten => ("Flatten", vec![int("axis", 1)]),
            Op::Linear(linear) => {
                self.bias_where_required(node, linear, inputs);
                ("Gemm", vec![int("transB", 1)])
            }
            Op::Input { .. } => unreachable!("the input is no node of the file"),
        })
    }

    /// Selects channels of the input, in any order.
    fn gather(&mut self, node: &Node, channels: impl Iterator<Item = usize>, inputs: &mut Vec<String>) -> Operator {
        let channels: Vec<i64> = channels.map(|channel| channel as i64).collect();
        inputs.push(self.builder.integers(&format!("{}.channels", node.name), &channels));
        ("Gather", vec![int("axis", 1)])
    }

    fn pad(&mut self, node: &Node, padding: [[isize; 2]; 2], inputs: &mut Vec<String>) -> Operator {
        let [[top, bottom], [left, right]] = padding.map(|ends| ends.map(|end| end as i64));
        let pads = [0, 0, top, left, 0, 0, bottom, right];
        if self.builder.opset < PADS_ARE_INPUTS {
            return ("Pad", vec![integers("pads", &pads)]);
        }
        inputs.push(self.builder.integers(&format!("{}.pads", node.name), &pads));
        ("Pad", Vec::new())
    }

    /// In early opsets `Gemm` needs a bias: a single zero.
    fn bias_where_required(&mut self, node: &Node, linear: &Linear, inputs: &mut Vec<String>) {
        if !linear.bias && self.builder.opset < GEMM_WITHOUT_BIAS {
            inputs.push(self.builder.floats(&format!("{}.zero", node.name), &[1], vec![0.0]));
        }
    }

    fn resize(&mut self, node: &Node, resize: &Resize, inputs: &mut Vec<String>) -> Result<Operator> {
        if self.builder.opset < RESIZE_WITH_COORDINATES {
            let what = expected(format_args!("an opset of at least {RESIZE_WITH_COORDINATES} for a resize"));
            return Err(Error::spec(&node.name, what.found(self.builder.opset)));
        }
        // The second input is for another coordinate mode. Sizes include the batch, which is not known, so a fixed size needs
        // the shape of the input.
        let none = self.builder.floats(&format!("{}.roi", node.name), &[0], Vec::new());
        match resize.target {
            ResizeTarget::Scale([rows, columns]) => {
                let scales = vec![1.0, 1.0, rows, columns];
                inputs.extend([none, self.builder.floats(&format!("{}.scales", node.name), &[4], scales)]);
            }
            ResizeTarget::Size(size) => {
                let name = |part: &str| format!("{}.{part}", node.name);
                let shape = self.builder.node(&name("shape"), "Shape", &[&inputs[0]], Vec::new());
                let both = self.builder.integers(&name("both"), &[0, 1]);
                let kept = self.builder.node(&name("kept"), "Gather", &[&shape, &both], Vec::new());
                let size = self.builder.integers(&name("size"), &size.map(|extent| extent as i64));
                let sizes = self.builder.node(&name("sizes"), "Concat", &[&kept, &size], vec![int("axis", 0)]);
                let empty = self.builder.floats(&name("no_scales"), &[0], Vec::new());
                inputs.extend([none, empty, sizes]);
            }
        }
        let coordinates = match resize.coordinates {
            Coordinates::HalfPixel => "half_pixel",
            Coordinates::HalfPixelOrOrigin => "pytorch_half_pixel",
            Coordinates::AlignCorners => "align_corners",
            Coordinates::Asymmetric => "asymmetric",
        };
        let mut attributes = vec![text("coordinate_transformation_mode", coordinates)];
        match resize.sampling {
            Sampling::Linear => attributes.push(text("mode", "linear")),
            Sampling::Nearest(rounding) => {
                let rounding = match rounding {
                    Rounding::Floor => "floor",
                    Rounding::Ceil => "ceil",
                    Rounding::HalfDown => "round_prefer_floor",
                    Rounding::HalfUp => "round_prefer_ceil",
                };
                attributes.extend([text("mode", "nearest"), text("nearest_mode", rounding)]);
            }
        }
        Ok(("Resize", attributes))
    }

    /// Declares the main output as `logits`: a row if the map is one pixel.
    fn output(mut self, graph: &Graph) {
        let main = graph.main_output();
        let value = &self.values[main.index()];
        let channels = value.channels.map_or(Extent::Named("features"), Extent::Known);
        let batch = Extent::Named("batch");
        let extents = if value.is_pixel {
            vec![batch, channels]
        } else {
            vec![batch, channels, Extent::Named("output_height"), Extent::Named("output_width")]
        };
        self.builder.output("logits", &extents);
        let rank = if value.is_pixel { Rank::Row } else { Rank::Map };
        let name = self.read(main, rank);
        self.builder.node_for("logits", "Identity", "logits", &[&name], Vec::new());
    }
}

fn convolution(Conv2d { geometry: g, .. }: &Conv2d) -> Vec<proto::Attribute> {
    vec![
        ints("dilations", g.dilation),
        int("group", g.groups as i64),
        ints("kernel_shape", g.kernel),
        ints("pads", [g.padding, g.padding].concat()),
        ints("strides", g.stride),
    ]
}

/// The attributes of a pool. `dilated` is the first opset in which its windows may be dilated.
fn window(node: &Node, pool: &Pool, [opset, dilated]: [i64; 2]) -> Result<Vec<proto::Attribute>> {
    let Pool { kernel, stride, dilation, padding: [rows, columns] } = *pool;
    let mut attributes = vec![
        ints("kernel_shape", kernel),
        ints("pads", [rows[0], columns[0], rows[1], columns[1]]),
        ints("strides", stride),
    ];
    if dilation != [1; 2] {
        if opset < dilated {
            let what = expected(format_args!("an opset of at least {dilated} for a dilated pool")).found(opset);
            return Err(Error::spec(&node.name, what));
        }
        attributes.push(ints("dilations", dilation));
    }
    Ok(attributes)
}
