use std::sync::atomic::{AtomicUsize, Ordering};

use repvgg::image::{Preprocessing, RgbImage};

use super::*;
use crate::{augment::Augmentation, data::Fingerprint};

/// Images that encode their index. Every seventh is unreadable; reading number 100 panics.
#[derive(Default)]
struct NumberedImages {
    read: AtomicUsize,
}

impl Dataset for NumberedImages {
    fn len(&self) -> usize {
        200
    }

    fn label(&self, index: usize) -> usize {
        index
    }

    fn image(&self, index: usize) -> Result<RgbImage> {
        self.read.fetch_add(1, Ordering::SeqCst);
        assert_ne!(index, 100, "a bug");
        match index % 7 {
            6 => Err(Error::format(self.place(index), "unreadable")),
            _ => Ok(RgbImage::from_fn(6, 5, |x, y| image::Rgb([index as u8, x as u8 * 9, y as u8 * 11]))),
        }
    }

    fn place(&self, index: usize) -> String {
        format!("number {index}")
    }

    fn identify(&self, _: &mut Fingerprint) -> Result<()> {
        Ok(())
    }
}

fn settings(batches: Vec<Vec<usize>>, unreadable: Unreadable, workers: usize) -> LoaderSettings {
    let preprocessing = Preprocessing { size: [4; 2], ..Preprocessing::default() };
    LoaderSettings {
        seed: 5,
        epoch: 2,
        batches,
        transform: Transform { preprocessing, augmentation: Some(Augmentation::imagenet()) },
        unreadable,
        workers: NonZeroUsize::new(workers).unwrap(),
    }
}

fn batches(count: usize, size: usize) -> Vec<Vec<usize>> {
    (0..count).map(|batch| (0..size).map(|at| (batch * size + at) * 31 % 91).collect()).collect()
}

fn load_all(settings: LoaderSettings) -> Vec<LoadedBatch> {
    Loader::new(Arc::new(NumberedImages::default()), settings).collect::<Result<_>>().unwrap()
}

#[test]
fn the_number_of_workers_changes_nothing() {
    let one = load_all(settings(batches(11, 5), Unreadable::Skip, 1));
    assert_eq!(one.len(), 11);
    for workers in [2, 3, 16] {
        let many = load_all(settings(batches(11, 5), Unreadable::Skip, workers));
        assert_eq!(many.len(), one.len());
        for (a, b) in one.iter().zip(&many) {
            assert_eq!((&a.images, &a.labels, a.skipped.len()), (&b.images, &b.labels, b.skipped.len()));
        }
    }
}

#[test]
fn a_resumed_epoch_yields_the_remaining_batches() {
    let all = load_all(settings(batches(8, 4), Unreadable::Skip, 2));
    let rest = load_all(settings(batches(8, 4).split_off(3), Unreadable::Skip, 2));
    assert_eq!(rest.len(), 5);
    assert!(all[3..].iter().zip(&rest).all(|(a, b)| a.images == b.images && a.labels == b.labels));
}

#[test]
fn each_epoch_is_augmented_differently() {
    let first = settings(batches(1, 5), Unreadable::Skip, 1);
    let second = LoaderSettings { epoch: 3, ..first.clone() };
    assert_ne!(load_all(first)[0].images, load_all(second)[0].images);
}

#[test]
fn unreadable_images_are_skipped_and_reported() {
    let batches = vec![vec![0, 6, 1], vec![6, 13], vec![]];
    let found = load_all(settings(batches, Unreadable::Skip, 2));
    assert_eq!(found[0].labels, [0, 1]);
    assert_eq!(found[0].images.shape(), [2, 3, 4, 4]);
    assert_eq!(found[0].skipped[0].to_string(), "number 6: unreadable");
    assert_eq!((found[1].images.shape(), found[1].skipped.len()), ([0, 3, 4, 4].as_slice(), 2));
    assert!(found[2].labels.is_empty() && found[2].skipped.is_empty());
}

#[test]
fn an_error_is_the_last_item() {
    for workers in [1, 2, 4] {
        let settings = settings(vec![vec![0], vec![1, 6], vec![2], vec![3]], Unreadable::Refuse, workers);
        let mut loader = Loader::new(Arc::new(NumberedImages::default()), settings);
        assert_eq!(loader.next().unwrap().unwrap().labels, [0]);
        assert_eq!(loader.next().unwrap().unwrap_err().to_string(), "number 6: unreadable");
        assert!(loader.next().is_none());
    }
}

#[test]
fn a_dropped_loader_stops_and_has_not_run_ahead() {
    for taken in [0, 1, 5] {
        let images = Arc::new(NumberedImages::default());
        let mut loader = Loader::new(images.clone(), settings(batches(50, 4), Unreadable::Skip, 3));
        assert_eq!(loader.by_ref().take(taken).count(), taken);
        drop(loader);
        // Taking a batch lets its worker start the next. The threads held references to the data set until they ended.
        assert!(images.read.load(Ordering::SeqCst) <= (taken + 3) * 4);
        assert_eq!(Arc::strong_count(&images), 1);
    }
}

#[test]
fn an_epoch_without_batches_is_empty() {
    assert!(load_all(settings(Vec::new(), Unreadable::Refuse, 4)).is_empty());
}

#[test]
#[should_panic(expected = "a bug")]
fn a_panic_in_a_worker_propagates() {
    let settings = settings(vec![vec![0], vec![100], vec![1], vec![2], vec![3]], Unreadable::Refuse, 2);
    Loader::new(Arc::new(NumberedImages::default()), settings).for_each(drop);
}
