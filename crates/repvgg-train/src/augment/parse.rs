//! The textual form of crops, such as `shift:4`.

use std::str::FromStr;

use repvgg::error::expected;
use repvgg::{Error, Result};

use super::{Border, Crop};

impl FromStr for Crop {
    type Err = Error;

    /// Parses one of these forms:
    ///
    /// * `centre`
    /// * `shift:PIXELS`, with a mirrored border, or `shift:PIXELS:black`
    /// * `resized:AREA-AREA`, a range of areas as fractions of the image's, or `resized:AREA-AREA:RATIO-RATIO`; the aspect
    ///   ratio, width over height, is 3/4 to 4/3 by default
    ///
    /// ```
    /// use repvgg_train::augment::{Border, Crop};
    ///
    /// assert_eq!("shift:4".parse::<Crop>()?, Crop::Shift { padding: 4, border: Border::Reflect });
    /// let resized = Crop::RandomResized { scale: [0.35, 1.0], ratio: [0.75, 4.0 / 3.0] };
    /// assert_eq!("resized:0.35-1".parse::<Crop>()?, resized);
    /// # Ok::<(), repvgg::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the text has none of these forms.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let crop = match parts[..] {
            ["centre"] => Some(Self::Centre),
            ["shift", padding] => shift(padding, Border::Reflect),
            ["shift", padding, "reflect"] => shift(padding, Border::Reflect),
            ["shift", padding, "black"] => shift(padding, Border::Black),
            ["resized", scale] => resized(range(scale), Some([3.0 / 4.0, 4.0 / 3.0])),
            ["resized", scale, ratio] => resized(range(scale), range(ratio)),
            _ => None,
        };
        crop.ok_or_else(|| {
            let problem = expected("centre, shift:PIXELS[:black|:reflect] or resized:AREA-AREA[:RATIO-RATIO]");
            Error::spec("crop", problem.found(format_args!("{text:?}")))
        })
    }
}

fn shift(padding: &str, border: Border) -> Option<Crop> {
    Some(Crop::Shift { padding: padding.parse().ok()?, border })
}

fn resized(scale: Option<[f64; 2]>, ratio: Option<[f64; 2]>) -> Option<Crop> {
    Some(Crop::RandomResized { scale: scale?, ratio: ratio? })
}

/// Parses `0.35-1` as its two ends.
fn range(text: &str) -> Option<[f64; 2]> {
    let (low, high) = text.split_once('-')?;
    Some([low.parse().ok()?, high.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crop_has_a_textual_form() {
        let crop = |text: &str| text.parse::<Crop>().unwrap();
        assert_eq!(crop("centre"), Crop::Centre);
        assert_eq!(crop("shift:3:black"), Crop::Shift { padding: 3, border: Border::Black });
        assert_eq!(crop("shift:3:reflect"), crop("shift:3"));
        assert_eq!(crop("resized:0.08-1:0.5-2"), Crop::RandomResized { scale: [0.08, 1.0], ratio: [0.5, 2.0] });
        for wrong in ["", "center", "shift", "shift:-1", "shift:2:white", "resized:1", "resized:0.1-1:x", "centre:1"] {
            assert!(wrong.parse::<Crop>().unwrap_err().to_string().ends_with(&format!("found {wrong:?}")));
        }
    }
}
