use super::*;

fn epochs(count: usize) -> Vec<EpochMetrics> {
    let epoch = |index: usize| {
        let done = index as f64 / count as f64;
        EpochMetrics {
            epoch: index + 1,
            train_loss: 0.02 + 2.3 * (-4.0 * done).exp(),
            train_top1: 1.0 - 0.9 * (-4.0 * done).exp(),
            validation_loss: Some(0.09 + 2.1 * (-4.0 * done).exp()),
            validation_top1: Some(0.97 - 0.85 * (-4.0 * done).exp()),
            learning_rate: 0.05 * (1.0 + (std::f64::consts::PI * done).cos()),
            images_per_second: 950.0,
            seconds: 4.0,
            skipped: 0,
        }
    };
    (0..count).map(epoch).collect()
}

/// Asserts that every tag of `xml` is closed in order, and that the text between tags holds no stray `>`.
fn assert_well_formed(xml: &str) {
    let mut open = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("every tag ends");
        assert!(!text.contains('>'), "{text}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().expect("every tag has a name");
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else if !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn any_number_of_epochs_can_be_plotted() {
    for count in [0, 1, 2, 30, 500] {
        let picture = svg(&epochs(count), "shapes");
        assert_well_formed(&picture);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        let dots = if count <= DOTTED { 5 * count } else { 0 };
        assert_eq!(picture.matches("<circle").count(), dots);
    }
}

#[test]
fn values_that_are_not_finite_leave_gaps() {
    let mut metrics = epochs(40);
    metrics[10].train_loss = f64::NAN;
    metrics[12].train_loss = f64::INFINITY;
    metrics[39].train_loss = f64::NEG_INFINITY;
    metrics[20].learning_rate = f64::NAN;
    let complete = svg(&epochs(40), "run");
    let picture = svg(&metrics, "run");
    assert_well_formed(&picture);
    assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
    let lines = |picture: &str| picture.matches("h0").count();
    assert_eq!(lines(&complete), 5);
    assert_eq!(lines(&picture), 5 + 3);
}

#[test]
fn a_run_of_only_nan_is_an_empty_plot() {
    let mut metrics = epochs(2);
    for line in &mut metrics {
        let nan = f64::NAN;
        (line.train_loss, line.train_top1, line.learning_rate) = (nan, nan, nan);
        (line.validation_loss, line.validation_top1) = (None, Some(nan));
    }
    let picture = svg(&metrics, "diverged");
    assert_well_formed(&picture);
    assert!(!picture.contains("NaN") && !picture.contains("<circle"), "{picture}");
}

#[test]
fn an_epoch_without_validation_does_not_break_the_line() {
    let mut metrics = epochs(9);
    for line in metrics.iter_mut().step_by(2) {
        (line.validation_loss, line.validation_top1) = (None, None);
    }
    let picture = svg(&metrics, "run");
    assert_eq!(picture.matches("h0").count(), 5);
    assert_eq!(picture.matches("<circle").count(), 3 * 9 + 2 * 4);
}

#[test]
fn the_labels_of_last_values_do_not_overlap() {
    let mut metrics = epochs(3);
    metrics[2].train_top1 = 0.9501;
    metrics[2].validation_top1 = Some(0.9502);
    let picture = svg(&metrics, "run");
    let heights: Vec<f64> = picture
        .lines()
        .filter(|line| line.contains(" %</text>"))
        .map(|line| line.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(heights.len(), 2);
    assert!((heights[0] - heights[1]).abs() >= LINE - 0.2, "{heights:?}");
}

#[test]
fn titles_are_escaped() {
    let picture = svg(&epochs(1), "<b> & \"cats\" vs 'dogs'\u{8}");
    assert_well_formed(&picture);
    assert!(picture.contains("&lt;b&gt; &amp; &quot;cats&quot; vs &#39;dogs&#39;\u{fffd}"));
}

#[test]
fn metrics_round_trip_through_json() {
    let line = &epochs(3)[1];
    let json = serde_json::to_string(line).unwrap();
    assert!(!json.contains('\n') && json.starts_with(r#"{"epoch":2,"train_loss":"#), "{json}");
    assert_eq!(&serde_json::from_str::<EpochMetrics>(&json).unwrap(), line);
}

#[test]
fn a_diverged_loss_is_read_back_as_nan() {
    let line = EpochMetrics { train_loss: f64::NAN, validation_loss: Some(f64::NAN), ..epochs(1)[0].clone() };
    let back: EpochMetrics = serde_json::from_str(&serde_json::to_string(&line).unwrap()).unwrap();
    assert!(back.train_loss.is_nan());
    assert_eq!(back.validation_loss, None);
    assert!(serde_json::from_str::<EpochMetrics>(r#"{"epoch":1}"#).is_err());
}
