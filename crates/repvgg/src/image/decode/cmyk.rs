//! From CMYK to RGB as Pillow converts it.

/// The RGB samples of CMYK samples as JPEG stores them, inverted: 255 is no ink.
pub(super) fn inverted_to_rgb(samples: &[u8]) -> Vec<u8> {
    samples.as_chunks::<4>().0.iter().flat_map(|pixel| rgb(pixel.map(|ink| 255 - ink))).collect()
}

/// The colour of a pixel of inks: `(255 − ink) · (255 − black) / 255`, rounded.
pub(super) fn rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - u32::from(black);
    [cyan, magenta, yellow].map(|ink| {
        let product = u32::from(ink) * light + 128;
        (light - (((product >> 8) + product) >> 8)) as u8
    })
}
