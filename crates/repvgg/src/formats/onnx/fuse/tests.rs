//! Fusion of files against the reader and the oracle, which share no operator with it.

mod files;

use super::*;
use crate::Tensor;
use crate::formats::onnx::read;
use crate::interpret::interpret;

fn attribute(name: &str) -> proto::Attribute {
    proto::Attribute { name: name.to_owned(), ..proto::Attribute::default() }
}

fn ints(name: &str, ints: &[i64]) -> proto::Attribute {
    proto::Attribute { ints: ints.to_vec(), kind: 7, ..attribute(name) }
}

fn int(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute { i: Some(value), kind: 2, ..attribute(name) }
}

fn text(name: &str, value: &'static str) -> proto::Attribute {
    proto::Attribute { s: Some(value.as_bytes().into()), kind: 3, ..attribute(name) }
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

/// A constant with pseudo-random values between 0.25 and 1.25, which are valid variances too.
fn tensor(name: &str, dims: &[i64]) -> proto::Tensor {
    let count: i64 = dims.iter().product();
    let seed = name.bytes().fold(7_u64, |seed, byte| seed * 31 + u64::from(byte));
    let value = |index: i64| {
        let bits = (index as u64 + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        bits as f32 / (1 << 24) as f32 + 0.25
    };
    proto::Tensor {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data: (0..count).map(value).collect(),
        ..proto::Tensor::default()
    }
}

/// A batch norm of four channels and its parameters.
fn norm(input: &str, output: &str, tensors: &mut Vec<proto::Tensor>) -> proto::Node {
    let names = ["weight", "bias", "mean", "var"].map(|suffix| format!("{output}.{suffix}"));
    tensors.extend(names.iter().map(|name| tensor(name, &[4])));
    let [weight, bias, mean, var] = &names;
    node("BatchNormalization", &[input, weight, bias, mean, var], output, Vec::new())
}

fn info(name: &str, extents: &[i64]) -> proto::ValueInfo {
    let dimension = |&extent: &i64| proto::Dimension { value: (extent != 0).then_some(extent), name: None };
    let shape = Some(proto::Shape { dim: extents.iter().map(dimension).collect() });
    let tensor = Some(proto::TensorType { elem_type: data_type::FLOAT, shape });
    proto::ValueInfo { name: name.to_owned(), kind: Some(proto::Type { tensor }) }
}

/// A model of the nodes from `x`, four channels of 9×8 pixels, to `y`.
fn model(node: Vec<proto::Node>, initializer: Vec<proto::Tensor>) -> proto::Model {
    let (input, output) = (vec![info("x", &[0, 4, 9, 8])], vec![info("y", &[])]);
    let graph = proto::Graph { node, initializer, input, output, name: "unchanged".to_owned() };
    let opset_import = vec![proto::OperatorSet { domain: String::new(), version: 17 }];
    proto::Model { ir_version: 8, graph: Some(graph), opset_import, ..proto::Model::default() }
}

fn fused(model: &proto::Model) -> Result<FileFusion> {
    fuse(model.encode_to_vec(), None, ExternalData::Keep, |_| {})
}

fn sentence(nodes: Vec<proto::Node>, tensors: Vec<proto::Tensor>) -> String {
    fused(&model(nodes, tensors)).unwrap_err().to_string()
}

fn decoded(fusion: &FileFusion) -> proto::Graph {
    proto::Model::decode(fusion.bytes.as_slice()).unwrap().graph.unwrap()
}

fn kinds(graph: &proto::Graph) -> Vec<&str> {
    graph.node.iter().map(|node| node.op_type.as_str()).collect()
}

/// Asserts that the reader, which shares no operator with fusion, computes the same outputs from both files.
fn assert_same_function(model: &proto::Model, fusion: &FileFusion) {
    let run = |bytes: Vec<u8>| {
        let onnx = read(bytes, None).unwrap();
        let channels = onnx.graph.input_channels();
        let [height, width] = onnx.size.unwrap_or([1, 1]);
        let input = Tensor::from_fn([2, channels, height, width], |index| ((index * 37 % 101) as f64 / 50.0) - 1.0);
        let values = interpret(&onnx.graph, &onnx.weights, &input).unwrap();
        onnx.graph.outputs().iter().map(|output| values[output.node.index()].clone()).collect::<Vec<_>>()
    };
    let (before, after) = (run(model.encode_to_vec()), run(fusion.bytes.clone()));
    assert_eq!(before.len(), after.len());
    for (a, b) in before.iter().zip(&after) {
        assert_eq!(a.shape(), b.shape());
        let largest = a.data().iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let difference = a.data().iter().zip(b.data()).fold(0.0_f64, |worst, (a, b)| worst.max((a - b).abs()));
        assert!(difference <= 1e-6 * largest, "{difference:e} of {largest}");
    }
}

/// A block of a 3×3, a 1×1 and an identity branch between nodes that no graph knows.
fn block() -> (Vec<proto::Node>, Vec<proto::Tensor>) {
    let mut tensors = vec![tensor("a.weight", &[4, 4, 3, 3]), tensor("b.weight", &[4, 4, 1, 1])];
    let nodes = vec![
        node("Relu", &["x"], "s", Vec::new()),
        node("Conv", &["s", "a.weight"], "a", vec![ints("pads", &[1; 4])]),
        norm("a", "an", &mut tensors),
        node("Conv", &["s", "b.weight"], "b", Vec::new()),
        norm("b", "bn", &mut tensors),
        node("Add", &["an", "bn"], "ab", Vec::new()),
        norm("s", "sn", &mut tensors),
        node("Add", &["ab", "sn"], "sum", Vec::new()),
        node("Relu", &["sum"], "y", Vec::new()),
    ];
    (nodes, tensors)
}

#[test]
fn a_block_is_one_convolution() {
    let (nodes, tensors) = block();
    let model = model(nodes, tensors);
    let fusion = fused(&model).unwrap();
    assert_same_function(&model, &fusion);
    let graph = decoded(&fusion);
    assert_eq!(kinds(&graph), ["Relu", "Conv", "Relu"]);
    let names: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["rbr_reparam.bias", "rbr_reparam.weight"]);
    let report = &fusion.report;
    assert_eq!((report.nodes, report.convolutions, report.regions_of_unknown_size), ([9, 3], [2, 1], 0));
    // Three batch norms of 4·4 values, 144 and 16 weights; 144 weights and 4 biases.
    assert_eq!(report.parameters, [208, 148]);
    assert_eq!(report.multiply_adds, [9 * 8 * 160, 9 * 8 * 144]);
    assert!(report.worst_error() <= 1.0 && report.obstacles.is_empty(), "{:?}", report.obstacles);
}

/// The fields of a file: those of the model, then those of its graph.
fn fields(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = Vec::new();
    for piece in wire::pieces(bytes).unwrap() {
        match piece.number {
            7 => fields.extend(wire::pieces(piece.content).unwrap().iter().map(|piece| piece.whole.to_vec())),
            _ => fields.push(piece.whole.to_vec()),
        }
    }
    fields
}

#[test]
fn everything_else_is_kept_byte_for_byte() {
    let (mut nodes, tensors) = block();
    let mystery =
        proto::Node { domain: "com.example".to_owned(), ..node("Mystery", &["sum", "kept"], "y", Vec::new()) };
    *nodes.last_mut().unwrap() = mystery.clone();
    let tensors = [vec![tensor("kept", &[3])], tensors, vec![tensor("never.read", &[2])]].concat();
    let mut plain = model(nodes, tensors);
    plain.metadata_props = vec![proto::Entry { key: "labels".to_owned(), value: "a,b".to_owned() }];
    // What no message of ours has: documentation, an overload, a subgraph, a function, annotations.
    let mut bytes = Vec::new();
    for piece in wire::pieces(&plain.encode_to_vec()).unwrap() {
        if piece.number != 7 {
            bytes.extend_from_slice(piece.whole);
            continue;
        }
        let mut graph = Vec::new();
        for piece in wire::pieces(piece.content).unwrap() {
            let mut content = piece.content.to_vec();
            if piece.number == 1 && content == mystery.encode_to_vec() {
                wire::push(&mut content, 6, b"documentation of a node");
                wire::push(&mut content, 8, b"overload");
                let mut branch = Vec::new();
                wire::push(&mut branch, 1, &node("Neg", &["s"], "inside", Vec::new()).encode_to_vec());
                let mut attribute = Vec::new();
                wire::push(&mut attribute, 1, b"then_branch");
                wire::push(&mut attribute, 6, &branch);
                wire::push(&mut content, 5, &attribute);
            }
            match piece.content {
                [] => graph.extend_from_slice(piece.whole),
                _ => wire::push(&mut graph, piece.number, &content),
            }
        }
        wire::push(&mut graph, 10, b"documentation of a graph");
        wire::push(&mut graph, 13, &info("sum", &[0, 4, 9, 8]).encode_to_vec());
        wire::push(&mut graph, 13, &info("ab", &[0, 4, 9, 8]).encode_to_vec());
        wire::push(&mut graph, 14, b"");
        wire::push(&mut bytes, 7, &graph);
    }
    wire::push(&mut bytes, 25, b"");
    let fusion = fuse(bytes.clone(), None, ExternalData::Keep, |_| {}).unwrap();
    let (before, after) = (fields(&bytes), fields(&fusion.bytes));
    let added: Vec<&Vec<u8>> = after.iter().filter(|field| !before.contains(field)).collect();
    assert_eq!(added.len(), 3, "a convolution, its weight and its bias");
    let kept: Vec<&Vec<u8>> = after.iter().filter(|field| before.contains(field)).collect();
    let mut expected: Vec<&Vec<u8>> = before.iter().collect();
    // Seven nodes, 14 constants, and the description of a value that is gone.
    expected.retain(|field| kept.contains(field));
    assert_eq!(kept, expected, "the order is kept");
    assert_eq!(before.len() - kept.len(), 7 + 14 + 1);
    let graph = decoded(&fusion);
    assert_eq!(kinds(&graph), ["Relu", "Conv", "Mystery"]);
    assert!(graph.initializer.iter().any(|tensor| tensor.name == "never.read"));
}

#[test]
fn a_value_that_is_needed_elsewhere_survives() {
    let (nodes, tensors) = block();
    let read = |reader: proto::Node| {
        let mut nodes = nodes.clone();
        nodes.push(reader);
        let model = model(nodes, tensors.clone());
        let fusion = fused(&model).unwrap();
        assert_same_function(&model, &fusion);
        kinds(&decoded(&fusion)).join(" ")
    };
    // `an` is needed; the other branches still fuse with what reads them, and the sum remains.
    assert_eq!(
        read(node("Sigmoid", &["an"], "z", Vec::new())),
        "Relu Conv Conv Add BatchNormalization Add Relu Sigmoid"
    );
    let output = {
        let mut model = model(nodes.clone(), tensors.clone());
        model.graph.as_mut().unwrap().output.push(info("b", &[]));
        let fusion = fused(&model).unwrap();
        assert_same_function(&model, &fusion);
        let graph = decoded(&fusion);
        assert!(graph.node.iter().any(|node| node.output == ["b"]));
        fusion.report.obstacles
    };
    let found = output.iter().find(|obstacle| obstacle.sum == "ab").unwrap();
    assert_eq!((found.by.as_str(), found.why.as_str()), ("b", "its value is also an output"));
}

#[test]
fn differences_factors_padding_and_pools_are_linear() {
    let mut tensors = vec![
        tensor("a.weight", &[4, 1, 3, 3]),
        tensor("gamma", &[4, 1, 1]),
        tensor("beta", &[1, 4, 1, 1]),
        tensor("half", &[]),
        proto::Tensor {
            data_type: data_type::INT64,
            int64_data: vec![0, 0, 1, 1, 0, 0, 1, 1],
            float_data: vec![],
            ..tensor("pads", &[8])
        },
    ];
    // x + γ (BN(conv(pad(x))) − BN(x)) / ½ − β + pool(x): RepMixer and more.
    let nodes = vec![
        node("Pad", &["x", "pads"], "padded", Vec::new()),
        node("Conv", &["padded", "a.weight"], "a", vec![int("group", 4)]),
        norm("a", "an", &mut tensors),
        norm("x", "xn", &mut tensors),
        node("Sub", &["an", "xn"], "difference", Vec::new()),
        node("Mul", &["gamma", "difference"], "scaled", Vec::new()),
        node("Div", &["scaled", "half"], "halved", Vec::new()),
        node("Sub", &["halved", "beta"], "shifted", Vec::new()),
        node("Identity", &["shifted"], "same", Vec::new()),
        node(
            "AveragePool",
            &["x"],
            "mean",
            vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1; 4]), int("count_include_pad", 1)],
        ),
        node("Sum", &["x", "same", "mean"], "sum", Vec::new()),
        node("Relu", &["sum"], "y", Vec::new()),
    ];
    let model = model(nodes, tensors);
    let fusion = fused(&model).unwrap();
    assert_same_function(&model, &fusion);
    let graph = decoded(&fusion);
    assert_eq!(kinds(&graph), ["Conv", "Relu"]);
    assert_eq!(graph.initializer.len(), 2);
}

#[test]
fn uneven_padding_is_kept() {
    let mut tensors = vec![tensor("a.weight", &[4, 4, 3, 3])];
    let window = vec![ints("pads", &[0, 1, 1, 2]), ints("strides", &[2, 2])];
    let nodes = vec![node("Conv", &["x", "a.weight"], "a", window), norm("a", "y", &mut tensors)];
    let model = model(nodes, tensors);
    let fusion = fused(&model).unwrap();
    assert_same_function(&model, &fusion);
    let graph = decoded(&fusion);
    assert_eq!(kinds(&graph), ["Conv"]);
    let pads = graph.node[0].attribute.iter().find(|attribute| attribute.name == "pads").unwrap();
    assert_eq!(pads.ints, [0, 1, 1, 2]);
}

#[test]
fn products_by_constants_in_a_row_are_one() {
    let tensors = vec![tensor("a", &[4, 6]), tensor("shift", &[6]), tensor("b", &[6, 3]), tensor("c", &[3])];
    let nodes = vec![
        node("GlobalAveragePool", &["x"], "g", Vec::new()),
        node("Flatten", &["g"], "f", Vec::new()),
        node("MatMul", &["f", "a"], "fa", Vec::new()),
        node("Add", &["fa", "shift"], "fas", Vec::new()),
        node("MatMul", &["fas", "b"], "fab", Vec::new()),
        node("Mul", &["fab", "c"], "y", Vec::new()),
    ];
    let chain = model(nodes.clone(), tensors.clone());
    let fusion = fused(&chain).unwrap();
    assert_same_function(&chain, &fusion);
    assert_eq!(kinds(&decoded(&fusion)), ["GlobalAveragePool", "Flatten", "MatMul", "Add"]);
    // A product with its bias is two nodes already.
    let short = sentence([&nodes[..3], &[node("Add", &["fa", "shift"], "y", Vec::new())]].concat(), tensors.clone());
    assert_eq!(short, "onnx: nothing to fuse");
    let mut head = vec![tensor("w", &[5, 4]), tensor("w.bias", &[5])];
    let nodes = vec![
        nodes[0].clone(),
        nodes[1].clone(),
        norm("f", "n", &mut head),
        node("Gemm", &["n", "w", "w.bias"], "y", vec![int("transB", 1)]),
    ];
    let head = model(nodes, head);
    let fusion = fused(&head).unwrap();
    assert_same_function(&head, &fusion);
    assert_eq!(kinds(&decoded(&fusion)), ["GlobalAveragePool", "Flatten", "Gemm"]);
}

/// Attention's projections: a product, then a batch norm of its rows as a matrix, then the shape of before.
#[test]
fn a_batch_norm_of_flattened_rows_moves_into_the_product() {
    let mut tensors = vec![tensor("w", &[8, 4])];
    tensors.push(proto::Tensor {
        data_type: data_type::INT64,
        int64_data: vec![-1, 4],
        float_data: Vec::new(),
        ..tensor("matrix", &[2])
    });
    let norm = norm("rows", "n", &mut tensors);
    for view in
        [node("Flatten", &["p"], "rows", vec![int("axis", 3)]), node("Reshape", &["p", "matrix"], "rows", Vec::new())]
    {
        let nodes = vec![
            node("Tanh", &["x"], "t", Vec::new()),
            node("MatMul", &["t", "w"], "p", Vec::new()),
            node("Shape", &["p"], "shape", Vec::new()),
            view.clone(),
            norm.clone(),
            node("Reshape", &["n", "shape"], "y", Vec::new()),
        ];
        let fusion = fused(&model(nodes, tensors.clone())).unwrap();
        let graph = decoded(&fusion);
        assert_eq!(kinds(&graph), ["Tanh", "MatMul", "Add", "Shape", &view.op_type, "Reshape"]);
        assert_eq!(
            (graph.node[2].output.as_slice(), graph.node[4].output.as_slice()),
            (["p".to_owned()].as_slice(), ["n".to_owned()].as_slice())
        );
        assert!(graph.initializer.iter().any(|tensor| tensor.name == "matrix"));
    }
    // Without the batch norm nothing says that the features stay the last axis.
    let nodes = vec![
        node("MatMul", &["x", "w"], "p", Vec::new()),
        node("Flatten", &["p"], "rows", Vec::new()),
        node("Neg", &["rows"], "y", Vec::new()),
    ];
    assert_eq!(sentence(nodes, tensors), "onnx: nothing to fuse");
}

/// The biases of an exporter that folds nothing: a zero, cast and expanded to the length of the weights.
#[test]
fn a_bias_that_follows_from_constants_is_folded() {
    let (mut nodes, mut tensors) = block();
    tensors.push(proto::Tensor { float_data: vec![0.0], ..tensor("zero", &[]) });
    nodes[1].input.push("zeros".to_owned());
    let bias = [
        node("Shape", &["a.weight"], "length", vec![int("start", 0), int("end", 1)]),
        node("CastLike", &["zero", "s"], "like", Vec::new()),
        node("Expand", &["like", "length"], "zeros", Vec::new()),
    ];
    nodes.splice(1..1, bias);
    let fusion = fused(&model(nodes, tensors)).unwrap();
    let graph = decoded(&fusion);
    assert_eq!(kinds(&graph), ["Relu", "Conv", "Relu"]);
    let names: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["rbr_reparam.bias", "rbr_reparam.weight"]);
}

/// A factor of four channels on a map of one makes four maps: the channels of `s` are not known.
#[test]
fn a_factor_that_may_broadcast_stays() {
    let tensors = vec![tensor("gamma", &[1, 4, 1, 1]), tensor("a.weight", &[4, 4, 1, 1])];
    let nodes = vec![
        node("ReduceMax", &["x"], "s", vec![ints("axes", &[1])]),
        node("Mul", &["s", "gamma"], "scaled", Vec::new()),
        node("Conv", &["scaled", "a.weight"], "y", Vec::new()),
    ];
    assert_eq!(sentence(nodes, tensors), "onnx: nothing to fuse");
}

#[test]
fn regions_that_remain_say_what_is_in_the_way() {
    let (mut nodes, mut tensors) = block();
    tensors.push(tensor("c.weight", &[4, 4, 2, 2]));
    nodes.pop();
    nodes.extend([
        node("Relu", &["sum"], "r", Vec::new()),
        norm("r", "before", &mut tensors),
        node("Conv", &["before", "a.weight"], "padded", vec![ints("pads", &[1; 4])]),
        node("Conv", &["padded", "c.weight"], "same", vec![text("auto_pad", "SAME_UPPER"), ints("strides", &[2, 2])]),
        norm("same", "same.norm", &mut tensors),
        node("Relu", &["same.norm"], "relu", Vec::new()),
        norm("relu", "after", &mut tensors),
        node("Tanh", &["same.norm"], "tanh", Vec::new()),
        node("Add", &["after", "tanh"], "y", Vec::new()),
    ]);
    let fusion = fused(&model(nodes, tensors)).unwrap();
    let found: Vec<String> =
        fusion.report.obstacles.iter().map(|found| format!("{}: {} ({})", found.sum, found.why, found.by)).collect();
    let expected = [
        "same: expected an input of fixed size for automatic padding, found a variable size (same)",
        "before: a bias precedes a padded convolution (padded)",
        "same.norm: it normalises the result of Conv (same)",
        "after: it normalises the result of Relu (relu)",
        "y: Tanh inside a branch (tanh)",
    ];
    for line in expected {
        assert!(found.iter().any(|found| found == line), "{line} is not in {found:#?}");
    }
}
