//! Pseudo-random numbers, identical on every machine.
//!
//! ```
//! use repvgg::random::Normal;
//!
//! assert_eq!(Normal::new(7).sample(), Normal::new(7).sample());
//! ```

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seeded stream of standard normal values (Box–Muller over ChaCha8).
pub struct Normal(ChaCha8Rng);

impl Normal {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The next value.
    pub fn sample(&mut self) -> f64 {
        let (u, v): (f64, f64) = (self.0.random(), self.0.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}
