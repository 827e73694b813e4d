//! Transfer of weights from a pretrained model.

use repvgg::error::expected;
use repvgg::{Error, Form, Model, Result, Weights};

/// Replaces the initial `weights` of a network by those of `pretrained`, except for a head with another number of classes.
/// Returns the number of replaced parameters.
///
/// # Errors
/// When `pretrained` is in plain form, or has a parameter that the network lacks or that has another shape there.
pub fn transfer(weights: &mut Weights, pretrained: &Model) -> Result<usize> {
    if pretrained.form() == Form::Plain {
        return Err(plain_form());
    }
    let mut transferred = 0;
    for (name, tensor) in pretrained.weights.iter() {
        let Some(initial) = weights.get_mut(name) else {
            return Err(Error::weights(name, "unexpected, the network has no such parameter"));
        };
        if initial.shape() == tensor.shape() {
            *initial = tensor.clone();
            transferred += 1;
        } else if initial.shape()[1..] != tensor.shape()[1..] || !pretrained.graph().is_head(name) {
            let [ours, theirs] = [initial.shape(), tensor.shape()];
            let problem = expected(format_args!("{ours:?}")).found(format_args!("{theirs:?}"));
            return Err(Error::weights(name, problem));
        }
    }
    Ok(transferred)
}

/// The error for a pretrained model in plain form.
pub(crate) fn plain_form() -> Error {
    let problem = expected("a model in training form").found("plain form");
    Error::weights("weights", problem.with_hint("a network without its branches does not train well"))
}

#[cfg(test)]
mod tests {
    use repvgg::Specification;

    use super::*;

    fn model(classes: usize, seed: u64) -> Model {
        let spec = format!("depths = [1, 1, 1, 1]\nwidth = [0.1, 0.1, 0.1, 0.1]\nclasses = {classes}");
        Model::initialise(Specification::from_toml(&spec, "tiny").unwrap(), seed).unwrap()
    }

    #[test]
    fn everything_except_a_head_for_other_classes_is_transferred() {
        let (pretrained, mut weights) = (model(3, 1), model(5, 2).weights);
        let initial = weights.clone();
        assert_eq!(transfer(&mut weights, &pretrained).unwrap(), weights.len() - 2);
        for (name, tensor) in weights.iter() {
            let source = if name.starts_with("linear.") { &initial } else { &pretrained.weights };
            assert_eq!(Some(tensor), source.get(name), "{name}");
        }
        let mut weights = model(3, 2).weights;
        assert_eq!(transfer(&mut weights, &pretrained).unwrap(), weights.len());
        assert_eq!(weights, pretrained.weights);
    }

    #[test]
    fn weights_of_another_network_are_refused() {
        let mut weights = model(3, 2).weights;
        let error = transfer(&mut weights, &model(3, 1).fuse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("expected a model in training form, found plain form"), "{error}");
        weights.remove("linear.bias");
        let error = transfer(&mut weights, &model(3, 1)).unwrap_err();
        assert_eq!(error.to_string(), "linear.bias: unexpected, the network has no such parameter");
    }
}
