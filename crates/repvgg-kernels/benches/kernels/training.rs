//! Convolutions and their gradients, with weights packed in every call, and sums of batch norms.

use repvgg_kernels::{Activation, NormBranch, NormSum, OutputGradient, TrainingConv2d, reference};

use crate::Bench;
use crate::answers::{self, Operands, floats, to_f64};
use crate::layers::{Layer, TRAINING};

pub(crate) fn run(bench: &Bench<'_>) {
    println!("{:56} {:>16} {:>16} {:>16}", "training", "forward", "input gradient", "weight gradient");
    for layer in TRAINING.iter().filter(|layer| bench.selects(&layer.label())) {
        println!("{:56} {}", layer.label(), convolution(bench, layer).join(" "));
    }
    for shape in [[128, 48, 1024], [128, 96, 256], [128, 256, 16]] {
        let name = format!("batch norm and ReLU of {shape:?}");
        if bench.selects(&name) {
            let [forward, backward] = norms(bench, shape);
            println!("{name:56} {forward:8.1} GB/s forward {backward:8.1} GB/s backward");
        }
    }
}

/// Checks the convolution and both gradients on one image, then times them on the batch, in GMAC/s and percent of the peak.
fn convolution(bench: &Bench<'_>, layer: &Layer) -> [String; 3] {
    let (pool, size, geometry) = (bench.cpu.pool, [layer.size; 2], layer.geometry());
    let conv = |batch| {
        let conv = TrainingConv2d::new(geometry, batch, size).expect("a valid layer");
        conv.with_level(bench.cpu.level)
    };
    let Operands { input: x, weights: w, output_gradient: dy } = Operands::new(layer, 1);
    let [x64, w64, dy64] = [&x, &w, &dy].map(|values| to_f64(values));
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    conv(1).forward(pool, &x, &w, &mut y);
    answers::check(&layer.label(), &y, &reference::conv2d(&geometry, &x64, size, &w64, None));
    conv(1).input_gradient(pool, &dy, &w, &mut dx);
    answers::check(&layer.label(), &dx, &reference::gradient_input(&geometry, &dy64, size, &w64));
    conv(1).weight_gradient(pool, &x, &dy, &mut dw);
    answers::check(&layer.label(), &dw, &reference::gradient_weights(&geometry, &x64, size, &dy64));

    let conv = conv(layer.batch);
    let Operands { input: x, weights: w, output_gradient: dy } = Operands::new(layer, layer.batch);
    let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
    let rate = |seconds: f64| {
        let rate = layer.macs() / seconds;
        format!("{:8.1} ({:3.0} %)", rate / 1e9, 100.0 * rate / bench.peak())
    };
    [
        rate(bench.fastest(|| conv.forward(pool, &x, &w, &mut y))),
        rate(bench.fastest(|| conv.input_gradient(pool, &dy, &w, &mut dx))),
        rate(bench.fastest(|| conv.weight_gradient(pool, &x, &dy, &mut dw))),
    ]
}

/// Times a batch norm with ReLU, in GB/s: forward three reads and one write, backward five reads and two writes.
fn norms(bench: &Bench<'_>, shape: [usize; 3]) -> [f64; 2] {
    let (pool, level) = (bench.cpu.pool, bench.cpu.level);
    let len = shape.iter().product();
    let (x, dy) = (floats(len, &mut 1), floats(len, &mut 2));
    let [scale, shift] = [1.5, 0.5].map(|value| vec![value; shape[1]]);
    let branches = [NormBranch { input: &x, scale: &scale }];
    let sum = NormSum::new(shape, &branches, 1e-5);
    let mut y = vec![0.0; len];
    let statistics = sum.forward(pool, level, &shift, Activation::Relu, &mut y);
    let forward = bench.fastest(|| {
        sum.forward(pool, level, &shift, Activation::Relu, &mut y);
    });
    let mut dx = [vec![0.0; len]];
    let gradient = OutputGradient { values: &dy, relu: Some(&y) };
    let backward = bench.fastest(|| {
        sum.backward(pool, level, &statistics, &gradient, &mut dx);
    });
    assert!(dx[0].iter().all(|x| x.is_finite()), "gradients are finite");
    let bytes = (len * size_of::<f32>()) as f64 / 1e9;
    [4.0 * bytes / forward, 7.0 * bytes / backward]
}
