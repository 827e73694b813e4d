//! How a network is prepared, and the images that it is prepared for.

use std::fmt;
use std::sync::Arc;

use repvgg_kernels::{Accuracy, Algorithm, Level, ThreadPool};

use super::{Prepared, Session, Tuning};
use crate::error::expected;
use crate::{Error, Graph, Result, Weights};

/// The largest height, width and batch. Sizes far beyond them overflow before they run out of memory.
const EXTENT_LIMIT: usize = 1 << 16;

/// The most threads: no machine has more, and each costs a stack.
const THREAD_LIMIT: usize = 1 << 10;

/// How a network computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The instruction set.
    pub level: Level,
    /// How large the tiles of Winograd's algorithm may be.
    pub accuracy: Accuracy,
    /// The algorithm of every convolution that it fits; the others take their fastest.
    pub algorithm: Option<Algorithm>,
    /// The most bytes that the packed weights of a session may take: tiles become smaller, layer by layer, until they fit.
    pub memory_limit: Option<u64>,
    /// Which sessions use the same packed weights.
    pub sharing: Sharing,
    /// The algorithms that were measured to be the fastest.
    pub tuning: Tuning,
}

impl Default for Options {
    /// The best instructions of this processor, and for each convolution the algorithm that is estimated to be the
    /// fastest.
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

/// Which sessions of one network use the same packed weights.
///
/// The fastest algorithm of a convolution depends on the batch: the more images, the more weights it pays to transform. Sessions
/// whose algorithms for a layer are equal always share that layer's packed weights; this decides how often they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Sharing {
    /// Each session takes the fastest algorithms for its own batch and size.
    #[default]
    PerShape,
    /// Sessions of up to this many images take the fastest algorithms for this many: one packing serves them all.
    UpTo(usize),
}

/// The images of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchShape {
    /// The most images.
    pub batch: usize,
    /// `[H, W]` of each image.
    pub size: [usize; 2],
}

impl BatchShape {
    /// Checks that there are images.
    ///
    /// # Errors
    /// Names the extent that is out of bounds.
    pub fn check(self) -> Result<()> {
        let [height, width] = self.size;
        let extents = [("batch", self.batch), ("height", height), ("width", width)];
        extents.into_iter().try_for_each(|(name, found)| check_extent(name, found, EXTENT_LIMIT))
    }
}

/// Options and threads: what is left to decide is the network and the shape.
#[derive(Clone)]
pub struct Engine {
    /// How networks compute.
    pub options: Options,
    /// The threads that they run on.
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

    /// The default options on a thread for each processor core.
    pub fn on_all_cores() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { options: Options::default(), pool: Arc::new(ThreadPool::new(threads)) }
    }

    /// Prepares a network for one session. Where there will be several, share a [`Prepared`] network among them.
    ///
    /// # Errors
    /// As [`Prepared::new`] and [`Session::new`].
    pub fn session(&self, graph: &Graph, weights: &Weights, shape: BatchShape) -> Result<Session> {
        let prepared = Arc::new(Prepared::new(graph, weights, self.options.clone())?);
        Session::new(&prepared, &self.pool, shape)
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
/// When `threads` is 0 or more than 1024.
pub fn thread_pool(threads: usize) -> Result<Arc<ThreadPool>> {
    check_extent("threads", threads, THREAD_LIMIT)?;
    Ok(Arc::new(ThreadPool::new(threads)))
}

fn check_extent(name: &str, found: usize, limit: usize) -> Result<()> {
    match found {
        found if (1..=limit).contains(&found) => Ok(()),
        found => Err(Error::spec(name, expected(format_args!("1 to {limit}")).found(found))),
    }
}
