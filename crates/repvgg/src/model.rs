//! A network with its weights and everything needed to run it.

use serde::{Deserialize, Serialize};

use crate::error::expected;
use crate::fuse::Fusion;
use crate::graph::Op;
use crate::image::Preprocessing;
use crate::zoo::RepVgg;
use crate::{Error, Graph, Result, Specification, Weights};

/// The form of a network: which of its two graphs its weights belong to.
///
/// A model built from a specification starts in training form, also where nothing can be fused, as in a VGG without batch
/// norm. A graph without a specification is taken for the plain form if nothing can be fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The multi-branch graph that is trained.
    Training,
    /// The fused graph.
    Plain,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Training => "training form",
            Self::Plain => "plain form",
        })
    }
}

/// A network with its graph, its weights, its preprocessing and its labels.
///
/// ```
/// use repvgg::zoo::RepVgg;
/// use repvgg::{Form, Model};
///
/// # fn main() -> repvgg::Result<()> {
/// let small = RepVgg { depths: [1, 1, 1, 1], width: [0.1; 4], classes: 3, ..RepVgg::default() };
/// let model = Model::initialise(small.into(), 0)?;
/// let fused = model.fuse()?;
/// assert_eq!((model.form(), fused.form()), (Form::Training, Form::Plain));
/// assert!(fused.graph().nodes().len() < model.graph().nodes().len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Model {
    name: String,
    specification: Option<Specification>,
    graph: Graph,
    form: Form,
    /// The parameters of the [graph](Self::graph).
    pub weights: Weights,
    /// The names of the classes, one per logit; empty if unknown.
    pub labels: Vec<String>,
    /// The transform from an image to the network's input.
    pub preprocessing: Preprocessing,
    /// The record of the training run.
    pub training: Option<serde_json::Value>,
}

/// A model without its weights: its graph and where the graph comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Architecture {
    pub(crate) name: String,
    pub(crate) specification: Option<Specification>,
    pub(crate) graph: Graph,
    pub(crate) form: Form,
}

impl Architecture {
    /// The architecture of `specification` in one of its forms.
    ///
    /// # Errors
    /// When the specification does not describe a network.
    pub(crate) fn new(specification: Specification, form: Form) -> Result<Self> {
        let training = specification.training_graph()?;
        let graph = match form {
            Form::Training => training,
            Form::Plain => Fusion::new(&training).into_graph(),
        };
        Ok(Self { name: specification.name().to_owned(), specification: Some(specification), graph, form })
    }

    /// An architecture that no specification describes. It is in plain form if nothing can be fused.
    pub(crate) fn of_graph(name: String, graph: Graph) -> Self {
        let form = if Fusion::new(&graph).is_plain() { Form::Plain } else { Form::Training };
        Self { name, specification: None, graph, form }
    }

    /// The size of the images that the network is meant for, `[H, W]`.
    pub(crate) fn image_size(&self) -> [usize; 2] {
        let side = self.specification.as_ref().map(|known| [known.image_size(); 2]);
        side.unwrap_or(Preprocessing::default().size)
    }

    /// The same network with another ε in its batch norms.
    ///
    /// # Errors
    /// When the value is not valid, or there are no batch norms.
    pub(crate) fn with_epsilon(self, epsilon: f64) -> Result<Self> {
        if !(epsilon.is_finite() && epsilon >= 0.0) {
            return Err(Error::spec("epsilon", expected("a finite number of at least 0").found(epsilon)));
        }
        if !self.graph.nodes().iter().any(|node| matches!(node.op, Op::BatchNorm(_))) {
            return Err(Error::spec("epsilon", expected("a network with batch norms").found("none")));
        }
        match self.specification.as_ref().and_then(Specification::repvgg) {
            Some(spec) => Self::new(RepVgg { eps: epsilon, ..spec.clone() }.into(), self.form),
            // No specification describes the changed graph.
            None => Ok(Self { graph: self.graph.with_eps(epsilon), specification: None, ..self }),
        }
    }

    /// The model with these weights, without labels, with the usual preprocessing for images of `size`, `[H, W]`.
    pub(crate) fn into_model(self, weights: Weights, size: [usize; 2]) -> Model {
        let preprocessing = Preprocessing::usual(size).for_channels(self.graph.input_channels());
        let Self { name, specification, graph, form } = self;
        Model { name, specification, graph, form, weights, labels: Vec::new(), preprocessing, training: None }
    }
}

impl Model {
    /// A network in training form with its weights. It has no labels, and the usual preprocessing for the specification's image
    /// size.
    ///
    /// # Errors
    /// When the specification does not describe a network, or the weights do not fit its training graph.
    pub fn new(specification: Specification, weights: Weights) -> Result<Self> {
        let architecture = Architecture::new(specification, Form::Training)?;
        weights.check(&architecture.graph)?;
        let size = architecture.image_size();
        Ok(architecture.into_model(weights, size))
    }

    /// An untrained network: `specification` in training form with [initial weights](Weights::initialise), for images of the
    /// specification's size.
    ///
    /// # Errors
    /// When the specification does not describe a network.
    pub fn initialise(specification: Specification, seed: u64) -> Result<Self> {
        let size = specification.image_size();
        let architecture = Architecture::new(specification, Form::Training)?;
        let weights = Weights::initialise(&architecture.graph, seed);
        Ok(architecture.into_model(weights, [size; 2]))
    }

    /// A network from any graph and its weights, without labels, with the usual preprocessing. It is in plain [form](Form) if
    /// nothing can be fused.
    ///
    /// # Errors
    /// When the graph is invalid ([`Graph::check`]), or the weights do not fit it.
    pub fn from_graph(name: impl Into<String>, graph: Graph, weights: Weights) -> Result<Self> {
        weights.check(&graph)?;
        Ok(Architecture::of_graph(name.into(), graph).into_model(weights, Preprocessing::default().size))
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The specification of the network's training graph, if known.
    pub fn specification(&self) -> Option<&Specification> {
        self.specification.as_ref()
    }

    /// The graph that the weights belong to.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The form of the graph: training or plain.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.graph.classes()
    }

    /// The channels of the images that the network reads.
    pub fn input_channels(&self) -> usize {
        self.graph.input_channels()
    }

    /// A specification of the training graph: the model's own [specification](Self::specification), or one made from the graph
    /// if the model is in training form. `None` if the training graph is unknown.
    pub fn training_specification(&self) -> Option<Specification> {
        match (&self.specification, self.form) {
            (Some(specification), _) => Some(specification.clone()),
            (None, Form::Training) => Some(Specification::from_graph(&self.name, self.side(), self.graph.clone())),
            (None, Form::Plain) => None,
        }
    }

    /// The same network in plain form.
    ///
    /// # Errors
    /// When it is already in plain form, or its weights do not fuse.
    pub fn fuse(&self) -> Result<Self> {
        if self.form == Form::Plain {
            return Err(Error::fuse(&self.name, "already in plain form, there is nothing to fuse"));
        }
        let fusion = Fusion::new(&self.graph);
        let weights = fusion.apply(&self.weights)?;
        Ok(self.fused(&fusion, weights))
    }

    /// The plain form of this network, given the `fusion` of its graph and the fused `weights`.
    #[must_use]
    pub fn fused(&self, fusion: &Fusion, weights: Weights) -> Self {
        let Self { name, specification, labels, preprocessing, training, .. } = self;
        Self {
            name: name.clone(),
            specification: specification.clone(),
            graph: fusion.graph().clone(),
            form: Form::Plain,
            weights,
            labels: labels.clone(),
            preprocessing: preprocessing.clone(),
            training: training.clone(),
        }
    }

    /// Checks that the preprocessing produces the channels that the network reads, so that it can classify images.
    ///
    /// # Errors
    /// When the preprocessing is invalid ([`Preprocessing::check`]), or the numbers of channels differ.
    pub fn check_images(&self) -> Result<()> {
        self.preprocessing.check()?;
        self.preprocessing.check_channels(self.input_channels())
    }

    /// The shorter side of the network's input, in pixels.
    pub(crate) fn side(&self) -> usize {
        let [height, width] = self.preprocessing.size;
        height.min(width)
    }

    /// Checks the preprocessing and the number of labels; call this after setting them.
    ///
    /// # Errors
    /// When the preprocessing is invalid ([`Preprocessing::check`]), or there is not one label per class.
    pub fn check_annotations(&self) -> Result<()> {
        self.preprocessing.check()?;
        let classes = self.classes();
        if !self.labels.is_empty() && self.labels.len() != classes {
            let problem = expected(format_args!("{classes} names")).found(self.labels.len());
            return Err(Error::format("repvgg.labels", problem));
        }
        Ok(())
    }
}
