//! The softmax over the channels of each pixel.

use super::pointwise::exp_of_negative;
use super::{BlockKernel, Cpu, Map, MapMut};
use crate::isa::{MAX_LANES, Simd};

/// The output of [`softmax`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoftmaxForm {
    /// `p = eˣ / Σ eˣ`.
    Probabilities,
    /// `ln p`.
    Logarithms,
}

/// Computes the softmax over the channels of each pixel. Lanes beyond the last channel become zero. A NaN in one channel makes
/// all channels of the pixel NaN.
///
/// # Panics
///
/// If input and output differ in layout.
pub fn softmax(cpu: Cpu<'_>, form: SoftmaxForm, input: Map<'_>, output: MapMut<'_>) {
    assert_eq!(input.layout(), output.layout(), "the input has the output's layout");
    output.compute_images(cpu, &SoftmaxImages { form, input });
}

struct SoftmaxImages<'a> {
    form: SoftmaxForm,
    input: Map<'a>,
}

/// The registers of one pixel, one for each block of channels.
#[inline(always)]
fn registers<S: Simd>(image: &[f32], pixel: usize, pixels: usize) -> impl Iterator<Item = &[f32]> + Clone {
    image[pixel * S::LANES..].chunks(S::LANES).step_by(pixels)
}

impl BlockKernel for SoftmaxImages<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, _: S, index: usize, output: &mut [f32]) {
        let layout = self.input.layout();
        let image = self.input.image(index);
        let (channels, pixels) = (layout.shape[1], layout.block_len() / S::LANES);
        let valid = |block: usize| S::LANES.min(channels - block * S::LANES);
        output.fill(0.0);
        for pixel in 0..pixels {
            let mut largest = [f32::NEG_INFINITY; MAX_LANES];
            for (block, x) in registers::<S>(image, pixel, pixels).enumerate() {
                for (largest, x) in largest.iter_mut().zip(&x[..valid(block)]) {
                    // Ignores NaN, which reaches the sum below.
                    *largest = if *x > *largest { *x } else { *largest };
                }
            }
            let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
            let mut sums = [0.0; MAX_LANES];
            for (block, x) in registers::<S>(image, pixel, pixels).enumerate() {
                for (sum, x) in sums.iter_mut().zip(&x[..valid(block)]) {
                    *sum += exp_of_negative(x - largest);
                }
            }
            let sum = sums.into_iter().map(f64::from).sum::<f64>() as f32;
            let logarithm = sum.ln();
            for (block, x) in registers::<S>(image, pixel, pixels).enumerate() {
                let y = &mut output[(block * pixels + pixel) * S::LANES..][..valid(block)];
                match self.form {
                    SoftmaxForm::Probabilities => {
                        y.iter_mut().zip(x).for_each(|(y, x)| *y = exp_of_negative(x - largest) / sum);
                    }
                    SoftmaxForm::Logarithms => y.iter_mut().zip(x).for_each(|(y, x)| *y = x - largest - logarithm),
                }
            }
        }
    }
}
