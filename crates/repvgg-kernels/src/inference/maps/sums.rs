//! Sums and products of maps, with an elementwise function in the same pass.

use super::pointwise::Pointwise;
use super::{BlockKernel, Cpu, Map, MapMut};
use crate::isa::Simd;

/// Elements that are completed before the next ones, so that partial sums stay in the first-level cache.
const PIECE_FLOATS: usize = 4096;

/// A term of [`sum`]: a map, or `scale · map + shift`.
#[derive(Debug, Clone, Copy)]
pub struct Term<'a> {
    /// A map of the output's shape.
    pub map: Map<'a>,
    /// A function of each channel, applied before the sum.
    pub affine: Option<Affine<'a>>,
}

/// `scale · x + shift` for each channel, both `[C]` padded to whole blocks: `⌈C/L⌉ · L` elements.
#[derive(Debug, Clone, Copy)]
pub struct Affine<'a> {
    /// The factors.
    pub scale: &'a [f32],
    /// The summands.
    pub shift: &'a [f32],
}

/// Computes `output = function(Σ terms)`. Terms are added in order.
///
/// # Panics
///
/// If there is no term, a map differs from the output in shape or lanes, or an affine has the wrong length.
pub fn sum<'a>(
    cpu: Cpu<'_>,
    terms: impl Iterator<Item = Term<'a>> + Clone + Sync,
    function: Option<Pointwise>,
    output: MapMut<'_>,
) {
    let layout = output.layout();
    let channels = layout.blocks() * layout.lanes;
    for term in terms.clone() {
        assert_eq!(term.map.layout(), layout, "a term has the output's layout");
        let lens = term.affine.map_or([channels; 2], |Affine { scale, shift }| [scale.len(), shift.len()]);
        assert_eq!(lens, [channels; 2], "an affine has ⌈C/L⌉ · L elements");
    }
    let count = terms.clone().count();
    assert!(count > 0, "a sum has terms");
    output.compute(cpu, count, &MapSum { terms, blocks: layout.blocks(), function });
}

/// Computes `output = function(x · factor)`, where `factor` has the shape of `x` or one element per channel, `[N, C, 1, 1]`.
///
/// # Panics
///
/// If `x` differs from the output in shape or lanes, or `factor` has neither shape.
pub fn product(cpu: Cpu<'_>, x: Map<'_>, factor: Map<'_>, function: Option<Pointwise>, output: MapMut<'_>) {
    assert_eq!(x.layout(), output.layout(), "x has the output's layout");
    output.expect_channels(&factor);
    assert!(factor.size() == x.size() || factor.size() == [1, 1], "factors are one per element or one per channel");
    output.compute(cpu, 1, &MapProduct { x, factor, function });
}

struct MapSum<I> {
    terms: I,
    /// Blocks of an image.
    blocks: usize,
    function: Option<Pointwise>,
}

impl<'a, I: Iterator<Item = Term<'a>> + Clone + Sync> BlockKernel for MapSum<I> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, index: usize, block: &mut [f32]) {
        let first_channel = index % self.blocks * S::LANES;
        for (piece, y) in block.chunks_mut(PIECE_FLOATS).enumerate() {
            for (i, Term { map, affine }) in self.terms.clone().enumerate() {
                let x = &map.block(index)[piece * PIECE_FLOATS..][..y.len()];
                let pairs = S::blocks_mut(y).iter_mut().zip(S::blocks(x));
                let channels = |values: &'a [f32]| simd.load(&S::blocks(&values[first_channel..])[0]);
                // The first term overwrites the previous contents of the output.
                match (affine, i) {
                    (None, 0) => pairs.for_each(|(y, x)| *y = *x),
                    (None, _) => pairs.for_each(|(y, x)| simd.store(simd.add(simd.load(y), simd.load(x)), y)),
                    (Some(Affine { scale, shift }), 0) => {
                        let [scale, shift] = [scale, shift].map(channels);
                        pairs.for_each(|(y, x)| simd.store(simd.mul_add(scale, simd.load(x), shift), y));
                    }
                    (Some(Affine { scale, shift }), _) => {
                        let [scale, shift] = [scale, shift].map(channels);
                        for (y, x) in pairs {
                            let term = simd.mul_add(scale, simd.load(x), shift);
                            simd.store(simd.add(term, simd.load(y)), y);
                        }
                    }
                }
            }
            if let Some(function) = self.function {
                function.apply(simd, y);
            }
        }
    }
}

struct MapProduct<'a> {
    x: Map<'a>,
    factor: Map<'a>,
    function: Option<Pointwise>,
}

impl BlockKernel for MapProduct<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, index: usize, block: &mut [f32]) {
        let (x, factor) = (self.x.block(index), S::blocks(self.factor.block(index)));
        for (piece, y) in block.chunks_mut(PIECE_FLOATS).enumerate() {
            let x = &x[piece * PIECE_FLOATS..][..y.len()];
            let pairs = S::blocks_mut(y).iter_mut().zip(S::blocks(x));
            if let [factor] = factor {
                let factor = simd.load(factor);
                pairs.for_each(|(y, x)| simd.store(simd.mul(simd.load(x), factor), y));
            } else {
                let factors = &factor[piece * PIECE_FLOATS / S::LANES..];
                pairs.zip(factors).for_each(|((y, x), f)| simd.store(simd.mul(simd.load(x), simd.load(f)), y));
            }
            if let Some(function) = self.function {
                function.apply(simd, y);
            }
        }
    }
}
