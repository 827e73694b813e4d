//! Options of the engine, and the shape of a batch.

use std::fmt;
use std::sync::Arc;

use repvgg_kernels::{Accuracy, Algorithm, Level, ThreadPool};

use super::{Prepared, Session, Tuning};
use crate::error::expected;
use crate::{Error, Graph, Result, Tensor, Weights};

/// The largest height, width and batch: far larger ones would overflow before memory runs out.
const EXTENT_LIMIT: usize = 1 << 16;

/// The most threads: beyond any machine, and each costs a stack.
const THREAD_LIMIT: usize = 1 << 10;

/// Options for preparing a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The instruction set.
    pub level: Level,
    /// The accuracy, which limits the size of Winograd tiles.
    pub accuracy: Accuracy,
    /// The algorithm for every convolution that supports it; others use their fastest. `None`: each uses its fastest.
    pub algorithm: Option<Algorithm>,
    /// The most bytes of packed weights for a session: tiles shrink, layer by layer, until the weights fit.
    pub memory_limit: Option<u64>,
    /// The sessions that share packed weights.
    pub sharing: Sharing,
    /// Measured choices, which take precedence over estimates.
    pub tuning: Tuning,
}

impl Default for Options {
    /// The best instruction set of this processor, and for each convolution the algorithm with the lowest estimate.
    fn default() -> Self {
        Self {
            level: Level::detect(),
            accuracy: Accuracy::default(),
            algorithm: None,
            memory_limit: None,
            sharing: Sharing::default(),
            tuning: Tuning::new(),
        }
    }
}

/// The sessions of one network that share packed weights.
///
/// The fastest algorithm of a convolution depends on the batch: with more images, larger transformed weights pay off. Sessions
/// that use the same algorithm for a layer always share its packed weights; this setting makes them use the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sharing {
    /// Each session uses the fastest algorithms for its own batch and size.
    #[default]
    PerShape,
    /// Sessions of up to this many images use the algorithms that are fastest for this many, so one packing serves them all.
    UpTo(usize),
}

/// The batch that a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchShape {
    /// The most images.
    pub batch: usize,
    /// `[H, W]` of each image.
    pub size: [usize; 2],
}

impl BatchShape {
    /// Checks that no extent is zero or too large.
    ///
    /// # Errors
    /// Names the extent that is out of bounds.
    pub fn check(self) -> Result<()> {
        let [height, width] = self.size;
        let extents = [("batch", self.batch), ("height", height), ("width", width)];
        extents.into_iter().try_for_each(|(name, found)| check_extent(name, found, EXTENT_LIMIT))
    }
}

/// Options and a pool of threads, for opening sessions of several networks.
#[derive(Clone)]
pub struct Engine {
    /// The options for preparing networks.
    pub options: Options,
    /// The threads that sessions run on.
    pub pool: Arc<ThreadPool>,
}

impl Engine {
    /// The default options on `threads` threads.
    ///
    /// # Errors
    /// As [`thread_pool`].
    pub fn with_threads(threads: usize) -> Result<Self> {
        Ok(Self { options: Options::default(), pool: thread_pool(threads)? })
    }

    /// The default options with one thread per processor core.
    ///
    /// # Panics
    /// If the system cannot create the threads; [`with_threads`](Self::with_threads) returns an error instead.
    pub fn on_all_cores() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { options: Options::default(), pool: Arc::new(ThreadPool::new(threads)) }
    }

    /// Prepares a network and opens one session. For several sessions, share a [`Prepared`] network instead.
    ///
    /// # Errors
    /// As [`Prepared::new`] and [`Session::new`].
    pub fn session(&self, graph: &Graph, weights: &Weights, shape: BatchShape) -> Result<Session> {
        let prepared = Arc::new(Prepared::new(graph, weights, self.options.clone())?);
        Session::new(&prepared, &self.pool, shape)
    }

    /// The logits `[N, classes]` of a network for `images` `[N, C, H, W]`, which run in batches of at most 16. To run a network
    /// repeatedly, keep a [`session`](Self::session).
    ///
    /// # Errors
    /// When the images do not have the network's channels or an extent is 0, and as [`session`](Self::session).
    pub fn logits(&self, graph: &Graph, weights: &Weights, images: &Tensor) -> Result<Tensor> {
        const BATCH: usize = 16;
        let prepared = Arc::new(Prepared::new(graph, weights, self.options.clone())?);
        let [n, channels, height, width] = images.nchw()?;
        if channels != graph.input_channels() || [n, height, width].contains(&0) {
            let problem = expected(format_args!("[N, {}, H, W] without an extent of 0", graph.input_channels()));
            return Err(Error::shape("images", problem.found(format_args!("{:?}", images.shape()))));
        }
        let shape = BatchShape { batch: n.min(BATCH), size: [height, width] };
        let mut session = Session::new(&prepared, &self.pool, shape)?;
        let classes = session.output_shape().iter().product::<usize>();
        let mut logits = Tensor::full([n, classes], 0.0);
        let batches = images.data().chunks(shape.batch * channels * height * width);
        for (images, rows) in batches.zip(logits.data_mut().chunks_mut(shape.batch * classes)) {
            session.run(images, rows)?;
        }
        Ok(logits)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { options, pool } = self;
        f.debug_struct("Engine").field("options", options).field("threads", &pool.threads()).finish()
    }
}

/// A pool of `threads` threads, the caller's included, that any number of sessions can share.
///
/// # Errors
/// When `threads` is 0 or more than 1024, or the system cannot create them.
pub fn thread_pool(threads: usize) -> Result<Arc<ThreadPool>> {
    check_extent("threads", threads, THREAD_LIMIT)?;
    ThreadPool::try_new(threads).map(Arc::new).map_err(|error| Error::io("threads", error))
}

fn check_extent(name: &str, found: usize, limit: usize) -> Result<()> {
    match found {
        found if (1..=limit).contains(&found) => Ok(()),
        found => Err(Error::spec(name, expected(format_args!("1 to {limit}")).found(found))),
    }
}
