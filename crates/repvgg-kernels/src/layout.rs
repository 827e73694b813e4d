//! Activations in blocks of channels: `[N, ⌈C/L⌉, H, W, L]` for registers of `L` lanes.
//!
//! Every inner loop then works on whole registers, whatever the image's size. Lanes beyond the last channel hold zeros,
//! or numbers that only weights of zero meet: as long as activations are finite, they change nothing. Where activations are
//! infinite or NaN, NaN may spread to other channels.

/// The shape of a batch in blocks of `lanes` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocked {
    /// `[N, C, H, W]`.
    pub shape: [usize; 4],
    /// `L`.
    pub lanes: usize,
}

impl Blocked {
    /// Blocks of an image.
    pub fn blocks(&self) -> usize {
        self.shape[1].div_ceil(self.lanes)
    }

    /// Elements of a block, `[H, W, L]`.
    pub fn block_len(&self) -> usize {
        let [_, _, height, width] = self.shape;
        height * width * self.lanes
    }

    /// Elements of the batch.
    pub fn len(&self) -> usize {
        self.shape[0] * self.blocks() * self.block_len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[N, C, H, W]` into blocks.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn pack(&self, planar: &[f32], blocked: &mut [f32]) {
        let (plane, image) = self.check(planar, blocked);
        blocked.fill(0.0);
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

    /// Blocks into `[N, C, H, W]`.
    ///
    /// # Panics
    ///
    /// If a slice has the wrong length.
    pub fn unpack(&self, blocked: &[f32], planar: &mut [f32]) {
        let (plane, image) = self.check(planar, blocked);
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

    /// Floats of an image in blocks.
    fn image_len(&self) -> usize {
        self.blocks() * self.block_len()
    }

    /// Elements of a plane and of an image.
    fn check(&self, planar: &[f32], blocked: &[f32]) -> (usize, usize) {
        let [batch, channels, height, width] = self.shape;
        let plane = height * width;
        assert_eq!(planar.len(), batch * channels * plane, "planar is [N, C, H, W]");
        assert_eq!(blocked.len(), self.len(), "blocked is [N, ⌈C/L⌉, H, W, L]");
        (plane, channels * plane)
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
                let mut back = vec![f32::NAN; planar.len()];
                layout.unpack(&blocked, &mut back);
                assert_eq!(planar, back);
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
