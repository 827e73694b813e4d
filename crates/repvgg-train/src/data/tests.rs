use std::{fs, num::NonZeroUsize};

use super::*;
use crate::{
    augment::{Augmentation, Transform},
    data::random::epoch_order,
};

fn error_of(place: impl AsRef<Path>) -> String {
    open(place, 0).err().expect("an error").to_string()
}

#[test]
fn places_without_a_data_set_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let place = root.path().display().to_string();
    assert_eq!(error_of(&place), format!("{place}: expected a folder for each class, found none"));
    assert!(error_of(root.path().join("missing")).starts_with(&format!("{place}/missing: ")));
    let file = root.path().join("file");
    fs::write(&file, "text").unwrap();
    assert_eq!(error_of(&file), format!("{place}/file: expected a folder of images or `shapes`, found a file"));
}

#[test]
fn the_hash_is_fnv_1a() {
    let mut fingerprint = Fingerprint::default();
    fingerprint.bytes(b"foobar");
    assert_eq!(fingerprint.value(), 0x8594_4171_f739_67e8);
}

#[test]
fn the_built_in_set_loads_in_batches() {
    let data = open(BUILT_IN, 3).unwrap();
    assert_eq!((data.train.len(), data.validation.len(), data.labels.len()), (6000, 1200, 12));
    assert_eq!(data.fingerprint().unwrap(), open(BUILT_IN, 4).unwrap().fingerprint().unwrap());
    let preprocessing = repvgg::image::Preprocessing { size: [32; 2], crop_fraction: 1.0, ..Default::default() };
    let order = epoch_order(3, 0, data.train.len());
    let settings = LoaderSettings {
        seed: 3,
        epoch: 0,
        batches: order.chunks(100).take(3).map(<[usize]>::to_vec).collect(),
        transform: Transform { preprocessing, augmentation: Some(Augmentation::cifar()) },
        unreadable: Unreadable::Refuse,
        workers: NonZeroUsize::new(2).unwrap(),
    };
    let batches: Vec<LoadedBatch> = Loader::new(data.train, settings).collect::<Result<_>>().unwrap();
    assert_eq!(batches.len(), 3);
    assert!(batches.iter().all(|batch| batch.images.shape() == [100, 3, 32, 32] && batch.labels.len() == 100));
    let labels: Vec<usize> = batches.into_iter().flat_map(|batch| batch.labels).collect();
    assert!(labels.iter().zip(&order).all(|(&label, &index)| label == index % 12));
}
