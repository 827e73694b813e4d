//! `repvgg winograd` through the binary: its report, and the matrices in every notation.

use std::process::{Command, Stdio};

use serde_json::Value;

// The output of `repvgg winograd 4 3 --format rust`.
include!("data/winograd_4_3.rs");

/// The exit code, the standard output and the standard error of a call.
fn winograd(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_repvgg"));
    let output = command.arg("winograd").args(arguments).stdin(Stdio::null()).output().expect("the binary runs");
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), stdout, stderr)
}

fn done(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = winograd(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    stdout
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&done(&[arguments, &["--json"]].concat())).unwrap()
}

/// The textbook's matrix `G` of F(2, 3).
const TEXTBOOK: &str = "
G
    1     0    0
  1/2   1/2  1/2
  1/2  -1/2  1/2
    0     0    1
";

#[test]
fn two_outputs_of_three_taps_give_the_textbook_matrices() {
    let text = done(&["2", "3"]);
    assert!(text.starts_with("F(2x2, 3x3) from the points 0, 1, -1, infinity\n\nAᵀ\n  1  1   1   0\n"), "{text}");
    for part in [TEXTBOOK, "proved: all 24 coefficients equal", "16 for 2x2 outputs, direct 36, 2.25 times as many"] {
        assert!(text.contains(part), "{text}");
    }
    let report = json(&["2", "3"]);
    assert_eq!(report["points"], serde_json::json!(["0", "1", "-1", "infinity"]));
    assert_eq!(report["BT"]["values"][3], serde_json::json!([0.0, 1.0, 0.0, -1.0]));
    assert_eq!((&report["multiplications"], &report["direct_multiplications"]), (&16.into(), &36.into()));
    assert_eq!(report["transforms"]["input"]["additions"], 32);
}

#[test]
fn the_error_depends_only_on_points_and_seed() {
    let error = |arguments: &[&str]| json(arguments)["f32_error"]["winograd"]["rms"].as_f64().unwrap();
    let [standard, engine, given] = [None, Some("engine"), Some("0,.625,-5/8,1.5,-3/2")].map(|points| match points {
        Some(points) => error(&["4", "3", "--points", points]),
        None => error(&["4", "3"]),
    });
    assert!(engine > 1e-8 && 1.5 * engine < standard && standard < 1e-5, "{engine} and {standard}");
    assert_eq!(given, engine, "the engine's points, except for signs");
    assert_ne!(error(&["4", "3", "--seed", "1"]), standard);
    assert_eq!(error(&["4", "3", "--seed", "0", "--channels", "64"]), standard);
    // These points lead to numbers too large for single precision.
    let report = json(&["2", "3", "--points", "-100000000,200000000,300000000"]);
    assert!(report["f32_error"]["winograd"]["max"].is_null(), "{report}");
    assert!(report["f32_error"]["direct"]["max"].as_f64().unwrap() < 1e-5, "{report}");
}

/// The printed constants compile and compute a convolution.
#[test]
fn rust_literals_compute_a_convolution() {
    assert_eq!(done(&["4", "3", "--format", "rust"]), include_str!("data/winograd_4_3.rs"));
    let d: [[f64; 6]; 6] = std::array::from_fn(|i| std::array::from_fn(|j| ((i * 7 + j * 5) % 11) as f64 - 4.0));
    let g: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| ((i * 5 + j * 4) % 7) as f64 - 2.0));
    let entry = |rows: &dyn Fn(usize, usize) -> f64, [a, b]: [&[f64]; 2]| -> f64 {
        let pairs = (0..a.len()).flat_map(|i| (0..b.len()).map(move |j| (i, j)));
        pairs.map(|(i, j)| a[i] * rows(i, j) * b[j]).sum()
    };
    let product =
        |p: usize, q: usize| entry(&|i, j| g[i][j], [&G[p], &G[q]]) * entry(&|i, j| d[i][j], [&BT[p], &BT[q]]);
    for (i, j) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))) {
        let direct: f64 = (0..9).map(|k| g[k / 3][k % 3] * d[i + k / 3][j + k % 3]).sum();
        let found = entry(&product, [&AT[i], &AT[j]]);
        assert!((found - direct).abs() < 1e-9, "output {i}, {j}: expected {direct}, found {found}");
    }
}

/// The entries of all matrices in a literal, row by row.
fn entries(literal: &str) -> Vec<Vec<String>> {
    let rows = literal.lines().filter_map(|line| line.trim().strip_prefix('[')?.strip_suffix("],"));
    rows.map(|row| row.split(", ").map(str::to_owned).collect()).collect()
}

#[test]
fn every_notation_has_the_same_numbers() {
    // These include more columns than a LaTeX matrix allows, and integers that no float represents.
    let long = ["3", "3", "--points", "0,0.123456,-9.87654321,7/9"];
    for arguments in [&["6", "3"][..], &["1", "1"], &["8", "8"], &long] {
        let report = json(arguments);
        let rows = |form: &str| -> Vec<Value> {
            ["AT", "G", "BT"].iter().flat_map(|name| report[name][form].as_array().unwrap().clone()).collect()
        };
        let written = |format: &str| done(&[arguments, &["--format", format]].concat());
        let exact: Vec<Vec<String>> =
            rows("exact").into_iter().map(|row| serde_json::from_value(row).unwrap()).collect();
        assert_eq!(entries(&written("numpy")), exact);
        let number = |text: &str| match text.split_once(" / ") {
            Some((numerator, denominator)) => numerator.parse::<f64>().unwrap() / denominator.parse::<f64>().unwrap(),
            None => text.parse().unwrap(),
        };
        let rust: Vec<Vec<f64>> =
            entries(&written("rust")).iter().map(|row| row.iter().map(|x| number(x)).collect()).collect();
        let values: Vec<Vec<f64>> =
            rows("values").into_iter().map(|row| serde_json::from_value(row).unwrap()).collect();
        assert_eq!(rust, values, "the nearest floats");
        let latex = written("latex");
        let cells: Vec<Vec<String>> = latex
            .lines()
            .filter_map(|line| line.strip_suffix(r" \\"))
            .map(|row| {
                row.split(" & ").map(|cell| cell.replace(r"\frac{", "").replace("}{", "/").replace('}', "")).collect()
            })
            .collect();
        assert_eq!(cells, exact);
        assert_eq!(latex.matches(r"\end{array}\right]").count(), 3);
    }
}

#[test]
fn errors_are_one_line() {
    for (arguments, part) in [
        (vec!["0", "3"], "size: expected M and R of at least 1 with M + R - 1 of at most 32, found M = 0, R = 3"),
        (vec!["30", "4"], "found M = 30, R = 4"),
        (vec!["18446744073709551615", "3"], "found M = 18446744073709551615, R = 3"),
        (vec!["2", "3", "--points", "0,1"], "points: expected 3 beside infinity for F(2, 3), found 2"),
        (vec!["2", "3", "--points", "0,1/2,0.5"], "points: expected distinct numbers, found 1/2 twice"),
        (vec!["2", "3", "--points", "-1/0,1,2"], "points: expected a denominator other than 0, found -1/0"),
        (vec!["2", "3", "--points", "0,1,x"], "points: expected numbers such as 2, -3/2 or 0.625"),
        (vec!["5", "5", "--points", "engine"], "points: expected a size that the engine has, F(1, 3) to F(8, 3)"),
    ] {
        let (code, stdout, message) = winograd(&arguments);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{arguments:?}: {message}");
        assert!(message.starts_with("error: ") && message.contains(part), "{arguments:?}: {message}");
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
    }
    for arguments in [vec!["2"], vec!["two", "3"], vec!["2", "3", "--json", "--format", "rust"]] {
        assert_eq!(winograd(&arguments).0, Some(2), "{arguments:?}");
    }
}
