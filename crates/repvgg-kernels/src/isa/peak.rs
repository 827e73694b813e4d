//! The peak rate of multiply-adds, the upper bound of every product: the roof of the roofline model.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Level;
use crate::isa::{Kernel, Simd};

/// Measures the multiply-adds per second of one thread on a level: the best of many short rounds in about 20 ms.
///
/// ```
/// use repvgg_kernels::{Level, fma_peak};
///
/// let rate = fma_peak(Level::detect());
/// assert!(rate > 1e6, "{rate} multiply-adds per second");
/// ```
pub fn fma_peak(level: Level) -> f64 {
    let start = Instant::now();
    let mut best = 0.0_f64;
    while start.elapsed() < Duration::from_millis(20) {
        let round = Instant::now();
        let products = level.run(MultiplyAddChains { steps: black_box(20_000) });
        best = best.max(products as f64 / round.elapsed().as_secs_f64());
    }
    best
}

/// Independent chains of multiply-adds: enough to hide their latency, and few enough to stay in registers.
struct MultiplyAddChains {
    steps: usize,
}

impl Kernel for MultiplyAddChains {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        if S::COLUMNS[0] >= 12 {
            measure_chains::<S, 12>(simd, self.steps)
        } else {
            measure_chains::<S, 4>(simd, self.steps)
        }
    }
}

/// Runs the chains and returns the number of multiply-adds.
#[inline(always)]
fn measure_chains<S: Simd, const CHAINS: usize>(simd: S, steps: usize) -> usize {
    let factor = simd.splat(black_box(0.5));
    let mut sums = [simd.splat(black_box(1.0)); CHAINS];
    for _ in 0..steps {
        for sum in &mut sums {
            *sum = simd.mul_add(*sum, factor, factor);
        }
    }
    let mut out = [0.0; crate::isa::MAX_LANES];
    for sum in sums {
        simd.store(sum, &mut S::blocks_mut(&mut out)[0]);
        black_box(out);
    }
    steps * CHAINS * S::LANES
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_peak_of_a_core_is_plausible() {
        let peak = super::fma_peak(crate::Level::detect());
        assert!((1e8..1e12).contains(&peak), "{peak} multiply-adds per second");
    }
}
