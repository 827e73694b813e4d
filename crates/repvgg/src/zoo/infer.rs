//! Infers the network of a checkpoint from the names and shapes of its parameters.

use super::{BlockKind, FAMILIES, RepVgg, Specification, SqueezeExcite, VARIANTS};
use crate::error::expected;
use crate::model::Form;
use crate::weights::Shapes;
use crate::{Error, ErrorKind, Graph, Result};

/// Finds the published networks, other than RepVGGs, whose parameters have exactly these names and shapes. The number of
/// classes may differ.
pub(crate) fn matching(shapes: &Shapes) -> Vec<Specification> {
    let networks = FAMILIES.iter().flat_map(|family| family.networks());
    let suited = networks.map(|(_, network)| network.adapted_to(shapes));
    suited.filter(|network| network.training_graph().is_ok_and(|graph| has_parameters(&graph, shapes))).collect()
}

/// Whether a graph's parameters have exactly these names and shapes; PyTorch's batch counters are allowed as well.
pub(crate) fn has_parameters(graph: &Graph, shapes: &Shapes) -> bool {
    let mut count = 0;
    let fits = graph.parameters().all(|(name, parameter)| {
        count += 1;
        shapes.get(&name).is_some_and(|shape| *shape == parameter.shape)
    });
    let counters = shapes.keys().filter(|name| name.ends_with(".num_batches_tracked")).count();
    fits && count + counters == shapes.len()
}

/// Infers a RepVGG and its form from the shapes of its parameters under official names.
///
/// Weights reveal a stride only if a stage's first block has an identity branch, which implies a stride of 1. Other stages
/// are assumed to have the paper's stride of 2.
///
/// # Errors
/// When the names are not those of a RepVGG, or no choice of depths, widths and groups explains the shapes.
pub(crate) fn infer(shapes: &Shapes) -> Result<(RepVgg, Form)> {
    let branches = |name: &str| BRANCHES.iter().any(|branch| name.contains(branch));
    let of_training = shapes.keys().find(|name| branches(name));
    let of_plain = shapes.keys().find(|name| name.contains(".rbr_reparam."));
    let form = match (of_training, of_plain) {
        (Some(_), None) => Form::Training,
        (None, Some(_)) => Form::Plain,
        (Some(training), Some(plain)) => {
            let problem = expected("one form")
                .found(format_args!("{training} of the training form and {plain} of the plain one"));
            return Err(Error::weights("weights", problem));
        }
        (None, None) => {
            let found = shapes.keys().next().map_or("none", String::as_str);
            let problem =
                expected("the parameter names of a RepVGG, such as stage0.rbr_dense.conv.weight").found(found);
            return Err(Error::weights("weights", problem));
        }
    };
    let spec = Stages { shapes, form }.spec()?;
    let block = if form == Form::Training { block(&spec, shapes)? } else { spec.block };
    let known = VARIANTS.iter().map(super::Variant::spec).find(|known| spec.differs_from(known).is_none());
    let name = match (known, block == BlockKind::default()) {
        (Some(known), true) => known.name,
        (Some(known), false) => format!("{}:{}", known.name, block.block().name),
        (None, _) => "custom".to_owned(),
    };
    Ok((RepVgg { name, block, ..spec }, form))
}

/// The kind of block whose parameters have exactly these names and shapes; RepVGG's own if none has, so that an error can name
/// what is missing.
///
/// # Errors
/// When several kinds have the same parameters, and RepVGG's own is not one of them.
fn block(spec: &RepVgg, shapes: &Shapes) -> Result<BlockKind> {
    let fits = |block: &BlockKind| {
        let graph = RepVgg { block: *block, ..spec.clone() }.training_graph();
        graph.is_ok_and(|graph| has_parameters(&graph, shapes))
    };
    let mut fitting = BlockKind::all().filter(fits);
    let Some(first) = fitting.next() else { return Ok(BlockKind::default()) };
    if first == BlockKind::default() {
        return Ok(first);
    }
    let others = fitting.map(|block| block.block().name).collect::<Vec<_>>();
    if others.is_empty() {
        return Ok(first);
    }
    let names = [&[first.block().name], &others[..]].concat().join(", ");
    let problem = format!("ambiguous: blocks of the kinds {names} have parameters of the same names and shapes");
    Err(Error::new(ErrorKind::Ambiguous, problem).within("architecture"))
}

/// Parts of the names of a training form's branches.
const BRANCHES: [&str; 4] = [".rbr_dense.", ".rbr_1x1.", ".square_conv.", ".dbb_origin."];

/// A checkpoint's blocks by their official names.
struct Stages<'a> {
    shapes: &'a Shapes,
    form: Form,
}

impl Stages<'_> {
    fn spec(&self) -> Result<RepVgg> {
        let auxiliary_heads = self.has_block("stage1.blocks.0");
        let prefixes: [&[&str]; 4] = match auxiliary_heads {
            true => [
                &["stage1.blocks"],
                &["stage2.blocks"],
                &["stage3_first.blocks", "stage3_second.blocks"],
                &["stage4.blocks"],
            ],
            false => [&["stage1"], &["stage2"], &["stage3"], &["stage4"]],
        };
        let [stem, input_channels, ..] = self.kernel_shape("stage0")?;
        let mut input = stem;
        let mut channels = [0; 4];
        let mut depths = [0; 4];
        let mut groups = 1;
        let mut strides = [2; 5];
        for (stage, prefixes) in prefixes.iter().enumerate() {
            for prefix in *prefixes {
                let blocks = (0..).map(|index| format!("{prefix}.{index}"));
                for block in blocks.take_while(|block| self.has_block(block)) {
                    let [out, per_group, ..] = self.kernel_shape(&block)?;
                    if per_group == 0 || input % per_group != 0 {
                        let problem = expected(format_args!("input channels that divide {input}")).found(per_group);
                        return Err(Error::weights(block, problem));
                    }
                    groups = groups.max(input / per_group);
                    input = out;
                    depths[stage] += 1;
                }
            }
            if depths[stage] == 0 {
                let problem = expected("at least one block").found("none");
                return Err(Error::weights(format!("stage{}", stage + 1), problem));
            }
            channels[stage] = input;
            if self.shapes.get(&format!("{}.0.rbr_identity.weight", prefixes[0])).is_some() {
                strides[stage + 1] = 1;
            }
        }
        // A missing head is reported later, together with the nearest name.
        let head = ["linear.weight", "linear.bias"].into_iter().find_map(|name| self.shapes.get(name));
        let classes = head.map_or(1000, |shape| shape.first().copied().unwrap_or(0));
        let bases = [64.0, 128.0, 256.0, 512.0];
        let mut spec = RepVgg {
            depths,
            width: std::array::from_fn(|stage| channels[stage] as f64 / bases[stage]),
            groups,
            se: self.squeeze_excite(),
            auxiliary_heads,
            classes,
            input_channels,
            strides,
            ..RepVgg::default()
        };
        spec.stem = (spec.stage_channels()[0] != stem).then_some(stem);
        spec.validate()?;
        Ok(spec)
    }

    /// The suffixes of a block's kernels, the most informative first.
    fn kernels(&self) -> &'static [&'static str] {
        match self.form {
            Form::Training => {
                &["rbr_dense.conv.weight", "rbr_1x1.conv.weight", "square_conv.weight", "dbb_origin.conv.weight"]
            }
            Form::Plain => &["rbr_reparam.weight"],
        }
    }

    fn has_block(&self, block: &str) -> bool {
        self.kernels().iter().any(|kernel| self.shapes.get(&format!("{block}.{kernel}")).is_some())
    }

    /// The shape `[K, C/G, R, S]` of one of a block's kernels.
    fn kernel_shape(&self, block: &str) -> Result<[usize; 4]> {
        let name = |kernel: &str| format!("{block}.{kernel}");
        let kernels = self.kernels().iter();
        let found = kernels.filter_map(|kernel| Some((name(kernel), self.shapes.get(&name(kernel))?))).next();
        let (name, shape) = found.ok_or_else(|| Error::weights(name(self.kernels()[0]), "missing"))?;
        shape
            .as_slice()
            .try_into()
            .map_err(|_| Error::weights(name, expected("[K, C, R, S]").found(format_args!("{shape:?}"))))
    }

    fn squeeze_excite(&self) -> SqueezeExcite {
        let has = |infix: &str| self.shapes.keys().any(|name| name.contains(infix));
        if has(".se.down.") {
            SqueezeExcite::BeforeRelu
        } else if has(".post_se.down.") {
            SqueezeExcite::AfterRelu
        } else {
            SqueezeExcite::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::Fusion;

    fn shapes(graph: &Graph) -> Shapes {
        graph.parameters().map(|(name, parameter)| (name, parameter.shape)).collect()
    }

    #[test]
    fn every_official_network_is_inferred_in_both_forms() {
        for row in &VARIANTS {
            let spec = RepVgg { classes: 7, input_channels: 4, ..small(row.spec()) };
            let training = spec.training_graph().unwrap();
            let plain = Fusion::new(&training).into_graph();
            for (graph, form) in [(training, Form::Training), (plain, Form::Plain)] {
                let (inferred, found) = infer(&shapes(&graph)).unwrap();
                assert_eq!(inferred.differs_from(&spec), None, "{}", row.name);
                assert_eq!((inferred.classes, inferred.input_channels, found), (7, 4, form));
            }
        }
    }

    /// The network with an eighth of the channels.
    fn small(spec: RepVgg) -> RepVgg {
        RepVgg { width: spec.width.map(|width| width / 8.0), ..spec }
    }

    #[test]
    fn the_name_is_inferred() {
        let spec = VARIANTS[0].spec();
        let graph = spec.training_graph().unwrap();
        assert_eq!(infer(&shapes(&graph)).unwrap().0, spec);
    }

    #[test]
    fn another_stem_is_inferred() {
        let spec = RepVgg { stem: Some(24), ..small(VARIANTS[0].spec()) };
        let (inferred, _) = infer(&shapes(&spec.training_graph().unwrap())).unwrap();
        assert_eq!(inferred, RepVgg { name: "custom".to_owned(), ..spec });
    }

    #[test]
    fn a_mixture_of_both_forms_is_refused() {
        let training = small(VARIANTS[0].spec()).training_graph().unwrap();
        let mut shapes = shapes(&training);
        shapes.insert("stage4.0.rbr_reparam.bias".to_owned(), vec![1]);
        let error = infer(&shapes).unwrap_err().to_string();
        assert!(error.contains("expected one form, found stage0.rbr_1x1.bn.bias of the training form"), "{error}");
    }
}
