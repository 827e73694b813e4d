//! NASNet-A (Zoph et al., 1707.07012), under the names of timm's `nasnetalarge`.

use serde::{Deserialize, Serialize};

use super::family::{Family, Network, check_counts, check_depths, class_fields, invalid};
use crate::error::expected;
use crate::graph::{BatchNorm, Conv2d, Linear, NodeId, Op, Pool};
use crate::{Graph, Result};

use CellInput::{Current, Previous, Sum};
use CellLayer::{Identity, Max, Mean, Separable};

/// A network of two repeated cells, which a search found (Fig. 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NasNet {
    /// Normal cells in each of the three stages: the paper's N.
    cells: usize,
    /// Channels before the classifier.
    features: usize,
    /// Channels after the first convolution.
    stem: usize,
    /// Whether a stage's first cell reads the previous value that its reduction cell reads, rather than that cell's input.
    skips_reduction: bool,
    /// Whether average pools that halve a map count the zeros around it, as timm's do.
    counts_padding: bool,
    classes: usize,
    input_channels: usize,
    /// The side of the images, whose repeated halving determines the padding.
    #[serde(skip)]
    size: usize,
}

impl Default for NasNet {
    /// NASNet-A (6 @ 4032).
    fn default() -> Self {
        Self {
            cells: 6,
            features: 4032,
            stem: 96,
            skips_reduction: true,
            counts_padding: true,
            classes: 1000,
            input_channels: 3,
            size: 331,
        }
    }
}

impl Family for NasNet {
    fn networks() -> Vec<Network<Self>> {
        let mobile = Self {
            cells: 4,
            features: 1056,
            stem: 32,
            skips_reduction: false,
            counts_padding: false,
            ..Self::default()
        };
        vec![
            Network { name: "nasnet-a-large", size: 331, spec: Self::default() },
            Network { name: "nasnet-a-mobile", size: 224, spec: mobile },
        ]
    }

    fn for_size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    class_fields!();

    fn graph(&self) -> Result<Graph> {
        let Self { cells, features, stem, classes, input_channels, size, .. } = *self;
        check_depths(&[cells])?;
        check_counts(&[("features", features), ("stem", stem)])?;
        check_counts(&[("classes", classes), ("input_channels", input_channels)])?;
        if features % FEATURES_DIVISOR != 0 {
            return Err(invalid(
                "features",
                expected(format_args!("a multiple of {FEATURES_DIVISOR}")).found(features),
            ));
        }
        if size < SMALLEST {
            return Err(invalid("size", expected(format_args!("at least {SMALLEST} pixels")).found(size)));
        }
        let mut graph = Graph::new();
        let node = graph.add("input", Op::Input { channels: input_channels }, &[]);
        let mut builder = Builder { graph, counts_padding: self.counts_padding };
        let x = builder.cells(self, Map { node, channels: input_channels, size });
        let Builder { mut graph, .. } = builder;
        let y = graph.add("act", Op::relu(), &[x.node]);
        let y = graph.add("global_pool", Op::GlobalAvgPool, &[y]);
        let head = Linear { in_features: x.channels, out_features: classes, bias: true };
        let y = graph.add("last_linear", Op::Linear(head), &[y]);
        graph.output("main", y);
        Ok(graph)
    }
}

/// Each value in a cell of the first stage has a twenty-fourth of the features; in the stem's first cell, a quarter of that.
const FEATURES_DIVISOR: usize = 96;

/// The smallest side of images: the last stage's first cell shifts a map of two rows by one.
const SMALLEST: usize = 19;

/// The ε of batch norms.
const EPS: f64 = 1e-3;

/// The least number of cell names per stage. Published weights of the mobile network use the names of the large one, and
/// leave out two in each stage.
const STAGE_NUMBERS: usize = 6;

/// A layer of a cell.
#[derive(Debug, Clone, Copy)]
enum CellLayer {
    Identity,
    /// ReLU, separable convolution with a kernel of this side and batch norm, all twice.
    Separable(usize),
    Mean,
    Max,
}

/// The input of a layer.
#[derive(Debug, Clone, Copy)]
enum CellInput {
    /// The last cell's value, project.
    Current,
    /// The value before that, project.
    Previous,
    /// One of the cell's own sums.
    Sum(usize),
}

/// A cell: sums of two layers each. Its value concatenates some of them along the channels.
struct Cell {
    /// The stride of the layers that do not read a sum.
    stride: usize,
    sums: [[(CellLayer, CellInput); 2]; 5],
    outputs: &'static [CellInput],
}

/// The cell that preserves the size of a map (Fig. 4, left).
const NORMAL: Cell = Cell {
    stride: 1,
    sums: [
        [(Separable(5), Current), (Separable(3), Previous)],
        [(Separable(5), Previous), (Separable(3), Previous)],
        [(Mean, Current), (Identity, Previous)],
        [(Mean, Previous), (Mean, Previous)],
        [(Separable(3), Current), (Identity, Current)],
    ],
    outputs: &[Previous, Sum(0), Sum(1), Sum(2), Sum(3), Sum(4)],
};

/// The cell that halves the size of a map (Fig. 4, right).
const REDUCTION: Cell = Cell {
    stride: 2,
    sums: [
        [(Separable(5), Current), (Separable(7), Previous)],
        [(Max, Current), (Separable(7), Previous)],
        [(Mean, Current), (Separable(5), Previous)],
        [(Identity, Sum(1)), (Mean, Sum(0))],
        [(Separable(3), Sum(0)), (Max, Current)],
    ],
    outputs: &[Sum(1), Sum(2), Sum(3), Sum(4)],
};

/// A value with its extents.
#[derive(Debug, Clone, Copy)]
struct Map {
    node: NodeId,
    channels: usize,
    /// Rows, which equal columns.
    size: usize,
}

struct Builder {
    graph: Graph,
    counts_padding: bool,
}

impl Builder {
    /// Adds the stem and all cells; returns the last cell's value.
    fn cells(&mut self, spec: &NasNet, image: Map) -> Map {
        let mut conv = Conv2d::square(image.channels, spec.stem, 3).stride(2);
        conv.geometry.padding = [0; 2];
        let x = self.conv("conv0.conv", conv, image);
        let stem = self.norm("conv0.bn", x);

        let width = spec.features / 24;
        let current = self.project("cell_stem_0.conv_1x1", stem, width / 4);
        let mut previous = self.cell("cell_stem_0", &REDUCTION, [current, stem], width / 4);
        let current = self.project("cell_stem_1.conv_1x1", previous, width / 2);
        let halved = self.halve("cell_stem_1", stem, width / 2);
        let mut x = self.cell("cell_stem_1", &REDUCTION, [current, halved], width / 2);

        for stage in 0..3 {
            let channels = width << stage;
            if stage > 0 {
                let name = format!("reduction_cell_{}", stage - 1);
                let current = self.project(&format!("{name}.conv_1x1"), x, channels);
                let before = self.project(&format!("{name}.conv_prev_1x1"), previous, channels);
                let reduced = self.cell(&name, &REDUCTION, [current, before], channels);
                previous = if spec.skips_reduction { previous } else { x };
                x = reduced;
            }
            let first = stage * spec.cells.max(STAGE_NUMBERS);
            for number in first..first + spec.cells {
                let name = format!("cell_{number}");
                let current = self.project(&format!("{name}.conv_1x1"), x, channels);
                let before = if number == first {
                    self.halve(&name, previous, channels)
                } else {
                    self.project(&format!("{name}.conv_prev_1x1"), previous, channels)
                };
                previous = x;
                x = self.cell(&name, &NORMAL, [current, before], channels);
            }
        }
        x
    }

    /// Adds a cell whose layers have `channels` each.
    fn cell(&mut self, name: &str, cell: &Cell, [current, previous]: [Map; 2], channels: usize) -> Map {
        let mut sums: Vec<Map> = Vec::with_capacity(cell.sums.len());
        for (index, terms) in cell.sums.iter().enumerate() {
            let name = format!("{name}.comb_iter_{index}");
            let values = [("left", terms[0]), ("right", terms[1])].map(|(side, (layer, source))| {
                let (x, stride) = match source {
                    Current => (current, cell.stride),
                    Previous => (previous, cell.stride),
                    Sum(index) => (sums[index], 1),
                };
                self.layer(&format!("{name}_{side}"), layer, stride, x, channels)
            });
            let node = self.graph.add(name, Op::Add, &values.map(|value| value.node));
            sums.push(Map { node, ..values[0] });
        }
        let outputs = cell.outputs.iter().map(|source| match source {
            Current => current,
            Previous => previous,
            Sum(index) => sums[*index],
        });
        self.concat(format!("{name}.concat"), &outputs.collect::<Vec<_>>())
    }

    fn layer(&mut self, name: &str, layer: CellLayer, stride: usize, x: Map, channels: usize) -> Map {
        let pool = |kernel| Pool {
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            padding: [same_padding(x.size, kernel, stride); 2],
        };
        match layer {
            Identity => x,
            Separable(kernel) => self.separable(name, kernel, stride, x, channels),
            Max => self.pool(name, Op::MaxPool(pool(3)), stride, x),
            Mean if stride > 1 && self.counts_padding => self.pool(name, Op::AvgPool(pool(3)), stride, x),
            Mean => self.pool(name, Op::AvgPoolInside(pool(3)), stride, x),
        }
    }

    /// ReLU, separable convolution and batch norm, twice; only the first has the stride.
    fn separable(&mut self, name: &str, kernel: usize, stride: usize, x: Map, channels: usize) -> Map {
        let mut y = x;
        for (number, stride) in [(1, stride), (2, 1)] {
            y = self.relu(format!("{name}.act_{number}"), y);
            let part = format!("{name}.separable_{number}");
            let depthwise = Conv2d::square(y.channels, y.channels, kernel).stride(stride).groups(y.channels);
            y = self.padded_conv(&format!("{part}.depthwise_conv2d"), depthwise, y);
            y = self.conv(&format!("{part}.pointwise_conv2d"), Conv2d::square(y.channels, channels, 1), y);
            y = self.norm(&format!("{name}.bn_sep_{number}"), y);
        }
        y
    }

    /// ReLU, 1×1 convolution, batch norm.
    fn project(&mut self, name: &str, x: Map, channels: usize) -> Map {
        let y = self.relu(format!("{name}.act"), x);
        let y = self.conv(&format!("{name}.conv"), Conv2d::square(x.channels, channels, 1), y);
        self.norm(&format!("{name}.bn"), y)
    }

    /// Halves a map: one 1×1 convolution reads every second pixel, another the pixels diagonally next to them. Each computes
    /// half of the channels. A batch norm follows.
    fn halve(&mut self, name: &str, x: Map, channels: usize) -> Map {
        let even = self.relu(format!("{name}.act"), x);
        let shift = Op::Pad { padding: [[-1, 1]; 2] };
        let odd = Map { node: self.graph.add(format!("{name}.path_2.pad"), shift, &[even.node]), ..even };
        let paths = [("path_1", even), ("path_2", odd)].map(|(path, x)| {
            let every_second = Pool { kernel: [1; 2], stride: [2; 2], dilation: [1; 2], padding: [[0; 2]; 2] };
            let y = self.pool(&format!("{name}.{path}.avgpool"), Op::AvgPool(every_second), 2, x);
            self.conv(&format!("{name}.{path}.conv"), Conv2d::square(x.channels, channels / 2, 1), y)
        });
        let y = self.concat(format!("{name}.path"), &paths);
        self.norm(&format!("{name}.final_path_bn"), y)
    }

    /// A convolution with TensorFlow's padding, which gives `⌈size / stride⌉` rows.
    fn padded_conv(&mut self, name: &str, mut conv: Conv2d, x: Map) -> Map {
        let [begin, end] = same_padding(x.size, conv.geometry.kernel[0], conv.geometry.stride[0]);
        conv.geometry.padding = [if begin == end { begin } else { 0 }; 2];
        let mut padded = x;
        if begin != end {
            let padding = [[begin as isize, end as isize]; 2];
            padded.node = self.graph.add(format!("{name}.pad"), Op::Pad { padding }, &[x.node]);
            padded.size += begin + end;
        }
        self.conv(name, conv, padded)
    }

    fn conv(&mut self, name: &str, conv: Conv2d, x: Map) -> Map {
        let Conv2d { geometry: g, .. } = conv;
        let node = self.graph.add(name, Op::Conv2d(conv), &[x.node]);
        let size = (x.size + 2 * g.padding[0] - g.kernel[0]) / g.stride[0] + 1;
        Map { node, channels: g.out_channels, size }
    }

    fn norm(&mut self, name: &str, x: Map) -> Map {
        let norm = Op::BatchNorm(BatchNorm { channels: x.channels, eps: EPS });
        Map { node: self.graph.add(name, norm, &[x.node]), ..x }
    }

    fn relu(&mut self, name: String, x: Map) -> Map {
        Map { node: self.graph.add(name, Op::relu(), &[x.node]), ..x }
    }

    fn pool(&mut self, name: &str, pool: Op, stride: usize, x: Map) -> Map {
        Map { node: self.graph.add(name, pool, &[x.node]), size: x.size.div_ceil(stride), ..x }
    }

    fn concat(&mut self, name: String, values: &[Map]) -> Map {
        let nodes: Vec<NodeId> = values.iter().map(|value| value.node).collect();
        let channels = values.iter().map(|value| value.channels).sum();
        Map { node: self.graph.add(name, Op::Concat, &nodes), channels, ..values[0] }
    }
}

/// The zeros before and after `size` pixels with which `⌈size / stride⌉` windows fit.
fn same_padding(size: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let zeros = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
    [zeros / 2, zeros.div_ceil(2)]
}
