//! Instruction sets behind one trait. A token of a level can only be created on a CPU that supports it, so holding a token
//! proves that its instructions may be executed. Kernels are written once, generic over the token, without `unsafe`.

#![expect(unsafe_code, reason = "vector instructions are called here and nowhere else")]
#![expect(clippy::needless_range_loop, reason = "loops follow the order of the operands in memory")]

mod peak;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::fmt;

pub use peak::fma_peak;
use portable::Portable;
#[cfg(target_arch = "x86_64")]
use x86_64::{Avx2, Avx512};

/// The token of an instruction set.
pub(crate) trait Simd: Copy + Send + Sync {
    /// `f32` lanes of a register: 8 or 16.
    const LANES: usize;
    /// Columns of the tiles of 1, 2, … registers ([`crate::tile`]). A tile needs enough sums to hide the latency of a
    /// multiply-add (4 cycles, two per cycle: at least 8), and they must fit the register file together with the panel's
    /// registers and one broadcast.
    const COLUMNS: &'static [usize];
    /// A register.
    type Vector: Copy;
    /// A register stored in memory.
    type Block: Copy;

    /// Runs `kernel` compiled for this level.
    fn run<K: Kernel>(self, kernel: K) -> K::Output;
    /// Sets all lanes to `x`.
    fn splat(self, x: f32) -> Self::Vector;
    /// Reads a register.
    fn load(self, block: &Self::Block) -> Self::Vector;
    /// Adds the steps of a product ([`crate::tile`]) to its sums, `sums[n][v] += Σ_l weights[l][v] · columns[n][l]`: one step
    /// for each lane `l` of a block of channels, or a single step.
    ///
    /// # Safety
    ///
    /// All elements of the operands must be readable.
    #[inline(always)]
    unsafe fn multiply_steps<const V: usize, const N: usize, const BLOCKS: bool>(
        self,
        sums: &mut [[Self::Vector; V]; N],
        operands: StepOperands,
    ) {
        for lane in 0..if BLOCKS { Self::LANES } else { 1 } {
            for v in 0..V {
                let row = operands.weights.wrapping_add((lane * V + v) * Self::LANES);
                // SAFETY: guaranteed by the caller.
                let weights = self.load(unsafe { &*row.cast::<Self::Block>() });
                for n in 0..N {
                    // SAFETY: guaranteed by the caller.
                    let factor =
                        unsafe { *operands.columns[0].wrapping_byte_add(n * operands.step).wrapping_add(lane) };
                    sums[n][v] = self.mul_add(self.splat(factor), weights, sums[n][v]);
                }
            }
        }
    }
    /// Writes a register.
    fn store(self, x: Self::Vector, block: &mut Self::Block);
    /// `a + b`, lane by lane.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a − b`, lane by lane.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b`, lane by lane.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a / b`, lane by lane.
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger of `a` and `b`, lane by lane; NaN where either is NaN, and `a` where they are equal.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a · b + c`, lane by lane, fused where the level has the instruction.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `max(floor, x)`, lane by lane; NaN where `x` is NaN, as in every framework.
    fn at_least(self, floor: Self::Vector, x: Self::Vector) -> Self::Vector;
    /// Prefetches the cache line at `address`, which may be invalid, into the second-level cache.
    fn prefetch(self, address: *const f32);
    /// The lower and the upper half of `[a0, b0, a1, b1, …]`.
    fn interleave(self, a: Self::Vector, b: Self::Vector) -> (Self::Vector, Self::Vector);
    /// `slice` as whole registers, without the remainder.
    fn blocks(slice: &[f32]) -> &[Self::Block];
    /// `slice` as whole registers, without the remainder.
    fn blocks_mut(slice: &mut [f32]) -> &mut [Self::Block];
}

/// Pointers to the operands of consecutive steps of a product.
#[derive(Clone, Copy)]
pub(crate) struct StepOperands {
    /// One row of registers per step.
    pub(crate) weights: *const f32,
    /// Columns 0, 4 and 8, each with one element per step.
    pub(crate) columns: [*const f32; 3],
    /// Bytes between neighbouring columns.
    pub(crate) step: usize,
}

impl StepOperands {
    pub(crate) fn new(weights: *const f32, column: *const f32, step: usize) -> Self {
        let columns = [0, 4, 8].map(|n| column.wrapping_byte_add(n * step));
        Self { weights, columns, step }
    }
}

/// A computation that is generic over the instruction set. Mark `run` and everything it calls `#[inline(always)]`: only code
/// inlined into [`Simd::run`] is compiled for the level.
pub(crate) trait Kernel {
    /// The result.
    type Output;
    /// Computes the result with the instructions of a level.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that this CPU supports.
///
/// # Example
///
/// ```
/// use repvgg_kernels::Level;
///
/// let best = Level::detect();
/// assert!(Level::NAMES.contains(&best.name()));
/// assert_eq!(Level::named(best.name()), Some(best));
/// assert_eq!(Level::named("altivec"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Level(Token);

/// Generates [`Token`], dispatch and names from the list of levels.
macro_rules! levels {
    ($($(#[$condition:meta])? $name:literal => $token:ident,)*) => {
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum Token {
            $($(#[$condition])? $token($token),)*
        }

        /// The most lanes of a register on any level.
        pub(crate) const MAX_LANES: usize = {
            let mut most = 0;
            $($(#[$condition])? { most = if $token::LANES > most { $token::LANES } else { most }; })*
            most
        };

        /// The most registers of a panel ([`crate::tile`]) on any level.
        pub(crate) const MAX_VECTORS: usize = {
            let mut most = 0;
            $($(#[$condition])? { most = if $token::COLUMNS.len() > most { $token::COLUMNS.len() } else { most }; })*
            most
        };

        /// The most floats of a tile on any level.
        pub(crate) const MAX_TILE: usize = {
            let mut most = 0;
            $($(#[$condition])? {
                let mut vectors = 1;
                while vectors <= $token::COLUMNS.len() {
                    let floats = vectors * $token::COLUMNS[vectors - 1] * $token::LANES;
                    most = if floats > most { floats } else { most };
                    vectors += 1;
                }
            })*
            most
        };

        impl Level {
            /// The names of the levels of all architectures, from the slowest to the fastest.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The level called `name`, if it exists and this CPU supports it.
            pub fn named(name: &str) -> Option<Self> {
                $($(#[$condition])? {
                    if name == $name {
                        return $token::detect().map(Token::$token).map(Self);
                    }
                })*
                None
            }

            /// The name of the level, one of [`Level::NAMES`].
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($(#[$condition])? Token::$token(_) => $name,)*
                }
            }

            /// Runs `kernel` on this level.
            pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
                match self.0 {
                    $($(#[$condition])? Token::$token(simd) => simd.run(kernel),)*
                }
            }
        }
    };
}

// The list of levels, from the slowest to the fastest. A new level needs only its token and an entry here: dispatch, names,
// tests and benchmarks follow.
levels! {
    "portable" => Portable,
    #[cfg(target_arch = "x86_64")]
    "avx2" => Avx2,
    #[cfg(target_arch = "x86_64")]
    "avx512" => Avx512,
}

impl Level {
    /// The most [`Level::lanes`] of any level.
    pub const MAX_LANES: usize = MAX_LANES;

    /// The best level of this CPU.
    pub fn detect() -> Self {
        Self::NAMES.iter().rev().find_map(|name| Self::named(name)).expect("every CPU supports the portable level")
    }

    /// The number of `f32` lanes of a register, which is also the number of channels of a block ([`crate::Blocked`]).
    pub fn lanes(self) -> usize {
        self.run(Lanes)
    }
}

/// [`Simd::LANES`] as a kernel.
struct Lanes;

impl Kernel for Lanes {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::LANES
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::detect()
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Transposes `[ROWS][LANES]` to `[LANES][ROWS]`, both in memory order, where `ROWS` is a power of two. Each of the
/// `log2 ROWS` rounds interleaves the first half of all elements with the second, which rotates the bits of an element's index
/// by one.
#[inline(always)]
pub(crate) fn transpose<S: Simd, const ROWS: usize>(simd: S, mut rows: [S::Vector; ROWS]) -> [S::Vector; ROWS] {
    let half = ROWS / 2;
    let mut round = 1;
    while round < ROWS {
        let from = rows;
        for i in 0..half {
            (rows[2 * i], rows[2 * i + 1]) = simd.interleave(from[i], from[i + half]);
        }
        round *= 2;
    }
    rows
}

#[cfg(test)]
mod tests;
