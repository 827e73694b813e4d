use super::*;

/// A record whose value at (channel, row, column) is `label + channel * 100 + row + column`.
fn record(label: u8) -> Vec<u8> {
    let value = |at: usize| label.wrapping_add((at / PLANE * 100 + at % PLANE / SIDE + at % SIDE) as u8);
    std::iter::once(label).chain((0..3 * PLANE).map(value)).collect()
}

fn write(folder: &Path, name: &str, labels: &[u8]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), labels.iter().copied().flat_map(record).collect::<Vec<u8>>()).unwrap();
}

/// The message of the error that opening `root` returns, without the path of `root`.
fn error_in(root: &Path) -> String {
    let message = open(root).err().expect("an error").to_string();
    message.strip_prefix(&root.display().to_string()).expect("the place comes first").to_owned()
}

#[test]
fn batches_are_read_in_order() {
    let root = tempfile::tempdir().unwrap();
    for folder in [root.path().join("flat"), root.path().join("nested").join(FOLDER)] {
        write(&folder, "data_batch_2.bin", &[7]);
        write(&folder, "data_batch_1.bin", &[0, 9]);
        write(&folder, TEST, &[3, 4, 5]);
    }
    for root in [root.path().join("flat"), root.path().join("nested")] {
        let data = open(&root).unwrap().unwrap();
        assert_eq!((data.labels[3].as_str(), data.side), ("cat", Some(32)));
        let labels = |part: &dyn Dataset| (0..part.len()).map(|at| part.label(at)).collect::<Vec<_>>();
        assert_eq!(labels(&*data.train), [0, 9, 7]);
        assert_eq!(labels(&*data.validation), [3, 4, 5]);
        let image = data.validation.image(1).unwrap();
        assert_eq!(image.dimensions(), (32, 32));
        assert_eq!(image.get_pixel(5, 20).0, [29, 129, 229]);
        assert!(data.validation.place(1).ends_with("test image 1"));
        data.fingerprint().unwrap();
    }
    assert!(open(root.path()).unwrap().is_none());
}

#[test]
fn class_names_are_read_from_the_metadata_file() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "data_batch_1.bin", &[1]);
    write(root.path(), TEST, &[1]);
    fs::write(root.path().join(NAMES), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
    assert_eq!(open(root.path()).unwrap().unwrap().labels[9], "j");
    fs::write(root.path().join(NAMES), "a\nb\n").unwrap();
    assert_eq!(error_in(root.path()), "/batches.meta.txt: expected ten names, found 2");
}

#[test]
fn incomplete_data_sets_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    fs::write(path.join("data_batch_1.bin.xz"), "compressed").unwrap();
    let compressed = ": expected uncompressed batches, found *.bin.xz (decompress them with: xz -dk *.xz)";
    assert_eq!(error_in(path), compressed);
    write(path, TEST, &[1]);
    assert_eq!(error_in(path), ": expected training batches data_batch_*.bin next to test_batch.bin, found none");
    write(path, "data_batch_1.bin", &[1, 2]);
    assert!(open(path).unwrap().is_some(), "uncompressed files take precedence");

    fs::write(path.join("data_batch_1.bin"), vec![0; RECORD + 1]).unwrap();
    assert_eq!(error_in(path), "/data_batch_1.bin: expected a positive multiple of 3073 bytes, found 3074");
    fs::write(path.join("data_batch_1.bin"), "").unwrap();
    assert_eq!(error_in(path), "/data_batch_1.bin: expected a positive multiple of 3073 bytes, found 0");
    write(path, "data_batch_1.bin", &[1, 10]);
    assert_eq!(error_in(path), "/data_batch_1.bin: record 1: expected a label from 0 to 9, found 10");

    write(path, "data_batch_1.bin", &[1]);
    fs::remove_file(path.join(TEST)).unwrap();
    fs::write(path.join("test_batch.bin.xz"), "compressed").unwrap();
    assert_eq!(error_in(path), compressed);
    for name in ["data_batch_1.bin.xz", "test_batch.bin.xz"] {
        fs::remove_file(path.join(name)).unwrap();
    }
    assert_eq!(error_in(path), ": expected test_batch.bin next to the training batches, found none");
}
