mod operators;
mod resize;

use super::proto::data_type;
use super::*;
use crate::graph::ActivationKind;
use crate::{Op, Tensor};

fn ints(name: &str, ints: &[i64]) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), ints: ints.to_vec(), ..proto::Attribute::default() }
}

fn int(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), i: Some(value), ..proto::Attribute::default() }
}

fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), f: Some(value), ..proto::Attribute::default() }
}

fn node(op_type: &str, inputs: &[&str], output: &str, attribute: Vec<proto::Attribute>) -> proto::Node {
    proto::Node {
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: op_type.to_owned(),
        attribute,
        ..proto::Node::default()
    }
}

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> proto::Tensor {
    proto::Tensor {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data: values.to_vec(),
        ..proto::Tensor::default()
    }
}

fn info(name: &str, extents: &[i64]) -> proto::ValueInfo {
    let dimension = |&extent: &i64| proto::Dimension { value: (extent != 0).then_some(extent), name: None };
    let shape = Some(proto::Shape { dim: extents.iter().map(dimension).collect() });
    let tensor = Some(proto::TensorType { elem_type: data_type::FLOAT, shape });
    proto::ValueInfo { name: name.to_owned(), kind: Some(proto::Type { tensor }) }
}

/// A model of the nodes from `x`, three channels of 4×4 pixels, to `y`.
fn model(node: Vec<proto::Node>, initializer: Vec<proto::Tensor>) -> proto::Model {
    let (input, output) = (vec![info("x", &[0, 3, 4, 4])], vec![info("y", &[])]);
    let graph = proto::Graph { node, initializer, input, output, name: String::new() };
    let opset_import = vec![proto::OperatorSet { domain: String::new(), version: 17 }];
    proto::Model { ir_version: 8, graph: Some(graph), opset_import, ..proto::Model::default() }
}

fn read_model(model: &proto::Model) -> Result<Onnx> {
    read(model.encode_to_vec(), None)
}

fn sentence(nodes: Vec<proto::Node>, tensors: Vec<proto::Tensor>) -> String {
    read_model(&model(nodes, tensors)).unwrap_err().to_string()
}

fn pointwise() -> proto::Tensor {
    tensor("c.weight", &[2, 3, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
}

#[test]
fn errors_name_the_node() {
    let conv = |attributes| vec![node("Conv", &["x", "c.weight"], "y", attributes)];
    let cases = [
        (conv(vec![int("group", 2)]), "expected 6 input channels, found 3"),
        (conv(vec![ints("strides", &[0, 1])]), "expected strides of at least 1, found [0, 1]"),
        (conv(vec![ints("pads", &[0, 0, -1, 0])]), "expected pads from 0 to 2147483648, found -1"),
        (conv(vec![ints("kernel_shape", &[3, 3])]), "expected kernel_shape [1, 1] as the weights have, found [3, 3]"),
        (conv(vec![int("group", i64::MIN)]), "expected group from 0 to 2147483648, found -9223372036854775808"),
    ];
    for (nodes, what) in cases {
        let found = sentence(nodes, vec![pointwise()]);
        assert_eq!(found, format!("node y (Conv): {what}"));
    }
    let missing = sentence(vec![node("Conv", &["x", "w"], "y", Vec::new())], Vec::new());
    assert_eq!(missing, "node y (Conv): expected its input \"w\" to be constant or computed, found no such value");
    let computed =
        sentence(vec![node("Relu", &["x"], "w", Vec::new()), node("Conv", &["x", "w"], "y", Vec::new())], Vec::new());
    assert_eq!(computed, "node y (Conv): expected its input \"w\" to be constant, found one that is computed");
    let line = sentence(vec![node("Conv", &["x", "w"], "y", Vec::new())], vec![tensor("w", &[1, 3, 1], &[1.0; 3])]);
    assert_eq!(line, "node y (Conv): expected a convolution of two axes, found one of 1");
}

#[test]
fn a_batch_norm_without_a_positive_variance_is_refused() {
    for (epsilon, variance) in [(-1.0, 0.5), (0.0, 0.0), (f32::NAN, 1.0)] {
        let values = ["g", "b", "m"].map(|name| tensor(name, &[3], &[1.0; 3]));
        let tensors = [&values[..], &[tensor("v", &[3], &[variance; 3])]].concat();
        let norm = node("BatchNormalization", &["x", "g", "b", "m", "v"], "y", vec![float("epsilon", epsilon)]);
        let found = sentence(vec![norm], tensors);
        assert!(found.starts_with("node y (BatchNormalization): expected a"), "{found}");
    }
}

#[test]
fn malformed_tensors_are_refused() {
    let wrong = [
        (tensor("c.weight", &[2, 3, 1, 1], &[1.0; 5]), "expected 6 elements for the shape [2, 3, 1, 1], found 5"),
        (tensor("c.weight", &[2, -3, 1, 1], &[1.0; 6]), "expected extents of at least 0, found -3"),
        (
            tensor("c.weight", &[i64::MAX, 3, 1, 1], &[1.0; 6]),
            "expected a shape within the address space, found [9223372036854775807, 3, 1, 1]",
        ),
        (
            proto::Tensor { data_type: 8, ..tensor("c.weight", &[2, 3, 1, 1], &[]) },
            "expected constants of floats or integers, found element type 8",
        ),
        (
            proto::Tensor { raw_data: vec![0; 23].into(), ..tensor("c.weight", &[2, 3, 1, 1], &[]) },
            "expected 6 elements for the shape [2, 3, 1, 1], found 5",
        ),
    ];
    for (tensor, what) in wrong {
        let found = sentence(vec![node("Conv", &["x", "c.weight"], "y", Vec::new())], vec![tensor]);
        assert_eq!(found, format!("node y (Conv): c.weight: {what}"));
    }
}

#[test]
fn a_value_has_one_origin() {
    let relu = |input: &str, output: &str| node("Relu", &[input], output, Vec::new());
    let twice = sentence(vec![relu("x", "y"), relu("x", "y")], Vec::new());
    assert_eq!(twice, "node y (Relu): expected a value that nothing else computes, found \"y\" again");
    let input = sentence(vec![relu("x", "x")], Vec::new());
    assert_eq!(input, "node x (Relu): expected a value that nothing else computes, found \"x\" again");
    let constants = sentence(vec![relu("x", "y")], vec![pointwise(), pointwise()]);
    assert_eq!(constants, "c.weight: expected initializers of different names, found two of this name");
}

#[test]
fn any_order_without_a_cycle_is_read() {
    let relu = |input: &str, output: &str| node("Relu", &[input], output, Vec::new());
    let onnx = read_model(&model(vec![relu("b", "y"), relu("a", "b"), relu("x", "a")], Vec::new())).unwrap();
    let names: Vec<&str> = onnx.graph.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["x", "a", "b", "y"]);
}

#[test]
fn an_incomplete_model_is_refused() {
    let relu = || vec![node("Relu", &["x"], "y", Vec::new())];
    let mut cases = Vec::new();
    let mut changed = |what: &str, change: fn(&mut proto::Model)| {
        let mut model = model(relu(), Vec::new());
        change(&mut model);
        cases.push((read_model(&model).unwrap_err().to_string(), what.to_owned()));
    };
    changed("onnx: expected an opset of at least 6, found 5", |model| model.opset_import[0].version = 5);
    changed("onnx: expected an opset of at least 6, found none", |model| model.opset_import.clear());
    changed("onnx: expected a graph, found none", |model| model.graph = None);
    changed("onnx: expected an input, found none", |model| model.graph.as_mut().unwrap().input.clear());
    changed("onnx: expected an output, found none", |model| model.graph.as_mut().unwrap().output.clear());
    changed("onnx: expected one input, found 2", |model| {
        model.graph.as_mut().unwrap().input.push(info("z", &[1, 3, 4, 4]));
    });
    changed("input x: expected positive extents, found -7", |model| {
        model.graph.as_mut().unwrap().input[0] = info("x", &[1, 3, -7, 4]);
    });
    changed(
        "input x: expected at most 65536 rows and columns, found [Some(1), Some(3), Some(99999), Some(4)]",
        |model| {
            model.graph.as_mut().unwrap().input[0] = info("x", &[1, 3, 99_999, 4]);
        },
    );
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
}

#[test]
fn failures_that_the_main_output_does_not_need_are_dropped() {
    let mut model = model(
        vec![
            node("Relu", &["x"], "y", Vec::new()),
            node("Cos", &["x"], "z", Vec::new()),
            node("Sigmoid", &["y"], "w", Vec::new()),
        ],
        Vec::new(),
    );
    let outputs = &mut model.graph.as_mut().unwrap().output;
    outputs.extend([info("z", &[]), info("w", &[])]);
    let onnx = read_model(&model).unwrap();
    let names: Vec<&str> = onnx.graph.outputs().iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["main", "w"]);
}

#[test]
fn a_shared_parameter_is_copied_and_small_files_stay_small() {
    let conv = |input: &str, output: &str| node("Conv", &[input, "w.weight"], output, Vec::new());
    let square = tensor("w.weight", &[3, 3, 1, 1], &[1.0; 9]);
    let onnx = read_model(&model(vec![conv("x", "a"), conv("a", "y")], vec![square])).unwrap();
    let names: Vec<&str> = onnx.weights.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["w.weight", "w_1.weight"]);

    // 300 kB that a thousand layers would each copy.
    let count = 277;
    let large = tensor("w.weight", &[count, count, 1, 1], &vec![1.0; (count * count) as usize]);
    let name = |index: usize| if index == 0 { "x".to_owned() } else { format!("v{index}") };
    let mut nodes: Vec<proto::Node> = (0..1000).map(|index| conv(&name(index), &name(index + 1))).collect();
    nodes.push(node("Relu", &["v1000"], "y", Vec::new()));
    let mut hostile = model(nodes, vec![large]);
    hostile.graph.as_mut().unwrap().input[0] = info("x", &[1, count, 4, 4]);
    let found = read_model(&hostile).unwrap_err().to_string();
    assert!(found.ends_with("w.weight: constants are out of proportion to the file"), "{found}");
}

#[test]
fn unequal_padding_becomes_zero_taps() {
    let kernel = tensor("c.weight", &[1, 3, 2, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let conv = node("Conv", &["x", "c.weight"], "y", vec![ints("pads", &[0, 2, 1, 0])]);
    let onnx = read_model(&model(vec![conv], vec![kernel])).unwrap();
    let Op::Conv2d(conv) = onnx.graph.nodes()[1].op else { panic!("a convolution") };
    assert_eq!((conv.geometry.kernel, conv.geometry.padding), ([3, 3], [1, 2]));
    let kernel = onnx.weights.get("c.weight").unwrap();
    // One row of zeros above, two columns of zeros to the right.
    assert_eq!(kernel.data()[..9], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
}

#[test]
fn a_clip_without_effect_vanishes_and_one_at_zero_is_a_relu() {
    let clip = |min, max| {
        let tensors = vec![tensor("min", &[], &[min]), tensor("max", &[], &[max])];
        let nodes = vec![node("Clip", &["x", "min", "max"], "c", Vec::new()), node("Sigmoid", &["c"], "y", Vec::new())];
        read_model(&model(nodes, tensors)).map(|onnx| onnx.graph.nodes()[1].op.clone())
    };
    assert_eq!(clip(f32::MIN, f32::MAX).unwrap(), Op::Activation(ActivationKind::Sigmoid));
    assert_eq!(clip(0.0, f32::INFINITY).unwrap(), Op::relu());
    assert_eq!(clip(0.0, 6.0).unwrap(), Op::Activation(ActivationKind::RELU6));
    for (min, max) in [(1.0, 0.0), (f32::NAN, 1.0)] {
        assert!(clip(min, max).unwrap_err().to_string().starts_with("node c (Clip): expected min of at most max"));
    }
}

/// The parameter-free shortcut of residual networks for small images: every second pixel, and channels of zeros.
#[test]
fn every_second_pixel_and_channels_of_zeros_are_read() {
    let every_second = |ends: &[i64]| {
        let (starts, axes, steps) = (ints("starts", &[0, 0]), ints("axes", &[2, -1]), ints("steps", &[2, 2]));
        node("Slice", &["x"], "s", vec![starts, ints("ends", ends), axes, steps])
    };
    let pad = node("Pad", &["s"], "y", vec![ints("pads", &[0, 1, 0, 0, 0, 2, 0, 0])]);
    let onnx = read_model(&model(vec![every_second(&[4, i64::MAX]), pad.clone()], Vec::new())).unwrap();
    let input = Tensor::from_fn([1, 3, 4, 4], |index| index as f64);
    let found = crate::interpret::logits(&onnx.graph, &onnx.weights, &input).unwrap();
    let pixels = |channel: usize| [0, 2, 8, 10].map(|pixel| (16 * channel + pixel) as f64);
    let expected = [[0.0; 4], pixels(0), pixels(1), pixels(2), [0.0; 4], [0.0; 4]].concat();
    assert_eq!(found.data(), expected);
    // A smaller end takes the same rows.
    let part = read_model(&model(vec![every_second(&[3, 4]), pad], Vec::new())).unwrap();
    assert_eq!(crate::interpret::logits(&part.graph, &part.weights, &input).unwrap(), found);
}

/// Interleaved groups of channels stay interleaved, whichever operator merges their axes.
#[test]
fn interleaved_groups_become_a_shuffle() {
    let start = || {
        vec![
            node("Conv", &["x", "w"], "c", vec![]),
            node("Reshape", &["c"], "g", vec![ints("shape", &[0, 2, 2, 4, 4])]),
            node("Transpose", &["g"], "t", vec![ints("perm", &[0, 2, 1, 3, 4])]),
        ]
    };
    let weights = || vec![tensor("w", &[4, 3, 1, 1], &[0.5; 12])];
    let ops = |last: proto::Node| {
        let read = read_model(&model([start(), vec![last]].concat(), weights())).unwrap();
        read.graph.nodes().iter().map(|node| node.op.kind()).collect::<Vec<_>>()
    };
    let flat = ["Input", "Conv2d", "Shuffle", "Flatten"];
    assert_eq!(ops(node("Flatten", &["t"], "y", vec![int("axis", 1)])), flat);
    assert_eq!(ops(node("Reshape", &["t"], "y", vec![ints("shape", &[0, -1])])), flat);
    assert_eq!(ops(node("Reshape", &["t"], "y", vec![ints("shape", &[0, 4, 4, 4])])), flat[..3]);
    let gathered = |indices: proto::Tensor| {
        let nodes =
            vec![node("Conv", &["x", "w"], "c", vec![]), node("Gather", &["c", "i"], "y", vec![int("axis", 1)])];
        read_model(&model(nodes, [weights(), vec![indices]].concat()))
    };
    let indices = |dims: &[i64]| proto::Tensor {
        name: "i".to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::INT64,
        int64_data: vec![0, 2, 1, 3],
        ..proto::Tensor::default()
    };
    let shuffled = gathered(indices(&[4])).unwrap();
    assert_eq!(shuffled.graph.node(shuffled.graph.main_output()).op, Op::Shuffle { groups: 2 });
    let error = gathered(indices(&[2, 2])).unwrap_err().to_string();
    assert!(error.ends_with("expected a list of channels, found indices of shape [2, 2]"), "{error}");
}
