//! What a plan is made for, and what it may use.

use repvgg_kernels::{Accuracy, Algorithm, Level};

use crate::{Error, Result};

/// The largest height, width and batch. Sizes far beyond them overflow before they run out of memory.
const EXTENT_LIMIT: usize = 1 << 16;

/// The most threads: no machine has more, and each costs a stack.
const THREAD_LIMIT: usize = 1 << 10;

/// The shape a plan is made for, the threads it runs on, and how it may compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// The most images in one run.
    pub batch: usize,
    /// Height and width of the images.
    pub size: [usize; 2],
    /// Threads, the caller's included.
    pub threads: usize,
    /// How large the tiles of Winograd's algorithm may be.
    pub accuracy: Accuracy,
    /// The algorithm of every convolution that has it; the others are chosen as ever.
    pub algorithm: Option<Algorithm>,
    /// The most bytes that packed weights may take: tiles become smaller, layer by layer, until they fit.
    pub memory_limit: Option<u64>,
    /// The instruction set.
    pub level: Level,
}

impl Default for Settings {
    /// One image of 224×224 on one thread, with the best instructions of this CPU.
    fn default() -> Self {
        Self {
            batch: 1,
            size: [224, 224],
            threads: 1,
            accuracy: Accuracy::Default,
            algorithm: None,
            memory_limit: None,
            level: Level::detect(),
        }
    }
}

impl Settings {
    /// Checks that there is something to run, on some threads.
    ///
    /// # Errors
    /// Names the setting, what was expected and what was found.
    pub fn check(self) -> Result<()> {
        let [height, width] = self.size;
        let extents = [
            ("batch", self.batch, EXTENT_LIMIT),
            ("height", height, EXTENT_LIMIT),
            ("width", width, EXTENT_LIMIT),
            ("threads", self.threads, THREAD_LIMIT),
        ];
        match extents.into_iter().find(|(_, found, limit)| !(1..=*limit).contains(found)) {
            None => Ok(()),
            Some((name, found, limit)) => Err(Error::spec(name, format!("expected 1 to {limit}, found {found}"))),
        }
    }
}
