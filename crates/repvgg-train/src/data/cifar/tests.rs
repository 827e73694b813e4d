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

fn refusal(root: &Path) -> String {
    let message = open(root).err().expect("refused").to_string();
    message.strip_prefix(&root.display().to_string()).expect("the place first").to_owned()
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
fn names_come_from_their_file() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "data_batch_1.bin", &[1]);
    write(root.path(), TEST, &[1]);
    fs::write(root.path().join(NAMES), "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
    assert_eq!(open(root.path()).unwrap().unwrap().labels[9], "j");
    fs::write(root.path().join(NAMES), "a\nb\n").unwrap();
    assert_eq!(refusal(root.path()), "/batches.meta.txt: expected ten names, found 2");
}

#[test]
fn what_is_not_whole_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    fs::write(path.join("data_batch_1.bin.xz"), "packed").unwrap();
    let packed = ": expected the batches unpacked, found *.bin.xz (unpack first: xz -dk *.xz)";
    assert_eq!(refusal(path), packed);
    write(path, TEST, &[1]);
    assert_eq!(refusal(path), ": expected data_batch_1.bin and more beside test_batch.bin, found none");
    write(path, "data_batch_1.bin", &[1, 2]);
    assert!(open(path).unwrap().is_some(), "unpacked beside packed");

    fs::write(path.join("data_batch_1.bin"), vec![0; RECORD + 1]).unwrap();
    assert_eq!(refusal(path), "/data_batch_1.bin: expected a multiple of 3073 bytes above zero, found 3074");
    fs::write(path.join("data_batch_1.bin"), "").unwrap();
    assert_eq!(refusal(path), "/data_batch_1.bin: expected a multiple of 3073 bytes above zero, found 0");
    write(path, "data_batch_1.bin", &[1, 10]);
    assert_eq!(refusal(path), "/data_batch_1.bin: record 1: expected a label of 0 to 9, found 10");

    write(path, "data_batch_1.bin", &[1]);
    fs::remove_file(path.join(TEST)).unwrap();
    fs::write(path.join("test_batch.bin.xz"), "packed").unwrap();
    assert_eq!(refusal(path), packed);
    for name in ["data_batch_1.bin.xz", "test_batch.bin.xz"] {
        fs::remove_file(path.join(name)).unwrap();
    }
    assert_eq!(refusal(path), ": expected test_batch.bin beside the training batches, found none");
}
