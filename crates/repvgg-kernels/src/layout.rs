//! Activations in blocks of channels: `[N, ⌈C/L⌉, H, W, L]` for registers of `L` lanes.

use crate::Element;

/// The layout of a batch in blocks of `lanes` channels, `[N, ⌈C/L⌉, H, W, L]`.
///
/// Inner loops work on whole registers for any image size. Lanes beyond the last channel hold zeros, or numbers that only
/// meet zero weights: they do not affect results as long as activations are finite. An infinite or NaN activation may spread
/// NaN to other channels.
///
/// # Example
///
/// ```
/// use repvgg_kernels::Blocked;
///
/// let layout = Blocked { shape: [1, 3, 1, 2], lanes: 4 };
/// let mut blocked = [0.0; 8];
/// layout.pack(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &mut blocked);
/// assert_eq!(blocked, [1.0, 3.0, 5.0, 0.0, 2.0, 4.0, 6.0, 0.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    /// `[N, C, H, W]`.
    pub shape: [usize; 4],
    /// `L`.
    pub lanes: usize,
}

impl Blocked {
    /// Blocks per image.
    pub fn blocks(&self) -> usize {
        self.shape[1].div_ceil(self.lanes)
    }

    /// Elements per block, `[H, W, L]`.
    pub fn block_len(&self) -> usize {
        let [_, _, height, width] = self.shape;
        height * width * self.lanes
    }

    /// Elements of the batch.
    pub fn len(&self) -> usize {
        self.shape[0] * self.blocks() * self.block_len()
    }

    /// Whether the batch has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Packs `[N, C, H, W]` into blocks on the calling thread. [`crate::maps::pack`] uses a thread pool.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn pack<T: Element>(&self, planar: &[T], blocked: &mut [T]) {
        self.check(planar, blocked);
        let (plane, image) = (self.plane_len(), self.shape[1] * self.plane_len());
        blocked.fill(T::default());
        if image == 0 {
            return;
        }
        for (planar, blocked) in planar.chunks_exact(image).zip(blocked.chunks_exact_mut(self.image_len())) {
            for (channel, values) in planar.chunks_exact(plane).enumerate() {
                let block = &mut blocked[channel / self.lanes * plane * self.lanes..][..plane * self.lanes];
                let lane = block[channel % self.lanes..].iter_mut().step_by(self.lanes);
                lane.zip(values).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Unpacks blocks into `[N, C, H, W]` on the calling thread. [`crate::maps::unpack`] uses a thread pool.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn unpack<T: Element>(&self, blocked: &[T], planar: &mut [T]) {
        self.check(planar, blocked);
        let (plane, image) = (self.plane_len(), self.shape[1] * self.plane_len());
        if image == 0 {
            return;
        }
        for (planar, blocked) in planar.chunks_exact_mut(image).zip(blocked.chunks_exact(self.image_len())) {
            for (channel, values) in planar.chunks_exact_mut(plane).enumerate() {
                let block = &blocked[channel / self.lanes * plane * self.lanes..][..plane * self.lanes];
                let lane = block[channel % self.lanes..].iter().step_by(self.lanes);
                values.iter_mut().zip(lane).for_each(|(to, from)| *to = *from);
            }
        }
    }

    /// Elements per image in blocks, lanes beyond the last channel included.
    fn image_len(&self) -> usize {
        self.blocks() * self.block_len()
    }

    /// `H·W`.
    fn plane_len(&self) -> usize {
        self.shape[2] * self.shape[3]
    }

    /// Asserts that both slices have the length of the batch.
    fn check<T>(&self, planar: &[T], blocked: &[T]) {
        assert_eq!(planar.len(), self.shape.iter().product::<usize>(), "planar is [N, C, H, W]");
        assert_eq!(blocked.len(), self.len(), "blocked is [N, ⌈C/L⌉, H, W, L]");
    }
}

#[cfg(test)]
mod tests {
    use super::Blocked;

    #[test]
    fn unpacking_undoes_packing() {
        for shape in [[1, 1, 1, 1], [2, 7, 3, 5], [3, 8, 2, 2], [1, 17, 4, 1], [0, 3, 2, 2]] {
            for lanes in [8, 16] {
                let layout = Blocked { shape, lanes };
                let planar: Vec<f32> = (0..shape.iter().product()).map(|i| i as f32 + 1.0).collect();
                let mut blocked = vec![f32::NAN; layout.len()];
                layout.pack(&planar, &mut blocked);
                assert_eq!(blocked.iter().sum::<f32>(), planar.iter().sum::<f32>(), "lanes beyond C hold zeros");
                let mut unpacked = vec![f32::NAN; planar.len()];
                layout.unpack(&blocked, &mut unpacked);
                assert_eq!(planar, unpacked);
            }
        }
    }

    #[test]
    fn channels_are_lanes() {
        let layout = Blocked { shape: [1, 9, 1, 2], lanes: 8 };
        let mut blocked = [0.0; 32];
        layout.pack(&std::array::from_fn::<f32, 18, _>(|i| i as f32), &mut blocked);
        assert_eq!(blocked[..16], [0., 2., 4., 6., 8., 10., 12., 14., 1., 3., 5., 7., 9., 11., 13., 15.]);
        assert_eq!((blocked[16], blocked[24]), (16., 17.));
    }
}
