//! Batches made ahead of the network by worker threads, the same whatever their number.

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

/// What to do with an image that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Unreadable {
    /// Stop with its error.
    #[default]
    Refuse,
    /// Leave it out: the batch is smaller by one, possibly empty, and carries the error.
    Skip,
}

/// What a [`Loader`] loads and how.
#[derive(Debug, Clone)]
pub struct LoaderSettings {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch: with the seed and an image's index it determines the augmentation.
    pub epoch: u64,
    /// The indices of the images of each batch, in order. A resumed epoch leaves out the batches it has seen.
    pub batches: Vec<Vec<usize>>,
    /// From image to network input.
    pub transform: Transform,
    /// What to do with an image that cannot be read.
    pub unreadable: Unreadable,
    /// The number of threads.
    pub workers: NonZeroUsize,
}

/// Network inputs with their classes.
#[derive(Debug)]
pub struct LoadedBatch {
    /// `[N, C, S, S]`; N is zero when every image was skipped.
    pub images: Tensor,
    /// The class of each image, `[N]`.
    pub labels: Vec<usize>,
    /// Why each image that was left out could not be read.
    pub skipped: Vec<Error>,
}

/// The batches of a [`LoaderSettings`] in order, one ahead for each worker.
///
/// Worker w of W makes batches w, w + W, …, and hands each over before it begins the next; taking from the workers in turn is then the
/// order of the batches, and at most W batches are in memory beside the one taken. Dropping the loader ends the threads.
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
    /// Starts the threads.
    ///
    /// # Panics
    /// When the system refuses a thread.
    pub fn new(dataset: Arc<dyn Dataset>, settings: LoaderSettings) -> Self {
        let count = settings.batches.len();
        let stride = settings.workers.get().min(count);
        let settings = Arc::new(settings);
        let start = |first| {
            let (sender, batches) = sync_channel(0);
            let (dataset, settings) = (Arc::clone(&dataset), Arc::clone(&settings));
            let work = move || {
                let own = settings.batches.iter().skip(first).step_by(stride);
                work(own.map(|indices| load(&*dataset, &settings, indices)), &sender);
            };
            Worker { batches, thread: thread::spawn(work) }
        };
        Self { workers: (0..stride).map(start).collect(), next: 0, count }
    }
}

/// Sends until done, or the receiver is gone, or a batch failed.
fn work(batches: impl Iterator<Item = Result<LoadedBatch>>, sender: &SyncSender<Result<LoadedBatch>>) {
    for batch in batches {
        let failed = batch.is_err();
        if sender.send(batch).is_err() || failed {
            return;
        }
    }
}

/// Makes one batch.
fn load(dataset: &dyn Dataset, settings: &LoaderSettings, indices: &[usize]) -> Result<LoadedBatch> {
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
    let images = Tensor::new([labels.len(), preprocessing.channels(), preprocessing.size, preprocessing.size], images)?;
    Ok(LoadedBatch { images, labels, skipped })
}

impl Iterator for Loader {
    type Item = Result<LoadedBatch>;

    /// The next batch; an error is the last item.
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
        // Every receiver goes before a thread is waited for, so that none waits to hand over.
        let threads: Vec<JoinHandle<()>> = self.workers.drain(..).map(|worker| worker.thread).collect();
        for thread in threads {
            // A panic was reported where it happened; a second one here would abort.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
