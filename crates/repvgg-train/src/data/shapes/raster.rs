//! Anti-aliased polygon filling.

use repvgg::image::RgbImage;

use super::outline::Point;

/// Red, green and blue, 0 to 255.
pub(super) type Colour = [f32; 3];

/// Scan lines per pixel. Coverage along each line is exact.
const LINES: usize = 4;

/// A square canvas of `[H, W]` colours.
pub(super) struct Canvas {
    side: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A canvas filled with a gradient between two colours along `angle`.
    pub(super) fn gradient(side: usize, [from, to]: [Colour; 2], angle: f32) -> Self {
        let (sine, cosine) = angle.sin_cos();
        let centred = |at: usize| at as f32 / side as f32 - 0.5;
        let colour = |at: usize| {
            let t = (0.5 + 0.7 * (cosine * centred(at % side) + sine * centred(at / side))).clamp(0.0, 1.0);
            std::array::from_fn(|channel| from[channel] + t * (to[channel] - from[channel]))
        };
        Self { side, pixels: (0..side * side).map(colour).collect() }
    }

    /// Fills closed contours by the even-odd rule, clipped to the canvas.
    pub(super) fn fill(&mut self, contours: &[Vec<Point>], ink: Colour) {
        let heights = || contours.iter().flatten().map(|point| point[1]);
        let first = heights().fold(f32::INFINITY, f32::min).floor().max(0.0) as usize;
        let end = (heights().fold(0.0, f32::max).ceil() as usize).min(self.side);
        let mut crossings = Vec::new();
        let mut coverage = vec![0.0; self.side];
        for row in first..end {
            coverage.fill(0.0);
            for line in 0..LINES {
                cross(contours, row as f32 + (line as f32 + 0.5) / LINES as f32, &mut crossings);
                for span in crossings.as_chunks::<2>().0 {
                    cover(*span, &mut coverage);
                }
            }
            let pixels = &mut self.pixels[row * self.side..][..self.side];
            for (pixel, &covered) in pixels.iter_mut().zip(&coverage) {
                for (value, ink) in pixel.iter_mut().zip(ink) {
                    *value += covered * (ink - *value);
                }
            }
        }
    }

    /// Adds `noise` to each value and rounds to bytes.
    pub(super) fn finish(self, mut noise: impl FnMut() -> f32) -> RgbImage {
        // The cast saturates.
        let bytes = self.pixels.into_iter().flatten().map(|value| (value + noise() + 0.5) as u8).collect();
        RgbImage::from_raw(self.side as u32, self.side as u32, bytes).expect("one colour per pixel")
    }
}

/// Collects the sorted x coordinates at which the contours cross the horizontal line at `y`.
fn cross(contours: &[Vec<Point>], y: f32, crossings: &mut Vec<f32>) {
    crossings.clear();
    for contour in contours {
        let ends = contour.iter().skip(1).chain(contour.first());
        for (&[x0, y0], &[x1, y1]) in contour.iter().zip(ends) {
            if (y0 <= y) != (y1 <= y) {
                crossings.push(x0 + (y - y0) / (y1 - y0) * (x1 - x0));
            }
        }
    }
    crossings.sort_unstable_by(f32::total_cmp);
}

/// Adds the coverage of one scan line between the two ends of `span`.
fn cover(span: [f32; 2], coverage: &mut [f32]) {
    let (left, right) = (span[0].max(0.0), span[1].min(coverage.len() as f32));
    if left >= right {
        return;
    }
    let end = right.ceil() as usize;
    for (x, covered) in coverage.iter_mut().enumerate().take(end).skip(left as usize) {
        *covered += (right.min(x as f32 + 1.0) - left.max(x as f32)) / LINES as f32;
    }
}
