use super::*;

fn read(text: &str) -> HubConfig {
    super::read(text.as_bytes()).unwrap()
}

fn refusal(text: &str) -> String {
    let error = super::read(text.as_bytes()).unwrap_err();
    assert!(error.is_format(), "{error}");
    error.to_string()
}

const TIMM: &str = r#"{
    "architecture": "repvgg_a0", "num_classes": 1000, "num_features": 1280,
    "pretrained_cfg": {
        "tag": "rvgg_in1k", "custom_load": false, "input_size": [3, 160, 160], "fixed_input_size": false,
        "interpolation": "bilinear", "crop_pct": 0.8, "crop_mode": "center", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3],
        "num_classes": 1000, "pool_size": [7, 7], "first_conv": ["stem.conv_kxk.conv"], "classifier": "head.fc", "label_names": null
    }
}"#;

#[test]
fn timm_settings_become_preprocessing_and_null_names_give_no_labels() {
    let expected = Preprocessing {
        size: [160; 2],
        crop_fraction: 0.8,
        interpolation: Interpolation::Bilinear,
        mean: vec![0.5, 0.4, 0.3],
        std: vec![0.2, 0.25, 0.3],
    };
    let config = read(TIMM);
    assert_eq!(config.architecture.as_deref(), Some("repvgg_a0"));
    assert_eq!(config.labels, [""; 0]);
    assert_eq!(config.preprocessing, Some(expected));
}

#[test]
fn older_files_hold_the_settings_next_to_the_architecture() {
    let old = r#"{"architecture": "repvgg_b0", "num_classes": 2, "input_size": [3, 224, 224], "interpolation": "bicubic",
        "crop_pct": 0.875, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "labels": ["cat", "dog"]}"#;
    let config = read(old);
    assert_eq!(config.labels, ["cat", "dog"]);
    let bicubic = Preprocessing { interpolation: Interpolation::Bicubic, ..Preprocessing::default() };
    assert_eq!(config.preprocessing, Some(bicubic));
}

#[test]
fn missing_settings_take_timm_defaults() {
    let bicubic = Preprocessing { size: [320; 2], interpolation: Interpolation::Bicubic, ..Preprocessing::default() };
    assert_eq!(read(r#"{"pretrained_cfg": {"input_size": [3, 320, 320]}}"#).preprocessing, Some(bicubic));
}

#[test]
fn a_network_of_one_channel_gets_one_mean() {
    let config = read(r#"{"input_size": [1, 28, 28], "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}"#);
    let preprocessing = config.preprocessing.unwrap();
    assert_eq!((preprocessing.channels(), preprocessing.size), (1, [28; 2]));
    assert!((preprocessing.mean[0] - 0.2).abs() < 1e-6);
}

#[test]
fn labels_at_the_root_override_those_of_pretrained_cfg() {
    let both =
        r#"{"label_names": ["a", "b"], "num_classes": 2, "pretrained_cfg": {"label_names": ["x"], "num_classes": 1}}"#;
    assert_eq!(read(both).labels, ["a", "b"]);
    assert_eq!(read(r#"{"pretrained_cfg": {"label_names": ["x"], "num_classes": 1}}"#).labels, ["x"]);
}

#[test]
fn descriptions_replace_label_names() {
    let text =
        r#"{"label_names": ["n01440764", "n01443537"], "label_descriptions": {"n01440764": "tench", "n0": "other"}}"#;
    assert_eq!(read(text).labels, ["tench", "n01443537"]);
}

#[test]
fn labels_of_transformers_are_ordered_by_number() {
    let text = r#"{"architectures": ["RepVGGForImageClassification"], "id2label": {"10": "k", "0": "a", "1": "b", "2": "c",
        "3": "d", "4": "e", "5": "f", "6": "g", "7": "h", "8": "i", "9": "j"}}"#;
    let config = read(text);
    assert_eq!(config.labels.concat(), "abcdefghijk");
    assert_eq!((config.architecture, config.preprocessing), (None, None));
    assert_eq!(read(r#"{"id2label": {}}"#).labels, [""; 0]);
}

#[test]
fn invalid_json_is_refused() {
    assert!(refusal("").starts_with("config.json: expected a JSON document, found EOF"));
    assert!(refusal("<html>").starts_with("config.json: expected a JSON document, found expected value"));
    assert!(refusal("{\"mean\": [NaN]}").starts_with("config.json: expected a JSON document, found "));
    assert!(refusal(&"[".repeat(1 << 20)).starts_with("config.json: expected a JSON document, found recursion limit"));
    assert!(super::read(b"{\"architecture\": \"\xff\"}").is_err());
    assert_eq!(refusal("[1, 2]"), "config.json: expected an object, found a list of 2");
}

#[test]
fn entries_of_the_wrong_type_are_refused_by_name() {
    let cases = [
        (r#"{"pretrained_cfg": "a0"}"#, "pretrained_cfg: expected an object, found \"a0\""),
        (r#"{"architecture": 3}"#, "architecture: expected a string, found 3"),
        (r#"{"label_names": "cat"}"#, "label_names: expected a list of strings, found \"cat\""),
        (r#"{"label_names": ["cat", {}]}"#, "label_names: expected a string, found an object"),
        (
            r#"{"label_names": ["cat"], "label_descriptions": []}"#,
            "label_descriptions: expected an object, found a list of 0",
        ),
        (r#"{"label_names": ["cat"], "num_classes": 1.5}"#, "num_classes: expected an integer, found 1.5"),
        (r#"{"id2label": ["cat"]}"#, "id2label: expected an object, found a list of 1"),
        (r#"{"mean": 0.5}"#, "mean: expected a list of numbers, found 0.5"),
        (r#"{"std": [0.5, true, null]}"#, "std: expected a number, found true"),
        (r#"{"crop_pct": "0.875"}"#, "crop_pct: expected a number, found \"0.875\""),
        (r#"{"interpolation": 2}"#, "interpolation: expected \"bilinear\" or \"bicubic\", found 2"),
    ];
    for (text, sentence) in cases {
        assert_eq!(refusal(text), format!("config.json: {sentence}"));
    }
}

#[test]
fn unsupported_transforms_are_refused() {
    let cases = [
        (r#"{"interpolation": "lanczos"}"#, "interpolation: expected \"bilinear\" or \"bicubic\", found \"lanczos\""),
        (r#"{"crop_pct": 1, "crop_mode": "squash"}"#, "crop_mode: expected \"center\", found \"squash\""),
        (r#"{"input_size": [3, 224]}"#, "input_size: expected [channels, height, width], found a list of 2"),
        (r#"{"input_size": [3, -1, -1]}"#, "input_size: expected [channels, height, width], found a list of 3"),
        (r#"{"input_size": [3, 1e300, 1e300]}"#, "input_size: expected [channels, height, width], found a list of 3"),
        (r#"{"input_size": [3, 0, 0]}"#, "preprocessing: expected a size of 1 to 8192, found 0"),
        (r#"{"input_size": [3, 999999, 999999]}"#, "preprocessing: expected a size of 1 to 8192, found 999999"),
        (r#"{"input_size": [5, 224, 224]}"#, "preprocessing: expected means for the network's 5 channels, found 3"),
        (r#"{"crop_pct": 0}"#, "preprocessing: expected a crop fraction above 0 and at most 1, found 0"),
        (
            r#"{"mean": [0.5, 0.5]}"#,
            "preprocessing: expected 1 or 3 means and the same number of deviations, found 2 and 3",
        ),
        (
            r#"{"std": [0, 0, 0]}"#,
            "preprocessing: expected finite means and positive deviations, found [0.485, 0.456, 0.406] and [0.0, 0.0, 0.0]",
        ),
    ];
    for (text, sentence) in cases {
        assert_eq!(refusal(text), format!("config.json: {sentence}"));
    }
}

#[test]
fn a_label_count_other_than_the_class_count_is_refused() {
    let wrong = r#"{"num_classes": 1000, "label_names": ["cat", "dog"]}"#;
    assert_eq!(refusal(wrong), "config.json: label_names: expected 1000 names, found 2");
    let gap = r#"{"id2label": {"0": "cat", "2": "dog"}}"#;
    assert_eq!(refusal(gap), "config.json: id2label: expected the keys 0 to 1, found \"2\"");
    let twice = r#"{"id2label": {"0": "cat", "00": "dog"}}"#;
    assert_eq!(refusal(twice), "config.json: id2label: expected the keys 0 to 1, found \"00\"");
}
