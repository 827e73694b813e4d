//! Constant folding: `Constant`, shapes, and moves of the elements of constants.

use std::rc::Rc;

use super::attributes::{axis, count};
use super::broadcast::{self, cast};
use super::constant::{Constant, ConstantData, Extent, MOST_AXES, decode};
use super::value::Binding;
use super::{ReadResult, Reader, proto, reduce, short};
use crate::element_count;
use crate::error::expected;

/// The most elements of a folded constant.
const MOST_ELEMENTS: usize = 1 << 24;

impl<'m> Reader<'m> {
    /// Folds a node with a constant value; returns `None` for any other.
    pub(super) fn fold(&mut self, node: &'m proto::Node) -> ReadResult<Option<Constant>> {
        match node.op_type.as_str() {
            "Constant" => return self.literal(node).map(Some),
            "Shape" => return self.fold_shape(node).map(Some),
            "ConstantOfShape" => return self.constant_of_shape(node).map(Some),
            "Concat" if self.is_constant(node, node.input.len()) => {}
            "Range" => {}
            "Gather" | "Slice" | "Size" | "Expand" if self.is_constant(node, 1) => {}
            "BatchNormalization" if self.is_constant(node, 3) => return self.normalise_constant(node).map(Some),
            "Clip" if self.is_constant(node, 1) => return self.clip_constant(node).map(Some),
            "CastLike" if self.is_constant(node, 1) => return self.cast_like(node).map(Some),
            "Cast" | "Reshape" | "Squeeze" | "Transpose" | "Unsqueeze" | "Identity" if self.is_constant(node, 1) => {}
            op_type if broadcast::is_elementwise(op_type) && self.is_constant(node, node.input.len()) => {
                return self.fold_elementwise(node).map(Some);
            }
            op_type if reduce::is_reduction(op_type) && self.is_constant(node, 1) => {
                return self.reduce_constant(node).map(Some);
            }
            _ => return Ok(None),
        }
        let first = self.constant(node, 0)?;
        Ok(Some(match node.op_type.as_str() {
            "Size" => {
                let size = element_count(&first.shape).and_then(|size| i64::try_from(size).ok());
                Constant::integers(Vec::new(), vec![size.map_or(Extent::Unknown, Extent::Known)])
            }
            "Range" => self.range(node)?,
            "Expand" => {
                let shape = self.constant(node, 1)?.known()?;
                let shape: Vec<usize> = shape.into_iter().map(|x| count("an extent", x)).collect::<ReadResult<_>>()?;
                let shape = broadcast::common_shape([first.shape.as_slice(), &shape])?;
                self.budget.take(limited_count(&shape)?)?;
                broadcast::spread(&first, &shape)
            }
            "Cast" => cast(&first, node.int("to", 1))?,
            "Concat" => self.concat_constants(node)?,
            "Gather" => gather(&first, &*self.constant(node, 1)?)?,
            "Reshape" => {
                let target = match node.ints("shape") {
                    Some(ints) => ints.to_vec(),
                    None => self.constant(node, 1)?.known()?,
                };
                reshape(&first, &target)?
            }
            "Slice" => self.slice_constant(node, &first)?,
            "Squeeze" => {
                let axes = self.integers(node, "axes", 1)?;
                let rank = first.shape.len();
                let axes =
                    axes.map(|axes| axes.into_iter().map(|index| axis(index, rank)).collect::<ReadResult<Vec<_>>>());
                let axes = axes.transpose()?;
                let is_removed = |index: usize| match &axes {
                    Some(axes) => axes.contains(&index),
                    None => first.shape[index] == 1,
                };
                let shape = (0..rank).filter(|&index| !is_removed(index)).map(|index| first.shape[index]).collect();
                with_shape(&first, shape)?
            }
            "Transpose" => {
                let rank = first.shape.len();
                let perm: Vec<usize> = match node.ints("perm") {
                    Some(perm) => perm.iter().map(|&index| axis(index, rank)).collect::<ReadResult<_>>()?,
                    None => (0..rank).rev().collect(),
                };
                self.budget.take(element_count(&first.shape).unwrap_or(usize::MAX))?;
                first.transposed(&perm)?
            }
            "Unsqueeze" => {
                let axes = self.integers(node, "axes", 1)?.ok_or("missing axes")?;
                let rank = first.shape.len() + axes.len();
                check_rank(rank)?;
                let axes: Vec<usize> = axes.into_iter().map(|index| axis(index, rank)).collect::<ReadResult<_>>()?;
                let mut old = first.shape.iter().copied();
                let shape = (0..rank).map(|index| if axes.contains(&index) { Some(1) } else { old.next() });
                let shape: Option<Vec<usize>> = shape.collect();
                with_shape(&first, shape.ok_or("duplicate axis")?)?
            }
            "Identity" => (*first).clone(),
            other => return Err(expected("a constant operator").found(other).into()),
        }))
    }

    /// `CastLike`: a constant in the type of another value; those that depend on the image are floats.
    fn cast_like(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        const FLOAT: i64 = 1;
        const INT64: i64 = 7;
        let constant = self.constant(node, 0)?;
        match self.input_value(node, 1)? {
            Binding::Constant(like) if like.floats().is_err() => cast(&constant, INT64),
            _ => cast(&constant, FLOAT),
        }
    }

    /// `Range` of integers.
    fn range(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let numbers = [0, 1, 2].map(|index| self.constant(node, index).and_then(|constant| constant.known()));
        let [start, limit, step] = numbers;
        match (start?.as_slice(), limit?.as_slice(), step?.as_slice()) {
            (&[start], &[limit], &[step]) if step != 0 => {
                let (span, step_by) = (i128::from(limit) - i128::from(start), i128::from(step));
                // Rounded up.
                let steps = span / step_by + i128::from(span % step_by != 0 && (span > 0) == (step > 0));
                let length = limited_count(&[usize::try_from(steps.max(0)).unwrap_or(usize::MAX)])?;
                self.budget.take(length)?;
                let value = |index: usize| start.checked_add(step.checked_mul(index as i64)?).map(Extent::Known);
                Ok(Constant::list((0..length).map(|index| value(index).unwrap_or(Extent::Unknown)).collect()))
            }
            _ => Err(expected("a start, a limit and a step that is not 0").found("others").into()),
        }
    }

    /// Whether the first `inputs` inputs are constant.
    fn is_constant(&self, node: &'m proto::Node, inputs: usize) -> bool {
        let is_constant = |name: &String| {
            matches!(self.values.get(name.as_str()), Some(Binding::Constant(_) | Binding::Initializer(_)))
        };
        inputs > 0 && node.input.len() >= inputs && node.input[..inputs].iter().all(is_constant)
    }

    /// `Constant`
    fn literal(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        if let Some(tensor) = node.tensor("value") {
            let constant = decode(tensor, &mut self.external, &mut self.budget)?;
            let mut constant = Rc::unwrap_or_clone(constant);
            // The value's name matters, not the tensor's own.
            constant.name = node.output.first().map_or("", |name| short(name)).to_owned();
            return Ok(constant);
        }
        let floats = |shape: Vec<usize>, values: Vec<f32>| Constant {
            name: node.output.first().map_or("", |name| short(name)).to_owned(),
            shape,
            values: ConstantData::Floats(values),
        };
        if node.has("value_float") {
            return Ok(floats(Vec::new(), vec![node.float("value_float", 0.0)?]));
        }
        if let Some(values) = node.floats("value_floats") {
            return Ok(floats(vec![values.len()], values.to_vec()));
        }
        if node.has("value_int") {
            return Ok(Constant::integers(Vec::new(), vec![Extent::Known(node.int("value_int", 0))]));
        }
        match node.ints("value_ints") {
            Some(values) => Ok(Constant::list(values.iter().copied().map(Extent::Known).collect())),
            None => Err(expected("a constant of numbers").found("another").into()),
        }
    }

    /// `Shape`
    fn fold_shape(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let extents = match self.input_value(node, 0)? {
            Binding::Constant(constant) => constant.shape.iter().map(|&extent| Extent::Known(extent as i64)).collect(),
            _ => {
                let data = self.data(node, 0)?;
                self.shape_of(&data)
            }
        };
        let bound = |value: i64| {
            let from_start = if value < 0 { value.saturating_add(extents.len() as i64) } else { value };
            from_start.clamp(0, extents.len() as i64) as usize
        };
        let (start, end) = (bound(node.int("start", 0)), bound(node.int("end", i64::MAX)));
        Ok(Constant::list(extents.get(start..end).unwrap_or_default().to_vec()))
    }

    /// `ConstantOfShape`
    fn constant_of_shape(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let shape = self.constant(node, 0)?.known()?;
        let shape: Vec<usize> =
            shape.into_iter().map(|extent| count("an extent", extent)).collect::<ReadResult<_>>()?;
        let elements = limited_count(&shape)?;
        self.budget.take(elements)?;
        let values = match node.tensor("value") {
            None => ConstantData::Floats(vec![0.0; elements]),
            Some(tensor) => match &decode(tensor, &mut self.external, &mut self.budget)?.values {
                ConstantData::Floats(values) if values.len() == 1 => ConstantData::Floats(vec![values[0]; elements]),
                ConstantData::Integers(values) if values.len() == 1 => {
                    ConstantData::Integers(vec![values[0]; elements])
                }
                _ => return Err(expected("one value").found("several").into()),
            },
        };
        Ok(Constant { name: String::new(), shape, values })
    }

    /// `Concat` of lists, or along the first axis.
    fn concat_constants(&mut self, node: &'m proto::Node) -> ReadResult<Constant> {
        let parts: Vec<Rc<Constant>> =
            (0..node.input.len()).map(|index| self.constant(node, index)).collect::<ReadResult<_>>()?;
        let rank = parts[0].shape.len();
        if axis(node.int("axis", 0), rank)? != 0
            || parts.iter().any(|part| part.shape.len() != rank || part.shape[1..] != parts[0].shape[1..])
        {
            return Err(expected("constants joined along their first axis").found("another").into());
        }
        let mut shape = parts[0].shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        self.budget.take(limited_count(&shape)?)?;
        let values = match &parts[0].values {
            ConstantData::Floats(_) => {
                let parts = parts.iter().map(|part| part.floats()).collect::<ReadResult<Vec<_>>>()?;
                ConstantData::Floats(parts.concat())
            }
            ConstantData::Integers(_) => {
                let parts = parts.iter().map(|part| part.extents()).collect::<ReadResult<Vec<_>>>()?;
                ConstantData::Integers(parts.concat())
            }
        };
        Ok(Constant { name: String::new(), shape, values })
    }
}

/// Selects the elements at `indices`.
pub(super) fn select(constant: &Constant, shape: Vec<usize>, indices: impl Iterator<Item = usize>) -> Constant {
    let values = match &constant.values {
        ConstantData::Floats(values) => ConstantData::Floats(indices.map(|index| values[index]).collect()),
        ConstantData::Integers(values) => ConstantData::Integers(indices.map(|index| values[index]).collect()),
    };
    Constant { name: String::new(), shape, values }
}

/// `Gather` from a list.
fn gather(list: &Constant, indices: &Constant) -> ReadResult<Constant> {
    let &[length] = list.shape.as_slice() else {
        return Err(expected("a gather from a list").found(format_args!("an array of shape {:?}", list.shape)).into());
    };
    let selected = indices.known()?.into_iter().map(|index| axis(index, length)).collect::<ReadResult<Vec<usize>>>()?;
    Ok(select(list, indices.shape.clone(), selected.into_iter()))
}

/// The number of elements, if it is within the limit for folding.
pub(super) fn limited_count(shape: &[usize]) -> ReadResult<usize> {
    let elements = element_count(shape).filter(|&elements| elements <= MOST_ELEMENTS);
    elements.ok_or_else(|| {
        expected(format_args!("constants of at most {MOST_ELEMENTS} elements")).found(format_args!("{shape:?}")).into()
    })
}

fn check_rank(rank: usize) -> ReadResult<()> {
    if rank > MOST_AXES {
        return Err(expected(format_args!("at most {MOST_AXES} axes")).found(rank).into());
    }
    Ok(())
}

fn with_shape(constant: &Constant, shape: Vec<usize>) -> ReadResult<Constant> {
    if element_count(&shape) != element_count(&constant.shape) {
        return Err(expected(format_args!("a shape with the same number of elements as {:?}", constant.shape))
            .found(format_args!("{shape:?}"))
            .into());
    }
    Ok(constant.reshaped(shape))
}

/// `Reshape`, where 0 copies an extent and −1 takes the rest.
fn reshape(constant: &Constant, target: &[i64]) -> ReadResult<Constant> {
    check_rank(target.len())?;
    let mut shape = Vec::with_capacity(target.len());
    for (index, &extent) in target.iter().enumerate() {
        shape.push(match extent {
            -1 => 1,
            0 => *constant.shape.get(index).ok_or_else(|| expected("an extent to copy").found("none"))?,
            extent => count("an extent", extent)?,
        });
    }
    let elements = element_count(&constant.shape).unwrap_or(0);
    if let Some(open) = target.iter().position(|&extent| extent == -1) {
        let others = element_count(&shape).unwrap_or(0);
        shape[open] = elements.checked_div(others).unwrap_or(0);
    }
    with_shape(constant, shape)
}
