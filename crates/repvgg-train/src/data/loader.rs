//! Batches prepared ahead of the network by worker threads. The number of threads does not change the batches.

use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use repvgg::{Error, Result, Tensor};

use super::{Dataset, random::sample_rng};
use crate::augment::Transform;

/// The handling of images that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Unreadable {
    /// Stop with the error.
    #[default]
    Refuse,
    /// Skip the image. Its batch has one image fewer, possibly none, and carries the error.
    Skip,
}

/// The settings of a [`Loader`].
#[derive(Debug, Clone)]
pub struct LoaderSettings {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch. Together with the seed and an image's index, it determines the augmentation.
    pub epoch: u64,
    /// The image indices of each batch, in order. A resumed epoch leaves out the batches it has finished.
    pub batches: Vec<Vec<usize>>,
    /// The transform from an image to a network input.
    pub transform: Transform,
    /// The handling of images that cannot be read.
    pub unreadable: Unreadable,
    /// The number of worker threads.
    pub workers: NonZeroUsize,
}

/// A batch of network inputs with their classes.
#[derive(Debug)]
pub struct LoadedBatch {
    /// `[N, C, S, S]`; N is zero when every image was skipped.
    pub images: Tensor,
    /// The class of each image, `[N]`.
    pub labels: Vec<usize>,
    /// The error of each skipped image.
    pub skipped: Vec<Error>,
}

/// An iterator over the batches of a [`LoaderSettings`], in order. Each worker prepares one batch ahead.
///
/// Worker w of W prepares batches w, w + W, … and hands each over before it starts the next. Taking from the workers in turn yields the
/// batches in order, and at most W of them are in memory besides the one taken. Dropping the loader stops the threads.
///
/// ```
/// use std::num::NonZeroUsize;
///
/// use repvgg::image::Preprocessing;
/// use repvgg_train::augment::Transform;
/// use repvgg_train::data::{self, Loader, LoaderSettings, Unreadable};
///
/// let data = data::open("shapes", 0)?;
/// let preprocessing = Preprocessing { size: [32; 2], crop_fraction: 1.0, ..Preprocessing::default() };
/// let settings = LoaderSettings {
///     seed: 0,
///     epoch: 0,
///     batches: vec![vec![0, 1], vec![2]],
///     transform: Transform { preprocessing, augmentation: None },
///     unreadable: Unreadable::Refuse,
///     workers: NonZeroUsize::MIN,
/// };
/// let batches = Loader::new(data.train, settings).collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(batches[0].images.shape(), [2, 3, 32, 32]);
/// assert_eq!(batches[1].labels.len(), 1);
/// # Ok::<(), repvgg::Error>(())
/// ```
///
/// # Panics
/// `next` panics when a worker did, with its message.
pub struct Loader {
    workers: Vec<Worker>,
    next: usize,
    count: usize,
}

struct Worker {
    batches: Receiver<Result<LoadedBatch>>,
    thread: JoinHandle<()>,
}

impl Loader {
    /// Starts the worker threads.
    ///
    /// # Panics
    /// When the system cannot create a thread.
    pub fn new(dataset: Arc<dyn Dataset>, settings: LoaderSettings) -> Self {
        let count = settings.batches.len();
        let stride = settings.workers.get().min(count);
        let settings = Arc::new(settings);
        let start = |first| {
            let (sender, batches) = sync_channel(0);
            let (dataset, settings) = (Arc::clone(&dataset), Arc::clone(&settings));
            let work = move || {
                let own = settings.batches.iter().skip(first).step_by(stride);
                send_all(own.map(|indices| load_batch(&*dataset, &settings, indices)), &sender);
            };
            Worker { batches, thread: thread::spawn(work) }
        };
        Self { workers: (0..stride).map(start).collect(), next: 0, count }
    }
}

/// Sends `batches` until the last one, the first failed one, or the receiver is dropped.
fn send_all(batches: impl Iterator<Item = Result<LoadedBatch>>, sender: &SyncSender<Result<LoadedBatch>>) {
    for batch in batches {
        let failed = batch.is_err();
        if sender.send(batch).is_err() || failed {
            return;
        }
    }
}

fn load_batch(dataset: &dyn Dataset, settings: &LoaderSettings, indices: &[usize]) -> Result<LoadedBatch> {
    let preprocessing = &settings.transform.preprocessing;
    let elements = preprocessing.elements();
    let mut images = Vec::with_capacity(indices.len() * elements);
    let (mut labels, mut skipped) = (Vec::with_capacity(indices.len()), Vec::new());
    for &index in indices {
        match (dataset.image(index), settings.unreadable) {
            (Ok(image), _) => {
                let start = images.len();
                images.resize(start + elements, 0.0);
                settings.transform.apply(
                    &image,
                    &mut sample_rng(settings.seed, settings.epoch, index),
                    &mut images[start..],
                );
                labels.push(dataset.label(index));
            }
            (Err(error), Unreadable::Skip) => skipped.push(error),
            (Err(error), Unreadable::Refuse) => return Err(error),
        }
    }
    let [height, width] = preprocessing.size;
    let images = Tensor::new([labels.len(), preprocessing.channels(), height, width], images)?;
    Ok(LoadedBatch { images, labels, skipped })
}

impl Iterator for Loader {
    type Item = Result<LoadedBatch>;

    /// The next batch. An error is the last item.
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        let turn = self.next % self.workers.len();
        match self.workers[turn].batches.recv() {
            Ok(batch) => {
                self.next = if batch.is_ok() { self.next + 1 } else { self.count };
                Some(batch)
            }
            Err(_) => {
                self.next = self.count;
                match self.workers.swap_remove(turn).thread.join() {
                    Err(panic) => resume_unwind(panic),
                    Ok(()) => unreachable!("a worker ends after its last batch"),
                }
            }
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // All receivers are dropped before the first join, so that no worker blocks on sending.
        let threads: Vec<JoinHandle<()>> = self.workers.drain(..).map(|worker| worker.thread).collect();
        for thread in threads {
            // The worker has already reported its panic. Resuming it here could abort the process.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
