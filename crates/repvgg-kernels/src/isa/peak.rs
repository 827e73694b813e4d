//! The rate of multiply-adds that bounds every product: the roof of the roofline model.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::Level;
use crate::isa::{Kernel, Simd};

/// Multiply-adds per second of one thread on a level, measured when called: the best of many short rounds in about 20 ms.
pub fn fma_peak(level: Level) -> f64 {
    let start = Instant::now();
    let mut best = 0.0_f64;
    while start.elapsed() < Duration::from_millis(20) {
        let round = Instant::now();
        let products = level.run(Chains { steps: black_box(20_000) });
        best = best.max(products as f64 / round.elapsed().as_secs_f64());
    }
    best
}

/// Independent chains of multiply-adds, enough to hide the latency of one behind the others, and no more than registers.
struct Chains {
    steps: usize,
}

impl Kernel for Chains {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        if S::COLUMNS[0] >= 12 { chains::<S, 12>(simd, self.steps) } else { chains::<S, 4>(simd, self.steps) }
    }
}

/// Multiply-adds that were done.
#[inline(always)]
fn chains<S: Simd, const CHAINS: usize>(simd: S, steps: usize) -> usize {
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
    fn a_core_multiplies_at_a_plausible_rate() {
        let peak = super::fma_peak(crate::Level::detect());
        assert!((1e8..1e12).contains(&peak), "{peak} multiply-adds per second");
    }
}
