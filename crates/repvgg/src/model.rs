//! A network with its weights and everything needed to use it.

use serde::{Deserialize, Serialize};

use crate::error::expected;
use crate::fuse::Fusion;
use crate::image::Preprocessing;
use crate::{Error, Graph, Result, Specification, Weights};

/// Which of a network's two graphs a set of weights belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The multi-branch graph that is trained.
    Training,
    /// The graph that fusing makes of it.
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

/// A network: its graph, its weights, and what turns images into inputs and logits into labels.
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
    /// The classes' names, one per logit; empty when unknown.
    pub labels: Vec<String>,
    /// How an image becomes the network's input.
    pub preprocessing: Preprocessing,
    /// What the training recorded about itself.
    pub training: Option<serde_json::Value>,
}

/// What a model computes, without its weights: a graph, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) specification: Option<Specification>,
    pub(crate) graph: Graph,
    pub(crate) form: Form,
}

impl Network {
    /// The network of `specification` in one of its forms.
    ///
    /// # Errors
    /// When nothing can be built from the specification.
    pub(crate) fn new(specification: Specification, form: Form) -> Result<Self> {
        let training = specification.training_graph()?;
        let graph = match form {
            Form::Training => training,
            Form::Plain => Fusion::new(&training).into_graph(),
        };
        Ok(Self { name: specification.name().to_owned(), specification: Some(specification), graph, form })
    }

    /// A network that no specification describes. It is in plain form where nothing can be fused.
    pub(crate) fn of_graph(name: String, graph: Graph) -> Self {
        let form = if Fusion::new(&graph).is_plain() { Form::Plain } else { Form::Training };
        Self { name, specification: None, graph, form }
    }

    /// The model with these weights; labels unknown, the usual preprocessing for images of `size` pixels a side.
    pub(crate) fn into_model(self, weights: Weights, size: usize) -> Model {
        let preprocessing = Preprocessing { size, ..Preprocessing::default() };
        let preprocessing = preprocessing.for_channels(self.graph.input_channels());
        let Self { name, specification, graph, form } = self;
        Model { name, specification, graph, form, weights, labels: Vec::new(), preprocessing, training: None }
    }
}

impl Model {
    /// A network in training form with its weights; labels unknown, the usual preprocessing for images of the size that the
    /// network is meant for.
    ///
    /// # Errors
    /// When nothing can be built from the specification, or the weights are not those of its training graph.
    pub fn new(specification: Specification, weights: Weights) -> Result<Self> {
        let network = Network::new(specification, Form::Training)?;
        weights.check(&network.graph)?;
        let size = network.specification.as_ref().map_or(Preprocessing::default().size, Specification::image_size);
        Ok(network.into_model(weights, size))
    }

    /// A network that has not been trained: `specification` in training form with
    /// [initial weights](Weights::initialise), for images of the size that it is meant for.
    ///
    /// # Errors
    /// When nothing can be built from the specification.
    pub fn initialise(specification: Specification, seed: u64) -> Result<Self> {
        let size = specification.image_size();
        let network = Network::new(specification, Form::Training)?;
        let weights = Weights::initialise(&network.graph, seed);
        Ok(network.into_model(weights, size))
    }

    /// Any network with its weights, labels unknown, the usual preprocessing. It is in plain form where nothing can be
    /// fused.
    ///
    /// # Errors
    /// When an operation of the graph is impossible, or the weights are not those of the graph.
    pub fn from_graph(name: impl Into<String>, graph: Graph, weights: Weights) -> Result<Self> {
        graph.check()?;
        weights.check(&graph)?;
        Ok(Network::of_graph(name.into(), graph).into_model(weights, Preprocessing::default().size))
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What builds the network's training graph, where it is known.
    pub fn specification(&self) -> Option<&Specification> {
        self.specification.as_ref()
    }

    /// The graph that the weights belong to.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Whether the graph is that of training or what fusing made of it.
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

    /// What builds the graph that is trained: the [specification](Self::specification), or for a network in training form
    /// that has none, the graph itself. `None` when the training form is unknown.
    pub fn training_specification(&self) -> Option<Specification> {
        match (&self.specification, self.form) {
            (Some(specification), _) => Some(specification.clone()),
            (None, Form::Training) => {
                Some(Specification::from_graph(&self.name, self.preprocessing.size, self.graph.clone()))
            }
            (None, Form::Plain) => None,
        }
    }

    /// The same network in plain form.
    ///
    /// # Errors
    /// When it is in plain form already, or its weights do not fuse.
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

    /// Checks that the network can be given images, not only tensors.
    ///
    /// # Errors
    /// When the preprocessing makes another number of channels than the network reads.
    pub fn check_images(&self) -> Result<()> {
        self.preprocessing.check_channels(self.input_channels())
    }

    /// Checks what stands beside the weights: preprocessing and labels.
    pub(crate) fn check_annotations(&self) -> Result<()> {
        self.preprocessing.check()?;
        let classes = self.classes();
        if !self.labels.is_empty() && self.labels.len() != classes {
            let problem = expected(format_args!("{classes} names")).found(self.labels.len());
            return Err(Error::format("repvgg.labels", problem));
        }
        Ok(())
    }
}
