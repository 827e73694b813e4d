//! Kernels compared with plain loops in `f64` over `[N, C, H, W]`, for shapes that straddle lanes, pieces and tasks.

use super::*;
use crate::cases::{Random, levels, pools, to_f64};

const SIZES: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [2, 7, 3, 5],
    [1, 8, 4, 4],
    [3, 9, 2, 3],
    [1, 15, 5, 1],
    [2, 16, 1, 6],
    [1, 17, 7, 7],
    [2, 33, 3, 2],
    // Blocks that exceed a piece and a task.
    [1, 5, 37, 41],
];

/// Planar maps, `[N, C, H, W]`.
#[derive(Debug, Clone)]
struct Planar {
    shape: [usize; 4],
    data: Vec<f32>,
}

impl Planar {
    fn random(seed: u64, shape: [usize; 4]) -> Self {
        Self { shape, data: Random(seed).floats(shape.iter().product()) }
    }

    fn at(&self, [n, c, y, x]: [usize; 4]) -> f64 {
        let [_, channels, height, width] = self.shape;
        f64::from(self.data[((n * channels + c) * height + y) * width + x])
    }

    /// The maps in blocks, with a nonzero number in the lanes beyond the last channel.
    fn blocked(&self, level: Level) -> (Vec<f32>, Blocked) {
        let layout = Blocked { shape: self.shape, lanes: level.lanes() };
        let mut data = vec![0.0; layout.len()];
        layout.pack(&self.data, &mut data);
        let (channels, lanes) = (self.shape[1], level.lanes());
        for (i, x) in data.iter_mut().enumerate() {
            let block = i / layout.block_len() % layout.blocks();
            if block * lanes + i % lanes >= channels {
                *x = 77.0;
            }
        }
        (data, layout)
    }
}

/// Every position of a shape, in order.
fn positions([n, c, h, w]: [usize; 4]) -> impl Iterator<Item = [usize; 4]> {
    (0..n * c * h * w).map(move |i| [i / (c * h * w), i / (h * w) % c, i / w % h, i % w])
}

/// Runs a kernel on inputs in blocks and returns its output as `[N, C, H, W]`.
fn run(cpu: Cpu<'_>, inputs: &[&Planar], shape: [usize; 4], kernel: impl Fn(&[Map<'_>], MapMut<'_>)) -> Vec<f32> {
    let blocked: Vec<(Vec<f32>, Blocked)> = inputs.iter().map(|input| input.blocked(cpu.level)).collect();
    let maps: Vec<Map<'_>> = blocked.iter().map(|(data, layout)| Map::new(data, *layout)).collect();
    let layout = Blocked { shape, lanes: cpu.level.lanes() };
    let mut output = vec![f32::NAN; layout.len()];
    kernel(&maps, MapMut::new(&mut output, layout));
    let mut planar = vec![f32::NAN; shape.iter().product()];
    unpack(cpu, Map::new(&output, layout), &mut planar);
    planar
}

/// Runs a kernel on every level with one to four threads. Results must be equal for any number of threads, and match `want`, a
/// value and its bound in units of `f32::EPSILON`.
fn check(
    what: &str,
    inputs: &[&Planar],
    shape: [usize; 4],
    kernel: impl Fn(Cpu<'_>, &[Map<'_>], MapMut<'_>),
    want: impl Fn([usize; 4]) -> (f64, f64),
) {
    for level in levels() {
        let results: Vec<Vec<f32>> = pools()
            .iter()
            .map(|pool| {
                let cpu = Cpu { pool, level };
                run(cpu, inputs, shape, |maps, output| kernel(cpu, maps, output))
            })
            .collect();
        for (position, &found) in positions(shape).zip(&results[0]) {
            let (value, bound) = want(position);
            let error = (f64::from(found) - value).abs();
            assert!(
                error <= bound * f64::from(f32::EPSILON),
                "{what} of {shape:?} on {level:?}: {position:?} is {found}, not {value}"
            );
        }
        for (threads, result) in results.iter().enumerate() {
            assert!(*result == results[0], "{what} of {shape:?} on {level:?}: {} threads differ", threads + 1);
        }
    }
}

fn padded(values: &[f32], lanes: usize) -> Vec<f32> {
    let mut values = values.to_vec();
    values.resize(values.len().next_multiple_of(lanes), 0.0);
    values
}

#[test]
fn sums_of_any_terms() {
    for shape in SIZES {
        let inputs: Vec<Planar> = (0..3).map(|seed| Planar::random(seed, shape)).collect();
        let [a, b, c] = [&inputs[0], &inputs[1], &inputs[2]];
        let (scale, shift) = (Random(8).floats(shape[1]), Random(9).floats(shape[1]));
        for affine in 0..8 {
            let has = |term: usize| affine >> term & 1 == 1;
            let kernel = |cpu: Cpu<'_>, maps: &[Map<'_>], output: MapMut<'_>| {
                let lanes = cpu.level.lanes();
                let (scale, shift) = (padded(&scale, lanes), padded(&shift, lanes));
                let terms = maps.iter().enumerate().map(|(i, &map)| {
                    let affine = has(i).then_some(Affine { scale: &scale, shift: &shift });
                    Term { map, affine }
                });
                sum(cpu, terms, (affine % 2 == 1).then_some(Pointwise::Relu), output);
            };
            let want = |position: [usize; 4]| {
                let channel = position[1];
                let [scale, shift] = [&scale, &shift].map(|values| f64::from(values[channel]));
                let term = |(i, x): (usize, &&Planar)| {
                    if has(i) { scale * x.at(position) + shift } else { x.at(position) }
                };
                let total: f64 = [a, b, c].iter().enumerate().map(term).sum();
                (if affine % 2 == 1 { total.max(0.0) } else { total }, 8.0)
            };
            check("sum", &[a, b, c], shape, kernel, want);
        }
    }
}

#[test]
fn products_with_factors_per_element_and_per_channel() {
    for shape in SIZES {
        let [n, c, ..] = shape;
        for size in [[n, c, 1, 1], shape] {
            let (x, factor) = (Planar::random(1, shape), Planar::random(2, size));
            let kernel = |cpu: Cpu<'_>, maps: &[Map<'_>], output: MapMut<'_>| {
                product(cpu, maps[0], maps[1], Some(Pointwise::LeakyRelu { slope: 0.5 }), output);
            };
            let want = |position: [usize; 4]| {
                let [n, c, ..] = position;
                let y = x.at(position) * factor.at(if size == shape { position } else { [n, c, 0, 0] });
                (if y < 0.0 { 0.5 * y } else { y }, 1.0)
            };
            check("product", &[&x, &factor], shape, kernel, want);
        }
    }
}

/// Windows as networks use them: with and without padding, and some that extend beyond the map.
const WINDOWS: [PoolWindow; 6] = [
    PoolWindow { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], padding: [1, 1] },
    PoolWindow { kernel: [2, 2], stride: [2, 2], dilation: [1, 1], padding: [0, 0] },
    PoolWindow { kernel: [3, 1], stride: [1, 2], dilation: [1, 1], padding: [1, 0] },
    PoolWindow { kernel: [5, 4], stride: [1, 1], dilation: [1, 1], padding: [2, 3] },
    PoolWindow { kernel: [3, 3], stride: [1, 1], dilation: [2, 2], padding: [2, 2] },
    PoolWindow { kernel: [2, 3], stride: [2, 1], dilation: [3, 1], padding: [1, 1] },
];

#[test]
fn pools_are_folds_of_windows() {
    for shape in SIZES {
        let x = Planar::random(3, shape);
        let [n, c, height, width] = shape;
        for window in WINDOWS {
            let PoolWindow { kernel, stride, dilation, padding } = window;
            let output = [n, c, height.div_ceil(stride[0]), width.div_ceil(stride[1])];
            let pixels = |[n, c, p, q]: [usize; 4]| {
                let offsets = (0..kernel[0]).flat_map(|r| (0..kernel[1]).map(move |s| [r, s]));
                let inside = offsets.filter_map(|[r, s]| {
                    let y = (p * stride[0] + r * dilation[0]).checked_sub(padding[0]).filter(|&y| y < height)?;
                    let x = (q * stride[1] + s * dilation[1]).checked_sub(padding[1]).filter(|&x| x < width)?;
                    Some([n, c, y, x])
                });
                inside.map(|position| x.at(position)).collect::<Vec<_>>()
            };
            let max = |position| (pixels(position).into_iter().fold(f64::NEG_INFINITY, f64::max), 0.0);
            if positions(output).all(|position| !pixels(position).is_empty()) {
                check("max", &[&x], output, |cpu, maps, output| max_pool(cpu, window, maps[0], output), max);
                for divisor in [Divisor::Window, Divisor::Inside] {
                    let mean = |position| {
                        let pixels = pixels(position);
                        let count = if divisor == Divisor::Inside { pixels.len() } else { kernel[0] * kernel[1] };
                        (pixels.iter().sum::<f64>() / count as f64, pixels.len() as f64)
                    };
                    let kernel = |cpu: Cpu<'_>, maps: &[Map<'_>], output: MapMut<'_>| {
                        mean_pool(cpu, window, divisor, maps[0], output);
                    };
                    check("mean", &[&x], output, kernel, mean);
                }
            }
        }
        let mean = |[n, c, ..]: [usize; 4]| {
            let plane = positions([1, 1, height, width]).map(|[.., y, column]| x.at([n, c, y, column]));
            (plane.sum::<f64>() / (height * width) as f64, 4.0)
        };
        check("global mean", &[&x], [n, c, 1, 1], |cpu, maps, output| global_mean(cpu, maps[0], output), mean);
    }
}

#[test]
fn max_pool_propagates_nan() {
    let mut x = Planar::random(4, [1, 9, 4, 4]);
    x.data[5] = f32::NAN;
    let window = PoolWindow { kernel: [2, 2], stride: [2, 2], dilation: [1, 1], padding: [0, 0] };
    for level in levels() {
        let cpu = Cpu { pool: &ThreadPool::new(1), level };
        let y = run(cpu, &[&x], [1, 9, 2, 2], |maps, output| max_pool(cpu, window, maps[0], output));
        assert!(y[0].is_nan() && y[1..].iter().all(|y| y.is_finite()), "{level:?}: {y:?}");
    }
}

#[test]
fn softmax_over_channels() {
    for shape in SIZES {
        let mut x = Planar::random(5, shape);
        x.data.iter_mut().for_each(|x| *x *= 30.0);
        for form in [SoftmaxForm::Probabilities, SoftmaxForm::Logarithms] {
            let want = |[n, c, y, column]: [usize; 4]| {
                let all = (0..shape[1]).map(|c| x.at([n, c, y, column]));
                let largest = all.clone().fold(f64::NEG_INFINITY, f64::max);
                let logarithm = x.at([n, c, y, column]) - largest - all.map(|x| (x - largest).exp()).sum::<f64>().ln();
                match form {
                    SoftmaxForm::Probabilities => (logarithm.exp(), 64.0 * logarithm.exp()),
                    SoftmaxForm::Logarithms => (logarithm, 4.0 * (1.0 + logarithm.abs())),
                }
            };
            check("softmax", &[&x], shape, |cpu, maps, output| softmax(cpu, form, maps[0], output), want);
        }
    }
}

#[test]
fn concatenation_preserves_the_order_of_maps() {
    for channels in [[8, 8, 8], [16, 32, 16], [1, 2, 3], [7, 9, 17], [16, 1, 16]] {
        for [n, height, width] in [[1, 1, 1], [2, 3, 4]] {
            let inputs = [0, 1, 2].map(|i| Planar::random(i as u64, [n, channels[i], height, width]));
            let shape = [n, channels.iter().sum(), height, width];
            let want = |[n, c, y, x]: [usize; 4]| {
                let starts = [0, channels[0], channels[0] + channels[1]];
                let i = (0..3).rfind(|&i| starts[i] <= c).unwrap();
                (inputs[i].at([n, c - starts[i], y, x]), 0.0)
            };
            let kernel = |cpu: Cpu<'_>, maps: &[Map<'_>], output: MapMut<'_>| concat(cpu, maps.iter().copied(), output);
            check("concat", &inputs.each_ref(), shape, kernel, want);
        }
    }
}

#[test]
fn gathered_channels_come_from_their_sources() {
    for shape in SIZES {
        let x = Planar::random(6, shape);
        let [n, c, height, width] = shape;
        for count in [1, c, 2 * c + 3] {
            let sources: Vec<usize> = (0..count).map(|i| (i * 7 + 3) % c).collect();
            let want = |[n, c, y, column]: [usize; 4]| (x.at([n, sources[c], y, column]), 0.0);
            let kernel = |cpu: Cpu<'_>, maps: &[Map<'_>], output: MapMut<'_>| gather(cpu, maps[0], &sources, output);
            check("gather", &[&x], [n, count, height, width], kernel, want);
        }
    }
}

#[test]
fn padded_maps_have_zeros_around_them() {
    for shape in SIZES {
        let x = Planar::random(7, shape);
        let [n, c, height, width] = shape;
        for (begin, more) in
            [([1, 2], [3, 3]), ([-1, 0], [0, 1]), ([0, -2], [2, 0]), ([9, 9], [1, 1]), ([-9, -9], [1, 1])]
        {
            let output = [n, c, height + more[0], width + more[1]];
            let want = |[n, c, y, column]: [usize; 4]| {
                let row = y.checked_add_signed(-begin[0]).filter(|&row| row < height);
                let column = column.checked_add_signed(-begin[1]).filter(|&column| column < width);
                (row.zip(column).map_or(0.0, |(row, column)| x.at([n, c, row, column])), 0.0)
            };
            check("pad", &[&x], output, |cpu, maps, output| pad(cpu, maps[0], begin, output), want);
        }
    }
}

#[test]
fn resized_maps_are_blends_of_four_pixels() {
    for shape in SIZES {
        let x = Planar::random(9, shape);
        let [n, c, height, width] = shape;
        let taps = |extent: usize, output: usize| -> Vec<ResizeTap> {
            let tap = |i: usize| {
                let [first, second] = [i * extent / output, (i + 1) * extent / output].map(|j| j.min(extent - 1));
                ResizeTap { indices: [first, second], weight: (i % 4) as f32 / 4.0 }
            };
            (0..output).map(tap).collect()
        };
        let [rows, columns] = [taps(height, height + 3), taps(width, 2 * width + 1)];
        let want = |[n, c, p, q]: [usize; 4]| {
            let blend = |taps: &ResizeTap, at: &dyn Fn(usize) -> f64| {
                let weight = f64::from(taps.weight);
                at(taps.indices[0]) * (1.0 - weight) + at(taps.indices[1]) * weight
            };
            let row = |y: usize| blend(&columns[q], &|column| x.at([n, c, y, column]));
            (blend(&rows[p], &row), 4.0)
        };
        let kernel = |cpu: Cpu<'_>, maps: &[Map<'_>], output: MapMut<'_>| {
            resize(cpu, maps[0], [&rows, &columns], output);
        };
        check("resize", &[&x], [n, c, rows.len(), columns.len()], kernel, want);
    }
}

#[test]
fn flattened_rows_are_in_planar_order() {
    for shape in SIZES {
        let x = Planar::random(8, shape);
        let features = shape[1..].iter().product();
        let want = |[n, i, ..]: [usize; 4]| (f64::from(x.data[n * features + i]), 0.0);
        let kernel = |cpu: Cpu<'_>, maps: &[Map<'_>], output: MapMut<'_>| flatten(cpu, maps[0], output);
        check("flatten", &[&x], [shape[0], features, 1, 1], kernel, want);
    }
}

#[test]
fn unpacking_undoes_packing() {
    for shape in SIZES {
        let x = Planar::random(9, shape);
        for (level, pool) in levels().into_iter().flat_map(|level| pools().into_iter().map(move |pool| (level, pool))) {
            let cpu = Cpu { pool: &pool, level };
            let layout = Blocked { shape, lanes: level.lanes() };
            let [mut found, mut expected] = [(); 2].map(|()| vec![f32::NAN; layout.len()]);
            pack(cpu, &x.data, MapMut::new(&mut found, layout));
            layout.pack(&x.data, &mut expected);
            assert_eq!(found, expected, "{shape:?} on {level:?}");
            let mut back = vec![f32::NAN; x.data.len()];
            unpack(cpu, Map::new(&found, layout), &mut back);
            assert_eq!(to_f64(&back), to_f64(&x.data), "{shape:?} on {level:?}");
        }
    }
}

#[test]
#[should_panic(expected = "a term has the output's layout")]
fn wrong_shapes_panic() {
    let (pool, level) = (ThreadPool::new(1), Level::detect());
    let x = Planar::random(0, [1, 3, 2, 2]);
    let cpu = Cpu { pool: &pool, level };
    run(cpu, &[&x], [1, 3, 2, 3], |maps, output| {
        sum(cpu, maps.iter().map(|&map| Term { map, affine: None }), None, output);
    });
}
