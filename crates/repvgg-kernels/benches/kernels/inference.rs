//! Convolutions on packed weights with every applicable algorithm.

use repvgg_kernels::reference::{self, Reference};
use repvgg_kernels::{
    Accuracy, Activation, Algorithm, Blocked, ConvPlan, Estimate, Layout, Machine, PackedConv2d, Packing, Parameters,
    Pass, Site,
};

use crate::Bench;
use crate::answers::{self, Operands, to_f64};
use crate::layers::{INFERENCE, Layer};

pub(crate) fn run(bench: &Bench<'_>) {
    for layer in INFERENCE.iter().filter(|layer| bench.selects(&layer.label())) {
        let level = bench.cpu.level;
        let site = Site { batch: layer.batch, size: [layer.size; 2] };
        let operands = Operands::new(layer, layer.batch);
        let image = &operands.input[..layer.lens(1)[0]];
        let weights = to_f64(&operands.weights);
        let want = reference::conv2d(&layer.geometry(), &to_f64(image), site.size, &weights, None);
        for estimate in Estimate::all(level, Machine::typical(level), &layer.spec(), site, Accuracy::Fast) {
            let speed = measure(bench, layer, estimate.algorithm, &operands, &want);
            println!("{:56} {:10} {speed} estimate {:.3} ms", layer.label(), estimate.algorithm, estimate.time / 1e6);
        }
    }
}

/// Checks and times one algorithm.
fn measure(bench: &Bench<'_>, layer: &Layer, algorithm: Algorithm, operands: &Operands, want: &Reference) -> String {
    let (pool, level, spec) = (bench.cpu.pool, bench.cpu.level, layer.spec());
    let (batch, size) = (layer.batch, [layer.size; 2]);
    let activation = Activation::Identity;
    let parameters = Parameters { weights: &operands.weights, bias: None, addend_scale: None, activation };
    let packing = Packing::of(algorithm, &spec, size).expect("a valid layer");
    let conv = PackedConv2d::new(pool, level, &spec, packing, parameters).expect("a valid layer");
    let plan = ConvPlan::new(&conv, Site { batch, size }, pool.threads()).expect("a valid layer");
    let mut workspace = vec![0.0; plan.workspace_len()];
    let mut input = vec![0.0; plan.input_len(batch)];
    match spec.layout {
        Layout::Planar => input.copy_from_slice(&operands.input),
        Layout::Blocked => {
            let shape = [batch, layer.channels[0], size[0], size[1]];
            Blocked { shape, lanes: level.lanes() }.pack(&operands.input, &mut input);
        }
    }
    let mut output = vec![0.0; plan.output(batch).len()];
    let seconds = bench.fastest(|| {
        let (output, workspace) = (&mut *output, &mut *workspace);
        conv.run(&plan, pool, Pass { images: batch, input: &input, addend: None, output, workspace });
    });
    let mut planar = vec![0.0; layer.lens(batch)[2]];
    plan.output(batch).unpack(&output, &mut planar);
    let first = &planar[..want.values.len()];
    answers::check(&format!("{} {algorithm} on {level:?}", layer.label()), first, want);
    let rate = layer.macs() / seconds;
    format!(
        "{:8.3} ms/image {:8.1} GMAC/s {:5.2} of peak, error {:.1e}",
        seconds / batch as f64 * 1e3,
        rate / 1e9,
        rate / bench.peak(),
        answers::error(first, want)
    )
}
