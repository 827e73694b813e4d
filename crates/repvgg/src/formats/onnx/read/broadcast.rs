//! Elementwise arithmetic on constants, which broadcast as NumPy's arrays do.

use super::constant::{Constant, ConstantData, Extent, StridedIndices};
use super::fold::limited_count;
use super::{ReadResult, Reader, proto};
use crate::error::expected;

/// The operators on one or more constants that this module folds.
const OPERATORS: [&str; 26] = [
    "Abs",
    "Add",
    "And",
    "Ceil",
    "Div",
    "Equal",
    "Exp",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "Reciprocal",
    "Round",
    "Sqrt",
    "Sub",
    "Where",
];

/// Whether an operator is folded when all its inputs are constant.
pub(super) fn is_elementwise(op_type: &str) -> bool {
    OPERATORS.contains(&op_type)
}

impl<'m> Reader<'m> {
    /// Folds an elementwise operator.
    pub(super) fn fold_elementwise(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let operands = (0..node.input.len()).map(|index| self.constant(node, index)).collect::<ReadResult<Vec<_>>>()?;
        let shape = common_shape(operands.iter().map(|operand| operand.shape.as_slice()))?;
        self.budget.take(limited_count(&shape)?.saturating_mul(1 + operands.len()))?;
        let spread: Vec<Constant> = operands.iter().map(|operand| spread(operand, &shape)).collect();
        let op_type = node.op_type.as_str();
        let values = match (op_type, spread.as_slice()) {
            ("Where", [condition, first, second]) => choose(condition.extents()?, first, second)?,
            ("Where", _) => return Err(expected("a condition and two values").found(spread.len()).into()),
            (_, [only]) => unary(op_type, only)?,
            (_, [first, rest @ ..]) => {
                let pair = |a: ConstantData, b: &Constant| binary(op_type, &a, &b.values, node.int("fmod", 0) != 0);
                rest.iter().try_fold(first.values.clone(), pair)?
            }
            (_, []) => return Err(expected("operands").found("none").into()),
        };
        Ok(Constant { name: String::new(), shape, values })
    }
}

/// The shape that arrays of these shapes broadcast to.
pub(super) fn common_shape<'a>(shapes: impl IntoIterator<Item = &'a [usize]> + Clone) -> ReadResult<Vec<usize>> {
    let rank = shapes.clone().into_iter().map(<[usize]>::len).max().unwrap_or(0);
    let mut common = vec![1; rank];
    for shape in shapes {
        for (extent, &own) in common[rank - shape.len()..].iter_mut().zip(shape) {
            match (*extent, own) {
                (a, b) if a == b || b == 1 => {}
                (1, b) => *extent = b,
                (a, b) => {
                    return Err(expected("shapes that broadcast").found(format_args!("extents {a} and {b}")).into());
                }
            }
        }
    }
    Ok(common)
}

/// The constant repeated to `shape`, which its own broadcasts to.
pub(super) fn spread(constant: &Constant, shape: &[usize]) -> Constant {
    if constant.shape == shape {
        return constant.clone();
    }
    let missing = shape.len() - constant.shape.len();
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for axis in (missing..shape.len()).rev() {
        let own = constant.shape[axis - missing];
        strides[axis] = if own == 1 { 0 } else { stride };
        stride *= own;
    }
    let indices = StridedIndices::new(shape, &strides);
    let values = match &constant.values {
        ConstantData::Floats(values) => ConstantData::Floats(indices.map(|index| values[index]).collect()),
        ConstantData::Integers(values) => ConstantData::Integers(indices.map(|index| values[index]).collect()),
    };
    Constant { name: constant.name.clone(), shape: shape.to_vec(), values }
}

fn unary(op_type: &str, constant: &Constant) -> ReadResult<ConstantData> {
    let integers = |of: fn(i64) -> Option<i64>| match &constant.values {
        ConstantData::Integers(values) => Some(ConstantData::Integers(values.iter().map(|x| x.map(of)).collect())),
        ConstantData::Floats(_) => None,
    };
    let folded = match op_type {
        "Abs" => integers(i64::checked_abs),
        "Neg" => integers(i64::checked_neg),
        "Not" => integers(|x| Some(i64::from(x == 0))),
        // Of a single operand.
        "Max" | "Min" => integers(Some),
        _ => None,
    };
    if let Some(folded) = folded {
        return Ok(folded);
    }
    let of: fn(f32) -> f32 = match op_type {
        "Abs" => f32::abs,
        "Ceil" => f32::ceil,
        "Exp" => f32::exp,
        "Floor" => f32::floor,
        "Log" => f32::ln,
        "Max" | "Min" => |x| x,
        "Neg" => |x| -x,
        "Reciprocal" => |x| 1.0 / x,
        "Round" => f32::round_ties_even,
        "Sqrt" => f32::sqrt,
        other => return Err(expected("operands of this operator").found(format_args!("one of {other}")).into()),
    };
    Ok(ConstantData::Floats(constant.floats()?.iter().map(|&x| of(x)).collect()))
}

fn binary(op_type: &str, a: &ConstantData, b: &ConstantData, truncates: bool) -> ReadResult<ConstantData> {
    match (a, b) {
        (ConstantData::Floats(a), ConstantData::Floats(b)) => {
            let pairs = a.iter().copied().zip(b.iter().copied());
            if let Some(compared) = comparison(op_type) {
                let integer = |(a, b): (f32, f32)| Extent::Known(a.partial_cmp(&b).is_some_and(compared).into());
                return Ok(ConstantData::Integers(pairs.map(integer).collect()));
            }
            Ok(ConstantData::Floats(pairs.map(|(a, b)| float(op_type, a, b, truncates)).collect::<ReadResult<_>>()?))
        }
        (ConstantData::Integers(a), ConstantData::Integers(b)) => {
            let pairs = a.iter().copied().zip(b.iter().copied());
            Ok(ConstantData::Integers(pairs.map(|(a, b)| integer(op_type, a, b, truncates)).collect()))
        }
        // A power may have an exponent of another type.
        (ConstantData::Floats(a), ConstantData::Integers(b)) if op_type == "Pow" => {
            let power = |(a, b): (&f32, &Extent)| match b {
                Extent::Known(b) => Ok(a.powf(*b as f32)),
                _ => Err(expected("a constant exponent").found("one that depends on the image's size").into()),
            };
            Ok(ConstantData::Floats(a.iter().zip(b).map(power).collect::<ReadResult<_>>()?))
        }
        _ => Err(expected("constants of one type").found("integers and floats").into()),
    }
}

fn comparison(op_type: &str) -> Option<fn(std::cmp::Ordering) -> bool> {
    Some(match op_type {
        "Equal" => std::cmp::Ordering::is_eq,
        "Greater" => std::cmp::Ordering::is_gt,
        "GreaterOrEqual" => std::cmp::Ordering::is_ge,
        "Less" => std::cmp::Ordering::is_lt,
        "LessOrEqual" => std::cmp::Ordering::is_le,
        _ => return None,
    })
}

fn float(op_type: &str, a: f32, b: f32, truncates: bool) -> ReadResult<f32> {
    Ok(match op_type {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Max" => a.max(b),
        "Min" => a.min(b),
        "Pow" => a.powf(b),
        "Mod" if truncates => a % b,
        other => return Err(expected("an operator of numbers").found(other).into()),
    })
}

/// Unknown if the result depends on an unknown operand, or is out of range.
fn integer(op_type: &str, a: Extent, b: Extent, truncates: bool) -> Extent {
    match (op_type, a, b) {
        // What leaves the batch as it is.
        ("Add" | "Sub", Extent::Batch, Extent::Known(0)) | ("Mul" | "Div", Extent::Batch, Extent::Known(1)) => a,
        ("Add", Extent::Known(0), Extent::Batch) | ("Mul", Extent::Known(1), Extent::Batch) => b,
        ("And", Extent::Known(0), _) | ("And", _, Extent::Known(0)) => Extent::Known(0),
        ("Or", Extent::Known(known), _) | ("Or", _, Extent::Known(known)) if known != 0 => Extent::Known(1),
        (_, Extent::Known(a), Extent::Known(b)) => {
            let result = match op_type {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                "Max" => Some(a.max(b)),
                "Min" => Some(a.min(b)),
                "Mod" if truncates => a.checked_rem(b),
                // The sign of the divisor.
                "Mod" => a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
                "Pow" => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
                "And" => Some(i64::from(a != 0 && b != 0)),
                "Or" => Some(i64::from(a != 0 || b != 0)),
                other => comparison(other).map(|compared| i64::from(compared(a.cmp(&b)))),
            };
            result.map_or(Extent::Unknown, Extent::Known)
        }
        _ => Extent::Unknown,
    }
}

/// `Where`, element by element.
fn choose(conditions: &[Extent], first: &Constant, second: &Constant) -> ReadResult<ConstantData> {
    match (&first.values, &second.values) {
        (ConstantData::Integers(a), ConstantData::Integers(b)) => {
            let pick = |((condition, a), b): ((&Extent, &Extent), &Extent)| match condition {
                Extent::Known(0) => *b,
                Extent::Known(_) => *a,
                _ if a == b => *a,
                _ => Extent::Unknown,
            };
            Ok(ConstantData::Integers(conditions.iter().zip(a).zip(b).map(pick).collect()))
        }
        (ConstantData::Floats(a), ConstantData::Floats(b)) => {
            let pick = |((condition, a), b): ((&Extent, &f32), &f32)| match condition {
                Extent::Known(0) => Ok(*b),
                Extent::Known(_) => Ok(*a),
                _ => Err(expected("a known condition").found("one that depends on the image's size").into()),
            };
            let values = conditions.iter().zip(a).zip(b).map(pick);
            Ok(ConstantData::Floats(values.collect::<ReadResult<_>>()?))
        }
        _ => Err(expected("constants of one type").found("integers and floats").into()),
    }
}

/// The element types of `Cast`.
const FLOATS: [i64; 4] = [1, 10, 11, 16];
const INTEGERS: [i64; 8] = [2, 3, 4, 5, 6, 7, 12, 13];
const BOOLEAN: i64 = 9;

/// Whether a type is one of floating-point numbers.
pub(super) fn is_float(to: i64) -> bool {
    FLOATS.contains(&to)
}

/// `Cast`: floats are rounded towards zero to integers.
pub(super) fn cast(constant: &Constant, to: i64) -> ReadResult<Constant> {
    let values = match &constant.values {
        ConstantData::Floats(values) if is_float(to) => ConstantData::Floats(values.clone()),
        ConstantData::Integers(values) if INTEGERS.contains(&to) => ConstantData::Integers(values.clone()),
        ConstantData::Integers(_) if is_float(to) => {
            ConstantData::Floats(constant.known()?.into_iter().map(|value| value as f32).collect())
        }
        ConstantData::Integers(values) if to == BOOLEAN => {
            ConstantData::Integers(values.iter().map(|x| x.map(|x| Some(i64::from(x != 0)))).collect())
        }
        ConstantData::Floats(values) if INTEGERS.contains(&to) || to == BOOLEAN => {
            let integer = |x: &f32| if to == BOOLEAN { i64::from(*x != 0.0) } else { *x as i64 };
            ConstantData::Integers(values.iter().map(|x| Extent::Known(integer(x))).collect())
        }
        _ => {
            let what = expected("a cast to numbers").found(format_args!("one to element type {to}"));
            return Err(what.into());
        }
    };
    Ok(Constant { values, ..constant.clone() })
}
