//! Speed of the kernels on the layers of real networks: GMAC/s of the direct convolution and the fraction of the measured
//! multiply-add peak of as many cores. Inference runs with packed weights, every algorithm that fits; training packs per
//! call. Every answer is compared with the reference, on one image, before it is timed.
//!
//! `cargo run --release --example kernels -- [threads] [filter] [level]`

use std::time::{Duration, Instant};

use repvgg_kernels::{
    Accuracy, Activation, Algorithm, Blocked, ConvPlan, ConvSpec, Estimate, Geometry, Layout, Level, Machine,
    NormBranch, NormSum, OutputGradient, PackedConv2d, Packing, Parameters, Pass, Site, ThreadPool, TrainingConv2d,
    fma_peak, reference,
};

struct Layer {
    channels: [usize; 2],
    kernel: usize,
    stride: usize,
    groups: usize,
    batch: usize,
    size: usize,
}

const fn layer(batch: usize, channels: [usize; 2], kernel: usize, stride: usize, size: usize) -> Layer {
    Layer { channels, kernel, stride, groups: 1, batch, size }
}

const INFERENCE: [Layer; 20] = [
    layer(1, [3, 48], 3, 2, 224),
    layer(1, [48, 48], 3, 2, 112),
    layer(1, [48, 48], 3, 1, 56),
    layer(1, [48, 96], 3, 2, 56),
    layer(1, [96, 96], 3, 1, 28),
    layer(1, [96, 192], 3, 2, 28),
    layer(1, [192, 192], 3, 1, 14),
    layer(1, [192, 1280], 3, 2, 14),
    layer(8, [48, 48], 3, 1, 56),
    layer(8, [192, 192], 3, 1, 14),
    layer(8, [192, 1280], 3, 2, 14),
    layer(1, [1280, 1000], 1, 1, 1),
    layer(8, [1280, 1000], 1, 1, 1),
    layer(1, [64, 256], 1, 1, 56),
    layer(1, [1024, 256], 1, 1, 14),
    layer(1, [512, 512], 3, 1, 7),
    layer(1, [512, 512], 3, 1, 14),
    layer(1, [512, 2048], 3, 2, 14),
    Layer { channels: [128, 128], kernel: 3, stride: 1, groups: 32, batch: 1, size: 56 },
    Layer { channels: [192, 192], kernel: 3, stride: 1, groups: 192, batch: 1, size: 28 },
];

const TRAINING: [Layer; 20] = [
    layer(128, [3, 48], 3, 1, 32),
    layer(128, [16, 16], 3, 1, 32),
    layer(128, [32, 32], 3, 1, 32),
    layer(128, [48, 48], 3, 1, 32),
    layer(128, [64, 64], 3, 1, 32),
    layer(128, [96, 96], 3, 1, 16),
    layer(128, [128, 128], 3, 1, 16),
    layer(128, [192, 192], 3, 1, 8),
    layer(128, [256, 256], 3, 1, 8),
    layer(128, [256, 256], 3, 1, 4),
    layer(128, [48, 96], 3, 2, 32),
    layer(128, [96, 192], 3, 2, 16),
    layer(128, [48, 48], 1, 1, 32),
    layer(128, [64, 64], 1, 1, 32),
    layer(128, [128, 128], 1, 1, 16),
    layer(128, [192, 192], 1, 1, 8),
    layer(128, [256, 256], 1, 1, 8),
    layer(128, [48, 96], 1, 2, 32),
    layer(128, [256, 10], 1, 1, 1),
    Layer { channels: [192, 192], kernel: 3, stride: 1, groups: 192, batch: 64, size: 16 },
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(1, |threads| threads.parse().expect("threads is a number"));
    let filter = arguments.next().unwrap_or_default();
    let level = arguments.next().map_or(Level::detect(), |name| Level::named(&name).expect("this CPU has the level"));
    let pool = ThreadPool::new(threads);
    println!("{} on {threads} threads, peak {:.1} GMAC/s per thread", level.name(), fma_peak(level) / 1e9);
    for layer in INFERENCE.iter().filter(|layer| layer.name().contains(&filter)) {
        let site = Site { batch: layer.batch, size: [layer.size; 2] };
        for estimate in Estimate::all(level, Machine::typical(level), &layer.spec(), site, Accuracy::Fast) {
            let rate = layer.inference(&pool, level, estimate.algorithm);
            println!("{:44} {:10} {rate} estimate {:.3} ms", layer.name(), estimate.algorithm, estimate.time / 1e6);
        }
    }
    println!("{:44} {:>16} {:>16} {:>16}", "layer", "forward", "input gradient", "weight gradient");
    for layer in TRAINING.iter().filter(|layer| layer.name().contains(&filter)) {
        println!("{:44} {}", layer.name(), layer.training(&pool).join(" "));
    }
    for shape in [[128, 48, 1024], [128, 96, 256], [128, 256, 16]] {
        let name = format!("batch norm {shape:?}");
        if name.contains(&filter) {
            let [forward, backward] = batch_norm(&pool, shape);
            println!("{name:44} {forward:8.1} GB/s forward {backward:8.1} GB/s backward");
        }
    }
}

/// GB/s of a batch norm with ReLU, forward (three reads, one write) and backward (five reads, two writes).
fn batch_norm(pool: &ThreadPool, shape: [usize; 3]) -> [f64; 2] {
    let level = Level::detect();
    let len: usize = shape.iter().product();
    let x: Vec<f32> = (0..len).map(|i| (i % 1021) as f32 / 500.0).collect();
    let [scale, shift] = [1.5, 0.5].map(|value| vec![value; shape[1]]);
    let branches = [NormBranch { input: &x, scale: &scale }];
    let sum = NormSum::new(shape, &branches, 1e-5);
    let mut y = vec![0.0; len];
    let statistics = sum.forward(pool, level, &shift, Activation::Relu, &mut y);
    let forward = fastest(|| {
        sum.forward(pool, level, &shift, Activation::Relu, &mut y);
    });
    let (dy, mut dx) = (vec![0.5; len], [vec![0.0; len]]);
    let gradient = OutputGradient { values: &dy, relu: Some(&y) };
    let backward = fastest(|| {
        sum.backward(pool, level, &statistics, &gradient, &mut dx);
    });
    let bytes = (len * size_of::<f32>()) as f64 / 1e9;
    [4.0 * bytes / forward, 7.0 * bytes / backward]
}

/// Seconds of the fastest of the rounds in about 0.3 s.
fn fastest(mut work: impl FnMut()) -> f64 {
    work();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < Duration::from_millis(300) {
        let round = Instant::now();
        work();
        best = best.min(round.elapsed().as_secs_f64());
    }
    best
}

impl Layer {
    fn name(&self) -> String {
        let Self { channels: [c, k], kernel, stride, groups, batch, size } = self;
        format!("n{batch} {c}>{k} {kernel}x{kernel} stride {stride} groups {groups} on {size}x{size}")
    }

    fn geometry(&self) -> Geometry {
        Geometry {
            in_channels: self.channels[0],
            out_channels: self.channels[1],
            kernel: [self.kernel; 2],
            stride: [self.stride; 2],
            padding: [self.kernel / 2; 2],
            dilation: [1; 2],
            groups: self.groups,
        }
    }

    /// Input, weights and output gradient for `batch` images.
    fn operands(&self, batch: usize) -> [Vec<f32>; 3] {
        let outputs = self.size.div_ceil(self.stride).pow(2);
        let mut state = 1_u32;
        let mut floats = |len: usize| {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (0..len).map(|_| next()).collect()
        };
        let [c, k] = self.channels;
        [batch * c * self.size * self.size, self.geometry().weight_len(), batch * k * outputs].map(&mut floats)
    }

    fn spec(&self) -> ConvSpec {
        ConvSpec { geometry: self.geometry(), layout: self.layout() }
    }

    fn layout(&self) -> Layout {
        if self.channels[0] == 3 { Layout::Planar } else { Layout::Blocked }
    }

    fn inference(&self, pool: &ThreadPool, level: Level, algorithm: Algorithm) -> String {
        let Self { batch, channels: [c, k], .. } = *self;
        let size = [self.size; 2];
        let [input, weights, _] = self.operands(batch);
        let parameters =
            Parameters { weights: &weights, bias: None, addend_scale: None, activation: Activation::Identity };
        let packing = Packing::of(algorithm, &self.spec(), size).expect("a valid layer");
        let conv = PackedConv2d::new(pool, level, &self.spec(), packing, parameters).expect("a valid layer");
        let plan = ConvPlan::new(&conv, Site { batch, size }, pool.threads()).expect("a valid layer");
        let mut workspace = vec![0.0; plan.workspace_len()];
        let mut blocked = vec![0.0; plan.input_len(batch)];
        if self.layout() == Layout::Planar {
            blocked.copy_from_slice(&input);
        } else {
            Blocked { shape: [batch, c, size[0], size[1]], lanes: level.lanes() }.pack(&input, &mut blocked);
        }
        let mut output = vec![0.0; plan.output(batch).len()];
        let mut run = || {
            let (output, workspace) = (&mut *output, &mut *workspace);
            conv.run(&plan, pool, Pass { images: batch, input: &blocked, addend: None, output, workspace });
        };
        run();
        let best = fastest(&mut run);
        let outputs = self.size.div_ceil(self.stride).pow(2);
        let image = input.len() / batch;
        let first: Vec<f64> = input[..image].iter().map(|&x| f64::from(x)).collect();
        let wide: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
        let want = reference::conv2d(&self.geometry(), &first, size, &wide, None);
        let mut planar = vec![0.0; batch * k * outputs];
        plan.output(batch).unpack(&output, &mut planar);
        check(&planar[..want.values.len()], &want);
        let error = error(&planar, &want);
        let rate = (batch * outputs * self.geometry().weight_len()) as f64 / best;
        let peak = rate / (fma_peak(level) * pool.threads() as f64);
        format!(
            "{:8.3} ms/image {:8.1} GMAC/s {peak:5.2} of peak, error {error:.1e}",
            best / batch as f64 * 1e3,
            rate / 1e9
        )
    }

    fn training(&self, pool: &ThreadPool) -> [String; 3] {
        let size = [self.size; 2];
        let one = TrainingConv2d::new(self.geometry(), 1, size).expect("a valid layer");
        let [x, w, dy] = self.operands(1);
        let [x64, w64, dy64] = [&x, &w, &dy].map(|x| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        one.forward(pool, &x, &w, &mut y);
        check(&y, &reference::conv2d(&self.geometry(), &x64, size, &w64, None));
        one.input_gradient(pool, &dy, &w, &mut dx);
        check(&dx, &reference::gradient_input(&self.geometry(), &dy64, size, &w64));
        one.weight_gradient(pool, &x, &dy, &mut dw);
        check(&dw, &reference::gradient_weights(&self.geometry(), &x64, size, &dy64));

        let conv = TrainingConv2d::new(self.geometry(), self.batch, size).expect("a valid layer");
        let [x, w, dy] = self.operands(self.batch);
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        [
            self.rate(pool, || conv.forward(pool, &x, &w, &mut y)),
            self.rate(pool, || conv.input_gradient(pool, &dy, &w, &mut dx)),
            self.rate(pool, || conv.weight_gradient(pool, &x, &dy, &mut dw)),
        ]
    }

    /// GMAC/s and the fraction of the peak.
    fn rate(&self, pool: &ThreadPool, work: impl FnMut()) -> String {
        let outputs = self.batch * self.size.div_ceil(self.stride).pow(2);
        let rate = (outputs * self.geometry().weight_len()) as f64 / fastest(work);
        format!("{:8.1} ({:3.0} %)", rate / 1e9, 100.0 * rate / (fma_peak(Level::detect()) * pool.threads() as f64))
    }
}

/// Asserts that rounding is all that separates `got` from the reference, the rounding of the largest tiles included.
fn check(got: &[f32], want: &reference::Reference) {
    let largest = want.magnitudes.iter().copied().fold(0.0, f64::max);
    let bound = 512.0 * f64::from(f32::EPSILON) * largest;
    for (got, value) in got.iter().zip(&want.values) {
        assert!((f64::from(*got) - value).abs() <= bound, "got {got}, want {value}");
    }
}

/// The largest error, in parts of the largest result.
fn error(got: &[f32], want: &reference::Reference) -> f64 {
    let largest = want.values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    got.iter().zip(&want.values).map(|(got, value)| (f64::from(*got) - value).abs()).fold(0.0, f64::max) / largest
}
