//! Operators by hand: each file's outputs against numbers that follow from the definition.

use super::*;
use crate::interpret::logits;

pub(super) fn text(name: &str, text: &str) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), s: Some(text.as_bytes().to_vec().into()), ..proto::Attribute::default() }
}

pub(super) fn integers(name: &str, dims: &[i64], values: &[i64]) -> proto::Tensor {
    proto::Tensor {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::INT64,
        int64_data: values.to_vec(),
        ..proto::Tensor::default()
    }
}

pub(super) fn list(name: &str, values: &[i64]) -> proto::Tensor {
    integers(name, &[values.len() as i64], values)
}

/// The pixels 0, 1, 2, … of three channels of 4×4.
pub(super) fn ramp() -> Tensor<f64> {
    Tensor::from_fn([1, 3, 4, 4], |index| index as f64)
}

/// The output for an image.
pub(super) fn output_of(model: &proto::Model, image: &Tensor<f64>) -> Vec<f64> {
    let onnx = read_model(model).unwrap();
    logits(&onnx.graph, &onnx.weights, image).unwrap().into_data()
}

fn output(nodes: Vec<proto::Node>, tensors: Vec<proto::Tensor>) -> Vec<f64> {
    output_of(&model(nodes, tensors), &ramp())
}

pub(super) fn with_opset(version: i64, mut model: proto::Model) -> proto::Model {
    model.opset_import[0].version = version;
    model
}

fn kinds(model: &proto::Model) -> Vec<&'static str> {
    read_model(model).unwrap().graph.nodes().iter().map(|node| node.op.kind()).collect()
}

pub(super) fn close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "expected {expected}, found {found}");
    }
}

/// `Squeeze` as TorchScript exports it: only if the extent is 1, or else unchanged.
fn squeeze_if_one(axis: i64) -> (Vec<proto::Node>, Vec<proto::Tensor>) {
    let branch = |name: &str, node: proto::Node| {
        let output = vec![info(&node.output[0], &[])];
        let graph = proto::Graph { node: vec![node], output, ..proto::Graph::default() };
        proto::Attribute { name: name.to_owned(), g: Some(graph), ..proto::Attribute::default() }
    };
    let squeeze = branch("then_branch", node("Squeeze", &["p", "axis"], "squeezed", Vec::new()));
    let same = branch("else_branch", node("Identity", &["p"], "same", Vec::new()));
    let nodes = vec![
        node("GlobalAveragePool", &["x"], "p", Vec::new()),
        node("Shape", &["p"], "shape", Vec::new()),
        node("Gather", &["shape", "axis"], "extent", Vec::new()),
        node("Equal", &["extent", "one"], "is_one", Vec::new()),
        node("If", &["is_one"], "y", vec![squeeze, same]),
    ];
    (nodes, vec![list("axis", &[axis]), list("one", &[1])])
}

#[test]
fn shapes_decide_which_branch_is_taken() {
    let means = [7.5, 23.5, 39.5];
    for axis in [2, -1, 1] {
        let (nodes, tensors) = squeeze_if_one(axis);
        assert_eq!(output(nodes, tensors), means, "axis {axis}");
    }
    // After the branch that squeezes, the value has three axes.
    let (mut nodes, mut tensors) = squeeze_if_one(3);
    nodes[4].output = vec!["s".to_owned()];
    nodes.push(node("Squeeze", &["s", "other"], "y", Vec::new()));
    tensors.push(list("other", &[2]));
    assert_eq!(output(nodes, tensors), means);
    let (nodes, tensors) = squeeze_if_one(0);
    assert_eq!(
        sentence(nodes, tensors),
        "node y (If): expected a condition that the shapes of the file decide, found one that depends on the batch or the \
         image's size, which the file does not fix"
    );
}

#[test]
fn a_branch_has_names_of_its_own() {
    let (mut nodes, tensors) = squeeze_if_one(2);
    let branch = nodes[4].attribute[0].g.as_mut().unwrap();
    branch.node[0].output = vec!["shape".to_owned()];
    branch.output[0].name = "shape".to_owned();
    let found = sentence(nodes, tensors);
    assert_eq!(found, "node y (If): expected a branch with names of its own, found \"shape\" again");
}

#[test]
fn rows_columns_and_channels_are_sliced_in_any_way() {
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        let tensors = [("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps)];
        let tensors = tensors.map(|(name, values)| list(name, values)).to_vec();
        output(vec![node("Slice", &["x", "starts", "ends", "axes", "steps"], "y", Vec::new())], tensors)
    };
    let pick = |channels: &[usize], rows: &[usize], columns: &[usize]| -> Vec<f64> {
        let mut picked = Vec::new();
        for c in channels {
            for h in rows {
                picked.extend(columns.iter().map(|w| (16 * c + 4 * h + w) as f64));
            }
        }
        picked
    };
    let all = [0, 1, 2, 3];
    assert_eq!(slice(&[1], &[3], &[2], &[1]), pick(&[0, 1, 2], &[1, 2], &all));
    assert_eq!(slice(&[-3, 0], &[-1, 2], &[3, 1], &[1, 1]), pick(&[0, 1], &all, &[1, 2]));
    assert_eq!(slice(&[1, 1], &[i64::MAX, 4], &[2, 3], &[2, 2]), pick(&[0, 1, 2], &[1, 3], &[1, 3]));
    assert_eq!(slice(&[0], &[i64::MAX], &[1], &[2]), pick(&[0, 2], &all, &all));
    assert_eq!(slice(&[-1], &[i64::MIN], &[1], &[-1]), pick(&[2, 1, 0], &all, &all));
    let tensors = || vec![list("starts", &[3]), list("ends", &[3]), list("axes", &[2])];
    let empty = sentence(vec![node("Slice", &["x", "starts", "ends", "axes"], "y", Vec::new())], tensors());
    assert_eq!(empty, "node y (Slice): expected some of 4 elements, found 3 to 3 by 1");
}

/// Interleaved channels are a shuffle and a slice, other selections a convolution.
#[test]
fn channels_are_gathered_in_any_order() {
    let gathered = |indices: &[i64]| {
        let nodes = vec![
            node("Concat", &["x", "x"], "c", vec![int("axis", 1)]),
            node("Gather", &["c", "i"], "y", vec![int("axis", 1)]),
        ];
        let model = model(nodes, vec![list("i", indices)]);
        let channels = output_of(&model, &ramp()).chunks(16).map(|map| map[0] / 16.0).collect::<Vec<f64>>();
        (channels, *kinds(&model).last().unwrap())
    };
    assert_eq!(gathered(&[0, 2, 4]), (vec![0.0, 2.0, 1.0], "Slice"));
    assert_eq!(gathered(&[1, 3, 5]), (vec![1.0, 0.0, 2.0], "Slice"));
    assert_eq!(gathered(&[0, 3, 1, 4, 2, 5]), (vec![0.0, 0.0, 1.0, 1.0, 2.0, 2.0], "Shuffle"));
    assert_eq!(gathered(&[5, 0, 0, -2]), (vec![2.0, 0.0, 0.0, 1.0], "Conv2d"));
}

#[test]
fn reductions_over_pixels() {
    let reduce = |op_type: &str, axes: &[i64]| {
        output(vec![node(op_type, &["x"], "y", vec![ints("axes", axes), int("keepdims", 1)])], Vec::new())
    };
    let of = |fold: &dyn Fn(&[f64]) -> f64| ramp().data().chunks(16).map(fold).collect::<Vec<f64>>();
    assert_eq!(reduce("ReduceSum", &[2, 3]), of(&|map| map.iter().sum()));
    assert_eq!(reduce("ReduceMean", &[-1, -2]), of(&|map| map.iter().sum::<f64>() / 16.0));
    assert_eq!(reduce("ReduceMax", &[2, 3]), of(&|map| map[15]));
    let rows: Vec<f64> = ramp().data().chunks(4).map(|row| row.iter().sum()).collect();
    assert_eq!(reduce("ReduceSum", &[3]), rows);
    let channels = sentence(vec![node("ReduceSum", &["x"], "y", vec![ints("axes", &[1])])], Vec::new());
    let what = "node y (ReduceSum): expected a reduction over height and width, found one over [Channel]; ";
    assert!(channels.starts_with(what), "{channels}");
}

/// The sum over the groups of a split attention: `[N, 2, C, H, W]`.
#[test]
fn groups_of_channels_are_summed() {
    let nodes = vec![
        node("Concat", &["x", "x"], "c", vec![int("axis", 1)]),
        node("Reshape", &["c", "shape"], "g", Vec::new()),
        node("ReduceSum", &["g", "axes"], "y", vec![int("keepdims", 0)]),
    ];
    let doubled: Vec<f64> = ramp().data().iter().map(|x| 2.0 * x).collect();
    assert_eq!(output(nodes, vec![list("shape", &[0, 2, 3, 4, 4]), list("axes", &[1])]), doubled);
}

/// As in networks with selective kernels: two maps stacked, weighted by a softmax of the two, and summed.
#[test]
fn a_softmax_weighs_two_groups() {
    let nodes = vec![
        node("Mul", &["x", "third"], "z", Vec::new()),
        node("Unsqueeze", &["x", "one"], "a", Vec::new()),
        node("Unsqueeze", &["z", "one"], "b", Vec::new()),
        node("Concat", &["a", "b"], "stack", vec![int("axis", 1)]),
        node("GlobalAveragePool", &["x"], "p", Vec::new()),
        node("Conv", &["p", "w"], "c", Vec::new()),
        node("Reshape", &["c", "shape"], "r", Vec::new()),
        node("Transpose", &["r"], "t", vec![ints("perm", &[0, 2, 1, 3])]),
        node("Softmax", &["t"], "s", vec![int("axis", 1)]),
        node("Reshape", &["s", "row"], "flat", Vec::new()),
        node("Reshape", &["flat", "groups"], "gates", Vec::new()),
        node("Mul", &["stack", "gates"], "m", Vec::new()),
        node("ReduceSum", &["m", "one"], "y", vec![int("keepdims", 0)]),
    ];
    // Logits of the first map: 0.1 times the mean of each channel; of the second: 0.
    let weights: Vec<f32> = (0..18).map(|i| if i < 9 && i % 4 == 0 { 0.1 } else { 0.0 }).collect();
    let tensors = vec![
        tensor("third", &[], &[-2.0]),
        list("one", &[1]),
        tensor("w", &[6, 3, 1, 1], &weights),
        list("shape", &[0, 1, 2, 3]),
        list("row", &[0, -1]),
        list("groups", &[0, 2, 3, 1, 1]),
    ];
    let expected = |index: usize| {
        let gate = 1.0 / (1.0 + (-0.1 * (7.5 + 16.0 * (index / 16) as f64)).exp());
        index as f64 * gate - 2.0 * index as f64 * (1.0 - gate)
    };
    close(&output(nodes, tensors), &(0..48).map(expected).collect::<Vec<f64>>(), 1e-5);
}

/// The attributes of the oldest supported opset, in which operands do not broadcast by themselves.
#[test]
fn operators_of_opset_6() {
    let norm = vec![int("is_test", 1), float("epsilon", 0.0), ints("consumed_inputs", &[0, 0, 0, 1, 1])];
    let nodes = vec![
        node("Mul", &["x", "factor"], "a", vec![int("broadcast", 1), int("axis", 1)]),
        node("Add", &["a", "summand"], "b", vec![int("broadcast", 1)]),
        node("BatchNormalization", &["b", "one", "zero", "zero", "one"], "c", norm),
        node("Dropout", &["c"], "d", vec![int("is_test", 1)]),
        node("PRelu", &["d", "slope"], "y", Vec::new()),
    ];
    let tensors = vec![
        tensor("factor", &[3], &[1.0, -1.0, 2.0]),
        tensor("summand", &[1], &[0.5]),
        tensor("one", &[3], &[1.0; 3]),
        tensor("zero", &[3], &[0.0; 3]),
        tensor("slope", &[3], &[0.25, 0.5, 4.0]),
    ];
    let old = with_opset(6, model(nodes.clone(), tensors.clone()));
    let expected: Vec<f64> = (0..48)
        .map(|index| {
            let channel = index / 16;
            let x = index as f64 * [1.0, -1.0, 2.0][channel] + 0.5;
            if x < 0.0 { x * [0.25, 0.5, 4.0][channel] } else { x }
        })
        .collect();
    assert_eq!(output_of(&old, &ramp()), expected);
    let mut unsaid = nodes.clone();
    unsaid[3].attribute.clear();
    let found = read_model(&with_opset(6, model(unsaid, tensors.clone()))).unwrap_err().to_string();
    assert_eq!(found, "node d (Dropout): expected a network for inference, found a dropout without is_test");
    let mut unlike = nodes;
    unlike[0].attribute.clear();
    let found = read_model(&with_opset(6, model(unlike, tensors))).unwrap_err().to_string();
    assert_eq!(found, "node a (Mul): expected operands of one shape, or broadcast, found neither");
}

/// A slope for each channel; the image minus 20 has both signs in the second channel.
#[test]
fn prelu_per_channel() {
    let nodes = vec![node("Sub", &["x", "twenty"], "s", Vec::new()), node("PRelu", &["s", "slope"], "y", Vec::new())];
    let tensors = vec![tensor("twenty", &[], &[20.0]), tensor("slope", &[3, 1, 1], &[0.5, -2.0, 0.25])];
    let expected = |index: usize| {
        let x = index as f64 - 20.0;
        if x < 0.0 { x * [0.5, -2.0, 0.25][index / 16] } else { x }
    };
    assert_eq!(output(nodes, tensors), (0..48).map(expected).collect::<Vec<f64>>());
}

/// Constants of every shape that varies along the channels alone.
#[test]
fn factors_and_summands_per_channel() {
    let per_channel = [[1_i64, 3, 1, 1].as_slice(), &[3, 1, 1]];
    for shape in per_channel {
        let nodes = vec![
            node("Mul", &["x", "factor"], "a", Vec::new()),
            node("Sub", &["summand", "a"], "b", Vec::new()),
            node("Div", &["b", "two"], "y", Vec::new()),
        ];
        let tensors = vec![
            tensor("factor", shape, &[2.0, 3.0, 4.0]),
            tensor("summand", shape, &[10.0, 20.0, 30.0]),
            tensor("two", &[1], &[2.0]),
        ];
        let expected = |index: usize| {
            let channel = index / 16;
            ([10.0, 20.0, 30.0][channel] - index as f64 * [2.0, 3.0, 4.0][channel]) / 2.0
        };
        assert_eq!(output(nodes, tensors), (0..48).map(expected).collect::<Vec<f64>>());
    }
}

#[test]
fn activations_that_exporters_write_as_several_nodes_are_one() {
    let erf = |last: &[(&str, [&str; 2])]| {
        let mut nodes = vec![
            node("Div", &["x", "root"], "a", Vec::new()),
            node("Erf", &["a"], "b", Vec::new()),
            node("Add", &["b", "one"], "c", Vec::new()),
        ];
        nodes.extend(last.iter().map(|(name, inputs)| node("Mul", inputs, name, Vec::new())));
        nodes
    };
    let constants = || {
        let values = [("root", std::f32::consts::SQRT_2), ("one", 1.0), ("half", 0.5)];
        values.map(|(name, value)| tensor(name, &[], &[value])).to_vec()
    };
    // As PyTorch's exporters write it, before and since opset 18, and as TensorFlow's converter does.
    let orders: [&[(&str, [&str; 2])]; 3] = [
        &[("d", ["x", "c"]), ("y", ["d", "half"])],
        &[("d", ["half", "x"]), ("y", ["d", "c"])],
        &[("d", ["c", "half"]), ("y", ["x", "d"])],
    ];
    for last in orders {
        assert_eq!(kinds(&model(erf(last), constants())), ["Input", "GELU"], "{last:?}");
    }
    let silu = vec![node("Sigmoid", &["x"], "s", Vec::new()), node("Mul", &["x", "s"], "y", Vec::new())];
    assert_eq!(kinds(&model(silu, Vec::new())), ["Input", "SiLU"]);
    let mish = vec![
        node("Softplus", &["x"], "a", Vec::new()),
        node("Tanh", &["a"], "b", Vec::new()),
        node("Mul", &["x", "b"], "y", Vec::new()),
    ];
    assert_eq!(kinds(&model(mish, Vec::new())), ["Input", "Mish"]);
    // Another argument of the error function is another function, which runs as it is written.
    let mut other = erf(orders[0]);
    other[0].input[1] = "one".to_owned();
    let found = output(other, constants());
    close(&found[..3], &[0.0, 0.921_350_396_5, 1.995_322_265], 1e-6);
}

/// At −1, 0, 1 and 2: GELU from tables of the normal distribution, the others from their definitions.
#[test]
fn activations_at_a_few_points() {
    let points = Tensor::new([1, 4, 1, 1], vec![-1.0, 0.0, 1.0, 2.0]).unwrap();
    let values = |op_type: &str, attributes: Vec<proto::Attribute>| {
        let mut model = with_opset(20, model(vec![node(op_type, &["x"], "y", attributes)], Vec::new()));
        model.graph.as_mut().unwrap().input[0] = info("x", &[1, 4, 1, 1]);
        output_of(&model, &points)
    };
    let cases: [(&str, Vec<proto::Attribute>, [f64; 4]); 8] = [
        ("Gelu", Vec::new(), [-0.158_655_254, 0.0, 0.841_344_746, 1.954_499_736]),
        ("Gelu", vec![text("approximate", "tanh")], [-0.158_808_009, 0.0, 0.841_191_991, 1.954_597_694]),
        ("Erf", Vec::new(), [-0.842_700_793, 0.0, 0.842_700_793, 0.995_322_265]),
        ("Tanh", Vec::new(), [-0.761_594_156, 0.0, 0.761_594_156, 0.964_027_580]),
        ("Softplus", Vec::new(), [0.313_261_688, std::f64::consts::LN_2, 1.313_261_688, 2.126_928_011]),
        ("Mish", Vec::new(), [-0.303_401_461, 0.0, 0.865_098_388, 1.943_958_960]),
        ("Elu", vec![float("alpha", 2.0)], [-1.264_241_118, 0.0, 1.0, 2.0]),
        ("HardSwish", Vec::new(), [-1.0 / 3.0, 0.0, 2.0 / 3.0, 5.0 / 3.0]),
    ];
    for (op_type, attributes, expected) in cases {
        close(&values(op_type, attributes), &expected, 1e-7);
    }
}

#[test]
fn pools_may_be_dilated() {
    let dilated = || vec![ints("kernel_shape", &[2, 2]), ints("dilations", &[2, 2])];
    let pool = |op_type: &str| vec![node(op_type, &["x"], "y", dilated())];
    let corner = |index: usize| (16 * (index / 4) + 4 * (index % 4 / 2) + index % 2) as f64;
    let largest: Vec<f64> = (0..12).map(|index| corner(index) + 10.0).collect();
    let means: Vec<f64> = (0..12).map(|index| corner(index) + 5.0).collect();
    assert_eq!(output(pool("MaxPool"), Vec::new()), largest);
    assert_eq!(output(pool("AveragePool"), Vec::new()), means);
}

/// A picture of bytes `[N, H, W, 3]` that the file casts, transposes and normalises itself.
#[test]
fn bytes_are_read_as_numbers() {
    let nodes = vec![
        node("Cast", &["x"], "f", vec![int("to", 1)]),
        node("Transpose", &["f"], "t", vec![ints("perm", &[0, 3, 1, 2])]),
        node("Div", &["t", "white"], "d", Vec::new()),
        node("Sub", &["d", "mean"], "y", Vec::new()),
    ];
    let tensors = vec![tensor("white", &[], &[255.0]), tensor("mean", &[1, 3, 1, 1], &[0.5, 0.25, 0.125])];
    let mut model = model(nodes, tensors);
    let input = &mut model.graph.as_mut().unwrap().input[0];
    *input = info("x", &[0, 4, 4, 3]);
    input.kind.as_mut().unwrap().tensor.as_mut().unwrap().elem_type = data_type::UINT8;
    let onnx = read_model(&model).unwrap();
    assert_eq!((onnx.pixels, onnx.size), (Pixels::Bytes, Some([4, 4])));
    // The graph's input is [N, 3, H, W], as everywhere.
    let expected = |index: usize| index as f64 / 255.0 - [0.5, 0.25, 0.125][index / 16];
    close(&output_of(&model, &ramp()), &(0..48).map(expected).collect::<Vec<f64>>(), 1e-7);
}

/// A factor that is computed from constants by operators of every kind.
#[test]
fn constants_are_folded() {
    let nodes = vec![
        node("Range", &["zero", "six", "two"], "r", Vec::new()),
        node("Cast", &["r"], "f", vec![int("to", 1)]),
        node("Add", &["f", "column"], "grid", Vec::new()),
        node("ReduceSum", &["grid"], "sums", vec![ints("axes", &[0]), int("keepdims", 0)]),
        node("Greater", &["sums", "limit"], "large", Vec::new()),
        node("Where", &["large", "sums", "limit"], "raised", Vec::new()),
        node("Sqrt", &["raised"], "root", Vec::new()),
        node("Reshape", &["root", "shape"], "factor", Vec::new()),
        node("Mul", &["x", "factor"], "y", Vec::new()),
    ];
    let tensors = vec![
        integers("zero", &[], &[0]),
        integers("six", &[], &[6]),
        integers("two", &[], &[2]),
        tensor("column", &[2, 1], &[0.5, 1.0]),
        tensor("limit", &[], &[4.0]),
        list("shape", &[3, 1, 1]),
    ];
    // The sums over the column are 1.5, 5.5 and 9.5.
    let factors = [4.0_f32, 5.5, 9.5].map(|x| f64::from(x.sqrt()));
    let expected: Vec<f64> = (0..48).map(|index| index as f64 * factors[index / 16]).collect();
    assert_eq!(output(nodes, tensors), expected);
}

/// Weights that the file standardises: `[1, filters, weights]` normalised by their own mean and variance.
#[test]
fn standardised_weights_are_computed() {
    let mut norm = node("BatchNormalization", &["rows", "gain", "zero", "m", "v"], "n", vec![float("epsilon", 0.0)]);
    norm.output.extend(["m2".to_owned(), "v2".to_owned()]);
    norm.attribute.push(int("training_mode", 1));
    let nodes = vec![
        node("Reshape", &["w", "row"], "rows", Vec::new()),
        norm,
        node("Reshape", &["n", "shape"], "k", Vec::new()),
        node("Conv", &["x", "k"], "y", Vec::new()),
    ];
    let tensors = vec![
        tensor("w", &[2, 3, 1, 1], &[1.0, 2.0, 3.0, 5.0, 5.0, 8.0]),
        tensor("gain", &[2], &[2.0, 3.0]),
        tensor("zero", &[2], &[0.0; 2]),
        tensor("m", &[2], &[0.0; 2]),
        tensor("v", &[2], &[1.0; 2]),
        list("row", &[1, 2, -1]),
        list("shape", &[2, 3, 1, 1]),
    ];
    // The variances are 2/3 and 2.
    let [first, second] = [2.0 / (2.0_f64 / 3.0).sqrt(), 3.0 / 2.0_f64.sqrt()];
    let weights = [[-first, 0.0, first], [-second, -second, 2.0 * second]];
    let expected = |index: usize| {
        let pixel = (index % 16) as f64;
        (0..3).map(|c| weights[index / 16][c] * (16.0 * c as f64 + pixel)).sum::<f64>()
    };
    close(&output(nodes, tensors), &(0..32).map(expected).collect::<Vec<f64>>(), 1e-4);
}

#[test]
fn what_the_engine_does_not_run_is_said_with_the_way_out() {
    let kept = "`repvgg fuse any.onnx -o fused.onnx` keeps such nodes and fuses the convolutions around them";
    let norm = sentence(vec![node("LayerNormalization", &["x"], "y", Vec::new())], Vec::new());
    assert!(norm.starts_with("node y (LayerNormalization): expected an operator that the engine runs"), "{norm}");
    assert!(norm.ends_with(&format!("found LayerNormalization; {kept}")), "{norm}");
    let attention = sentence(vec![node("MatMul", &["x", "x"], "y", Vec::new())], Vec::new());
    let what = "node y (MatMul): expected a matrix of constants, found a computed one, as in attention";
    assert_eq!(attention, format!("{what}; {kept}"));
}
