//! Interpolation points: the usual sequence, and the parser of lists.

use num_rational::BigRational;
use num_traits::Zero;

use super::DerivationError;

/// The first `count` points of 0, ±1, ±2, ±1/2, ±3, ±1/3, ±3/2, ±2/3, …, with growing numerators and denominators.
pub(super) fn standard(count: usize) -> Vec<BigRational> {
    let mut points = vec![BigRational::zero()];
    let mut height = 1;
    while points.len() < count {
        for other in 1..=height {
            for (numerator, denominator) in [(height, other), (other, height)] {
                let point = ratio(numerator, denominator);
                if !points.contains(&point) {
                    points.extend([point.clone(), -point]);
                }
            }
        }
        height += 1;
    }
    points.truncate(count);
    points
}

/// Parses a list of points such as `0, 1, -1, 1/2, 0.625`; a blank list is empty.
///
/// ```
/// use repvgg_kernels::winograd::parse_points;
///
/// assert_eq!(parse_points("1/2, -3")?, parse_points("0.5, -6/2")?);
/// assert!(parse_points("1/0").is_err());
/// # Ok::<(), repvgg_kernels::winograd::DerivationError>(())
/// ```
///
/// # Errors
///
/// If an entry is not an integer, fraction or decimal of up to 18 digits, or has the denominator 0.
pub fn parse_points(list: &str) -> Result<Vec<BigRational>, DerivationError> {
    if list.trim().is_empty() { Ok(Vec::new()) } else { list.split(',').map(|text| parse(text.trim())).collect() }
}

fn parse(text: &str) -> Result<BigRational, DerivationError> {
    let wrong = || DerivationError::Number { text: text.to_owned() };
    let integer = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let is_integer = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_integer { text.parse::<i64>().map_err(|_| wrong()) } else { Err(wrong()) }
    };
    if let Some((numerator, denominator)) = text.split_once('/') {
        return match (integer(numerator)?, integer(denominator)?) {
            (_, 0) => Err(DerivationError::Denominator { text: text.to_owned() }),
            (numerator, denominator) => Ok(ratio(numerator, denominator)),
        };
    }
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if text.contains('.') && decimals.is_empty() {
        return Err(wrong());
    }
    // There are at most 18 digits, so the power of ten fits.
    let digits = integer(&format!("{whole}{decimals}"))?;
    Ok(ratio(digits, 10_i64.pow(decimals.len() as u32)))
}

fn ratio(numerator: i64, denominator: i64) -> BigRational {
    BigRational::new(numerator.into(), denominator.into())
}
