//! `repvgg-rivals ENGINE MODEL.onnx INPUT.npy THREADS`: a Rust engine behind the line protocol of `workers.py`.
//!
//! Standard input takes `run K` and `logits FILE.npy`. Each request gets one line of JSON.

use std::fs;
use std::hint::black_box;
use std::io::{BufRead, stdin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cpu_time::ProcessTime;

/// Runs the loaded network once and returns its logits.
type Run = Box<dyn FnMut() -> Result<Vec<f32>>>;

fn load(engine: &str, model: &str, input: Vec<f32>, threads: usize) -> Result<Run> {
    match engine {
        "rten" => rten(model, input, threads),
        "tract" => tract(model, &input, threads),
        _ => bail!("engine: expected rten or tract, found {engine}"),
    }
}

fn rten(model: &str, input: Vec<f32>, threads: usize) -> Result<Run> {
    use rten::{Dimension, ModelOptions, RunOptions, ThreadPool};
    use rten_tensor::prelude::*;

    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(model)?;
    let fixed = |dimension| match dimension {
        Dimension::Fixed(extent) => Ok(extent),
        Dimension::Symbolic(name) => bail!("input: expected a fixed extent, found {name}"),
    };
    let shape = model.input_shape(0).context("input: expected a shape")?;
    let shape: Vec<usize> = shape.into_iter().map(fixed).collect::<Result<_>>()?;
    let input = rten_tensor::Tensor::from_data(&shape, input);
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    let options = RunOptions::default().with_thread_pool(Some(pool));
    Ok(Box::new(move || {
        let output = model.run_one(input.view().into(), Some(options.clone()))?;
        Ok(output.into_shape_vec::<f32, 2>()?.1)
    }))
}

fn tract(model: &str, input: &[f32], threads: usize) -> Result<Run> {
    use tract_linalg::multithread::Executor;
    use tract_onnx::prelude::*;

    let model = tract_onnx::onnx().model_for_path(model)?.into_optimized()?;
    let shape = model.input_fact(0)?.shape.as_concrete().context("input: expected a fixed shape")?.to_vec();
    let executor = if threads == 1 { Executor::SingleThread } else { Executor::multithread(threads) };
    let options = RunOptions { executor: Some(executor), ..RunOptions::default() };
    let plan = model.into_runnable_with_options(&options)?;
    let input = Tensor::from_shape(&shape, input)?.into_tvalue();
    Ok(Box::new(move || {
        let outputs = plan.run(tvec!(input.clone()))?;
        Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }))
}

/// Reads the f32 values of a little-endian `.npy` file.
fn read_npy(path: &str) -> Result<Vec<f32>> {
    let bytes = fs::read(path).with_context(|| path.to_owned())?;
    ensure!(bytes.starts_with(b"\x93NUMPY\x01\x00"), "{path}: expected .npy of version 1.0");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (values, _) = bytes[start..].as_chunks::<4>();
    Ok(values.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

/// Writes a flat f32 `.npy` file.
fn write_npy(path: &str, values: &[f32]) -> Result<()> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", values.len());
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{header:<117}\n").bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::write(path, bytes).with_context(|| path.to_owned())
}

/// The largest resident size of this process in MiB, if the system reports it.
fn peak_mib() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
}

fn milliseconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1e3).collect()
}

/// Warms up with a fifth of `count` runs, then times `count` runs; returns the reply.
fn measure(run: &mut Run, count: usize) -> Result<String> {
    for _ in 0..count.div_ceil(5) {
        black_box(run()?);
    }
    let (mut wall, mut cpu) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let (start, used) = (Instant::now(), ProcessTime::now());
        black_box(run()?);
        wall.push(start.elapsed());
        cpu.push(used.elapsed());
    }
    let peak = peak_mib().map_or("null".to_owned(), |peak| peak.to_string());
    Ok(format!(r#"{{"times_ms": {:?}, "cpu_ms": {:?}, "peak_mib": {peak}}}"#, milliseconds(&wall), milliseconds(&cpu)))
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, model, input, threads] = arguments.as_slice() else {
        bail!("usage: repvgg-rivals ENGINE MODEL.onnx INPUT.npy THREADS");
    };
    let input = read_npy(input)?;
    let mut run = load(engine, model, input, threads.parse().context("THREADS")?)?;
    run()?;
    println!(r#"{{"version": "{}"}}"#, version(engine));
    for line in stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("run", count)) => println!("{}", measure(&mut run, count.parse()?)?),
            Some(("logits", path)) => {
                write_npy(path, &run()?)?;
                println!("{{}}");
            }
            _ => bail!("expected run K or logits FILE, found {line:?}"),
        }
    }
    Ok(())
}

/// The engine's version, from the lock file of this build.
fn version(engine: &str) -> &'static str {
    let package = if engine == "tract" { "tract-onnx" } else { engine };
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{package}\"")));
    entry.and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next()).unwrap_or("unknown")
}
