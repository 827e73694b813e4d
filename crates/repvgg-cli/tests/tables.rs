//! `repvgg table` through the binary: every table in every format, measurements, plots and errors.

use std::fs;
use std::path::Path;
use std::process::Output;

use repvgg_testing::Binary;
use serde_json::Value;

fn repvgg(folder: &Path, arguments: &[&str]) -> Output {
    Binary::new(env!("CARGO_BIN_EXE_repvgg")).run(folder, arguments)
}

/// The standard output of a call that must succeed with nothing on standard error.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = repvgg(folder, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let value: Value = serde_json::from_str(&done(folder.path(), &[arguments, &["--json"]].concat())).unwrap();
    value.as_array().unwrap().clone()
}

const TABLES: [(&str, usize); 6] = [("2", 5), ("3", 7), ("4", 19), ("5", 5), ("6", 4), ("7", 8)];

/// Options for the shortest possible measurement.
const MEASURE: [&str; 9] =
    ["--measure", "--batch", "2", "--size", "32", "--warmup=0", "--iterations=1", "--rounds=2", "--threads=1"];

#[test]
fn counts_equal_the_papers_or_have_notes() {
    for (table, rows) in [("4", 19), ("5", 5)] {
        let table = json(&["table", table]);
        assert_eq!(table.len(), rows);
        for row in &table {
            let paper = &row["paper"];
            let parameters = (row["parameters"].as_u64().unwrap() / 10_000) as f64 / 100.0;
            let billions = |what: &str| (row[what].as_u64().unwrap() as f64 / 1e8).round() / 10.0;
            let figures = [
                ("parameters_millions", parameters),
                ("flops_billions", billions("macs")),
                ("winograd_multiplies_billions", billions("winograd_multiplies")),
            ];
            let same = figures.iter().all(|(what, found)| paper[what].as_f64().is_some_and(|paper| paper == *found));
            assert_eq!(same, row["notes"].as_array().unwrap().is_empty(), "{row}");
            assert!(row["images_per_second"].is_null() && row["measured"].is_null(), "{row}");
            assert!(paper["top1"].as_f64().unwrap() > 70.0 && paper["images_per_second_1080ti"].as_f64().is_some());
        }
    }
    let table = json(&["table", "4"]);
    let a0 = &table[0];
    assert_eq!((a0["name"].as_str(), a0["paper"]["source"].as_str()), (Some("repvgg-a0"), Some("Table 4")));
    assert_eq!(["parameters", "training_parameters"].map(|what| a0[what].as_u64().unwrap()), [8_309_384, 9_108_968]);
    assert_eq!(json(&["table", "5"])[4]["size"], serde_json::json!([300, 300]));
}

#[test]
fn variants_that_do_not_fuse_are_marked() {
    let table = json(&["table", "7"]);
    let blocked: Vec<&str> = table
        .iter()
        .filter(|row| !row["blocked"].as_array().unwrap().is_empty())
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(blocked, ["repvgg-b0:relu-in-branch", "repvgg-b0:residual-reorg"]);
    let folder = tempfile::tempdir().unwrap();
    let text = done(folder.path(), &["table", "7"]);
    assert!(text.contains("no¹") && text.contains("¹ +ReLU in branch: 28 sums remain"), "{text}");
}

#[test]
fn every_table_has_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for (table, rows) in TABLES {
        let text = done(folder.path(), &["table", table]);
        assert!(text.starts_with(&format!("Table {table}: ")), "{text}");
        let title_header_and_gaps = 4;
        assert!(text.lines().count() > rows + title_header_and_gaps, "{text}");

        let markdown = done(folder.path(), &["table", table, "--markdown"]);
        let lines: Vec<&str> = markdown.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(lines.len(), rows + 2, "{markdown}");
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        assert!(lines.iter().all(|line| cells(line) == cells(lines[0])), "{markdown}");

        let values = done(folder.path(), &["table", table, "--csv"]);
        let mut reader = csv::Reader::from_reader(values.as_bytes());
        let header = reader.headers().unwrap().clone();
        assert_eq!(header.iter().next_back(), Some("notes"));
        assert_eq!(reader.records().map(|record| record.unwrap().len()).collect::<Vec<_>>(), vec![header.len(); rows]);
        assert_eq!(json(&["table", table]).len(), rows);
    }
}

#[test]
fn speeds_are_measured_and_ranked() {
    let table = json(&[&["table", "6"], &MEASURE[..]].concat());
    let mut ranks = Vec::new();
    for row in &table {
        let measured = &row["measured"];
        let speed = row["images_per_second"].as_f64().unwrap();
        let [slowest, fastest] = ["slowest_round", "fastest_round"].map(|what| measured[what].as_f64().unwrap());
        assert!(0.0 < slowest && slowest <= speed && speed <= fastest, "{row}");
        assert!(measured["times_direct"].as_f64().unwrap() > 0.0);
        assert_eq!(measured["form"], "training");
        assert_eq!(["batch", "threads", "rounds"].map(|what| measured[what].as_u64().unwrap()), [2, 1, 2]);
        assert_eq!(measured["size"], serde_json::json!([32, 32]));
        ranks.push(measured["rank"].as_u64().unwrap());
    }
    ranks.sort_unstable();
    assert_eq!(ranks, [1, 2, 3, 4]);
}

#[test]
fn accuracy_is_plotted_against_speed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let picture = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    let points = |picture: &str| picture.lines().filter(|line| line.starts_with("<g ")).count();
    for (table, rows) in [("4", 19), ("5", 5), ("6", 4)] {
        done(path, &["table", table, "--plot", "paper.svg"]);
        let picture = picture("paper.svg");
        assert_eq!(points(&picture), rows, "{picture}");
        assert!(picture.contains("the paper&#39;s: GTX 1080Ti, fp32, batch 128"), "{picture}");
    }
    let text = done(path, &[&["table", "6", "--plot", "here.svg"], &MEASURE[..]].concat());
    assert!(text.contains("training form, batch 2, images of 32x32, on 1 threads of the CPU"), "{text}");
    assert!(text.contains("Of 6 pairs of networks"), "{text}");
    let picture = picture("here.svg");
    assert_eq!(points(&picture), 4);
    assert!(picture.contains("measured here: cpu, 1 threads, batch 2") && picture.contains("3x3 alone"), "{picture}");
}

#[test]
fn errors_have_a_message_and_leave_no_files() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code, part) in [
        (vec!["table", "1"], 2, "table: expected one of the paper's Tables 2 to 7, found 1"),
        (vec!["table", "9"], 2, "table: expected one of the paper's Tables 2 to 7, found 9"),
        (vec!["table", "four"], 2, "invalid value 'four' for '<N>'"),
        (
            vec!["table", "2", "--measure"],
            2,
            "measure: expected one of Tables 4 to 7, whose rows are networks, found 2",
        ),
        (vec!["table", "6", "--batch", "8"], 2, "--measure"),
        (vec!["table", "6", "--json", "--csv"], 2, "cannot be used with"),
        (vec!["table", "6", "--measure", "--device", "tpu"], 2, "device: expected one of cpu"),
        (vec!["table", "6", "--measure", "--threads", "0"], 2, "threads: expected 1 to 1024, found 0"),
        (vec!["table", "7", "--plot", "x.svg"], 2, "plot: expected a table with speeds"),
        (vec!["table", "6", "--plot", "missing/x.svg"], 1, "missing/x.svg: "),
    ] {
        let output = repvgg(folder.path(), &arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(part) && !message.contains("panicked"), "{arguments:?}: {message}");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(output.stdout.is_empty() && fs::read_dir(folder.path()).unwrap().next().is_none(), "{arguments:?}");
    }
}
