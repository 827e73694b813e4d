//! Element types, files that are refused, versions of the format, and constants in other files.

use super::*;

#[test]
fn half_precision_is_rounded_once_to_half() {
    let (nodes, tensors) = block();
    let halves = tensors.into_iter().map(|tensor| {
        let bits = tensor.float_data.iter().map(|&x| f16::from_f32(x).to_bits().into()).collect();
        proto::Tensor { data_type: data_type::FLOAT16, int32_data: bits, float_data: Vec::new(), ..tensor }
    });
    let fusion = fused(&model(nodes, halves.collect())).unwrap();
    let graph = decoded(&fusion);
    assert_eq!(kinds(&graph), ["Relu", "Conv", "Relu"]);
    assert!(graph.initializer.iter().all(|tensor| tensor.data_type == data_type::FLOAT16));
    let worst = fusion.report.worst_error();
    assert!(worst > 0.01 && worst <= 1.0, "{worst}");
}

#[test]
fn double_precision_stays() {
    let (nodes, tensors) = block();
    let doubles = tensors.into_iter().map(|tensor| {
        let values = tensor.float_data.iter().map(|&x| x.into()).collect();
        proto::Tensor { data_type: data_type::DOUBLE, double_data: values, float_data: Vec::new(), ..tensor }
    });
    let found = sentence(nodes, doubles.collect());
    assert_eq!(
        found,
        "onnx: nothing to fuse: a: expected weights of type float32 or float16, found element type 11 (a)"
    );
}

#[test]
fn bad_files_are_refused_in_a_sentence() {
    let mut tensors = vec![tensor("a.weight", &[4, 4, 1, 1])];
    let relu = |input: &str, output: &str| node("Relu", &[input], output, Vec::new());
    let norm = norm("a", "y", &mut tensors);
    let computed = vec![
        node("ReduceMean", &["x"], "bias", vec![ints("axes", &[0, 2, 3]), int("keepdims", 0)]),
        node("Conv", &["x", "a.weight", "bias"], "a", Vec::new()),
        norm.clone(),
    ];
    assert_eq!(
        sentence(computed, tensors.clone()),
        "node a (Conv): expected constant bias, found \"bias\", which bias (ReduceMean) computes"
    );
    let cycle = vec![relu("b", "a"), relu("a", "b"), norm.clone()];
    assert_eq!(sentence(cycle, tensors.clone()), "node a (Relu): expected inputs computed earlier, found a cycle");
    let (nodes, tensors) = block();
    let bytes = model(nodes, tensors).encode_to_vec();
    for length in [1, 10, 200, bytes.len() - 1] {
        let error = fuse(bytes[..length].to_vec(), None, ExternalData::Keep, |_| {}).unwrap_err();
        assert!(error.to_string().starts_with("onnx: expected "), "{error}");
    }
    let twice = [bytes.clone(), bytes.clone()].concat();
    let error = fuse(twice, None, ExternalData::Keep, |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "onnx: expected one graph, found 2");
    let again = fuse(fuse(bytes, None, ExternalData::Keep, |_| {}).unwrap().bytes, None, ExternalData::Keep, |_| {});
    assert_eq!(again.unwrap_err().to_string(), "onnx: nothing to fuse");
}

/// A caller may replace an initializer that is an input; before version 4 of the format, every one is listed.
#[test]
fn initializers_among_the_inputs_depend_on_the_version() {
    let (nodes, tensors) = block();
    let mut listed = model(nodes, tensors.clone());
    listed.graph.as_mut().unwrap().input.extend(tensors.iter().map(|tensor| info(&tensor.name, &tensor.dims)));
    let found = fused(&listed).unwrap_err().to_string();
    assert_eq!(found, "onnx: nothing to fuse: a: expected constant weights, found \"a.weight\", which is an input (a)");
    listed.ir_version = 3;
    let graph = decoded(&fused(&listed).unwrap());
    let inputs: Vec<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(inputs, ["x", "rbr_reparam.bias", "rbr_reparam.weight"]);
}

#[test]
fn external_data_is_kept_or_taken_in() {
    let folder = tempfile::tempdir().unwrap();
    let (mut nodes, mut tensors) = block();
    nodes.push(node("Mul", &["y", "kept"], "z", Vec::new()));
    tensors.push(tensor("kept", &[7]));
    let mut data = Vec::new();
    for tensor in &mut tensors {
        let entry = |key: &str, value: String| proto::Entry { key: key.to_owned(), value };
        let bytes: Vec<u8> = tensor.float_data.drain(..).flat_map(f32::to_le_bytes).collect();
        tensor.external_data = vec![
            entry("location", "weights.bin".to_owned()),
            entry("offset", data.len().to_string()),
            entry("length", bytes.len().to_string()),
        ];
        tensor.data_location = proto::EXTERNAL;
        data.extend(bytes);
    }
    std::fs::write(folder.path().join("weights.bin"), data).unwrap();
    let bytes = model(nodes, tensors).encode_to_vec();
    let run = |external, folder| fuse(bytes.clone(), folder, external, |_| {});
    let kept = run(ExternalData::Keep, Some(folder.path())).unwrap();
    assert_eq!((kept.report.external.as_slice(), kept.report.inlined), (["weights.bin".to_owned()].as_slice(), 0));
    let inlined = run(ExternalData::Inline, Some(folder.path())).unwrap();
    assert_eq!((inlined.report.external.len(), inlined.report.inlined), (0, 1));
    let graph = decoded(&inlined);
    let found = graph.initializer.iter().find(|tensor| tensor.name == "kept").unwrap();
    let expected: Vec<u8> = tensor("kept", &[7]).float_data.into_iter().flat_map(f32::to_le_bytes).collect();
    assert_eq!((found.raw_data.as_ref(), found.data_location), (expected.as_slice(), 0));
    assert!(run(ExternalData::Keep, None).unwrap_err().to_string().contains("external data"));
}

/// Corrupt files give an error or a file, and never a panic.
#[test]
fn flipped_bytes_do_not_panic() {
    let (nodes, tensors) = block();
    let bytes = model(nodes, tensors).encode_to_vec();
    for place in 0..bytes.len() {
        for value in [0x00, 0x7F, 0xFF] {
            let mut changed = bytes.clone();
            changed[place] = value;
            let _ = fuse(changed, None, ExternalData::Keep, |_| {});
        }
    }
}
